//! The handle to the scheduler: what the API and other workflows may ask of it.
//!
//! Every call is a message to the [`Driver`](super::driver::Driver), which works one message at a time: what a
//! call returned for has been stored.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common::api::manager::{Schedule, Task};
use common::ids::{ClusterId, TaskId};
use common::task::TaskType;
use tokio::sync::{mpsc, oneshot};

use super::runner::Properties;
use super::schedule::InvalidSchedule;
use super::suspend::{ResumeOptions, SuspendOptions};
use crate::store::StoreError;

/// Calls that may wait for the driver; beyond that callers wait to send.
pub(super) const QUEUE: usize = 64;

/// A request that the scheduler refuses, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// No such task, or it is deleted.
    #[error("load task \"{0}\": not found")]
    NotFound(TaskId),
    /// The name is in use by another task of the type.
    #[error("task name {0} is already used")]
    NameTaken(String),
    /// The name could be taken for an ID.
    #[error("invalid task: name cannot be an UUID")]
    NameIsId,
    /// No runner for this type.
    #[error("tasks of type {0} are not supported by this manager")]
    Unsupported(TaskType),
    /// The schedule cannot be read.
    #[error(transparent)]
    Schedule(#[from] InvalidSchedule),
    /// Tasks of this type do not run now.
    #[error("cluster is suspended{0}")]
    Suspended(&'static str),
    /// The policy of a suspend refuses to stop these.
    #[error(
        "not allowed tasks are running. Use suspend_policy='stop_running_tasks' to stop those tasks before \
         suspending cluster: {0}"
    )]
    TasksRunning(String),
    /// The task that ends a suspend by itself.
    #[error("resume task cannot be updated")]
    ResumeTask,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager shuts down.
    #[error("the scheduler is shutting down")]
    Closed,
}

impl SchedulerError {
    /// Whether the request is at fault, and not the manager.
    pub fn is_invalid(&self) -> bool {
        match self {
            Self::NameTaken(_)
            | Self::NameIsId
            | Self::Unsupported(_)
            | Self::Schedule(_)
            | Self::Suspended(_)
            | Self::ResumeTask => true,
            Self::TasksRunning(_) | Self::NotFound(_) | Self::Store(_) | Self::Closed => false,
        }
    }
}

/// What a user says about a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskSpec {
    /// Unique per cluster and type; may be empty.
    pub name: String,
    /// Free key-value pairs.
    pub labels: BTreeMap<String, String>,
    /// A disabled task has no activations of its own.
    pub enabled: bool,
    /// When it runs, as in the request.
    pub schedule: Schedule,
    /// Properties as in the request.
    pub properties: Properties,
}

/// The whole name of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskKey {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its type.
    pub task_type: TaskType,
    /// Its ID. The resume task has the same one in every cluster.
    pub id: TaskId,
}

impl TaskKey {
    /// The key of a stored task.
    pub fn of(task: &Task) -> Self {
        Self { cluster: task.cluster_id, task_type: task.task_type, id: task.id }
    }
}

/// What is planned for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// When it is due; `None` while it runs or when nothing is planned.
    pub next_activation: Option<DateTime<Utc>>,
    /// Number of the retry that is planned; 0 if the next activation is none.
    pub retry: u32,
    /// The cluster is suspended, and nothing is planned.
    pub suspended: bool,
}

/// How a cluster is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The type that keeps running.
    pub allow: Option<TaskType>,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, SchedulerError>>;

pub(super) enum Command {
    Create { cluster: ClusterId, task_type: TaskType, spec: TaskSpec, reply: Reply<Task> },
    Update { key: TaskKey, spec: TaskSpec, reply: Reply<Task> },
    SetProperty { key: TaskKey, name: String, value: serde_json::Value, reply: Reply<Task> },
    Delete { key: TaskKey, reply: Reply<()> },
    Start { key: TaskKey, continue_run: bool, reply: Reply<()> },
    Stop { key: TaskKey, disable: bool, reply: Reply<()> },
    Planned { cluster: ClusterId, reply: Reply<BTreeMap<TaskKey, Planned>> },
    Suspension { cluster: ClusterId, reply: Reply<Option<Suspension>> },
    Suspend { cluster: ClusterId, options: SuspendOptions, reply: Reply<()> },
    Resume { cluster: ClusterId, options: ResumeOptions, reply: Reply<()> },
    RemoveCluster { cluster: ClusterId, reply: Reply<()> },
}

/// Talks to the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    commands: mpsc::Sender<Command>,
}

impl Scheduler {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, SchedulerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| SchedulerError::Closed)?;
        answer.await.map_err(|_| SchedulerError::Closed)?
    }

    /// Stores a new task and schedules it if it is enabled. Its properties are taken as checked.
    ///
    /// # Errors
    /// Bad name or schedule, name taken, type unknown, cluster suspended, database.
    pub async fn create(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        spec: TaskSpec,
    ) -> Result<Task, SchedulerError> {
        self.ask(|reply| Command::Create { cluster, task_type, spec, reply }).await
    }

    /// Replaces the specification of a task and plans it anew, without an immediate run; a pending retry or
    /// continuation is dropped. A run that works goes on; the new specification counts from its end.
    ///
    /// # Errors
    /// As for [`create`](Self::create); no such task.
    pub async fn update(&self, key: TaskKey, spec: TaskSpec) -> Result<Task, SchedulerError> {
        self.ask(|reply| Command::Update { key, spec, reply }).await
    }

    /// Changes one property, in the task and in pending retries and continuations, without touching the plan.
    ///
    /// # Errors
    /// No such task, database.
    pub async fn set_property(
        &self,
        key: TaskKey,
        name: &str,
        value: serde_json::Value,
    ) -> Result<Task, SchedulerError> {
        let name = name.to_owned();
        self.ask(|reply| Command::SetProperty { key, name, value, reply }).await
    }

    /// Deletes a task: its name is free, its history stays, a run that works goes on.
    ///
    /// # Errors
    /// No such task, database.
    pub async fn delete(&self, key: TaskKey) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::Delete { key, reply }).await
    }

    /// Runs a task now, unless it runs already. A task in the schedule runs whatever its window says; one that
    /// is not, waits for its window and leaves the schedule afterwards.
    ///
    /// # Errors
    /// No such task, cluster suspended.
    pub async fn start(&self, key: TaskKey, continue_run: bool) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::Start { key, continue_run, reply }).await
    }

    /// Asks the run of a task to stop, and returns at once: it is `STOPPED` within 10 s.
    ///
    /// # Errors
    /// No such task, database.
    pub async fn stop(&self, key: TaskKey, disable: bool) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::Stop { key, disable, reply }).await
    }

    /// What is planned for the tasks of a cluster.
    ///
    /// # Errors
    /// The manager shuts down.
    pub async fn planned(&self, cluster: ClusterId) -> Result<BTreeMap<TaskKey, Planned>, SchedulerError> {
        self.ask(|reply| Command::Planned { cluster, reply }).await
    }

    /// Whether and how a cluster is suspended.
    ///
    /// # Errors
    /// The manager shuts down.
    pub async fn suspension(&self, cluster: ClusterId) -> Result<Option<Suspension>, SchedulerError> {
        self.ask(|reply| Command::Suspension { cluster, reply }).await
    }

    /// Suspends a cluster and returns when the runs that it stopped have returned. One that is suspended already
    /// stays as it is.
    ///
    /// # Errors
    /// The policy refuses; database.
    pub async fn suspend(&self, cluster: ClusterId, options: SuspendOptions) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::Suspend { cluster, options, reply }).await
    }

    /// Resumes a cluster. One that is not suspended stays as it is.
    ///
    /// # Errors
    /// Database.
    pub async fn resume(&self, cluster: ClusterId, options: ResumeOptions) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::Resume { cluster, options, reply }).await
    }

    /// Stops all runs of a cluster, waits for them, deletes its tasks and their series (spec manager.md 5.4).
    ///
    /// # Errors
    /// Database; the manager shuts down.
    pub async fn remove_cluster(&self, cluster: ClusterId) -> Result<(), SchedulerError> {
        self.ask(|reply| Command::RemoveCluster { cluster, reply }).await
    }
}
