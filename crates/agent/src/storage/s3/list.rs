//! Listings as streams of pages; directories are made up from the keys.

use std::collections::VecDeque;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use futures::{Stream, TryStreamExt as _};

use super::object::time;
use super::quirks::etag_md5;
use super::{PROVIDER, S3Store};
use crate::storage::{Depth, Entry, EntryKind, ObjectPath, Result, StorageError};

/// Prefix of the keys in a directory.
pub(super) fn prefix(dir: &ObjectPath) -> String {
    match dir.bucket_and_key().1 {
        "" => String::new(),
        key => format!("{key}/"),
    }
}

/// Entries of a directory.
pub(super) fn stream<'a>(
    store: &'a S3Store,
    dir: &'a ObjectPath,
    depth: Depth,
) -> impl Stream<Item = Result<Entry>> + Send + 'a {
    let prefix = prefix(dir);
    let mut namer = Namer::new(&prefix, store.0.quirks.etag_is_md5, depth);
    pages(store, dir, prefix, depth, None)
        .map_ok(move |page| futures::stream::iter(namer.entries(page).into_iter().map(Ok)))
        .try_flatten()
}

/// Pages of keys with `prefix`, those after `start` only.
pub(super) fn pages<'a>(
    store: &'a S3Store,
    dir: &'a ObjectPath,
    prefix: String,
    depth: Depth,
    start: Option<String>,
) -> impl Stream<Item = Result<ListObjectsV2Output>> + Send + 'a {
    let state = Some((None, start));
    futures::stream::try_unfold(state, move |state| {
        let prefix = prefix.clone();
        async move {
            let Some((token, start)) = state else { return Ok(None) };
            let page = store.0.pacer.run(|| page(store, dir, &prefix, depth, &token, &start)).await?;
            let next = page.next_continuation_token.clone().filter(|_| page.is_truncated == Some(true));
            if page.is_truncated == Some(true) && next.is_none() {
                let detail = "the store says that the listing goes on, but not where".into();
                return Err(StorageError::Corrupted { path: dir.to_string(), detail });
            }
            Ok(Some((page, next.map(|token| (Some(token), None)))))
        }
    })
}

async fn page(
    store: &S3Store,
    dir: &ObjectPath,
    prefix: &str,
    depth: Depth,
    token: &Option<String>,
    start: &Option<String>,
) -> Result<ListObjectsV2Output> {
    let bucket = dir.bucket_and_key().0;
    if bucket.is_empty() {
        // Listing buckets needs rights that a backup should not have.
        return Err(StorageError::Unsupported { what: "listing buckets", provider: PROVIDER.into() });
    }
    let client = store.client(bucket).await?;
    let request = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(prefix)
        .encoding_type(EncodingType::Url)
        .max_keys(i32::try_from(store.0.config.list_chunk).unwrap_or(1000))
        .set_delimiter((depth == Depth::One).then(|| "/".to_owned()))
        .set_continuation_token(token.clone())
        .set_start_after(start.clone())
        .set_request_payer(store.0.encryption.payer.clone());
    let mut page = request.send().await.map_err(|e| store.error("ListObjectsV2", dir, e))?;
    // Without it, keys with control characters could not be written in XML.
    if page.encoding_type == Some(EncodingType::Url) {
        decode(&mut page);
    }
    Ok(page)
}

fn decode(page: &mut ListObjectsV2Output) {
    for object in page.contents.iter_mut().flatten() {
        object.key = object.key.take().map(|key| decode_text(&key));
    }
    for common in page.common_prefixes.iter_mut().flatten() {
        common.prefix = common.prefix.take().map(|prefix| decode_text(&prefix));
    }
}

fn decode_text(text: &str) -> String {
    let spaces = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
}

/// Turns pages into entries; remembers the directories of the last key, because keys come sorted.
struct Namer {
    prefix: String,
    etag_is_md5: bool,
    depth: Depth,
    inside: String,
}

impl Namer {
    fn new(prefix: &str, etag_is_md5: bool, depth: Depth) -> Self {
        Self { prefix: prefix.to_owned(), etag_is_md5, depth, inside: String::new() }
    }

    fn entries(&mut self, page: ListObjectsV2Output) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        for object in page.contents.unwrap_or_default() {
            let Some(path) = object.key().and_then(|k| k.strip_prefix(&self.prefix)) else { continue };
            // A folder marker is no file; the directory itself shows as the marker with an empty name.
            if path.is_empty() || path.ends_with('/') {
                continue;
            }
            let path = path.to_owned();
            if self.depth == Depth::All {
                found.extend(self.enter(&path));
            }
            found.push(self.file(path, &object));
        }
        for common in page.common_prefixes.unwrap_or_default() {
            let name = common.prefix().and_then(|p| p.strip_prefix(&self.prefix)).unwrap_or_default();
            let name = name.trim_end_matches('/');
            if !name.is_empty() {
                found.push(directory(name));
            }
        }
        if self.depth == Depth::One {
            found.sort_by(|a, b| a.path.cmp(&b.path));
        }
        found
    }

    /// Directories that `path` lies in and the key before it did not.
    fn enter(&mut self, path: &str) -> VecDeque<Entry> {
        let mut new = VecDeque::new();
        let mut dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let last = dir.to_owned();
        let was_inside = |dir: &str| self.inside == dir || self.inside.starts_with(&format!("{dir}/"));
        while !dir.is_empty() && !was_inside(dir) {
            new.push_front(directory(dir));
            dir = dir.rsplit_once('/').map_or("", |(dir, _)| dir);
        }
        self.inside = last;
        new
    }

    fn file(&self, path: String, object: &Object) -> Entry {
        let md5 = object.e_tag().filter(|_| self.etag_is_md5).and_then(etag_md5);
        Entry {
            path,
            kind: EntryKind::File,
            size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
            modified: object.last_modified().and_then(time),
            md5,
        }
    }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.to_owned(), kind: EntryKind::Directory, size: 0, modified: None, md5: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::types::CommonPrefix;

    fn page(keys: &[&str], prefixes: &[&str]) -> ListObjectsV2Output {
        let objects = keys.iter().map(|k| Object::builder().key(*k).size(3).build()).collect();
        let prefixes = prefixes.iter().map(|p| CommonPrefix::builder().prefix(*p).build()).collect();
        ListObjectsV2Output::builder().set_contents(Some(objects)).set_common_prefixes(Some(prefixes)).build()
    }

    fn names(entries: Vec<Entry>) -> Vec<String> {
        let mark = |e: &Entry| if e.kind == EntryKind::File { "" } else { "/" };
        entries.iter().map(|e| format!("{}{}", e.path, mark(e))).collect()
    }

    #[test]
    fn one_level_has_files_and_directories_sorted() {
        let mut namer = Namer::new("p/", true, Depth::One);
        let entries = namer.entries(page(&["p/", "p/b", "p/d"], &["p/a/", "p/b/", "p//"]));
        assert_eq!(names(entries), ["a/", "b", "b/", "d"]);
    }

    #[test]
    fn recursion_makes_up_each_directory_once() {
        let mut namer = Namer::new("p/", true, Depth::All);
        let mut all = names(namer.entries(page(&["p/a", "p/d/", "p/d/e/f", "p/d/e/g", "p/d/h"], &[])));
        all.extend(names(namer.entries(page(&["p/d/h2", "p/i/j", "p/ij/k"], &[]))));
        assert_eq!(all, ["a", "d/", "d/e/", "d/e/f", "d/e/g", "d/h", "d/h2", "i/", "i/j", "ij/", "ij/k"]);
    }

    #[test]
    fn url_encoding_is_undone() {
        assert_eq!(decode_text("a+b%2Bc%01%C3%A9"), "a b+c\u{1}é");
    }
}
