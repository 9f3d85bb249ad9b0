//! `backup list` and `backup files` (spec backup-format.md 6.1 to 6.3).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use common::api::manager::{BackupFilesInfo, BackupListItem, SnapshotInfo, TableFiles, Unit};
use common::filter::KeyspaceFilter;
use common::format::manifest::{ManifestHeader, TableEntry, TableSize};
use common::ids::{ClusterId, TaskId};
use common::snapshot_tag::SnapshotTag;
use futures::StreamExt;

use super::location::{LocationError, ReadError, Reader};
use super::retention::ListedManifest;
use super::units::SCHEMA_KEYSPACE;

/// Manifests that are read at once (the original's number of manifests in memory).
const PARALLEL: usize = 12;

/// Why a listing failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A manifest whose files were asked for.
    #[error(transparent)]
    Manifest(#[from] ReadError),
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Only this cluster; all when absent.
    pub cluster: Option<ClusterId>,
    /// Only snapshots with these tables, and only these tables of them.
    pub tables: KeyspaceFilter,
    /// Not older, inclusive.
    pub min_date: Option<DateTime<Utc>>,
    /// Not newer, inclusive.
    pub max_date: Option<DateTime<Utc>>,
    /// Only this one; overrides the dates.
    pub tag: Option<SnapshotTag>,
}

impl ListFilter {
    /// Whether a manifest is asked for, as far as its path tells. Temporary ones never are.
    pub fn takes(&self, manifest: &ListedManifest) -> bool {
        let tag = manifest.path.tag;
        if manifest.path.temporary || self.cluster.is_some_and(|c| c != manifest.path.node.cluster) {
            return false;
        }
        match self.tag {
            Some(wanted) => tag == wanted,
            None => {
                self.min_date.is_none_or(|min| tag >= SnapshotTag::at(min))
                    && self.max_date.is_none_or(|max| tag <= SnapshotTag::at(max))
            }
        }
    }

    fn takes_table(&self, keyspace: &str, table: &str) -> bool {
        self.tables.matches(keyspace, table)
    }
}

/// Adds sizes that anybody may have written; the answer's integers are signed.
fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b).min(i64::MAX as u64)
}

/// What counts of one manifest.
#[derive(Debug, Default)]
struct Summary {
    size: u64,
    tables: BTreeMap<String, BTreeSet<String>>,
    /// The schema's tables are there, so that the schema itself should be, too.
    wants_schema: bool,
}

/// Everything of one task.
#[derive(Debug, Default)]
struct Gathered {
    snapshots: BTreeMap<SnapshotTag, (u64, u64)>,
    tables: BTreeMap<String, BTreeSet<String>>,
    warnings: BTreeSet<String>,
}

/// Lists the backups in some locations. Damaged manifests are passed over with a warning that names them.
///
/// # Errors
/// A location cannot be listed.
pub async fn list_backups(
    readers: &[Reader],
    filter: &ListFilter,
) -> Result<Vec<BackupListItem>, LocationError> {
    let mut tasks: BTreeMap<(ClusterId, TaskId), Gathered> = BTreeMap::new();
    for reader in readers {
        let mut manifests = reader.manifests(filter.cluster).await?;
        manifests.retain(|m| filter.takes(m));
        let mut read = futures::stream::iter(manifests)
            .map(|manifest| async move {
                let outcome = summarize(reader, &manifest, filter).await;
                (manifest, outcome)
            })
            .buffered(PARALLEL);
        while let Some((manifest, outcome)) = read.next().await {
            let path = &manifest.path;
            let task = tasks.entry((path.node.cluster, path.task)).or_default();
            match outcome {
                Ok((header, summary)) => task.add(&manifest, &header, summary),
                Err(error) => {
                    task.warnings.insert(common::error::chain(&error));
                }
            }
        }
    }
    let items = tasks.into_iter().map(|((cluster_id, task_id), task)| task.into_item(cluster_id, task_id));
    Ok(items.filter(|i| !i.snapshot_info.is_empty() || !i.warnings.is_empty()).collect())
}

async fn summarize(
    reader: &Reader,
    manifest: &ListedManifest,
    filter: &ListFilter,
) -> Result<(ManifestHeader, Summary), ReadError> {
    let mut summary = Summary::default();
    let add = |table: TableSize| {
        summary.wants_schema |= table.keyspace == SCHEMA_KEYSPACE;
        if filter.takes_table(&table.keyspace, &table.table) {
            summary.size = sum(summary.size, table.size);
            summary.tables.entry(table.keyspace).or_default().insert(table.table);
        }
    };
    let header = reader.read_sizes(manifest, add).await?;
    Ok((header, summary))
}

impl Gathered {
    fn add(&mut self, manifest: &ListedManifest, header: &ManifestHeader, summary: Summary) {
        if summary.tables.is_empty() {
            return;
        }
        let (nodes, size) = self.snapshots.entry(manifest.path.tag).or_default();
        *nodes += 1;
        *size = sum(*size, summary.size);
        for (keyspace, tables) in summary.tables {
            self.tables.entry(keyspace).or_default().extend(tables);
        }
        if summary.wants_schema && header.schema.is_empty() {
            self.warnings.insert(format!(
                "schema is not part of backup {}: set CQL credentials with sctool cluster update --username --password",
                manifest.path.tag
            ));
        }
    }

    fn into_item(self, cluster_id: ClusterId, task_id: TaskId) -> BackupListItem {
        let unit = |(keyspace, tables): (String, BTreeSet<String>)| Unit {
            keyspace,
            tables: tables.into_iter().collect(),
            all_tables: false,
        };
        let info = |(snapshot_tag, (nodes, size))| SnapshotInfo { snapshot_tag, nodes, size };
        BackupListItem {
            cluster_id,
            task_id,
            units: self.tables.into_iter().map(unit).collect(),
            snapshot_info: self.snapshots.into_iter().rev().map(info).collect(),
            warnings: self.warnings.into_iter().collect(),
        }
    }
}

/// Lists the files of backups, one item per manifest.
///
/// # Errors
/// A location cannot be listed, or a manifest is damaged: a list with holes would be worse than none.
pub async fn list_files(readers: &[Reader], filter: &ListFilter) -> Result<Vec<BackupFilesInfo>, ListError> {
    let mut found = Vec::new();
    for reader in readers {
        let mut manifests = reader.manifests(filter.cluster).await?;
        manifests.retain(|m| filter.takes(m));
        for manifest in &manifests {
            let mut files = Vec::new();
            let add = |entry: TableEntry| {
                if filter.takes_table(&entry.keyspace, &entry.table) {
                    files.push(table_files(manifest, entry));
                }
            };
            let header = reader.read(manifest, add).await?;
            if !files.is_empty() {
                let location = reader.location.clone();
                found.push(BackupFilesInfo { location, schema: header.schema, files });
            }
        }
    }
    Ok(found)
}

fn table_files(manifest: &ListedManifest, entry: TableEntry) -> TableFiles {
    TableFiles {
        path: manifest.path.node.table_dir(&entry.keyspace, &entry.table, &entry.version),
        keyspace: entry.keyspace,
        table: entry.table,
        version: entry.version,
        replication_type: entry.replication_type,
        files: entry.files,
        size: sum(entry.size, 0),
        scylla_manifests: entry.scylla_manifests,
    }
}

#[cfg(test)]
mod tests {
    use common::format::paths::{ManifestPath, NodePath};
    use common::ids::HostId;

    use super::*;

    fn manifest(tag: &str, temporary: bool) -> ListedManifest {
        let node = NodePath { cluster: ClusterId::NIL, dc: "dc1".into(), node: HostId::new("n") };
        let path = ManifestPath { node, task: TaskId::NIL, tag: tag.parse().unwrap(), temporary };
        ListedManifest { location: "s3:b".parse().unwrap(), key: path.to_string(), path, protected: false }
    }

    #[test]
    fn dates_are_inclusive_and_a_tag_overrides_them() {
        let at = |text: &str| Some(text.parse::<SnapshotTag>().unwrap().time());
        let between = ListFilter {
            min_date: at("sm_20260102000000UTC"),
            max_date: at("sm_20260103000000UTC"),
            ..ListFilter::default()
        };
        let exact = ListFilter { tag: "sm_20250101000000UTC".parse().ok(), ..between.clone() };
        let elsewhere = ListFilter { cluster: Some(ClusterId::random()), ..ListFilter::default() };
        for (filter, tag, temporary, taken) in [
            (&between, "sm_20260101235959UTC", false, false),
            (&between, "sm_20260102000000UTC", false, true),
            (&between, "sm_20260103000000UTC", false, true),
            (&between, "sm_20260103000001UTC", false, false),
            (&between, "sm_20260102000000UTC", true, false),
            (&exact, "sm_20250101000000UTC", false, true),
            (&exact, "sm_20260102000000UTC", false, false),
            (&elsewhere, "sm_20260102000000UTC", false, false),
        ] {
            assert_eq!(filter.takes(&manifest(tag, temporary)), taken, "{tag}");
        }
    }
}
