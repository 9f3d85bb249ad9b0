//! Which files of one node go with its stale manifests (spec backup-format.md 4.10). Pure.
//!
//! Only the files of stale manifests are ever held; manifests that stay are streamed past and take their files
//! out again. So an unreadable manifest of either kind must stop the purge of its node before the first delete.

use std::collections::{BTreeMap, BTreeSet};

use common::format::manifest::TableEntry;
use common::format::paths::{NodePath, SstPath};
use common::format::versioned;
use common::snapshot_tag::SnapshotTag;

/// Files to delete of one node in one location, by table directory.
#[derive(Clone, Debug)]
pub struct NodePurge {
    node: NodePath,
    doomed: BTreeMap<String, BTreeSet<String>>,
}

impl NodePurge {
    /// Nothing to delete yet.
    pub fn new(node: NodePath) -> Self {
        Self { node, doomed: BTreeMap::new() }
    }

    /// Takes in a table of a manifest that goes. A name of an older copy is not one that a manifest may list:
    /// snapshots that stay may need that copy.
    pub fn stale(&mut self, entry: TableEntry) {
        let dir = self.node.table_dir(&entry.keyspace, &entry.table, &entry.version);
        let names = entry.files.into_iter().chain(entry.scylla_manifests);
        let plain = names.filter(|name| versioned::split(name).1.is_none());
        self.doomed.entry(dir).or_default().extend(plain);
    }

    /// Takes in a table of a manifest that stays: whatever it lists stays.
    pub fn kept(&mut self, entry: &TableEntry) {
        let dir = self.node.table_dir(&entry.keyspace, &entry.table, &entry.version);
        if let Some(doomed) = self.doomed.get_mut(&dir) {
            for name in entry.files.iter().chain(&entry.scylla_manifests) {
                doomed.remove(name);
            }
        }
    }

    /// Takes in an older copy that a listing shows, by its key. It goes when no snapshot that stays is older
    /// than it; `oldest_kept` is the oldest snapshot of the node that stays.
    pub fn older_copy(&mut self, key: &str, oldest_kept: Option<SnapshotTag>) {
        let Some(path) = SstPath::parse(key).filter(|p| p.node == self.node) else { return };
        let (_, Some(replaced_by)) = versioned::split(&path.file) else { return };
        if oldest_kept.is_none_or(|oldest| replaced_by <= oldest) {
            let dir = self.node.table_dir(&path.keyspace, &path.table, &path.version);
            self.doomed.entry(dir).or_default().insert(path.file);
        }
    }

    /// The files to delete, by directory.
    pub fn into_files(self) -> BTreeMap<String, Vec<String>> {
        let lists = self.doomed.into_iter().filter(|(_, names)| !names.is_empty());
        lists.map(|(dir, names)| (dir, names.into_iter().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use common::ids::HostId;
    use proptest::prelude::*;

    use super::*;
    use crate::backup::retention::tests::day;

    fn node() -> NodePath {
        NodePath { cluster: uuid::Uuid::from_u128(1).into(), dc: "dc1".into(), node: HostId::new("n") }
    }

    fn entry(files: impl IntoIterator<Item = String>) -> TableEntry {
        TableEntry {
            keyspace: "k".into(),
            table: "t".into(),
            version: "v".into(),
            files: files.into_iter().collect(),
            ..TableEntry::default()
        }
    }

    #[test]
    fn foreign_keys_are_never_deleted() {
        let mut purge = NodePurge::new(node());
        let copy = versioned::join("a", day(1));
        let own = format!("{}/{copy}", node().table_dir("k", "t", "v"));
        for key in [
            own.replace("/n/", "/other/"),
            own.replace("dc1", "dc2"),
            own.replace("backup/sst", "backup/x"),
            own.replace(&copy, "a"),
            "x".into(),
        ] {
            purge.older_copy(&key, None);
        }
        assert!(purge.clone().into_files().is_empty());
        purge.older_copy(&own, None);
        assert_eq!(purge.into_files().into_values().flatten().collect::<Vec<_>>(), [copy]);
    }

    /// A bucket with the contents of one table directory, and snapshots that brought them.
    #[derive(Debug, Default)]
    struct Bucket {
        objects: BTreeMap<String, u8>,
        snapshots: BTreeMap<SnapshotTag, BTreeMap<String, u8>>,
    }

    impl Bucket {
        /// As the agent does: other content under a name sets the old copy aside.
        fn back_up(&mut self, tag: SnapshotTag, files: &BTreeMap<String, u8>) {
            for (name, content) in files {
                match self.objects.insert(name.clone(), *content) {
                    Some(old) if old != *content => {
                        self.objects.insert(versioned::join(name, tag), old);
                    }
                    _ => {}
                }
            }
            self.snapshots.insert(tag, files.clone());
        }

        fn purge(&mut self, stale: &BTreeSet<SnapshotTag>) {
            let mut purge = NodePurge::new(node());
            for (tag, files) in &self.snapshots {
                if stale.contains(tag) {
                    purge.stale(entry(files.keys().cloned()));
                }
            }
            for (tag, files) in &self.snapshots {
                if !stale.contains(tag) {
                    purge.kept(&entry(files.keys().cloned()));
                }
            }
            self.snapshots.retain(|tag, _| !stale.contains(tag));
            let oldest = self.snapshots.keys().next().copied();
            for name in self.objects.keys() {
                purge.older_copy(&format!("{}/{name}", node().table_dir("k", "t", "v")), oldest);
            }
            for name in purge.into_files().into_values().flatten() {
                self.objects.remove(&name);
            }
        }

        fn read(&self, tag: SnapshotTag, name: &str) -> Option<u8> {
            let copies = self.objects.keys().filter_map(|o| match versioned::split(o) {
                (plain, Some(t)) if plain == name => Some(t),
                _ => None,
            });
            let object =
                versioned::resolve(tag, copies).map_or(name.to_owned(), |t| versioned::join(name, t));
            self.objects.get(&object).copied()
        }
    }

    proptest! {
        /// P1, P2, P5, U4: whatever is backed up and purged, each snapshot that stays finds the bytes it was
        /// taken with, and nothing that only purged ones listed is left.
        #[test]
        fn kept_snapshots_stay_restorable(
            steps in prop::collection::vec((prop::collection::btree_map(0..4_u8, 0..3_u8, 0..4), prop::collection::vec(any::<prop::sample::Index>(), 0..2)), 1..10),
        ) {
            let mut bucket = Bucket::default();
            for (number, (files, purges)) in steps.into_iter().enumerate() {
                let files = files.into_iter().map(|(name, content)| (format!("me-{name}-big-Data.db"), content)).collect();
                bucket.back_up(day(i64::try_from(number).unwrap()), &files);
                let tags: Vec<_> = bucket.snapshots.keys().copied().collect();
                let stale: BTreeSet<_> = purges.iter().map(|i| tags[i.index(tags.len())]).collect();
                if !stale.is_empty() {
                    bucket.purge(&stale);
                }
                for (tag, files) in &bucket.snapshots {
                    for (name, content) in files {
                        prop_assert_eq!(bucket.read(*tag, name), Some(*content), "{} of {}", name, tag);
                    }
                }
                if !stale.is_empty() {
                    let listed: BTreeSet<&String> = bucket.snapshots.values().flat_map(BTreeMap::keys).collect();
                    for object in bucket.objects.keys() {
                        let (plain, replaced_by) = versioned::split(object);
                        prop_assert!(replaced_by.is_some() || listed.contains(&plain.to_owned()), "{} is left", object);
                    }
                    if bucket.snapshots.is_empty() {
                        prop_assert!(bucket.objects.is_empty(), "the last snapshot takes all with it");
                    }
                }
            }
        }
    }
}
