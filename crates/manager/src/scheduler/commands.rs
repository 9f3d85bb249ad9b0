//! What the driver does for its handles (spec manager.md 4.3, 4.8).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common::api::manager::Task;
use common::ids::{ClusterId, TaskId};
use common::task::{TaskStatus, TaskType};

use super::driver::Driver;
use super::entry::Entry;
use super::handle::{Command, Planned, Reply, SchedulerError, TaskKey, TaskSpec};
use super::plan::{self, Activation};
use super::schedule::{FirstRun, normalize};
use super::suspend::SuspendRecord;

/// ID of the task that ends a suspend by itself, in every cluster (spec manager.md 4.10).
pub const RESUME_TASK: TaskId = TaskId::from_uuid(uuid::uuid!("805e43b0-2c0a-481e-bab8-9c2418940d67"));

/// A caller that went away needs no answer.
fn answer<T>(reply: Reply<T>, result: Result<T, SchedulerError>) {
    let _ = reply.send(result);
}

impl Driver {
    pub(super) async fn handle(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Create { cluster, task_type, spec, reply } => {
                answer(reply, self.create(cluster, task_type, spec, now).await);
            }
            Command::Update { key, spec, reply } => answer(reply, self.update(key, spec, now).await),
            Command::SetProperty { key, name, value, reply } => {
                answer(reply, self.set_property(key, name, value).await);
            }
            Command::Delete { key, reply } => answer(reply, self.delete(key).await),
            Command::Start { key, continue_run, reply } => {
                answer(reply, self.start(key, continue_run, now).await);
            }
            Command::Stop { key, disable, reply } => answer(reply, self.stop(key, disable, now).await),
            Command::Planned { cluster, reply } => answer(reply, Ok(self.planned(cluster))),
            Command::Suspension { cluster, reply } => {
                answer(reply, Ok(self.suspended.get(&cluster).map(SuspendRecord::suspension)));
            }
            Command::Suspend { cluster, options, reply } => self.suspend(cluster, options, reply).await,
            Command::Resume { cluster, options, reply } => answer(reply, self.resume(cluster, options).await),
            Command::RemoveCluster { cluster, reply } => self.remove_cluster(cluster, reply).await,
        }
    }

    /// The entry of a task that is not deleted.
    fn entry(&mut self, key: TaskKey) -> Result<&mut Entry, SchedulerError> {
        let found = self.entries.get_mut(&key).filter(|e| !e.task.deleted);
        found.ok_or(SchedulerError::NotFound(key.id))
    }

    fn check_name(&self, key: TaskKey, name: &str) -> Result<(), SchedulerError> {
        if name.is_empty() {
            return Ok(());
        }
        if name.parse::<TaskId>().is_ok() {
            return Err(SchedulerError::NameIsId);
        }
        let mut others = self.entries.values().filter(|e| {
            e.task.cluster_id == key.cluster && e.task.task_type == key.task_type && e.task.id != key.id
        });
        match others.any(|e| !e.task.deleted && e.task.name == name) {
            true => Err(SchedulerError::NameTaken(name.to_owned())),
            false => Ok(()),
        }
    }

    async fn create(
        &mut self,
        cluster: ClusterId,
        task_type: TaskType,
        spec: TaskSpec,
        now: DateTime<Utc>,
    ) -> Result<Task, SchedulerError> {
        let key = TaskKey { cluster, task_type, id: TaskId::random() };
        if self.runners.get(task_type).is_none() {
            return Err(SchedulerError::Unsupported(task_type));
        }
        if !self.allows(key) {
            return Err(SchedulerError::Suspended(", scheduling tasks is not allowed"));
        }
        self.check_name(key, &spec.name)?;
        let (schedule, first) = normalize(&spec.schedule, now)?;
        let task = Task {
            cluster_id: cluster,
            task_type,
            id: key.id,
            name: spec.name,
            labels: spec.labels,
            enabled: spec.enabled,
            deleted: false,
            schedule,
            properties: spec.properties,
            tags: None,
            status: TaskStatus::New,
            success_count: 0,
            error_count: 0,
            last_success: None,
            last_error: None,
        };
        self.store.put_task(&task).await?;
        self.metrics.add_task(&task);
        self.entries.insert(key, Entry::new(task.clone()));
        match first {
            FirstRun::Immediate if task.enabled => self.plan_now(key, now),
            FirstRun::Immediate | FirstRun::Planned => self.plan_by_trigger(key, now),
        }
        // A task that is due shows as running to whoever asks next.
        self.dispatch().await;
        Ok(task)
    }

    async fn update(
        &mut self,
        key: TaskKey,
        spec: TaskSpec,
        now: DateTime<Utc>,
    ) -> Result<Task, SchedulerError> {
        if key.id == RESUME_TASK {
            return Err(SchedulerError::ResumeTask);
        }
        let stored = self.entry(key)?.task.clone();
        self.check_name(key, &spec.name)?;
        let (schedule, _) = normalize(&spec.schedule, now)?;
        let task = Task {
            name: spec.name,
            labels: spec.labels,
            enabled: spec.enabled,
            schedule,
            properties: spec.properties,
            ..stored
        };
        self.store.put_task(&task).await?;
        self.leave_queue(key).await;
        let entry = self.entry(key)?;
        entry.task = Task { status: entry.task.status, ..task };
        entry.reparse();
        if let Some(running) = &mut entry.running {
            // From its end on the new specification counts: new properties, and no activation of before.
            running.activation.properties = None;
            running.activation.once = false;
            running.activation.initial = running.activation.initial.max(now);
        }
        let task = entry.task.clone();
        self.plan_by_trigger(key, now);
        self.dispatch().await;
        Ok(task)
    }

    async fn set_property(
        &mut self,
        key: TaskKey,
        name: String,
        value: serde_json::Value,
    ) -> Result<Task, SchedulerError> {
        let mut task = self.entry(key)?.task.clone();
        task.properties.insert(name.clone(), value.clone());
        self.store.put_task(&task).await?;
        let entry = self.entry(key)?;
        entry.task = task.clone();
        let running = entry.running.as_mut().map(|r| &mut r.activation);
        for activation in running.into_iter().chain(entry.plan.as_mut()) {
            if let Some(properties) = &mut activation.properties {
                properties.insert(name.clone(), value.clone());
            }
        }
        Ok(task)
    }

    async fn delete(&mut self, key: TaskKey) -> Result<(), SchedulerError> {
        let task = self.entry(key)?.task.clone();
        let task = Task { deleted: true, enabled: false, name: String::new(), ..task };
        self.store.put_task(&task).await?;
        self.leave_queue(key).await;
        let entry = self.entry(key)?;
        entry.task = Task { status: entry.task.status, ..task };
        entry.plan = None;
        Ok(())
    }

    async fn start(
        &mut self,
        key: TaskKey,
        continue_run: bool,
        now: DateTime<Utc>,
    ) -> Result<(), SchedulerError> {
        let allowed = self.allows(key);
        let entry = self.entry(key)?;
        if !allowed {
            return Err(SchedulerError::Suspended(""));
        }
        if entry.running.is_some() {
            return Ok(());
        }
        let fresh = !continue_run;
        entry.plan = match (entry.plan.take(), &entry.schedule) {
            // In the schedule: at once, whatever the window says. In the queue it keeps its place.
            (Some(plan), _) => Some(Activation {
                at: plan.at.min(now),
                window_end: None,
                initial: now,
                retry: 0,
                properties: None,
                once: plan.once,
                fresh,
            }),
            (None, Ok(schedule)) => {
                Some(Activation { once: true, fresh, ..plan::activation(schedule, now, now) })
            }
            (None, Err(invalid)) => return Err(invalid.clone().into()),
        };
        self.dispatch().await;
        Ok(())
    }

    async fn stop(&mut self, key: TaskKey, disable: bool, now: DateTime<Utc>) -> Result<(), SchedulerError> {
        let entry = self.entry(key)?;
        if disable && entry.task.enabled {
            let task = Task { enabled: false, ..entry.task.clone() };
            self.store.put_task(&task).await?;
            self.entry(key)?.task.enabled = false;
        }
        let entry = self.entry(key)?;
        if entry.running.is_some() {
            self.stop_run(key).await;
            return Ok(());
        }
        let asked_for = entry.plan.as_ref().is_some_and(|p| p.once);
        if let Some(plan) = entry.plan.take_if(|_| disable || asked_for || entry.waiting.is_some()) {
            // One that waits in the queue is stopped like one that runs: the next activation is its next.
            if entry.waiting.take().is_some() {
                self.set_status(key, TaskStatus::Stopped).await;
                self.plan_after(key, &plan, plan::RunEnd::Final, now);
            }
        }
        Ok(())
    }

    fn planned(&self, cluster: ClusterId) -> BTreeMap<TaskKey, Planned> {
        let suspended = self.suspended.contains_key(&cluster);
        let of_cluster = self.entries.iter().filter(|(key, _)| key.cluster == cluster);
        of_cluster.map(|(key, entry)| (*key, entry.planned(suspended))).collect()
    }

    async fn remove_cluster(&mut self, cluster: ClusterId, reply: Reply<()>) {
        for key in self.keys_of(cluster) {
            if self.entry(key).is_err() {
                continue;
            }
            if let Err(error) = self.delete(key).await {
                answer(reply, Err(error));
                return;
            }
            self.stop_run(key).await;
        }
        self.removals.push((cluster, reply));
        self.answer_removals();
    }

    /// Completes removals of clusters whose last run has ended.
    pub(super) fn answer_removals(&mut self) {
        for (cluster, reply) in std::mem::take(&mut self.removals) {
            let of_cluster = |key: &TaskKey| key.cluster == cluster;
            if self.entries.iter().any(|(key, entry)| of_cluster(key) && entry.running.is_some()) {
                self.removals.push((cluster, reply));
                continue;
            }
            for entry in self.entries.extract_if(.., |key, _| of_cluster(key)).map(|(_, entry)| entry) {
                self.metrics.remove_task(&entry.task);
            }
            // Its record goes with the drawer of the cluster.
            self.suspended.remove(&cluster);
            answer(reply, Ok(()));
        }
    }
}
