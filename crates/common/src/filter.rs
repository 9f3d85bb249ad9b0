//! Ordered glob filters for datacenters and tables (`--dc`, `-K`).
//!
//! The last pattern that matches decides; a leading `!` unselects; an empty list selects everything.

use globset::{GlobBuilder, GlobMatcher};

/// A pattern list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Not a glob.
    #[error("invalid glob {pattern:?} on position {position}: {reason}")]
    Glob {
        /// The pattern as given.
        pattern: String,
        /// Its index in the list.
        position: usize,
        /// What the glob parser says.
        reason: String,
    },
    /// `.table` without a keyspace.
    #[error("invalid filters: {pattern:?} on position {position}: missing keyspace")]
    MissingKeyspace {
        /// The pattern as given.
        pattern: String,
        /// Its index in the list.
        position: usize,
    },
}

#[derive(Clone, Debug)]
struct Pattern {
    include: bool,
    matcher: GlobMatcher,
}

/// An ordered list of globs over plain names.
#[derive(Clone, Debug, Default)]
pub struct GlobFilter {
    patterns: Vec<Pattern>,
}

impl GlobFilter {
    /// Reads a list of patterns. Blanks around a pattern and empty patterns are dropped.
    ///
    /// # Errors
    /// The first pattern that is not a glob.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidFilter> {
        let mut parsed = Vec::with_capacity(patterns.len());
        for (position, raw) in patterns.iter().enumerate() {
            let (include, text) = split_negation(raw.as_ref());
            if text.is_empty() {
                continue;
            }
            let matcher = compile(text).map_err(|reason| InvalidFilter::Glob {
                pattern: raw.as_ref().to_owned(),
                position,
                reason,
            })?;
            parsed.push(Pattern { include, matcher });
        }
        Ok(Self { patterns: parsed })
    }

    /// Whether there is no pattern, so that everything is selected.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `name` is selected.
    pub fn matches(&self, name: &str) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        self.patterns.iter().rev().find(|p| p.matcher.is_match(name)).is_some_and(|p| p.include)
    }
}

/// An ordered list of globs over `keyspace.table`. A pattern without a dot means all tables of the keyspace.
#[derive(Clone, Debug, Default)]
pub struct KeyspaceFilter {
    tables: GlobFilter,
}

impl KeyspaceFilter {
    /// Reads a list of patterns such as `orders`, `ord*`, `auth.*`, `!auth.cache`.
    ///
    /// # Errors
    /// The first pattern that is not a glob or has no keyspace part.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidFilter> {
        let mut completed = Vec::with_capacity(patterns.len());
        for (position, raw) in patterns.iter().enumerate() {
            let (include, text) = split_negation(raw.as_ref());
            if text.starts_with('.') {
                return Err(InvalidFilter::MissingKeyspace { pattern: raw.as_ref().to_owned(), position });
            }
            let sign = if include { "" } else { "!" };
            // Empty entries stay, so that positions in messages are those of the given list.
            let table = if text.is_empty() || text.contains('.') { "" } else { ".*" };
            completed.push(format!("{sign}{text}{table}"));
        }
        GlobFilter::new(&completed).map(|tables| Self { tables })
    }

    /// Whether there is no pattern, so that everything is selected.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether the table is selected.
    pub fn matches(&self, keyspace: &str, table: &str) -> bool {
        self.tables.is_empty() || self.tables.matches(&format!("{keyspace}.{table}"))
    }
}

/// Whether a pattern selects what it matches: it is neither blank nor begins with `!`.
pub fn selects(pattern: &str) -> bool {
    let (include, text) = split_negation(pattern);
    include && !text.is_empty()
}

/// Splits a leading `!` off; `\!` counts as `!`, which 2.x clients sent to survive shell quoting.
fn split_negation(raw: &str) -> (bool, &str) {
    let text = raw.trim();
    let unescaped = text.strip_prefix('\\').filter(|rest| rest.starts_with('!')).unwrap_or(text);
    match unescaped.strip_prefix('!') {
        Some(rest) => (false, rest.trim()),
        None => (true, unescaped),
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(glob)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map(|g| g.compile_matcher())
        .map_err(|e| e.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_matching_pattern_decides() {
        for (patterns, name, selected) in [
            (&[][..], "dc1", true),
            (&["dc1"], "dc1", true),
            (&["dc1"], "dc2", false),
            (&["*", "!dc2"], "dc2", false),
            (&["*", "!dc2"], "dc3", true),
            (&["!dc2"], "dc1", false),
            (&["*", "!dc*", "dc1"], "dc1", true),
            (&["{eu,us}-dc"], "us-dc", true),
            (&["dc[!2]"], "dc2", false),
            (&["", " dc1 "], "dc1", true),
            (&["*", "\\!dc2"], "dc2", false),
        ] {
            assert_eq!(GlobFilter::new(patterns).unwrap().matches(name), selected, "{patterns:?} {name}");
        }
    }

    #[test]
    fn some_patterns_select() {
        for (pattern, selecting) in
            [("shop", true), (" * ", true), ("!shop", false), ("\\!shop", false), (" ", false), ("!", false)]
        {
            assert_eq!(selects(pattern), selecting, "{pattern:?}");
        }
    }

    #[test]
    fn keyspace_patterns_are_completed() {
        for (patterns, keyspace, table, selected) in [
            (&["auth_service.*", "!auth_service.lru_cache"][..], "auth_service", "lru_cache", false),
            (&["auth_service.*", "!auth_service.lru_cache"], "auth_service", "users", true),
            (&["orders"], "orders", "lines", true),
            (&["ord*"], "orders", "lines", true),
            (&["orders"], "orders2", "lines", false),
            (&["*", "!orders"], "orders", "lines", false),
            (&["orders"], "orders", "alternator.t-1", true),
        ] {
            let filter = KeyspaceFilter::new(patterns).unwrap();
            assert_eq!(filter.matches(keyspace, table), selected, "{patterns:?} {keyspace}.{table}");
        }
    }

    #[test]
    fn errors_name_pattern_and_position() {
        assert_eq!(
            KeyspaceFilter::new(&["a", ".x"]).unwrap_err().to_string(),
            "invalid filters: \".x\" on position 1: missing keyspace"
        );
        assert!(
            GlobFilter::new(&["a", "[b"])
                .unwrap_err()
                .to_string()
                .starts_with("invalid glob \"[b\" on position 1")
        );
    }
}
