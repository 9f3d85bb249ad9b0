//! Names below a provider: `bucket/key` for object stores, a relative path for local ones.
//!
//! Parsed once at the border. A parsed path has no `.`, `..` or empty component, so it cannot leave its root
//! by spelling; symbolic links are the business of [`super::local`].

use std::fmt;

/// Path below a provider's root; empty for the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

/// A text that is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not accepted as a path: {reason}")]
pub struct InvalidPath {
    /// The refused text.
    pub input: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ObjectPath {
    /// The provider's root.
    pub const ROOT: Self = Self(String::new());

    /// Reads a path; surrounding and repeated slashes are dropped.
    ///
    /// # Errors
    /// A component `.` or `..`, or a NUL byte.
    pub fn parse(input: &str) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { input: input.to_owned(), reason };
        if input.contains('\0') {
            return Err(invalid("it holds a NUL byte"));
        }
        let mut path = String::with_capacity(input.len());
        for part in input.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return Err(invalid("`.` and `..` are not allowed in it"));
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
        }
        Ok(Self(path))
    }

    /// The path of `name` below this one; `name` may have several components.
    ///
    /// # Errors
    /// As for [`ObjectPath::parse`].
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        let name = Self::parse(name)?;
        Ok(match (self.is_root(), name.is_root()) {
            (true, _) => name,
            (false, true) => self.clone(),
            (false, false) => Self(format!("{}/{}", self.0, name.0)),
        })
    }

    /// The path as text, without slashes around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the provider's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this; the root for a single component.
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or(String::new(), |(dir, _)| dir.to_owned()))
    }

    /// The last component; empty for the root.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Bucket and key; both may be empty.
    pub fn bucket_and_key(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (input, clean) in
            [("", ""), ("/", ""), ("a", "a"), ("/a//b/", "a/b"), ("a/.b/c..", "a/.b/c.."), ("...", "...")]
        {
            assert_eq!(ObjectPath::parse(input).unwrap().as_str(), clean, "{input}");
        }
        for bad in ["..", ".", "a/../b", "a/./b", "a\0b", "../a", "a/.."] {
            assert!(ObjectPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let path = ObjectPath::parse("bucket/backup/sst/x-Data.db").unwrap();
        assert_eq!(path.bucket_and_key(), ("bucket", "backup/sst/x-Data.db"));
        assert_eq!((path.parent().as_str(), path.file_name()), ("bucket/backup/sst", "x-Data.db"));
        assert_eq!(ObjectPath::ROOT.join("b/c").unwrap().as_str(), "b/c");
        assert_eq!(path.parent().join("y").unwrap().as_str(), "bucket/backup/sst/y");
        assert!(path.join("../y").is_err());
    }
}
