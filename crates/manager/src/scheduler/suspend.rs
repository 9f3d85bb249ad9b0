//! Suspend and resume of a whole cluster (spec manager.md 4.10).
//!
//! The record in the drawer is written before the first run is stopped: after a crash in between the cluster
//! comes up suspended. Health checks and suspend tasks work all the time.

use chrono::{DateTime, TimeDelta, Utc};
use common::api::manager::{Schedule, Task};
use common::ids::{ClusterId, TaskId};
use common::task::{TaskStatus, TaskType};
use common::units::TaskDuration;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::commands::RESUME_TASK;
use super::driver::Driver;
use super::entry::Entry;
use super::handle::{Reply, SchedulerError, Suspension, TaskKey};
use super::runner::Properties;
use super::schedule::normalize;
use super::stop::StopReason;
use crate::store::StoreError;

/// Key of the record in the drawer of a cluster.
const DRAWER_KEY: &str = "scheduler_suspended";

/// Retries of the task that resumes by itself, and their first wait in seconds.
const RESUME_RETRIES: u32 = 3;
const RESUME_RETRY_WAIT: i64 = 5;

/// How to suspend.
#[derive(Clone, Debug, Default)]
pub struct SuspendOptions {
    /// Type that keeps running.
    pub allow: Option<TaskType>,
    /// Refuse while a task of another type runs, instead of stopping it.
    pub fail_if_running: bool,
    /// The next run of every other task starts from scratch.
    pub no_continue: bool,
    /// Resume after that time, by a task with these properties.
    pub resume_after: Option<(TimeDelta, Properties)>,
    /// The suspend task that asks: its own run goes on.
    pub asked_by: Option<TaskKey>,
}

/// How to resume.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumeOptions {
    /// Run at once what the suspend stopped.
    pub start_tasks: bool,
    /// Run at once what was due meanwhile.
    pub start_missed: bool,
    /// The next run of every task starts from scratch.
    pub no_continue: bool,
}

/// What a suspended cluster remembers. The field names are those of the original.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SuspendRecord {
    started_at: DateTime<Utc>,
    pending_tasks: Vec<TaskId>,
    pending_tasks_next_activation: Vec<DateTime<Utc>>,
    running_tasks: Vec<TaskId>,
    /// Empty for none.
    allow_task_type: String,
}

impl SuspendRecord {
    pub fn suspension(&self) -> Suspension {
        Suspension { allow: self.allow_task_type.parse().ok() }
    }

    /// Whether a task of the cluster is to run at once after a resume.
    fn is_due(&self, task: TaskId, options: ResumeOptions, now: DateTime<Utc>) -> bool {
        let planned = self.pending_tasks.iter().zip(&self.pending_tasks_next_activation);
        let missed = || planned.into_iter().any(|(id, time)| *id == task && *time <= now);
        (options.start_tasks && self.running_tasks.contains(&task)) || (options.start_missed && missed())
    }
}

/// Types that a suspend leaves alone.
fn is_always_allowed(task_type: TaskType) -> bool {
    matches!(task_type, TaskType::HealthCheck | TaskType::Suspend)
}

impl Driver {
    /// Whether tasks of this type may run in the cluster now.
    pub(super) fn allows(&self, key: TaskKey) -> bool {
        is_always_allowed(key.task_type)
            || self
                .suspended
                .get(&key.cluster)
                .is_none_or(|record| record.suspension().allow == Some(key.task_type))
    }

    /// Restores what the drawer says, before tasks are loaded.
    pub(super) async fn load_suspended(&mut self) -> Result<(), StoreError> {
        for (cluster, key, value) in self.store.drawers(DRAWER_KEY).await? {
            if key != DRAWER_KEY {
                continue;
            }
            // A record that cannot be read still says that the cluster is suspended.
            let record = serde_json::from_slice(&value).unwrap_or_else(|error| {
                warn!(%cluster, %error, "The record of a suspended cluster cannot be read");
                SuspendRecord::default()
            });
            self.metrics.set_suspended(cluster, true);
            self.suspended.insert(cluster, record);
        }
        Ok(())
    }

    /// Suspends a cluster; answers when the runs it stopped have returned.
    pub(super) async fn suspend(&mut self, cluster: ClusterId, options: SuspendOptions, reply: Reply<()>) {
        match self.begin_suspend(cluster, options).await {
            Ok(()) => {
                self.suspends.push((cluster, reply));
                self.answer_suspends();
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    async fn begin_suspend(
        &mut self,
        cluster: ClusterId,
        options: SuspendOptions,
    ) -> Result<(), SchedulerError> {
        if self.suspended.contains_key(&cluster) {
            return Ok(());
        }
        let now = self.clock.now();
        if options.fail_if_running {
            self.refuse_if_running(cluster, options.allow)?;
        }
        let record = self.suspend_record(cluster, &options, now);
        let value = serde_json::to_vec(&record).unwrap_or_default();
        self.store.put_drawer(cluster, DRAWER_KEY, value).await?;
        info!(%cluster, allow = record.allow_task_type, "Suspend");
        self.metrics.set_suspended(cluster, true);
        self.suspended.insert(cluster, record);
        for key in self.keys_of(cluster) {
            if options.asked_by != Some(key) {
                self.suspend_task(key, options.no_continue, now).await;
            }
        }
        if let Some((after, properties)) = options.resume_after {
            self.plan_resume(cluster, now + after, properties, now).await?;
        }
        Ok(())
    }

    fn refuse_if_running(&self, cluster: ClusterId, allow: Option<TaskType>) -> Result<(), SchedulerError> {
        let running = self.entries.values().filter(|e| e.task.cluster_id == cluster && e.running.is_some());
        let others =
            running.filter(|e| Some(e.task.task_type) != allow && !is_always_allowed(e.task.task_type));
        let names: Vec<String> = others.map(|e| format!("{}/{}", e.task.task_type, e.task.id)).collect();
        if names.is_empty() { Ok(()) } else { Err(SchedulerError::TasksRunning(names.join(", "))) }
    }

    fn suspend_record(
        &self,
        cluster: ClusterId,
        options: &SuspendOptions,
        now: DateTime<Utc>,
    ) -> SuspendRecord {
        let mut record = SuspendRecord {
            started_at: now,
            allow_task_type: options.allow.map(|t| t.to_string()).unwrap_or_default(),
            ..SuspendRecord::default()
        };
        for entry in self.entries.values().filter(|e| e.task.cluster_id == cluster) {
            if entry.running.is_some() && options.asked_by != Some(entry.key()) {
                record.running_tasks.push(entry.task.id);
            } else if let Some(plan) = &entry.plan {
                record.pending_tasks.push(entry.task.id);
                record.pending_tasks_next_activation.push(plan.at);
            }
        }
        record
    }

    async fn suspend_task(&mut self, key: TaskKey, no_continue: bool, now: DateTime<Utc>) {
        self.leave_queue(key).await;
        let allowed = self.allows(key);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.plan = None;
        entry.fresh_next |= no_continue && !allowed;
        if let Some(running) = &mut entry.running {
            if matches!(running.reason, None | Some(StopReason::WindowEnd)) {
                running.reason = Some(StopReason::Suspend);
                running.stop.stop(StopReason::Suspend);
            }
            // What follows is planned when it has returned.
            return;
        }
        self.plan_by_trigger(key, now);
    }

    /// Plans a task of a type that keeps running, whose run the suspend stopped.
    pub(super) fn plan_after_suspend(&mut self, key: TaskKey, now: DateTime<Utc>) {
        let scheduled = self.entries.get(&key).is_some_and(Entry::is_scheduled);
        if !self.allows(key) || !scheduled {
            return;
        }
        if is_always_allowed(key.task_type) {
            self.plan_by_trigger(key, now);
        } else {
            self.plan_now(key, now);
        }
    }

    /// Stores the task that resumes the cluster by itself.
    async fn plan_resume(
        &mut self,
        cluster: ClusterId,
        at: DateTime<Utc>,
        mut properties: Properties,
        now: DateTime<Utc>,
    ) -> Result<(), SchedulerError> {
        properties.insert("resume".to_owned(), true.into());
        let request = Schedule {
            start_date: Some(at),
            num_retries: RESUME_RETRIES,
            retry_wait: TaskDuration::from_secs(RESUME_RETRY_WAIT),
            ..Schedule::default()
        };
        let key = TaskKey { cluster, task_type: TaskType::Suspend, id: RESUME_TASK };
        let task = Task {
            cluster_id: cluster,
            task_type: TaskType::Suspend,
            id: RESUME_TASK,
            name: "resume".to_owned(),
            labels: Default::default(),
            enabled: true,
            deleted: false,
            schedule: normalize(&request, now)?.0,
            properties,
            tags: None,
            status: TaskStatus::New,
            success_count: 0,
            error_count: 0,
            last_success: None,
            last_error: None,
        };
        self.store.put_task(&task).await?;
        match self.entries.get_mut(&key) {
            Some(entry) => {
                let old = std::mem::replace(&mut entry.task, task);
                entry.task.status = old.status;
                (entry.task.success_count, entry.task.last_success) = (old.success_count, old.last_success);
                (entry.task.error_count, entry.task.last_error) = (old.error_count, old.last_error);
                entry.reparse();
            }
            None => {
                self.metrics.add_task(&task);
                self.entries.insert(key, Entry::new(task));
            }
        }
        self.plan_by_trigger(key, now);
        Ok(())
    }

    /// Resumes a cluster; one that is not suspended stays as it is.
    pub(super) async fn resume(
        &mut self,
        cluster: ClusterId,
        options: ResumeOptions,
    ) -> Result<(), SchedulerError> {
        let now = self.clock.now();
        if !self.suspended.contains_key(&cluster) {
            return Ok(());
        }
        self.store.delete_drawer(cluster, DRAWER_KEY).await?;
        let Some(record) = self.suspended.remove(&cluster) else { return Ok(()) };
        info!(%cluster, "Resume");
        self.metrics.set_suspended(cluster, false);
        let allowed = record.suspension().allow;
        for key in self.keys_of(cluster) {
            if Some(key.task_type) == allowed || is_always_allowed(key.task_type) {
                continue;
            }
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.fresh_next |= options.no_continue;
            if !entry.is_scheduled() || entry.running.is_some() {
                continue;
            }
            if record.is_due(key.id, options, now) || entry.is_unfinished_windowed_one_shot() {
                self.plan_now(key, now);
            } else {
                self.plan_by_trigger(key, now);
            }
        }
        self.disable_resume_task(cluster).await?;
        self.dispatch().await;
        Ok(())
    }

    async fn disable_resume_task(&mut self, cluster: ClusterId) -> Result<(), SchedulerError> {
        let key = TaskKey { cluster, task_type: TaskType::Suspend, id: RESUME_TASK };
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        entry.task.enabled = false;
        entry.plan = None;
        let task = entry.task.clone();
        Ok(self.store.put_task(&task).await?)
    }

    pub(super) fn keys_of(&self, cluster: ClusterId) -> Vec<TaskKey> {
        self.entries.keys().filter(|key| key.cluster == cluster).copied().collect()
    }

    /// Completes suspends whose stopped runs have all returned.
    pub(super) fn answer_suspends(&mut self) {
        for (cluster, reply) in std::mem::take(&mut self.suspends) {
            let stops = |e: &Entry| {
                let reason = e.running.as_ref().and_then(|r| r.reason);
                e.task.cluster_id == cluster && reason == Some(StopReason::Suspend)
            };
            if self.entries.values().any(stops) {
                self.suspends.push((cluster, reply));
            } else {
                let _ = reply.send(Ok(()));
            }
        }
    }
}
