//! Snapshots of earlier days, as the manager would have left them, written straight into the bucket: manifests and
//! schema files. The SSTables that they list are not there; nothing that is measured looks at them.

use std::fmt;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use common::format::manifest::{ManifestError, ManifestHeader, TableEntry, Writer};
use common::format::paths::{ManifestPath, NodePath, SchemaKind, SchemaPath, scylla_manifest_name};
use common::format::schema;
use common::ids::{ClusterId, HostId, TaskId};
use common::snapshot_tag::SnapshotTag;

use crate::cluster::{KeyspaceClass, SimCluster};
use crate::harness::Bed;
use crate::node::SimNode;
use crate::sstable::{Component, Generation, SstableName, SstableVersion};

/// Time between two snapshots. In each, every table has lost its oldest SSTable and has a new one.
const EVERY: TimeDelta = TimeDelta::hours(6);

/// What is written.
pub struct History {
    /// The cluster that was backed up.
    pub cluster: ClusterId,
    /// The task that did it.
    pub task: TaskId,
    /// Snapshots.
    pub snapshots: usize,
    /// SSTables of each table in each of them.
    pub sstables: usize,
}

/// How much was written.
#[derive(Default)]
pub struct Written {
    manifests: usize,
    files: usize,
    bytes: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(f, "{} manifests that list {} files, {mib:.0} MiB packed", self.manifests, self.files)
    }
}

/// One user table.
struct Table {
    keyspace: String,
    name: String,
    version: String,
    replication: &'static str,
}

impl History {
    /// Writes the snapshots, the newest one an interval ago.
    ///
    /// # Errors
    /// The bucket is not there.
    pub fn write(&self, bed: &Bed) -> anyhow::Result<Written> {
        let tables = user_tables(&bed.cluster);
        let mut written = Written::default();
        let now = Utc::now();
        for snapshot in 0..self.snapshots {
            let age = i32::try_from(self.snapshots - snapshot).context("that many snapshots")?;
            let taken = now - EVERY * age;
            let tag = SnapshotTag::at(taken);
            let schema = SchemaPath { cluster: self.cluster, task: self.task, tag, kind: SchemaKind::Safe };
            bed.own_s3().store.insert(&bed.bucket, &schema.to_string(), schema::encode(&[])?)?;
            for node in bed.cluster.nodes() {
                let path = self.path(node, tag);
                let tokens = bed.cluster.model().member(node.id()).tokens.clone();
                let entries: Vec<_> = tables.iter().map(|table| self.entry(table, &path, snapshot)).collect();
                let packed = pack(&self.header(node, &path, tokens, &entries, &schema), &entries)?;
                written.manifests += 1;
                written.files += tables.len() * self.sstables * SstableVersion::Me.components(true).len();
                written.bytes += packed.len();
                bed.own_s3().store.insert(&bed.bucket, &path.to_string(), packed)?;
            }
        }
        Ok(written)
    }

    fn path(&self, node: &SimNode, tag: SnapshotTag) -> ManifestPath {
        let node =
            NodePath { cluster: self.cluster, dc: node.dc(), node: HostId::new(node.host_id().to_string()) };
        ManifestPath { node, task: self.task, tag, temporary: false }
    }

    fn header(
        &self,
        node: &SimNode,
        path: &ManifestPath,
        tokens: Vec<i64>,
        entries: &[TableEntry],
        schema: &SchemaPath,
    ) -> ManifestHeader {
        ManifestHeader {
            version: "v2".to_owned(),
            cluster_name: "test".to_owned(),
            ip: node.address().to_string(),
            size: entries.iter().map(|entry| entry.size).sum(),
            tokens,
            schema: schema.to_string(),
            rack: node.rack(),
            dc: node.dc(),
            cluster_id: Some(self.cluster),
            node_id: path.node.node.to_string(),
            task_id: Some(self.task),
            snapshot_tag: Some(path.tag),
            ..ManifestHeader::default()
        }
    }

    /// The table as it was at one snapshot: SSTables are numbered through, and each lives for as many snapshots as
    /// there are SSTables at a time.
    fn entry(&self, table: &Table, path: &ManifestPath, snapshot: usize) -> TableEntry {
        let mut entry = TableEntry {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            replication_type: table.replication.to_owned(),
            version: table.version.clone(),
            scylla_manifests: vec![scylla_manifest_name(path.tag, &path.node.node, "manifest.json")],
            ..TableEntry::default()
        };
        for number in snapshot..snapshot + self.sstables {
            let generation = generation(table, &path.node.node, number);
            for component in SstableVersion::Me.components(true) {
                let name = SstableName::new(SstableVersion::Me, generation, component).to_string();
                let hash = crc32fast::hash(name.as_bytes());
                let size = match component {
                    Component::Data => 1 << 20,
                    _ => 64,
                } + u64::from(hash % 10_000);
                entry.size += size;
                entry.file_sizes.push(size);
                entry.file_crc32.push(Some(hash));
                entry.files.push(name);
            }
        }
        entry
    }
}

fn pack(header: &ManifestHeader, entries: &[TableEntry]) -> Result<Vec<u8>, ManifestError> {
    let mut writer = Writer::new(Vec::new(), header)?;
    for entry in entries {
        writer.entry(entry)?;
    }
    writer.finish()
}

/// The generation ID of a table's n-th SSTable on a node.
fn generation(table: &Table, node: &HostId, number: usize) -> Generation {
    let hash = |salt: &str| {
        u64::from(crc32fast::hash(format!("{salt} {node} {} {number}", table.version).as_bytes()))
    };
    let written = DateTime::UNIX_EPOCH.timestamp() as u64 + 1_700_000_000 + number as u64 * 21_600;
    Generation::from_time(written, hash("ticks") % 10_000_000, hash("high") << 32 | hash("low"))
}

fn user_tables(cluster: &SimCluster) -> Vec<Table> {
    let model = cluster.model();
    let user = model.tables().filter(|(keyspace, _)| keyspace.class == KeyspaceClass::User);
    user.map(|(keyspace, table)| Table {
        keyspace: keyspace.name.clone(),
        name: table.name.clone(),
        version: table.id.simple().to_string(),
        replication: if keyspace.uses_tablets() { "tablets" } else { "vnodes" },
    })
    .collect()
}
