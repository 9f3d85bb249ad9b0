//! What the destination directory holds, known before the first file is sent.
//!
//! One listing instead of a HEAD per file: a small object costs one request. Jobs of few files, and directories much
//! larger than the job, are asked file by file instead.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt as _;

use crate::storage::{Depth, EntryKind, ObjectInfo, Place, Result, StorageError};

/// Up to so many files are asked for one by one.
const FEW_FILES: usize = 3;
/// Entries of the destination that are read per file of the job: one page of a listing for every two files.
const ENTRIES_PER_FILE: usize = 500;
/// Entries that are read in any case.
const MIN_ENTRIES: usize = 4000;

/// What is known about the destination.
#[derive(Debug)]
pub(super) enum Destination {
    /// Everything that concerns the job's files.
    Known {
        /// Files of the job's names.
        present: HashMap<String, ObjectInfo>,
        /// Names of the job that have a copy with the job's suffix.
        versioned: HashSet<String>,
    },
    /// Ask for each file.
    Ask,
}

impl Destination {
    /// Looks at `to` on behalf of the files in `names`.
    pub(super) async fn survey(to: &Place, names: &HashSet<String>, suffix: &str) -> Result<Self> {
        if names.len() <= FEW_FILES {
            return Ok(Self::Ask);
        }
        let nested = names.iter().any(|name| name.contains('/'));
        let depth = if nested { Depth::All } else { Depth::One };
        let (mut present, mut versioned) = (HashMap::new(), HashSet::new());
        let mut left = (names.len() * ENTRIES_PER_FILE).max(MIN_ENTRIES);
        let mut entries = to.store.list(&to.path, depth);
        loop {
            let entry = match entries.try_next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // A local directory comes into being with its first file.
                Err(StorageError::DirectoryNotFound { .. }) => break,
                Err(error) => return Err(error),
            };
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(Self::Ask);
            }
            if entry.kind != EntryKind::File {
                continue;
            }
            if let Some(plain) = entry.path.strip_suffix(suffix).filter(|_| !suffix.is_empty())
                && names.contains(plain)
            {
                versioned.insert(plain.to_owned());
            }
            if names.contains(&entry.path) {
                let info =
                    ObjectInfo { size: entry.size, modified: entry.modified, md5: entry.md5, crc32: None };
                present.insert(entry.path, info);
            }
        }
        Ok(Self::Known { present, versioned })
    }

    /// Known to have no file of that name.
    pub(super) fn lacks(&self, name: &str) -> bool {
        matches!(self, Self::Known { present, .. } if !present.contains_key(name))
    }

    /// The file of that name, if there is one.
    pub(super) async fn find(&self, to: &Place, name: &str) -> Result<Option<ObjectInfo>> {
        match self {
            Self::Known { present, .. } => Ok(present.get(name).cloned()),
            Self::Ask => stat(to).await,
        }
    }

    /// Whether there is a copy of `name` with the job's suffix; `copy` is its place.
    pub(super) async fn has_version(&self, copy: &Place, name: &str) -> Result<bool> {
        match self {
            Self::Known { versioned, .. } => Ok(versioned.contains(name)),
            Self::Ask => Ok(stat(copy).await?.is_some()),
        }
    }
}

/// Facts about a file that may be missing.
pub(super) async fn stat(place: &Place) -> Result<Option<ObjectInfo>> {
    match place.store.stat(&place.path).await {
        Ok(info) => Ok(Some(info)),
        Err(StorageError::NotFound { .. } | StorageError::DirectoryNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
