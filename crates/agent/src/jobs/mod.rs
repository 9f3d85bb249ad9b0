//! Registry of asynchronous jobs: start, progress, stop, forget (spec agent.md 2.4, 2.6.3 to 2.6.6).
//!
//! Nothing is durable: a restarted agent knows no job, and the manager starts its work again. Job IDs never repeat,
//! also not after a restart: they count up from the milliseconds since 1970 at start, so that a manager which
//! remembers an old ID gets `not found` rather than somebody else's job.

mod context;
mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use common::api::agent::{JobFilesPage, JobProgress, JobStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use context::{Counters, Finished, InFlight, JobContext, Transfer};

/// Ended jobs can be asked for this long (spec agent.md 2.6.4).
const KEEP: TimeDelta = TimeDelta::hours(12);
/// Longest long poll that is granted; callers ask again.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Source of the current time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(Utc::now)
}

/// Sums over all jobs and calls since the process started; they only grow.
#[derive(Debug, Default)]
pub struct Totals {
    /// The numbers.
    pub counters: Counters,
}

/// A job that nobody knows, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job not found")]
pub struct JobNotFound;

/// Why work did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Asked to stop. The text is the one that managers look for.
    #[error("context canceled")]
    Stopped,
    /// Anything else, with its whole chain of causes.
    #[error("{0}")]
    Failed(String),
}

/// A job as it stands, for `job/info`.
#[derive(Clone, Debug)]
pub struct JobInfo {
    /// ID.
    pub id: u64,
    /// Statistics group.
    pub group: String,
    /// Start.
    pub started: DateTime<Utc>,
    /// End; `None` while it runs.
    pub ended: Option<DateTime<Utc>>,
    /// Why it failed; empty for success.
    pub error: String,
    /// Result of the call.
    pub output: serde_json::Value,
    /// Counters and lists.
    pub context: JobContext,
}

struct Job {
    group: String,
    started: DateTime<Utc>,
    context: JobContext,
    outcome: watch::Receiver<Option<Outcome>>,
    files_forgotten: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Debug)]
struct Outcome {
    ended: DateTime<Utc>,
    result: Result<serde_json::Value, String>,
}

/// All jobs of the agent.
pub struct Jobs {
    clock: Clock,
    next_id: AtomicU64,
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
    totals: Arc<Totals>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("jobs", &self.jobs().len()).finish_non_exhaustive()
    }
}

impl Jobs {
    /// An empty registry.
    pub fn new(clock: Clock) -> Self {
        let first = u64::try_from(clock().timestamp_millis()).unwrap_or(0);
        Self {
            clock,
            next_id: AtomicU64::new(first),
            jobs: Mutex::default(),
            totals: Arc::default(),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// The clock that jobs go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sums over everything since the start.
    pub fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// Context for a call without a job. Dropping the call's future ends the work.
    pub fn call(&self) -> JobContext {
        JobContext::new(self.cancel.child_token(), self.totals.clone(), self.clock.clone())
    }

    /// Runs `work` in the background and returns its ID at once. `group` names the statistics group, by default
    /// `job/<id>`.
    ///
    /// Work that ends with success although it was asked to stop counts as success: everything was done.
    pub fn start<F>(&self, group: Option<String>, work: impl FnOnce(JobContext) -> F) -> u64
    where
        F: Future<Output = Result<serde_json::Value, JobError>> + Send + 'static,
    {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let context = self.call();
        let (sender, outcome) = watch::channel(None);
        let job = Arc::new(Job {
            group: group.filter(|g| !g.is_empty()).unwrap_or_else(|| format!("job/{id}")),
            started: (self.clock)(),
            context: context.clone(),
            outcome,
            files_forgotten: false.into(),
        });
        {
            let mut jobs = self.jobs();
            expire(&mut jobs, (self.clock)());
            jobs.insert(id, job);
        }
        let (future, clock) = (work(context), self.clock.clone());
        let ender = Ender { sender: Some(sender), clock };
        self.tasks.spawn(async move {
            // If the work panics, the job must not look as if it ran for ever.
            let ender = ender;
            let result = future.await;
            ender.end(result.map_err(|e| e.to_string()));
        });
        id
    }

    /// Where a job stands, after at most `wait` or as soon as it ends.
    ///
    /// # Errors
    /// Nobody knows the job.
    pub async fn progress(&self, id: u64, wait: Duration) -> Result<JobProgress, JobNotFound> {
        let job = self.get(id)?;
        let outcome = job.wait(wait).await;
        let counters = job.context.counters();
        let (status, error) = match outcome.as_ref().map(|o| &o.result) {
            None => (JobStatus::Running, String::new()),
            Some(Ok(_)) => (JobStatus::Success, String::new()),
            Some(Err(error)) => (JobStatus::Error, error.clone()),
        };
        Ok(JobProgress {
            status,
            started_at: Some(job.started),
            completed_at: outcome.map(|o| o.ended),
            error,
            uploaded: job.context.uploaded(),
            skipped: counters.skipped.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
        })
    }

    /// Everything about a job, after at most `wait` or as soon as it ends.
    ///
    /// # Errors
    /// Nobody knows the job.
    pub async fn info(&self, id: u64, wait: Duration) -> Result<JobInfo, JobNotFound> {
        let job = self.get(id)?;
        let outcome = job.wait(wait).await;
        let ended = outcome.as_ref().map(|o| o.ended);
        let (output, error) = match outcome.map(|o| o.result) {
            None => (serde_json::Value::Null, String::new()),
            Some(Ok(output)) => (output, String::new()),
            Some(Err(error)) => (serde_json::Value::Null, error),
        };
        let context = job.context.clone();
        Ok(JobInfo { id, group: job.group.clone(), started: job.started, ended, error, output, context })
    }

    /// Asks a job to stop and returns at once; an ended job stays as it is.
    ///
    /// # Errors
    /// Nobody knows the job.
    pub fn stop(&self, id: u64) -> Result<(), JobNotFound> {
        self.get(id).map(|job| job.context.cancel().cancel())
    }

    /// A page of what the job did with each file.
    ///
    /// # Errors
    /// Nobody knows the job, or its list was deleted with its statistics.
    pub fn files(&self, id: u64, offset: u64) -> Result<JobFilesPage, JobNotFound> {
        let job = self.get(id)?;
        if job.files_forgotten.load(Ordering::Acquire) {
            return Err(JobNotFound);
        }
        Ok(job.context.files(offset))
    }

    /// Forgets the file lists of a statistics group; unknown groups are fine. Progress stays.
    pub fn delete_stats(&self, group: &str) {
        let jobs: Vec<_> = self.jobs().values().filter(|j| j.group == group).cloned().collect();
        for job in jobs {
            job.forget_files();
        }
    }

    /// Forgets the file lists of ended jobs, of one group or of all. The sums go on: dashboards want them to grow.
    pub fn reset_stats(&self, group: Option<&str>) {
        let jobs: Vec<_> = self.jobs().values().cloned().collect();
        for job in jobs.iter().filter(|j| group.is_none_or(|g| g == j.group) && j.ended().is_some()) {
            job.forget_files();
        }
    }

    /// All jobs that run or are in transfer, oldest first; for metrics.
    pub fn running(&self) -> Vec<JobContext> {
        self.jobs().values().filter(|j| j.ended().is_none()).map(|j| j.context.clone()).collect()
    }

    /// Stops all jobs and waits until they have cleaned up, at most `deadline`. Returns how many were left.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.cancel.cancel();
        self.tasks.close();
        match tokio::time::timeout(deadline, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tasks.len(),
        }
    }

    fn get(&self, id: u64) -> Result<Arc<Job>, JobNotFound> {
        let mut jobs = self.jobs();
        expire(&mut jobs, (self.clock)());
        jobs.get(&id).cloned().ok_or(JobNotFound)
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Jobs {
    /// Work without an owner must not go on.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn expire(jobs: &mut BTreeMap<u64, Arc<Job>>, now: DateTime<Utc>) {
    jobs.retain(|_, job| job.ended().is_none_or(|ended| now - ended < KEEP));
}

impl Job {
    fn ended(&self) -> Option<DateTime<Utc>> {
        self.outcome.borrow().as_ref().map(|o| o.ended)
    }

    async fn wait(&self, wait: Duration) -> Option<Outcome> {
        let mut outcome = self.outcome.clone();
        if !wait.is_zero() {
            // Both errors mean the same here: look at what there is.
            let _ = tokio::time::timeout(wait.min(MAX_WAIT), outcome.wait_for(Option::is_some)).await;
        }
        self.outcome.borrow().clone()
    }

    fn forget_files(&self) {
        self.files_forgotten.store(true, Ordering::Release);
        self.context.forget_files();
    }
}

/// Publishes the outcome, also when the work panicked or was dropped with the runtime.
struct Ender {
    sender: Option<watch::Sender<Option<Outcome>>>,
    clock: Clock,
}

impl Ender {
    fn end(mut self, result: Result<serde_json::Value, String>) {
        self.publish(result);
    }

    fn publish(&mut self, result: Result<serde_json::Value, String>) {
        if let Some(sender) = self.sender.take() {
            sender.send_replace(Some(Outcome { ended: (self.clock)(), result }));
        }
    }
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.publish(Err("the job ended unexpectedly; the log of the agent says why".into()));
    }
}
