//! Which SSTables of a snapshot the location holds already (spec backup-format.md 4.6). Pure.
//!
//! An SSTable is kept or dropped as a whole. UUID IDs are unique, so names and sizes decide; integer IDs may
//! start over, so the digest of the data must agree too. What is not sure is uploaded.

use std::collections::{BTreeMap, HashMap, HashSet};

use common::format::sstable::{self, ComponentName, IdKind};

use super::remote_dir::RemoteDir;

/// A file with its size in bytes.
pub type SizedFile = (String, u64);

/// An SSTable with an integer ID that looks the same in the location: its digests must be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Name of the digest file, the same on the node and in the location.
    pub digest: String,
    /// What is still on the node of this SSTable.
    pub local: Vec<SizedFile>,
}

/// What to do with the files of one table that are still on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupPlan {
    /// In the location already: delete from the node.
    pub duplicates: Vec<SizedFile>,
    /// Duplicates if their digests agree.
    pub compare: Vec<Comparison>,
    /// Files whose upload sets an older copy of the same name aside.
    pub collisions: u64,
    /// Files that must replace a damaged object in place.
    pub overwrite: Vec<String>,
}

impl DedupPlan {
    /// Settles one comparison.
    pub fn settle(&mut self, comparison: Comparison, equal: bool) {
        if equal {
            self.duplicates.extend(comparison.local);
        } else {
            self.collisions += comparison.local.len() as u64;
        }
    }
}

/// Decides for one table. `listed` is the whole table as the manifest lists it, `local` what is still on the
/// node (less, after an interruption), `damaged` the names of objects with wrong bytes in the directory.
pub fn plan_dedup(
    listed: &[SizedFile],
    local: &[SizedFile],
    remote: &RemoteDir,
    damaged: &HashSet<String>,
) -> DedupPlan {
    let listed = by_id(listed.iter().map(|(name, size)| (name.as_str(), *size)));
    let remote = by_id(remote.newest());
    let mut plan = DedupPlan::default();
    for (id, files) in by_id(local.iter().map(|(name, size)| (name.as_str(), *size))) {
        let Some(stored) = remote.get(&id) else { continue };
        let whole = listed.get(&id).unwrap_or(&files);
        if stored.keys().any(|name| damaged.contains(*name)) {
            plan.overwrite.extend(files.keys().filter(|n| damaged.contains(**n)).map(|n| (*n).to_owned()));
            continue;
        }
        let owned = || files.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect::<Vec<_>>();
        match (id.kind, stored == whole) {
            (IdKind::Uuid, true) => plan.duplicates.extend(owned()),
            (IdKind::Uuid, false) => {}
            (IdKind::Integer, same) => match files.keys().find(|n| same && sstable::is_digest(n)) {
                Some(digest) => {
                    plan.compare.push(Comparison { digest: (*digest).to_owned(), local: owned() });
                }
                None => {
                    let replaced = files.keys().filter(|n| stored.contains_key(*n));
                    plan.collisions += replaced.count() as u64;
                }
            },
        }
    }
    plan
}

/// An ID together with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id<'a> {
    text: &'a str,
    kind: IdKind,
}

/// Groups files by SSTable; names without a recognisable ID are left out, so they are never duplicates.
fn by_id<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> HashMap<Id<'a>, BTreeMap<&'a str, u64>> {
    let mut groups: HashMap<Id<'a>, BTreeMap<&'a str, u64>> = HashMap::new();
    for (name, size) in files {
        if let Some(component) = ComponentName::parse(name) {
            let id = Id { text: component.id, kind: component.kind() };
            groups.entry(id).or_default().insert(name, size);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "3g7k_098r_4wtqo2asamoc1i8h9n";

    fn files(id: &str, sizes: &[(&str, u64)]) -> Vec<SizedFile> {
        sizes.iter().map(|(component, size)| (format!("me-{id}-big-{component}"), *size)).collect()
    }

    fn remote(files: &[SizedFile]) -> RemoteDir {
        files.iter().map(|(n, s)| (n.as_str(), *s)).collect()
    }

    fn plan(local: &[SizedFile], stored: &[SizedFile]) -> DedupPlan {
        plan_dedup(local, local, &remote(stored), &HashSet::new())
    }

    #[test]
    fn uuid_ids_go_by_names_and_sizes() {
        let local = files(UUID, &[("Data.db", 5), ("TOC.txt", 1)]);
        assert_eq!(plan(&local, &local).duplicates.len(), 2);
        for other in [
            files(UUID, &[("Data.db", 6), ("TOC.txt", 1)]),
            files(UUID, &[("Data.db", 5)]),
            files(UUID, &[("Data.db", 5), ("TOC.txt", 1), ("Index.db", 1)]),
            vec![],
        ] {
            assert_eq!(plan(&local, &other), DedupPlan::default(), "{other:?}");
        }
    }

    #[test]
    fn integer_ids_need_equal_digests() {
        let local = files("7", &[("Data.db", 5), ("Digest.crc32", 9)]);
        let mut found = plan(&local, &local);
        assert_eq!((found.duplicates.len(), found.compare.len()), (0, 1));
        assert_eq!(found.compare[0].digest, "me-7-big-Digest.crc32");
        let comparison = found.compare.remove(0);
        let mut equal = found.clone();
        equal.settle(comparison.clone(), true);
        assert_eq!((equal.duplicates.len(), equal.collisions), (2, 0));
        found.settle(comparison, false);
        assert_eq!((found.duplicates.len(), found.collisions), (0, 2));

        let resized = files("7", &[("Data.db", 6), ("Digest.crc32", 9)]);
        assert_eq!(plan(&local, &resized), DedupPlan { collisions: 2, ..DedupPlan::default() });
        let no_digest = files("7", &[("Data.db", 5)]);
        assert_eq!(plan(&no_digest, &no_digest), DedupPlan { collisions: 1, ..DedupPlan::default() });
    }

    #[test]
    fn names_without_id_are_never_duplicates() {
        let odd = vec![("strange.bin".to_owned(), 1)];
        assert_eq!(plan(&odd, &odd), DedupPlan::default());
    }

    #[test]
    fn older_copies_and_scylla_manifests_do_not_count() {
        let local = files(UUID, &[("Data.db", 5)]);
        let older =
            vec![(format!("{}.sm_20260101000000UTC", local[0].0), 5), ("x_manifest.json".to_owned(), 1)];
        assert_eq!(plan(&local, &older), DedupPlan::default());
    }

    #[test]
    fn what_is_left_after_an_interruption_is_compared_as_a_whole() {
        let listed = files(UUID, &[("Data.db", 5), ("TOC.txt", 1)]);
        let found = plan_dedup(&listed, &listed[1..], &remote(&listed), &HashSet::new());
        assert_eq!(found.duplicates, listed[1..]);
        let found = plan_dedup(&listed, &listed[1..], &remote(&listed[..1]), &HashSet::new());
        assert_eq!(found, DedupPlan::default());
    }

    #[test]
    fn damaged_sstables_are_uploaded_again() {
        let local = files(UUID, &[("Data.db", 5), ("TOC.txt", 1)]);
        let damaged = HashSet::from([local[0].0.clone()]);
        let found = plan_dedup(&local, &local, &remote(&local), &damaged);
        assert_eq!(found, DedupPlan { overwrite: vec![local[0].0.clone()], ..DedupPlan::default() });
    }

    proptest! {
        /// U5: a duplicate is in the location with the same size, and so are all files of its SSTable.
        #[test]
        fn nothing_unsure_is_dropped(
            local in prop::collection::btree_map(0..4_u8, prop::collection::btree_map(0..3_u8, 0..3_u64, 1..4), 0..4),
            stored in prop::collection::btree_map(0..4_u8, prop::collection::btree_map(0..3_u8, 0..3_u64, 1..4), 0..4),
        ) {
            let flat = |tree: &std::collections::BTreeMap<u8, std::collections::BTreeMap<u8, u64>>| -> Vec<SizedFile> {
                tree.iter().flat_map(|(id, parts)| parts.iter().map(move |(part, size)| {
                    // Even numbers stand for integer IDs, odd ones for UUIDs.
                    let id = if id % 2 == 0 { id.to_string() } else { format!("{id}g7k_098r_4wtqo2asamoc1i8h9n") };
                    let component = ["Data.db", "Digest.crc32", "TOC.txt"][usize::from(*part)];
                    (format!("me-{id}-big-{component}"), *size)
                })).collect()
            };
            let (local, stored) = (flat(&local), flat(&stored));
            let found = plan(&local, &stored);
            for (name, size) in &found.duplicates {
                prop_assert!(name.contains('_'), "an integer ID was dropped without its digest: {name}");
                prop_assert!(stored.contains(&(name.clone(), *size)));
            }
            for comparison in &found.compare {
                prop_assert!(comparison.local.iter().all(|f| stored.contains(f)));
            }
        }
    }
}
