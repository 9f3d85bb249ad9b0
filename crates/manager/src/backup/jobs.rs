//! Jobs on agents: who owns them, what they reported, how they end (design 3.10).
//!
//! A job's ID is in the store from its start until it is known to be over. What it reported about the files that
//! it sent is kept before the agent may forget it, also when it failed: a file that it sent is not sent again.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use common::api::agent::{FileOutcome, JobStatus, capability};
use tracing::{info, warn};

use super::checksums::{Uploaded, pack, unpack};
use super::error::BackupError;
use super::run::Run;
use super::target::Node;
use crate::agent_client::{Agent, HostError};
use crate::hosts::at_most;
use crate::store::backup_progress::{OpenJob, ProgressRow};

/// Limit of a stop of one job, well below the scheduler's grace period.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Jobs that are stopped at once.
const STOPS_AT_ONCE: usize = 64;

/// How long a run that was stopped waits for its jobs to end. The agent gives what is on its way about two seconds.
const STOPPED_TIMEOUT: Duration = Duration::from_secs(4);

/// One poll of a job that winds down.
const WIND_DOWN_POLL: Duration = Duration::from_secs(5);

/// Whether the job of an earlier run still runs or ended well, so that this run can attach to it. What another one
/// reported is kept, and it is forgotten.
///
/// # Errors
/// The agent does not answer, or the database failed.
pub async fn can_attach(run: &Run, node: &Node, row: &mut ProgressRow) -> Result<bool, BackupError> {
    let Some(job) = row.job else { return Ok(false) };
    match run.agent(node).job_progress(job, Duration::ZERO).await? {
        Some(progress) if progress.status != JobStatus::Error => Ok(true),
        Some(_) => {
            close(run, node, row).await?;
            Ok(false)
        }
        None => {
            row.job = None;
            run.put_rows(node, vec![row.clone()]).await?;
            Ok(false)
        }
    }
}

/// Keeps what the row's job reported, writes the row as one without a job, and lets the agent forget it.
///
/// Returns what all jobs of the table reported.
///
/// # Errors
/// The agent does not answer, or the database failed; the job stays recorded.
pub async fn close(run: &Run, node: &Node, row: &mut ProgressRow) -> Result<Vec<Uploaded>, BackupError> {
    let agent = run.agent(node);
    let job = row.job;
    let reported = match job {
        Some(job) if node.info.can(capability::JOB_FILES) => report(&agent, job).await?,
        _ => Vec::new(),
    };
    let store = run.backups.store();
    let mut known = unpack(&store.table_checksums(run.key, &row.host, row.unit, &row.table).await?)?;
    for file in reported {
        // A file that was found in the location was not read: what is known from its upload stays.
        if file.crc32.is_some() || !known.contains_key(&file.name) {
            known.insert(file.name.clone(), file);
        }
    }
    let mut known: Vec<Uploaded> = known.into_values().collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    row.damaged = known.iter().filter(|f| f.mismatch).map(|f| f.name.clone()).collect();
    row.job = None;
    run.remember(node, std::slice::from_ref(row));
    let packed = if known.is_empty() { Vec::new() } else { pack(&known)? };
    store.put_table(run.key, row.clone(), packed).await?;
    if let Some(job) = job {
        forget(&agent, job).await;
    }
    Ok(known)
}

/// What a job did with each file; empty when the agent does not know it any more.
async fn report(agent: &Agent, job: u64) -> Result<Vec<Uploaded>, BackupError> {
    let mut files = Vec::new();
    let mut offset = 0;
    while let Some(page) = agent.job_files(job, offset).await? {
        let sent = page.files.into_iter().filter(|f| f.outcome != FileOutcome::Failed);
        files.extend(sent.map(|f| Uploaded { name: f.name, crc32: f.crc32, mismatch: f.digest_mismatch }));
        match page.next {
            Some(next) if next > offset => offset = next,
            _ => break,
        }
    }
    Ok(files)
}

async fn forget(agent: &Agent, job: u64) {
    if let Err(error) = agent.stats_delete(job).await {
        // The agent forgets it by itself after some hours.
        warn!(host = agent.host(), job, error = common::error::chain(&error), "A job cannot be forgotten");
    }
}

/// Stops the jobs of a run that ends early, and waits for their end: after that nothing leaves the nodes. They stay
/// recorded: the next run sees what became of them. Bounded: an agent that does not answer is left alone.
pub async fn stop_all(run: &Run) {
    let open: Vec<(IpAddr, u64)> = {
        let rows = run.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let job = |row: &ProgressRow| Some((row.host.parse().ok()?, row.job?));
        rows.values().filter_map(job).collect()
    };
    let client = run.client.interactive();
    let stops = open.into_iter().map(|(host, job)| {
        let agent = client.on(host);
        async move {
            match tokio::time::timeout(STOP_TIMEOUT, agent.stop_job(job)).await {
                Ok(Ok(())) => return Some((agent, job)),
                Ok(Err(error)) => {
                    warn!(%host, job, error = common::error::chain(&error), "A job cannot be stopped");
                }
                Err(_) => warn!(%host, job, "A job cannot be stopped in time"),
            }
            None
        }
    });
    let stopped = at_most(STOPS_AT_ONCE, stops.collect()).await;
    let ends = stopped.into_iter().flatten().map(|(agent, job)| async move {
        if let Err(error) = ended(&agent, job).await {
            warn!(
                host = agent.host(),
                job,
                error = common::error::chain(&error),
                "The end of a job is unknown"
            );
        }
    });
    if tokio::time::timeout(STOPPED_TIMEOUT, futures::future::join_all(ends)).await.is_err() {
        warn!("Some jobs take long to end; the next run waits for them");
    }
}

/// Waits for the end of a job that was stopped.
async fn ended(agent: &Agent, job: u64) -> Result<(), HostError> {
    while let Some(progress) = agent.job_progress(job, WIND_DOWN_POLL).await? {
        if progress.status != JobStatus::Running {
            break;
        }
    }
    Ok(())
}

/// Ends jobs of runs that nobody goes on with, before anything touches their files. Those on nodes that take no
/// part in this run are left to the next contact.
///
/// # Errors
/// An agent of the run does not answer.
pub async fn end_foreign(run: &Run) -> Result<(), BackupError> {
    let open = run.backups.store().open_backup_jobs(run.cluster()).await?;
    let foreign: Vec<OpenJob> = open.into_iter().filter(|job| job.key != run.key).collect();
    for job in foreign {
        let Some(node) = run.nodes.iter().find(|n| n.host.address.to_string() == job.host) else {
            continue;
        };
        info!(host = job.host, job = job.job, "A job of an earlier run is stopped");
        let agent = run.agent(node);
        agent.stop_job(job.job).await?;
        // It winds down: its files are not touched before it has ended.
        ended(&agent, job.job).await?;
        forget(&agent, job.job).await;
        run.backups.store().close_backup_job(&job).await?;
    }
    Ok(())
}
