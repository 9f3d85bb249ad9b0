//! What must hold of a bucket after every scenario, whatever went wrong on the way.
//!
//! The names (U1, P5, ...) are those of the format's invariant list (docs/backup-format.md). Nothing here uses the
//! product's own reading of keys, manifests or versioned names: a second reading finds what both would get wrong.

mod bucket;
mod keys;
mod ledger;
mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use bucket::{BucketContents, ObjectFact, StoredTable};
pub use ledger::{FileId, Ledger};

use keys::{Key, ManifestKey, SstKey};
use manifest::{Entry, Manifest};

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// What is wrong, with the key.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// What a scenario expects beyond the rules that always hold.
#[derive(Debug, Default)]
pub struct Expected<'a> {
    /// Contents of the nodes at the time of each snapshot.
    pub ledger: Option<&'a Ledger>,
    /// A run was left unfinished: its temporary manifests, uploads and local snapshots are no fault.
    pub unfinished_run: bool,
    /// Local snapshots of the nodes: node address and snapshot name.
    pub local_snapshots: Vec<(String, String)>,
    /// Tasks that do not back up the schema.
    pub without_schema: bool,
}

/// Checks U1, U3, U5, U8, P1, P5, F3 and L1 over a bucket. Empty: all hold.
#[must_use]
pub fn check(bucket: &BucketContents, expected: &Expected<'_>) -> Vec<Violation> {
    let mut report = Report::default();
    let view = View::read(bucket, &mut report);
    for (key, manifest) in view.manifests.iter().filter(|(key, _)| !key.temporary) {
        view.check_files(key, manifest, expected, &mut report);
        view.check_ledger(key, manifest, expected, &mut report);
    }
    view.check_orphans(&mut report);
    if !expected.unfinished_run {
        view.check_leftovers(bucket, expected, &mut report);
    }
    report.0
}

/// Panics with every broken invariant; for the end of a scenario.
///
/// # Panics
/// Some invariant does not hold.
pub fn assert_holds(bucket: &BucketContents, expected: &Expected<'_>) {
    let violations = check(bucket, expected);
    let shown: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} invariants are broken:\n{}", violations.len(), shown.join("\n"));
}

#[derive(Default)]
struct Report(Vec<Violation>);

impl Report {
    fn add(&mut self, invariant: &'static str, what: String) {
        self.0.push(Violation { invariant, what });
    }
}

/// A bucket, sorted into what its keys mean.
struct View<'a> {
    bucket: &'a BucketContents,
    manifests: BTreeMap<ManifestKey, Manifest>,
    /// Files of tables by directory, then plain name, then the tag that replaced it (`None`: the plain object).
    tables: BTreeMap<String, BTreeMap<String, BTreeMap<Option<String>, ObjectFact>>>,
    schema_files: Vec<(String, String, String)>,
}

impl<'a> View<'a> {
    fn read(bucket: &'a BucketContents, report: &mut Report) -> Self {
        let mut view =
            Self { bucket, manifests: BTreeMap::new(), tables: BTreeMap::new(), schema_files: Vec::new() };
        for (key, fact) in &bucket.objects {
            match keys::parse(key) {
                Some(Key::Manifest(parsed)) => {
                    match bucket.manifests.get(key).map(|body| Manifest::read(body)) {
                        Some(Ok(manifest)) => {
                            view.manifests.insert(parsed, manifest);
                        }
                        Some(Err(error)) => report.add("F1", format!("{key} cannot be read: {error}")),
                        None => report.add("F1", format!("{key} was not loaded")),
                    }
                }
                Some(Key::Schema { cluster, task, tag }) => view.schema_files.push((cluster, task, tag)),
                Some(Key::Sst(SstKey { directory, plain, replaced_by })) => {
                    view.tables
                        .entry(directory)
                        .or_default()
                        .entry(plain)
                        .or_default()
                        .insert(replaced_by, *fact);
                }
                Some(Key::Marker) => {}
                None => report.add("L1", format!("{key} matches no template of the layout")),
            }
        }
        view
    }

    /// The object that holds `name` as it was in `tag`: the oldest copy set aside by a later tag, else the plain one.
    fn resolve(&self, directory: &str, name: &str, tag: &str) -> Option<ObjectFact> {
        let copies = self.tables.get(directory)?.get(name)?;
        let older = copies.iter().find(|(replaced_by, _)| replaced_by.as_deref().is_some_and(|by| by > tag));
        older.map(|(_, fact)| *fact).or_else(|| copies.get(&None).copied())
    }

    fn check_files(
        &self,
        key: &ManifestKey,
        manifest: &Manifest,
        expected: &Expected<'_>,
        report: &mut Report,
    ) {
        if manifest.schema.is_empty() {
            if !expected.without_schema {
                report.add("U1", format!("{key} names no schema file"));
            }
        } else if !self.bucket.objects.contains_key(&manifest.schema) {
            report.add("U1", format!("{key}: schema file {} is missing", manifest.schema));
        }
        if !expected.without_schema && !manifest.index.iter().any(|entry| entry.keyspace == "system_schema") {
            report.add("T1", format!("{key} lists no table of system_schema"));
        }
        let total: u64 = manifest.index.iter().map(|entry| entry.size).sum();
        if total != manifest.size {
            report.add("F3", format!("{key}: size {} but its tables have {total} bytes", manifest.size));
        }
        for entry in &manifest.index {
            self.check_entry(key, entry, report);
        }
    }

    fn check_entry(&self, key: &ManifestKey, entry: &Entry, report: &mut Report) {
        let directory = key.table_directory(entry);
        let mut bytes = 0;
        for (at, name) in entry.files.iter().enumerate() {
            let Some(found) = self.resolve(&directory, name, &key.tag) else {
                report.add("U1", format!("{key}: {directory}/{name} is missing"));
                continue;
            };
            bytes += found.size;
            if entry.file_sizes.get(at).is_some_and(|size| *size != found.size) {
                report.add(
                    "U1",
                    format!(
                        "{key}: {directory}/{name} has {} bytes, listed with {}",
                        found.size, entry.file_sizes[at]
                    ),
                );
            }
            if let Some(Some(crc)) = entry.file_crc32.get(at)
                && *crc != found.crc32
            {
                report.add(
                    "U3",
                    format!(
                        "{key}: {directory}/{name} has CRC-32 {:08x}, listed with {crc:08x}",
                        found.crc32
                    ),
                );
            }
        }
        if bytes != entry.size {
            report
                .add("F3", format!("{key}: {directory} is listed with {} bytes and has {bytes}", entry.size));
        }
        for name in &entry.scylla_manifests {
            if !self.bucket.objects.contains_key(&format!("{directory}/{name}")) {
                report.add("U1", format!("{key}: Scylla manifest {directory}/{name} is missing"));
            }
        }
    }

    /// U3 and U5: the bytes are those that were on the node, and none is left out. A wrong deduplication shows here.
    fn check_ledger(
        &self,
        key: &ManifestKey,
        manifest: &Manifest,
        expected: &Expected<'_>,
        report: &mut Report,
    ) {
        let Some(recorded) = expected.ledger.and_then(|ledger| ledger.of(&key.tag, &key.node)) else {
            return;
        };
        for entry in &manifest.index {
            let directory = key.table_directory(entry);
            let listed: BTreeSet<&str> = entry.files.iter().map(String::as_str).collect();
            let of_table = recorded.iter().filter(|(id, _)| {
                id.keyspace == entry.keyspace && id.table == entry.table && id.version == entry.version
            });
            for (id, fact) in of_table {
                if !listed.contains(id.file.as_str()) {
                    report.add(
                        "U3",
                        format!("{key}: {directory}/{} was on the node and is not listed", id.file),
                    );
                } else if self.resolve(&directory, &id.file, &key.tag).is_some_and(|found| found != *fact) {
                    report.add(
                        "U3",
                        format!("{key}: {directory}/{} has not the bytes it was taken with", id.file),
                    );
                }
            }
        }
    }

    /// P5: nothing lies in the bucket that no manifest needs.
    fn check_orphans(&self, report: &mut Report) {
        let mut needed: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let mut scylla: BTreeSet<String> = BTreeSet::new();
        for (key, manifest) in &self.manifests {
            for entry in &manifest.index {
                let directory = key.table_directory(entry);
                scylla.extend(entry.scylla_manifests.iter().map(|name| format!("{directory}/{name}")));
                needed.entry(directory).or_default().extend(entry.files.iter().map(String::as_str));
            }
        }
        let oldest: BTreeMap<&str, &str> =
            self.manifests.keys().rev().map(|key| (key.cluster.as_str(), key.tag.as_str())).fold(
                BTreeMap::new(),
                |mut oldest, (cluster, tag)| {
                    let known = oldest.entry(cluster).or_insert(tag);
                    *known = tag.min(*known);
                    oldest
                },
            );
        for (directory, files) in &self.tables {
            for (name, copies) in files {
                let path = format!("{directory}/{name}");
                if name.ends_with("manifest.json") {
                    if !scylla.contains(&path) {
                        report.add("P5", format!("{path} belongs to no manifest"));
                    }
                    continue;
                }
                let plain_is_needed =
                    needed.get(directory).is_some_and(|names| names.contains(name.as_str()));
                if copies.contains_key(&None) && !plain_is_needed {
                    report.add("P5", format!("{path} is listed by no manifest"));
                }
                let cluster = directory.split('/').nth(3).unwrap_or_default();
                for tag in copies.keys().flatten() {
                    if oldest.get(cluster).is_some_and(|oldest| tag.as_str() <= *oldest) {
                        report.add(
                            "P2",
                            format!(
                                "{path}.{tag} is needed by no snapshot: the oldest is {}",
                                oldest[cluster]
                            ),
                        );
                    }
                }
            }
        }
        for (cluster, task, tag) in &self.schema_files {
            let owner = self
                .manifests
                .keys()
                .any(|key| key.cluster == *cluster && key.task == *task && key.tag == *tag);
            if !owner {
                report.add("P5", format!("schema file of task {task}, {tag} belongs to no manifest"));
            }
        }
    }

    /// What a run that ended well leaves nowhere.
    fn check_leftovers(&self, bucket: &BucketContents, expected: &Expected<'_>, report: &mut Report) {
        for key in self.manifests.keys().filter(|key| key.temporary) {
            report.add("U2", format!("{key} is still temporary"));
        }
        if bucket.unfinished_uploads > 0 {
            report.add(
                "U7",
                format!("{} multipart uploads are neither completed nor aborted", bucket.unfinished_uploads),
            );
        }
        for (node, snapshot) in expected.local_snapshots.iter().filter(|(_, name)| name.starts_with("sm_")) {
            report.add("U8", format!("snapshot {snapshot} is still on node {node}"));
        }
    }
}

#[cfg(test)]
mod tests;
