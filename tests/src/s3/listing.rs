//! One page of a listing: sorted keys, common prefixes, and where the next page starts.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Most entries AWS puts on one page.
pub(super) const MAX_PAGE: usize = 1000;

/// What a list request asks for.
#[derive(Debug, Default)]
pub(super) struct ListQuery<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
    /// Entries sort after this key or common prefix.
    pub(super) after: &'a str,
    pub(super) limit: usize,
}

/// Entries of one page, in key order.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<Entry<T>>,
    /// The marker for the next page; absent on the last one.
    pub(super) next: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<T> {
    Key(String, T),
    CommonPrefix(String),
}

impl<T> Entry<T> {
    fn name(&self) -> &str {
        match self {
            Self::Key(name, _) | Self::CommonPrefix(name) => name,
        }
    }
}

/// Cuts one page out of `keys`; a group of keys below one common prefix costs one step.
pub(super) fn page<T: Clone>(keys: &BTreeMap<String, T>, query: &ListQuery<'_>) -> Page<T> {
    let mut entries = Vec::new();
    let mut from = first_bound(query);
    while let Some((key, value)) = keys.range((from.clone(), Bound::Unbounded)).next() {
        if !key.starts_with(query.prefix) {
            break;
        }
        if entries.len() == query.limit {
            let next = entries.last().map(|entry: &Entry<T>| entry.name().to_owned());
            return Page { entries, next };
        }
        match common_prefix(key, query) {
            Some(prefix) => {
                from = after_all(prefix);
                entries.push(Entry::CommonPrefix(prefix.to_owned()));
            }
            None => {
                from = Bound::Excluded(key.clone());
                entries.push(Entry::Key(key.clone(), value.clone()));
            }
        }
    }
    Page { entries, next: None }
}

fn first_bound(query: &ListQuery<'_>) -> Bound<String> {
    if query.after < query.prefix {
        return Bound::Included(query.prefix.to_owned());
    }
    match common_prefix(query.after, query) {
        // The last page ended with this group: go on behind it.
        Some(group) if group == query.after => after_all(group),
        _ => Bound::Excluded(query.after.to_owned()),
    }
}

fn common_prefix<'a>(key: &'a str, query: &ListQuery<'_>) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(query.prefix)?;
    let at = rest.find(query.delimiter)?;
    Some(&key[..query.prefix.len() + at + query.delimiter.len()])
}

/// The first place behind every key that starts with `prefix`.
fn after_all(prefix: &str) -> Bound<String> {
    let mut bound = prefix.to_owned();
    while let Some(last) = bound.pop() {
        // Surrogates are no characters: skip over them.
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            bound.push(next);
            return Bound::Included(bound);
        }
    }
    Bound::Unbounded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| ((*name).to_owned(), ())).collect()
    }

    fn walk(keys: &BTreeMap<String, ()>, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = page(keys, &ListQuery { prefix, delimiter, after: &after, limit });
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
            match page.next {
                Some(next) => after = next,
                None => return found,
            }
        }
    }

    #[test]
    fn pages_join_to_the_same_list_whatever_their_size() {
        let keys = keys(&["a", "a/b/c", "a/b/d", "a/c", "a0", "b/x", "b/y", "c"]);
        let cases = [
            ("", "", vec!["a", "a/b/c", "a/b/d", "a/c", "a0", "b/x", "b/y", "c"]),
            ("", "/", vec!["a", "a/", "a0", "b/", "c"]),
            ("a/", "/", vec!["a/b/", "a/c"]),
            ("a", "/", vec!["a", "a/", "a0"]),
            ("b/y", "", vec!["b/y"]),
            ("z", "/", vec![]),
        ];
        for (prefix, delimiter, expected) in cases {
            for limit in 1..9 {
                assert_eq!(
                    walk(&keys, prefix, delimiter, limit),
                    expected,
                    "{prefix:?} {delimiter:?} {limit}"
                );
            }
        }
    }

    #[test]
    fn a_full_last_page_is_not_truncated() {
        let keys = keys(&["a", "b"]);
        let page = page(&keys, &ListQuery { limit: 2, ..ListQuery::default() });
        assert_eq!(page.next, None);
    }
}
