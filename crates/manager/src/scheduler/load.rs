//! From the database to a scheduler that is ready to run (spec manager.md 4.9).

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use common::api::manager::{Task, TaskRun};
use common::task::TaskStatus;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{error, info};

use super::clock::Clock;
use super::driver::Driver;
use super::entry::Entry;
use super::handle::{QUEUE, Scheduler, TaskKey};
use super::metrics::SchedulerMetrics;
use super::runner::Runners;
use super::stop::{SCHEDULER_STOPPED, StopReason};
use crate::store::{Store, StoreError};

/// Reads all tasks, ends runs that a crash left open, and plans what is next. Nothing runs before
/// [`Driver::run`] is polled.
///
/// # Errors
/// The database failed.
pub async fn load(
    store: Store,
    clock: Clock,
    runners: Runners,
    metrics: SchedulerMetrics,
) -> Result<(Scheduler, Driver), StoreError> {
    let (sender, commands) = mpsc::channel(QUEUE);
    let mut driver = Driver {
        store,
        clock,
        runners,
        metrics,
        commands,
        entries: BTreeMap::new(),
        suspended: BTreeMap::new(),
        runs: JoinSet::new(),
        unsaved: vec![],
        run_tasks: HashMap::new(),
        removals: vec![],
        suspends: vec![],
        shutting_down: false,
    };
    driver.load_suspended().await?;
    let now = clock.now();
    driver.store.close_superseded_runs(now, SCHEDULER_STOPPED).await?;
    for task in driver.store.all_tasks().await? {
        driver.load_task(task, now).await?;
    }
    Ok((Scheduler::new(sender), driver))
}

impl Driver {
    async fn load_task(&mut self, task: Task, now: DateTime<Utc>) -> Result<(), StoreError> {
        let key = TaskKey::of(&task);
        self.metrics.add_task(&task);
        let last = self.close_open_run(self.store.latest_run(&task).await?, now).await?;
        let mut entry = Entry::new(task);
        if let Err(error) = &entry.schedule {
            error!(cluster = %key.cluster, task = %key.id, %error, "A stored schedule cannot be read");
        }
        let unfinished = goes_on(&entry, last.as_ref(), now);
        let aborted = last.as_ref().filter(|run| run.status == TaskStatus::Aborted);
        let interrupted = aborted.and_then(|run| run.start_time);
        entry.last_start = last.as_ref().and_then(|run| run.start_time);
        let stored = entry.task.status;
        if matches!(stored, TaskStatus::Running | TaskStatus::Stopping | TaskStatus::Waiting) {
            entry.task.status = last.map_or(TaskStatus::New, |run| run.status);
        }
        let (enabled, status) = (entry.is_scheduled(), entry.task.status);
        if status != stored {
            self.store.set_task_status(key.cluster, key.task_type, key.id, status).await?;
        }
        self.entries.insert(key, entry);
        if enabled && unfinished && self.allows(key) {
            info!(cluster = %key.cluster, task = %key.id, "An interrupted or missed run is started again");
            self.plan_now(key, now);
            self.put_in_front(key, interrupted, now);
        } else {
            self.plan_by_trigger(key, now);
        }
        Ok(())
    }

    /// A run that was interrupted goes on before those that waited for it: its snapshot is on the nodes.
    fn put_in_front(&mut self, key: TaskKey, interrupted: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let plan = self.entries.get_mut(&key).and_then(|entry| entry.plan.as_mut());
        if let (Some(plan), Some(started)) = (plan.filter(|p| p.at == now), interrupted) {
            plan.at = started.min(now);
        }
    }

    /// A run that the database shows as working did not survive its manager.
    async fn close_open_run(
        &self,
        last: Option<TaskRun>,
        now: DateTime<Utc>,
    ) -> Result<Option<TaskRun>, StoreError> {
        let Some(mut run) = last else { return Ok(None) };
        run.cause = match run.status {
            TaskStatus::Running => SCHEDULER_STOPPED.to_owned(),
            // The user wanted it to stop: the cause tells later starts not to run it again.
            TaskStatus::Stopping => StopReason::User.cause().to_owned(),
            TaskStatus::New
            | TaskStatus::Stopped
            | TaskStatus::Waiting
            | TaskStatus::Done
            | TaskStatus::Error
            | TaskStatus::Aborted => return Ok(Some(run)),
        };
        run.status = TaskStatus::Aborted;
        run.end_time = Some(now);
        self.store.put_run(&run).await?;
        Ok(Some(run))
    }
}

/// Whether a task has a run to make up for, beside what its trigger says.
fn goes_on(entry: &Entry, last: Option<&TaskRun>, now: DateTime<Utc>) -> bool {
    let Ok(schedule) = &entry.schedule else { return false };
    let aborted = last.is_some_and(|r| r.status == TaskStatus::Aborted && r.cause == SCHEDULER_STOPPED);
    // Waited for another backup when the manager went down.
    let was_queued =
        entry.task.status == TaskStatus::Waiting && last.is_none_or(|r| r.status != TaskStatus::Waiting);
    // Ours: a single run whose date passed while the manager was down.
    let never_ran = last.is_none() && entry.task.status == TaskStatus::New;
    let overdue = never_ran && schedule.trigger.is_one_shot() && schedule.trigger.next(now).is_none();
    aborted || was_queued || overdue || entry.is_unfinished_windowed_one_shot()
}
