//! INDEX: lists the files of the snapshots (spec backup-format.md 4.3).
//!
//! The list is made once per host, before anything is uploaded, and kept packed: later stages read it back from
//! the temporary manifest, never from what is left on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::api::agent::{ListItem, ListOptions, ListRequest};
use common::format::manifest::{ManifestHeader, TableEntry, Writer};
use common::format::paths;
use futures::TryStreamExt;

use super::error::BackupError;
use super::file_lists::{local_files, snapshot_dir, split_table_dir};
use super::run::Run;
use super::target::Node;
use crate::hosts::at_most;
use crate::store::backup_progress::ProgressRow;

/// Tables of one node that are listed at once.
const PARALLEL: usize = 8;

/// Removed from snapshots, never uploaded: the schema has its own file.
const SCHEMA_CQL: &str = "schema.cql";

/// The list of files of one node, packed like a manifest. Scylla's own manifests have their local names in it.
pub struct PackedIndex {
    /// A manifest with an empty header.
    pub packed: Vec<u8>,
    /// Bytes of all files.
    pub size: u64,
}

/// Lists the files of every node that has no temporary manifest of this run yet.
///
/// # Errors
/// A node does not answer, or a snapshot that should be there is not.
pub async fn build(run: &Run) -> Result<BTreeMap<IpAddr, Option<PackedIndex>>, BackupError> {
    run.on_nodes(&run.properties.upload_parallel, |node| async move {
        // A manifest that an earlier run has stored is never built again (section 11, 17).
        if run.reached.is_some() && has_manifest(run, node).await? {
            return Ok(None);
        }
        index_node(run, node).await.map(Some)
    })
    .await
}

/// Whether this run's temporary manifest of a node, or the published one, is stored.
async fn has_manifest(run: &Run, node: &Node) -> Result<bool, BackupError> {
    let published = run.manifest_path(node);
    for path in [published.temporary(), published] {
        let remote = node.location.remote_path(&path.to_string());
        if run.agent(node).file_info(&remote).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn index_node(run: &Run, node: &Node) -> Result<PackedIndex, BackupError> {
    let packing = |e: common::format::manifest::ManifestError| BackupError::other(common::error::chain(&e));
    let mut writer = Writer::new(Vec::new(), &ManifestHeader::default()).map_err(packing)?;
    let (mut size, mut any) = (0, false);
    for (number, unit) in run.units.iter().enumerate() {
        let mut rows = Vec::with_capacity(unit.tables.len());
        for entry in index_unit(run, node, &unit.keyspace, &unit.tables).await? {
            rows.push(ProgressRow {
                host: node.host.address.to_string(),
                unit: number,
                table: entry.table.clone(),
                size: entry.size,
                files_count: entry.files.len() as u64,
                ..ProgressRow::default()
            });
            size += entry.size;
            any = true;
            writer.entry(&entry).map_err(packing)?;
        }
        run.put_rows(node, rows).await?;
    }
    if !any {
        return Err(BackupError::other("could not find any files"));
    }
    Ok(PackedIndex { packed: writer.finish().map_err(packing)?, size })
}

async fn index_unit(
    run: &Run,
    node: &Node,
    keyspace: &str,
    tables: &[String],
) -> Result<Vec<TableEntry>, BackupError> {
    let wanted: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
    let replication = if run.tablet_keyspaces.contains(keyspace) { "tablets" } else { "vnodes" };
    let found = table_dirs(run, node, keyspace).await?;
    let dirs: Vec<TableEntry> = found
        .iter()
        .filter_map(|name| split_table_dir(name))
        .filter(|(table, _)| wanted.contains(table))
        .map(|(table, version)| TableEntry {
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
            version: version.to_owned(),
            replication_type: replication.to_owned(),
            ..TableEntry::default()
        })
        .collect();
    let present: BTreeSet<String> = dirs.iter().map(|entry| entry.table.clone()).collect();
    let listed = dirs.into_iter().map(|entry| index_table(run, node, entry)).collect();
    let mut entries = Vec::new();
    for entry in at_most(PARALLEL, listed).await {
        entries.extend(entry?);
    }
    entries.sort_by(|a: &TableEntry, b| (&a.table, &a.version).cmp(&(&b.table, &b.version)));
    check_complete(run, keyspace, &present, &entries).await?;
    Ok(entries)
}

async fn table_dirs(run: &Run, node: &Node, keyspace: &str) -> Result<Vec<String>, BackupError> {
    let opt =
        ListOptions { dirs_only: true, no_mod_time: true, no_mime_type: true, ..ListOptions::default() };
    let request = ListRequest { opt, ..ListRequest::default() };
    let listed = run.agent(node).list_if_exists(&format!("data:{keyspace}"), request).await?;
    let items: Vec<ListItem> = listed.try_collect().await?;
    let mut names: Vec<String> = items.into_iter().filter(|i| i.is_dir).map(|i| i.name).collect();
    names.sort();
    Ok(names)
}

/// Lists one table directory; `None` when it holds no snapshot of the run.
async fn index_table(
    run: &Run,
    node: &Node,
    mut entry: TableEntry,
) -> Result<Option<TableEntry>, BackupError> {
    let agent = run.agent(node);
    let dir = snapshot_dir(&entry, &run.tag.to_string());
    let Some(mut files) = local_files(&agent, &dir).await? else { return Ok(None) };
    files.sort();
    for (name, size) in files {
        if name == SCHEMA_CQL {
            agent.delete_file(&format!("{dir}/{SCHEMA_CQL}")).await?;
        } else if paths::is_scylla_manifest(&name) {
            entry.scylla_manifests.push(name);
        } else {
            entry.size += size;
            entry.files.push(name);
            entry.file_sizes.push(size);
        }
    }
    Ok(Some(entry))
}

/// A snapshot that vanished must not become a hole (section 11, 20). `present` are the selected tables that the
/// node has a directory of; a table that was dropped meanwhile may be without snapshot.
async fn check_complete(
    run: &Run,
    keyspace: &str,
    present: &BTreeSet<String>,
    entries: &[TableEntry],
) -> Result<(), BackupError> {
    let mut indexed = BTreeSet::new();
    for entry in entries {
        if !indexed.insert(entry.table.as_str()) {
            run.backups.store().abandon_backup_run(run.key).await?;
            return Err(BackupError::other(format!(
                "table {keyspace}.{} was made anew while its snapshot was taken; the next run starts from scratch",
                entry.table
            )));
        }
    }
    let missing: Vec<&String> = present.iter().filter(|table| !indexed.contains(table.as_str())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let still_there: BTreeSet<(String, String)> = run.client.tables().await?.into_iter().collect();
    let lost =
        missing.into_iter().find(|table| still_there.contains(&(keyspace.to_owned(), (*table).clone())));
    match lost {
        None => Ok(()),
        Some(table) => {
            run.backups.store().abandon_backup_run(run.key).await?;
            Err(BackupError::other(format!(
                "snapshot {} of table {keyspace}.{table} has vanished; the next run starts from scratch",
                run.tag
            )))
        }
    }
}
