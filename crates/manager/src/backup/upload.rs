//! UPLOAD: has the agents move what is left of the snapshots to their locations (spec backup-format.md 4.7).
//!
//! One job per table, one table at a time on a node. A job's ID is in the store as long as it may run, so that the
//! next run attaches to it. A table is written as complete before its local snapshot is deleted.

use std::time::Duration;

use common::api::agent::{JobProgress, JobStatus, MoveDirRequest, SourceAndDestination, capability};
use tracing::{info, warn};

use super::checksums::Uploaded;
use super::deduplicate::{Pending, PendingTables};
use super::error::{BackupError, HostFailure};
use super::file_lists::{local_files, snapshot_dir};
use super::jobs;
use super::rate_limit::NodeLimit;
use super::run::Run;
use super::target::Node;
use crate::agent_client::{Agent, is_refused_by_store, split_remote_path};
use crate::store::backup_progress::ProgressRow;

/// How often a table's job is started again after the agent forgot it (the original's number).
const MAX_RESTARTS: u32 = 10;

/// Uploads what is pending on every node.
///
/// # Errors
/// Tables that failed, by host; the others are done.
pub async fn upload(run: &Run, pending: &PendingTables) -> Result<(), BackupError> {
    run.on_nodes(&run.properties.upload_parallel, |node| async move {
        let tables = pending.get(&node.host.address).map(Vec::as_slice).unwrap_or_default();
        upload_node(run, node, tables).await
    })
    .await
    .map(drop)
}

async fn upload_node(run: &Run, node: &Node, tables: &[Pending]) -> Result<(), BackupError> {
    if !tables.is_empty() && !node.info.can(capability::JOB_FILES) {
        info!(
            host = %node.host.address,
            "This agent reports no checksums: bytes are not checked on their way and the manifest carries no proof"
        );
    }
    let mut failed = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        if run.stop.is_stopped() {
            return Err(BackupError::Stopped);
        }
        if let Err(error) = upload_table(run, node, table).await {
            let refused = matches!(error, BackupError::Refused { .. });
            let name = format!("{}.{}", table.entry.keyspace, table.entry.table);
            let reason = HostFailure::new(node.host.address, &error).reason;
            warn!(host = %node.host.address, table = name, error = reason, "A table failed");
            let row = run.row(node, &table.entry.keyspace, &table.entry.table);
            run.put_rows(node, vec![ProgressRow { error: reason.clone(), ..row }]).await?;
            failed.push(format!("{name}: {reason}"));
            if refused {
                return Err(failure(&failed, tables.len() - at - 1));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failure(&failed, 0)) }
}

/// The first failure in full, the others in number.
fn failure(failed: &[String], not_tried: usize) -> BackupError {
    let mut text = failed.first().cloned().unwrap_or_default();
    if failed.len() > 1 {
        text.push_str(&format!(" (and {} more tables failed)", failed.len() - 1));
    }
    if not_tried > 0 {
        text.push_str(&format!(" ({not_tried} more tables were not tried)"));
    }
    BackupError::other(text)
}

async fn upload_table(run: &Run, node: &Node, table: &Pending) -> Result<(), BackupError> {
    let agent = run.agent(node);
    let mut row = run.row(node, &table.entry.keyspace, &table.entry.table);
    row.started_at = row.started_at.or(Some(run.now()));
    row.error.clear();
    run_jobs(run, node, &agent, table, &mut row).await?;
    complete(run, node, &agent, table, row).await
}

/// Attaches to the table's job or starts one, until one succeeds; that one stays in the row.
async fn run_jobs(
    run: &Run,
    node: &Node,
    agent: &Agent,
    table: &Pending,
    row: &mut ProgressRow,
) -> Result<(), BackupError> {
    let mut restarts = 0;
    let mut attached = row.job.is_some();
    // What the agent was told by a run before this one is not known.
    let mut limit = None;
    loop {
        let job = match row.job {
            Some(job) => job,
            None => {
                if restarts > 0 && nothing_left(run, agent, table, row).await? {
                    return Ok(());
                }
                let given = run.rate_limit.of(&node.host.dc);
                let job = agent.move_dir(&request(run, node, table, given)).await?;
                limit = Some(given);
                row.job = Some(job);
                run.put_rows(node, vec![row.clone()]).await?;
                job
            }
        };
        match follow(run, node, agent, job, row, limit).await? {
            None => {
                warn!(host = %node.host.address, job, "The agent does not know its job, it was probably restarted");
                row.job = None;
            }
            Some(progress) if progress.status == JobStatus::Success => return Ok(()),
            Some(progress) => {
                jobs::close(run, node, row).await?;
                // A job of an earlier run that was stopped or failed says nothing about now.
                if !attached {
                    return Err(job_error(node, progress.error));
                }
            }
        }
        attached = false;
        restarts += 1;
        if restarts > MAX_RESTARTS {
            return Err(BackupError::other(format!("the agent lost its job {MAX_RESTARTS} times")));
        }
    }
}

/// Why a job failed.
fn job_error(node: &Node, reason: String) -> BackupError {
    if is_refused_by_store(&reason) {
        let location = node.location.clone();
        return BackupError::Refused { host: node.host.address, location, reason };
    }
    BackupError::other(reason)
}

/// Polls a job to its end; `None` when the agent does not know it. Keeps the agent to the run's rate limit, of which
/// it was told `limit`: a change may have come before the job, or when the agent did not answer.
async fn follow(
    run: &Run,
    node: &Node,
    agent: &Agent,
    job: u64,
    row: &mut ProgressRow,
    mut limit: Option<NodeLimit>,
) -> Result<Option<JobProgress>, BackupError> {
    // What was in the location before this job. For a job that this run attaches to it may count some bytes twice
    // until the table is complete.
    let base = row.skipped;
    let wait = Duration::from_secs(run.backups.config().long_polling_timeout_seconds.max(1));
    loop {
        limit = Some(run.rate_limit.impose(agent, &node.host.dc, limit).await?);
        let Some(progress) = agent.job_progress(job, wait).await? else { return Ok(None) };
        row.uploaded = progress.uploaded.min(row.size);
        row.skipped = (base + progress.skipped).min(row.size - row.uploaded);
        row.failed = progress.failed;
        if progress.status != JobStatus::Running {
            // The caller writes the row with the outcome.
            run.remember(node, std::slice::from_ref(row));
            return Ok(Some(progress));
        }
        run.put_rows(node, vec![row.clone()]).await?;
    }
}

/// Looks at what a lost job left; whatever is gone from the node counts as in the location.
async fn nothing_left(
    run: &Run,
    agent: &Agent,
    table: &Pending,
    row: &mut ProgressRow,
) -> Result<bool, BackupError> {
    let left =
        local_files(agent, &snapshot_dir(&table.entry, &run.tag.to_string())).await?.unwrap_or_default();
    let bytes: u64 = left.iter().map(|(_, size)| size).sum();
    (row.uploaded, row.failed) = (0, 0);
    row.skipped = row.size.saturating_sub(bytes);
    Ok(left.is_empty())
}

fn request(run: &Run, node: &Node, table: &Pending, limit: NodeLimit) -> MoveDirRequest {
    let source = snapshot_dir(&table.entry, &run.tag.to_string());
    let target = node.location.remote_path(&run.table_dir(node, &table.entry));
    let ((src_fs, src_remote), (dst_fs, dst_remote)) =
        (split_remote_path(&source), split_remote_path(&target));
    let overwrite = if node.info.can(capability::OVERWRITE) { table.overwrite.clone() } else { Vec::new() };
    MoveDirRequest {
        paths: SourceAndDestination {
            src_fs: src_fs.to_owned(),
            src_remote: src_remote.to_owned(),
            dst_fs: dst_fs.to_owned(),
            dst_remote: dst_remote.to_owned(),
        },
        suffix: format!(".{}", run.tag),
        transfers: Some(run.properties.transfers),
        bandwidth_rate: format!("{}M", limit.mib_per_second),
        overwrite,
    }
}

/// Writes the table as complete with what its jobs reported, and only then lets go of job and snapshot.
async fn complete(
    run: &Run,
    node: &Node,
    agent: &Agent,
    table: &Pending,
    mut row: ProgressRow,
) -> Result<(), BackupError> {
    row.skipped = row.size.saturating_sub(row.uploaded);
    row.failed = 0;
    row.completed_at = Some(run.now());
    let files = jobs::close(run, node, &mut row).await?;
    mend(run, node, table, &files).await?;
    let (keyspace, name) = (&table.entry.keyspace, &table.entry.table);
    if let Err(error) = agent.delete_snapshot(&run.tag.to_string(), Some(keyspace), Some(name)).await {
        // It goes with the whole snapshot at the end of the run.
        warn!(
            error = common::error::chain(&error),
            "The snapshot of an uploaded table cannot be deleted yet"
        );
    }
    Ok(())
}

/// Forgets damaged objects that were replaced by the bytes that they should have.
async fn mend(run: &Run, node: &Node, table: &Pending, files: &[Uploaded]) -> Result<(), BackupError> {
    if table.overwrite.is_empty() {
        return Ok(());
    }
    let dir = run.table_dir(node, &table.entry);
    let mut mended = Vec::new();
    for (name, expected) in run.backups.store().damaged_in(&node.location, &dir).await? {
        let Some(sent) = files.iter().find(|f| f.name == name).and_then(|f| f.crc32) else { continue };
        if expected.is_none_or(|expected| expected == sent) {
            mended.push(name);
        } else {
            let path = node.location.remote_path(&format!("{dir}/{name}"));
            run.warn(&format!(
                "{path} was damaged and is replaced, but its bytes are not those of older backups: they stay damaged"
            ))
            .await;
        }
    }
    Ok(run.backups.store().mend(&node.location, &dir, &mended).await?)
}
