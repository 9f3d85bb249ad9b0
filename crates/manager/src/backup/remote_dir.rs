//! What a listing says about one table directory in a location. Pure.

use std::collections::{BTreeSet, HashMap};

use common::format::manifest::TableEntry;
use common::format::{paths, versioned};
use common::snapshot_tag::SnapshotTag;

/// The objects of one table version directory.
#[derive(Clone, Debug, Default)]
pub struct RemoteDir {
    newest: HashMap<String, u64>,
    older: HashMap<String, HashMap<SnapshotTag, u64>>,
    scylla_manifests: BTreeSet<String>,
}

/// A file that a manifest lists and the location does not hold as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFile {
    /// Unversioned name.
    pub name: String,
    /// Bytes that it should have.
    pub expected: Option<u64>,
    /// Bytes that it has; `None` when it is not there.
    pub found: Option<u64>,
}

impl RemoteDir {
    /// Takes in one listed object; anything that is neither SSTable file nor Scylla manifest counts as file.
    pub fn add(&mut self, name: &str, size: u64) {
        let (plain, replaced_by) = versioned::split(name);
        match replaced_by {
            _ if paths::is_scylla_manifest(name) => {
                self.scylla_manifests.insert(name.to_owned());
            }
            Some(tag) => {
                self.older.entry(plain.to_owned()).or_default().insert(tag, size);
            }
            None => {
                self.newest.insert(plain.to_owned(), size);
            }
        }
    }

    /// Size of the newest copy of a file.
    pub fn newest_size(&self, name: &str) -> Option<u64> {
        self.newest.get(name).copied()
    }

    /// The newest copies: names and sizes.
    pub fn newest(&self) -> impl Iterator<Item = (&str, u64)> {
        self.newest.iter().map(|(name, size)| (name.as_str(), *size))
    }

    /// How many older copies were set aside.
    pub fn older_copies(&self) -> u64 {
        self.older.values().map(|tags| tags.len() as u64).sum()
    }

    /// Whether some older copy of the file was set aside later than `tag`.
    pub fn changed_after(&self, name: &str, tag: SnapshotTag) -> bool {
        self.older.get(name).is_some_and(|tags| tags.keys().any(|t| *t > tag))
    }

    /// Size of the copy that holds the file as it was in `snapshot`.
    pub fn size_in(&self, name: &str, snapshot: SnapshotTag) -> Option<u64> {
        let older = self.older.get(name);
        let tags = older.into_iter().flat_map(|tags| tags.keys().copied());
        match versioned::resolve(snapshot, tags) {
            Some(tag) => older.and_then(|tags| tags.get(&tag)).copied(),
            None => self.newest_size(name),
        }
    }

    /// Compares a table of a manifest with the directory (design 3.1): names and sizes of files, names of
    /// Scylla's own manifests.
    pub fn missing(&self, entry: &TableEntry, snapshot: SnapshotTag) -> Vec<MissingFile> {
        let files = entry.facts().filter_map(|file| {
            let found = self.size_in(file.name, snapshot);
            let sound = found.is_some_and(|size| file.size.is_none_or(|expected| expected == size));
            (!sound).then(|| MissingFile { name: file.name.to_owned(), expected: file.size, found })
        });
        let manifests = entry.scylla_manifests.iter().filter(|name| !self.scylla_manifests.contains(*name));
        let manifests = manifests.map(|name| MissingFile { name: name.clone(), expected: None, found: None });
        files.chain(manifests).collect()
    }
}

impl<'a> FromIterator<(&'a str, u64)> for RemoteDir {
    fn from_iter<I: IntoIterator<Item = (&'a str, u64)>>(items: I) -> Self {
        let mut dir = Self::default();
        for (name, size) in items {
            dir.add(name, size);
        }
        dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(second: u32) -> SnapshotTag {
        format!("sm_202601010000{second:02}UTC").parse().unwrap()
    }

    fn entry(files: &[(&str, u64)], scylla_manifests: &[&str]) -> TableEntry {
        TableEntry {
            files: files.iter().map(|f| f.0.to_owned()).collect(),
            file_sizes: files.iter().map(|f| f.1).collect(),
            scylla_manifests: scylla_manifests.iter().map(|s| (*s).to_owned()).collect(),
            ..TableEntry::default()
        }
    }

    #[test]
    fn the_seal_sees_missing_and_wrong_sized_files() {
        let older = format!("a.{}", tag(20));
        let dir: RemoteDir =
            [("a", 2), (older.as_str(), 1), ("b", 5), ("tag_x_manifest.json", 9), ("foreign", 1)]
                .into_iter()
                .collect();
        let names = |entry: &TableEntry, second| {
            let missing = dir.missing(entry, tag(second)).into_iter();
            missing.map(|m| format!("{} {:?} {:?}", m.name, m.expected, m.found)).collect::<Vec<_>>()
        };
        assert_eq!(names(&entry(&[("a", 2), ("b", 5)], &["tag_x_manifest.json"]), 20), [] as [&str; 0]);
        assert_eq!(names(&entry(&[("a", 1)], &[]), 19), [] as [&str; 0]);
        assert_eq!(names(&entry(&[("a", 2)], &[]), 19), ["a Some(2) Some(1)"]);
        assert_eq!(names(&entry(&[("a", 1)], &[]), 20), ["a Some(1) Some(2)"]);
        assert_eq!(
            names(&entry(&[("c", 1)], &["other_manifest.json"]), 20),
            ["c Some(1) None", "other_manifest.json None None"]
        );
        let unknown_sizes = TableEntry { file_sizes: Vec::new(), ..entry(&[("b", 0)], &[]) };
        assert_eq!(names(&unknown_sizes, 20), [] as [&str; 0]);
    }

    #[test]
    fn changes_after_a_tag_are_seen() {
        let older = format!("a.{}", tag(20));
        let dir: RemoteDir = [("a", 2), (older.as_str(), 1)].into_iter().collect();
        assert!(dir.changed_after("a", tag(19)));
        assert!(!dir.changed_after("a", tag(20)));
        assert!(!dir.changed_after("b", tag(1)));
    }
}
