//! DEDUPLICATE: drops from the snapshots what the location has already (spec backup-format.md 4.6).

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use common::format::manifest::TableEntry;
use common::format::sstable;

use super::dedup_plan::{Comparison, DedupPlan, SizedFile, plan_dedup};
use super::error::BackupError;
use super::file_lists::{local_files, snapshot_dir, table_dir};
use super::jobs;
use super::run::Run;
use super::staged;
use super::target::Node;
use crate::hosts::at_most;
use crate::store::backup_progress::ProgressRow;

/// Digests of one table that are compared at once.
const COMPARISONS: usize = 16;

/// Tables after which progress is written.
const ROWS_AT_ONCE: usize = 32;

/// Largest digest file: ten digits.
const MAX_DIGEST_BYTES: usize = 64;

/// A table with files that must still be uploaded.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The table, without its files.
    pub entry: TableEntry,
    /// Names that must replace a damaged object in place.
    pub overwrite: Vec<String>,
}

/// What is left to upload, by node, in the order of the manifest.
pub type PendingTables = BTreeMap<IpAddr, Vec<Pending>>;

/// Compares what is left on every node with its location.
///
/// # Errors
/// A node failed, or a snapshot that is still needed has vanished.
pub async fn drop_duplicates(run: &Run) -> Result<PendingTables, BackupError> {
    run.on_nodes(&run.properties.upload_parallel, |node| on_node(run, node)).await
}

async fn on_node(run: &Run, node: &Node) -> Result<Vec<Pending>, BackupError> {
    let mut pending = Vec::new();
    let mut rows = Vec::new();
    let mut tables = staged::tables(run, node).await?;
    while let Some(entry) = tables.next().await {
        let row = run.row(node, &entry.keyspace, &entry.table);
        if row.completed_at.is_some() {
            continue;
        }
        if entry.files.is_empty() {
            rows.push(completed(run, row));
            continue;
        }
        let mut row = row;
        if jobs::can_attach(run, node, &mut row).await? {
            // Its files are on the move: nothing else may touch them.
            let overwrite = damaged_files(run, node, &entry).await?;
            pending.push(Pending { entry: without_files(entry), overwrite: overwrite.into_iter().collect() });
            continue;
        }
        let (row, table) = on_table(run, node, entry, row).await?;
        match table {
            Some(table) => {
                rows.push(row);
                pending.push(table);
            }
            None => rows.push(completed(run, row)),
        }
        if rows.len() >= ROWS_AT_ONCE {
            run.put_rows(node, std::mem::take(&mut rows)).await?;
        }
    }
    tables.finish().await?;
    run.put_rows(node, rows).await?;
    Ok(pending)
}

/// A table with nothing to upload.
fn completed(run: &Run, row: ProgressRow) -> ProgressRow {
    let now = run.now();
    ProgressRow {
        started_at: row.started_at.or(Some(now)),
        completed_at: Some(now),
        error: String::new(),
        failed: 0,
        ..row
    }
}

async fn on_table(
    run: &Run,
    node: &Node,
    entry: TableEntry,
    mut row: ProgressRow,
) -> Result<(ProgressRow, Option<Pending>), BackupError> {
    let agent = run.agent(node);
    let dir = snapshot_dir(&entry, &run.tag.to_string());
    let Some(mut local) = local_files(&agent, &dir).await? else {
        return Err(vanished(run, &entry).await);
    };
    let listed: Vec<SizedFile> = entry.files.iter().cloned().zip(entry.file_sizes.iter().copied()).collect();
    let names: HashSet<&str> = entry.files.iter().map(String::as_str).collect();
    // What the manifest does not list is none of this backup's business.
    local.retain(|(name, _)| names.contains(name.as_str()));

    let remote_dir = run.table_dir(node, &entry);
    let remote = table_dir(&agent, &node.location, &remote_dir).await?;
    let versioned = remote.older_copies();
    if versioned > 0 {
        let (keyspace, table) = (&entry.keyspace, &entry.table);
        let id = node.host.id.as_str();
        run.backups.metrics().set_versioned(run.cluster(), id, keyspace, table, versioned);
    }
    let damaged = damaged_files(run, node, &entry).await?;
    let mut plan = plan_dedup(&listed, &local, &remote, &damaged);
    settle(run, node, &mut plan, &dir, &remote_dir).await?;
    delete(&agent, &dir, &plan).await?;

    let dropped: HashSet<&str> = plan.duplicates.iter().map(|(name, _)| name.as_str()).collect();
    let left = local.iter().filter(|(name, _)| !dropped.contains(name.as_str()));
    let (left_files, left_bytes) = left.fold((0_u64, 0_u64), |(n, sum), (_, size)| (n + 1, sum + size));
    // Of an interrupted run: what is no longer on the node counts as in the location.
    row.skipped = row.size.saturating_sub(left_bytes);
    row.files_skipped_count = row.files_count.saturating_sub(left_files);
    (row.uploaded, row.failed) = (0, 0);
    let entry = without_files(entry);
    let pending = (left_files > 0).then_some(Pending { entry, overwrite: plan.overwrite });
    Ok((row, pending))
}

/// Files of a table that are damaged in the location.
async fn damaged_files(run: &Run, node: &Node, entry: &TableEntry) -> Result<HashSet<String>, BackupError> {
    let dir = run.table_dir(node, entry);
    let damaged = run.backups.store().damaged_in(&node.location, &dir).await?;
    Ok(damaged.into_iter().map(|(name, _)| name).filter(|name| entry.files.contains(name)).collect())
}

fn without_files(entry: TableEntry) -> TableEntry {
    TableEntry { files: Vec::new(), file_sizes: Vec::new(), file_crc32: Vec::new(), ..entry }
}

async fn vanished(run: &Run, entry: &TableEntry) -> BackupError {
    if let Err(error) = run.backups.store().abandon_backup_run(run.key).await {
        return error.into();
    }
    BackupError::other(format!(
        "snapshot {} of table {}.{} has vanished before it was uploaded; the next run starts from scratch",
        run.tag, entry.keyspace, entry.table
    ))
}

/// Compares the digests of SSTables with integer IDs, on the node and in the location.
async fn settle(
    run: &Run,
    node: &Node,
    plan: &mut DedupPlan,
    local_dir: &str,
    remote_dir: &str,
) -> Result<(), BackupError> {
    let comparisons = std::mem::take(&mut plan.compare);
    let compared = comparisons.into_iter().map(|comparison: Comparison| async move {
        let agent = run.agent(node);
        let local = agent.cat(&format!("{local_dir}/{}", comparison.digest), MAX_DIGEST_BYTES).await?;
        let path = node.location.remote_path(&format!("{remote_dir}/{}", comparison.digest));
        let remote = agent.cat(&path, MAX_DIGEST_BYTES).await?;
        Ok::<_, BackupError>((comparison, local == remote))
    });
    for compared in at_most(COMPARISONS, compared.collect()).await {
        let (comparison, equal) = compared?;
        plan.settle(comparison, equal);
    }
    Ok(())
}

/// Deletes duplicates from the snapshot; digests last, so that an interrupted SSTable can still be compared.
async fn delete(agent: &crate::agent_client::Agent, dir: &str, plan: &DedupPlan) -> Result<(), BackupError> {
    let (digests, others): (Vec<String>, Vec<String>) =
        plan.duplicates.iter().map(|(name, _)| name.clone()).partition(|name| sstable::is_digest(name));
    agent.delete_paths(dir, &others).await?;
    agent.delete_paths(dir, &digests).await?;
    Ok(())
}
