//! Backup targets, progress, listings.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::api::{null_as_default, optional_time};
use crate::ids::{ClusterId, TaskId};
use crate::location::Location;
use crate::snapshot_tag::SnapshotTag;
use crate::task::Stage;
use crate::units::DcLimit;

/// Tables of one keyspace (spec manager.md 3.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unit {
    /// Keyspace.
    pub keyspace: String,
    /// Tables; sorted in listings.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub tables: Vec<String>,
    /// Nothing was filtered out of the keyspace.
    pub all_tables: bool,
}

/// What a backup would do: the answer of a dry run (spec manager.md 3.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupTarget {
    /// Tables.
    #[serde(deserialize_with = "null_as_default")]
    pub units: Vec<Unit>,
    /// Datacenters, sorted.
    #[serde(deserialize_with = "null_as_default")]
    pub dc: Vec<String>,
    /// Locations of the selected datacenters.
    #[serde(deserialize_with = "null_as_default")]
    pub location: Vec<Location>,
    /// Snapshots to keep; 0 for no limit by count.
    pub retention: i64,
    /// Days to keep; 0 for no limit by age.
    pub retention_days: i64,
    /// MiB/s per node; empty for no limit.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub rate_limit: Vec<DcLimit>,
    /// Parallel transfers per node; -1 for the agent's own setting.
    pub transfers: i64,
    /// Nodes that take snapshots at once; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub snapshot_parallel: Vec<DcLimit>,
    /// Nodes that upload at once; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub upload_parallel: Vec<DcLimit>,
    /// A later run goes on where this one stops.
    #[serde(rename = "continue", skip_serializing_if = "std::ops::Not::not")]
    pub continue_run: bool,
    /// Run retention only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub purge_only: bool,
    /// No schema in the backup.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_schema: bool,
    /// `rclone`, `auto` or `native`.
    #[serde(deserialize_with = "null_as_default")]
    pub method: String,
    /// `disabled` unless locks are set.
    #[serde(deserialize_with = "null_as_default")]
    pub retention_lock_mode: String,
    /// Replace existing unlocked locks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub override_retention_lock: bool,
    /// Bytes of all selected tables on all live nodes.
    #[serde(alias = "Size")]
    pub size: u64,
    /// Ours: what the operator should know before relying on this backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Numbers that every level of a backup's progress has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressNumbers {
    /// Bytes in the snapshot.
    pub size: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes that the bucket had already.
    pub skipped: u64,
    /// Bytes that must be sent again.
    pub failed: u64,
    /// Earliest child.
    #[serde(with = "optional_time")]
    pub started_at: Option<DateTime<Utc>>,
    /// Latest child, or `null` if any is not complete.
    #[serde(with = "optional_time")]
    pub completed_at: Option<DateTime<Utc>>,
}

/// Progress of one table on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableProgress {
    /// Table.
    pub table: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Numbers.
    #[serde(flatten)]
    pub numbers: ProgressNumbers,
}

/// Progress of one keyspace on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyspaceProgress {
    /// Keyspace.
    pub keyspace: String,
    /// Numbers.
    #[serde(flatten)]
    pub numbers: ProgressNumbers,
    /// Tables in unit order.
    #[serde(deserialize_with = "null_as_default")]
    pub tables: Vec<TableProgress>,
}

/// Progress of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostProgress {
    /// IP address.
    pub host: String,
    /// Numbers.
    #[serde(flatten)]
    pub numbers: ProgressNumbers,
    /// Keyspaces in unit order.
    #[serde(deserialize_with = "null_as_default")]
    pub keyspaces: Vec<KeyspaceProgress>,
}

/// Progress of a backup run (spec backup-format.md 4.13).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupProgress {
    /// Empty before the tag is chosen.
    #[serde(deserialize_with = "null_as_default")]
    pub snapshot_tag: String,
    /// Datacenters.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub dcs: Vec<String>,
    /// `null` or empty before the first stage.
    #[serde(serialize_with = "stage_text", deserialize_with = "stage_from_text")]
    pub stage: Option<Stage>,
    /// `disabled` unless locks are set.
    #[serde(deserialize_with = "null_as_default")]
    pub retention_lock_mode: String,
    /// Replace existing unlocked locks.
    pub override_retention_lock: bool,
    /// Days to keep.
    pub retention_days: i64,
    /// Numbers.
    #[serde(flatten)]
    pub numbers: ProgressNumbers,
    /// Hosts, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub hosts: Vec<HostProgress>,
    /// Ours: what the operator should know before relying on this backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn stage_text<S: serde::Serializer>(stage: &Option<Stage>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.map_or("", Stage::as_str))
}

fn stage_from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Stage>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    // A stage that a newer server knows is shown as none rather than refused.
    Ok(text.parse().ok())
}

/// Filters of `backup list` and `backup files`; lists are comma-joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupListQuery {
    /// Where to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locations: Option<String>,
    /// Only backups of this cluster; absent for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_cluster_id: Option<String>,
    /// Globs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
    /// RFC 3339, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_date: Option<String>,
    /// RFC 3339, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_date: Option<String>,
    /// Only this tag; overrides the dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_tag: Option<String>,
}

/// Query of `backup delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupDeleteQuery {
    /// Where to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locations: Option<String>,
    /// Comma-joined tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_tags: Option<String>,
}

/// One snapshot of a task in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its tag.
    pub snapshot_tag: SnapshotTag,
    /// Number of manifests.
    pub nodes: u64,
    /// Bytes of the matching tables, not deduplicated.
    pub size: u64,
}

/// Backups of one task (spec manager.md 2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupListItem {
    /// Cluster that was backed up.
    pub cluster_id: ClusterId,
    /// Task that made the backups.
    pub task_id: TaskId,
    /// Union of the tables of all snapshots.
    #[serde(default, deserialize_with = "null_as_default")]
    pub units: Vec<Unit>,
    /// Newest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub snapshot_info: Vec<SnapshotInfo>,
    /// Ours: damaged objects that were passed over, missing schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One table of one node in `backup files`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableFiles {
    /// Keyspace.
    pub keyspace: String,
    /// Table.
    pub table: String,
    /// Table ID: 32 hexadecimal digits.
    pub version: String,
    /// `vnodes` or `tablets`; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replication_type: String,
    /// Component names, unversioned.
    #[serde(deserialize_with = "null_as_default")]
    pub files: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Names as stored remotely.
    #[serde(deserialize_with = "null_as_default")]
    pub scylla_manifests: Vec<String>,
    /// Key of the version directory.
    pub path: String,
}

/// Files of one manifest (spec manager.md 2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFilesInfo {
    /// Without a datacenter.
    pub location: Location,
    /// Key of the schema file; empty when there is none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub schema: String,
    /// Tables.
    #[serde(default, deserialize_with = "null_as_default")]
    pub files: Vec<TableFiles>,
}

/// One row of `DESCRIBE SCHEMA WITH INTERNALS`, in the API and in the schema file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchemaRow {
    /// Empty for roles and service levels.
    #[serde(deserialize_with = "null_as_default")]
    pub keyspace: String,
    /// What Scylla calls it: `keyspace`, `table`, `view`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// One or several statements.
    pub cql_stmt: String,
}

/// Answer of `GET .../backups/schema`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSchema {
    /// Rows in the order they must be replayed in.
    pub schema: Vec<SchemaRow>,
}
