//! The loop that starts and ends runs of all clusters.
//!
//! One task works through messages, activations and ends of runs, one at a time, and is the only writer of
//! task and run statuses: two writes of one task never cross. It owns every run; nothing outlives it. It
//! waits for nothing but the database, which is why a run is stopped by a signal and a deadline in the run's
//! own future.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use common::api::manager::TaskRun;
use common::ids::{ClusterId, RunId};
use common::task::{TaskStatus, TaskType};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::clock::Clock;
use super::entry::{Entry, Running};
use super::execute::{Outcome, execute, judge};
use super::handle::{Command, Reply, TaskKey};
use super::metrics::SchedulerMetrics;
use super::plan::{self, Activation};
use super::policy::{Admission, admit};
use super::runner::{Properties, RunContext, RunError, Runner, Runners};
use super::stop::{StopReason, StopSignal};
use super::suspend::SuspendRecord;
use crate::store::{Store, StoreError};

/// Run ID of all health checks: a check that succeeds overwrites the row of the one before. Its time is the
/// Unix epoch.
pub const HEALTH_CHECK_RUN: RunId = RunId::from_uuid(uuid::uuid!("13814000-1dd2-11b2-8000-000000000000"));

/// Wait before an end of a run that the database refused is written again.
const SAVE_AGAIN: TimeDelta = TimeDelta::seconds(10);

/// Ends of runs that may wait for the database; with more of them the disk has been full for days.
const MOST_UNSAVED: usize = 1000;

/// The scheduler's engine; [`Scheduler`](super::handle::Scheduler) talks to it.
pub struct Driver {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) runners: Runners,
    pub(super) metrics: SchedulerMetrics,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) entries: BTreeMap<TaskKey, Entry>,
    pub(super) suspended: BTreeMap<ClusterId, SuspendRecord>,
    pub(super) runs: JoinSet<Outcome>,
    /// Ended runs that the database did not take, with the ID they began as.
    pub(super) unsaved: Vec<(TaskRun, RunId)>,
    pub(super) run_tasks: HashMap<tokio::task::Id, TaskKey>,
    /// Calls that wait until no run of the cluster works.
    pub(super) removals: Vec<(ClusterId, Reply<()>)>,
    /// Calls that wait until the runs that a suspend stopped have returned.
    pub(super) suspends: Vec<(ClusterId, Reply<()>)>,
    pub(super) shutting_down: bool,
}

impl Driver {
    /// Works until `shutdown` or until the last handle is gone, then ends all runs (spec manager.md 1.3).
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            self.dispatch().await;
            let save_again = (!self.unsaved.is_empty()).then(|| self.clock.now() + SAVE_AGAIN);
            let wake = self.entries.values().filter_map(Entry::wake_at).chain(save_again).min();
            let clock = self.clock;
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(joined) = self.runs.join_next_with_id() => self.run_returned(joined).await,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                () = sleep_until(clock, wake) => {}
            }
        }
        self.shut_down().await;
    }

    /// Ends all runs as `ABORTED`. Bounded: each run has a grace period.
    async fn shut_down(&mut self) {
        self.shutting_down = true;
        self.commands.close();
        for entry in self.entries.values_mut() {
            if let Some(running) = &mut entry.running {
                running.reason.get_or_insert(StopReason::Shutdown);
                running.stop.stop(StopReason::Shutdown);
            }
        }
        while let Some(joined) = self.runs.join_next_with_id().await {
            self.run_returned(joined).await;
        }
        self.save_again().await;
    }

    /// Starts what is due and pauses what has reached the end of its window.
    pub(super) async fn dispatch(&mut self) {
        self.save_again().await;
        let now = self.clock.now();
        for entry in self.entries.values_mut() {
            if let Some(running) = &mut entry.running
                && running.reason.is_none()
                && running.activation.window_end.is_some_and(|end| end <= now)
            {
                running.reason = Some(StopReason::WindowEnd);
                running.stop.stop(StopReason::WindowEnd);
            }
        }
        let due = |entry: &Entry| entry.plan.as_ref().filter(|p| p.at <= now).map(|p| (p.at, entry.key()));
        // The queue: first come, first served.
        let mut keys: Vec<_> = self.entries.values().filter_map(due).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            self.start_due(key, now).await;
        }
    }

    async fn start_due(&mut self, key: TaskKey, now: DateTime<Utc>) {
        let running = self.running_types(key.cluster);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(planned) = entry.plan.take() else { return };
        if planned.window_end.is_some_and(|end| end <= now)
            && let Ok(schedule) = &entry.schedule
        {
            entry.plan = Some(plan::replan_into_window(schedule, planned, now));
            self.leave_queue(key).await;
            return;
        }
        match admit(key.task_type, running) {
            Admission::Start => self.begin(key, planned, None).await,
            Admission::Refuse(cause) => self.begin(key, planned, Some(cause)).await,
            Admission::Wait => {
                entry.plan = Some(planned);
                self.wait_in_queue(key).await;
            }
        }
    }

    fn running_types(&self, cluster: ClusterId) -> Vec<TaskType> {
        let running = self.entries.values().filter(|e| e.task.cluster_id == cluster && e.running.is_some());
        running.map(|e| e.task.task_type).collect()
    }

    /// Shows a due task as waiting. The status is stored: after a crash the activation is not lost.
    async fn wait_in_queue(&mut self, key: TaskKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.waiting.is_none() {
            entry.waiting = Some(entry.task.status);
            info!(cluster = %key.cluster, task = %key.id, "Run waits for another backup of the cluster");
            self.set_status(key, TaskStatus::Waiting).await;
        }
    }

    /// Takes a task out of the queue without a run.
    pub(super) async fn leave_queue(&mut self, key: TaskKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(before) = entry.waiting.take() {
            self.set_status(key, before).await;
        }
    }

    pub(super) async fn set_status(&mut self, key: TaskKey, status: TaskStatus) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.task.status = status;
        }
        let written = self.store.set_task_status(key.cluster, key.task_type, key.id, status).await;
        log_failure(key, "write task status", written);
    }

    /// Begins a run; with `refused` it ends at once with that cause.
    async fn begin(&mut self, key: TaskKey, mut activation: Activation, refused: Option<String>) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let start = entry.next_start(now);
        let run = new_run(key, start);
        let stop = StopSignal::new();
        // One that is refused has not started from scratch: the next one does.
        entry.fresh_next |= activation.fresh;
        let fresh = refused.is_none() && std::mem::take(&mut entry.fresh_next);
        let properties = activation.properties.get_or_insert_with(|| entry.task.properties.clone()).clone();
        let context = new_context(&run, properties, fresh, stop.clone(), self.clock);
        entry.waiting = None;
        entry.last_start = Some(start);
        entry.task.status = TaskStatus::Running;
        entry.running = Some(Running { run: run.clone(), activation, stop, reason: None });
        self.metrics.run_began(&entry.task);
        // A restarted manager must find the run: without its row it does not begin.
        let runner = match (self.store.put_run(&run).await, refused) {
            (Err(error), _) => Err(RunError::failed(error).context("write run")),
            (Ok(()), Some(cause)) => Err(RunError::failed(cause)),
            (Ok(()), None) => self.runners.get(key.task_type).cloned().ok_or_else(|| {
                RunError::permanent(format!("tasks of type {} are not supported", key.task_type))
            }),
        };
        match runner {
            Ok(runner) => self.spawn(key, runner, context),
            Err(error) => self.finish(key, Outcome::Refused(error)).await,
        }
    }

    fn spawn(&mut self, key: TaskKey, runner: Arc<dyn Runner>, context: RunContext) {
        let span = info_span!(
            "run", cluster = %key.cluster, r#type = %key.task_type, task = %key.id, run = %context.run
        );
        match key.task_type {
            TaskType::HealthCheck => span.in_scope(|| debug!("Run started")),
            _ => span.in_scope(|| info!("Run started")),
        }
        let handle = self.runs.spawn(execute(runner, context).instrument(span));
        self.run_tasks.insert(handle.id(), key);
    }

    async fn run_returned(&mut self, joined: Result<(tokio::task::Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Outcome::from(error)),
        };
        if let Some(key) = self.run_tasks.remove(&id) {
            self.finish(key, outcome).await;
        }
    }

    /// Records the end of a run and plans what follows.
    async fn finish(&mut self, key: TaskKey, outcome: Outcome) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(Running { mut run, activation, reason, .. }) = entry.running.take() else { return };
        if matches!(outcome, Outcome::Abandoned) {
            warn!(cluster = %key.cluster, task = %key.id, run = %run.id, "Run did not stop in time and was dropped");
        }
        let verdict = judge(&outcome, reason);
        let began_as = run.id;
        run.status = verdict.status;
        run.cause = verdict.cause;
        run.end_time = Some(run.start_time.map_or(now, |start| start.max(now)));
        if run.status == TaskStatus::Error && key.task_type == TaskType::HealthCheck {
            run.id = RunId::at(run.start_time.unwrap_or(now));
        }
        count(entry, &run);
        log_end(&run);
        self.metrics.run_ended(&entry.task, &run);
        let written = self.store.finish_run(&run, began_as).await;
        if written.is_err() && self.unsaved.len() < MOST_UNSAVED {
            self.unsaved.push((run, began_as));
        }
        log_failure(key, "write end of run", written);
        if let Some(end) = verdict.end {
            self.plan_after(key, &activation, end, now);
        } else if reason == Some(StopReason::Suspend) {
            self.plan_after_suspend(key, now);
        }
        self.answer_removals();
        self.answer_suspends();
    }

    /// Writes ends of runs that the database did not take before.
    async fn save_again(&mut self) {
        while let Some((run, began_as)) = self.unsaved.last() {
            if self.store.finish_run(run, *began_as).await.is_err() {
                return;
            }
            let key = TaskKey { cluster: run.cluster_id, task_type: run.task_type, id: run.task_id };
            self.unsaved.pop();
            // The task may have gone on meanwhile.
            if let Some(status) = self.entries.get(&key).map(|entry| entry.task.status) {
                self.set_status(key, status).await;
            }
        }
    }

    pub(super) fn plan_after(
        &mut self,
        key: TaskKey,
        ran: &Activation,
        end: plan::RunEnd,
        now: DateTime<Utc>,
    ) {
        let allowed = self.allows(key);
        let shutting_down = self.shutting_down;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let wanted = entry.is_scheduled() || (ran.once && !entry.task.deleted);
        let Ok(schedule) = &entry.schedule else { return };
        if wanted && allowed && !shutting_down {
            entry.plan = plan::after_run(schedule, ran, end, now);
            log_plan(entry);
        }
    }

    /// Plans a task by its trigger alone.
    pub(super) fn plan_by_trigger(&mut self, key: TaskKey, now: DateTime<Utc>) {
        let allowed = self.allows(key);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.plan = match &entry.schedule {
            Ok(schedule) if entry.is_scheduled() && allowed && entry.running.is_none() => {
                plan::by_trigger(schedule, now)
            }
            _ => None,
        };
        log_plan(entry);
    }

    /// Plans an immediate run, as far as the window allows.
    pub(super) fn plan_now(&mut self, key: TaskKey, now: DateTime<Utc>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Ok(schedule) = &entry.schedule {
            entry.plan = Some(plan::activation(schedule, now, now));
            log_plan(entry);
        }
    }

    /// Asks the run of a task to stop, if one works. `STOPPING` is on disk before the run knows.
    pub(super) async fn stop_run(&mut self, key: TaskKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(running) = &mut entry.running else { return };
        if !matches!(running.reason, None | Some(StopReason::WindowEnd)) {
            return;
        }
        running.reason = Some(StopReason::User);
        running.run.status = TaskStatus::Stopping;
        entry.task.status = TaskStatus::Stopping;
        let (run, stop) = (running.run.clone(), running.stop.clone());
        info!(cluster = %key.cluster, task = %key.id, run = %run.id, "Stop");
        log_failure(key, "write stop of run", self.store.put_run(&run).await);
        stop.stop(StopReason::User);
    }
}

fn new_run(key: TaskKey, start: DateTime<Utc>) -> TaskRun {
    let id = if key.task_type == TaskType::HealthCheck { HEALTH_CHECK_RUN } else { RunId::at(start) };
    TaskRun {
        cluster_id: key.cluster,
        task_type: key.task_type,
        task_id: key.id,
        id,
        status: TaskStatus::Running,
        cause: String::new(),
        owner: String::new(),
        start_time: Some(start),
        end_time: None,
    }
}

/// `fresh` switches `continue` off for this run only: the task and its retries keep what they have.
fn new_context(
    run: &TaskRun,
    mut properties: Properties,
    fresh: bool,
    stop: StopSignal,
    clock: Clock,
) -> RunContext {
    if fresh {
        properties.insert("continue".to_owned(), false.into());
    }
    RunContext {
        cluster: run.cluster_id,
        task_type: run.task_type,
        task: run.task_id,
        run: run.id,
        continue_run: properties.get("continue") != Some(&false.into()),
        properties,
        stop,
        started: run.start_time.unwrap_or_else(|| clock.now()),
        clock,
    }
}

/// Keeps the counters of the task in memory in step with those that `finish_run` writes.
fn count(entry: &mut Entry, run: &TaskRun) {
    entry.task.status = run.status;
    if run.status == TaskStatus::Done {
        entry.task.success_count += 1;
        entry.task.last_success = run.end_time;
    }
    if run.status == TaskStatus::Error {
        entry.task.error_count += 1;
        entry.task.last_error = run.end_time;
    }
}

async fn sleep_until(clock: Clock, time: Option<DateTime<Utc>>) {
    match time {
        Some(time) => clock.sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn log_end(run: &TaskRun) {
    let (cluster, kind, task, id, status) = (run.cluster_id, run.task_type, run.task_id, run.id, run.status);
    let seconds = match (run.start_time, run.end_time) {
        (Some(start), Some(end)) => (end - start).num_seconds(),
        _ => 0,
    };
    match (status, kind) {
        (TaskStatus::Error, _) => error!(
            %cluster, r#type = %kind, %task, run = %id, seconds, cause = run.cause, "Run ended with ERROR"
        ),
        (_, TaskType::HealthCheck) => {
            debug!(%cluster, r#type = %kind, %task, run = %id, %status, "Run ended")
        }
        _ => {
            info!(%cluster, r#type = %kind, %task, run = %id, %status, seconds, cause = run.cause, "Run ended")
        }
    }
}

fn log_plan(entry: &Entry) {
    let key = entry.key();
    match &entry.plan {
        Some(plan) if key.task_type != TaskType::HealthCheck => info!(
            cluster = %key.cluster, r#type = %key.task_type, task = %key.id, begin = %plan.at,
            end = plan.window_end.map(|t| t.to_rfc3339()), retry = plan.retry, "Schedule"
        ),
        Some(plan) => debug!(cluster = %key.cluster, task = %key.id, begin = %plan.at, "Schedule"),
        None => debug!(cluster = %key.cluster, task = %key.id, "Nothing planned"),
    }
}

/// The state in memory is right and the run goes on: a failed write shows only after a crash.
fn log_failure(key: TaskKey, what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        let error = common::error::chain(&error);
        error!(cluster = %key.cluster, task = %key.id, what, error, "The database does not take a change of status");
    }
}
