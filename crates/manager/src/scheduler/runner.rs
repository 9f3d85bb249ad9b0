//! What a task type must offer to be scheduled.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use common::ids::{ClusterId, RunId, TaskId};
use common::task::TaskType;
use common::units::DcLimit;
use futures::future::BoxFuture;
use serde_json::Value;

use super::clock::Clock;
use super::stop::StopSignal;

/// Properties of a task as in its JSON: always an object.
pub type Properties = serde_json::Map<String, Value>;

/// Everything that a run may know about itself.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The cluster it works on.
    pub cluster: ClusterId,
    /// Type of the task; one runner may serve several.
    pub task_type: TaskType,
    /// The task it executes.
    pub task: TaskId,
    /// Its own ID. Health checks share a fixed one.
    pub run: RunId,
    /// Properties after [`Runner::decorate`]; a retry or window continuation gets those of the first attempt.
    pub properties: Properties,
    /// Whether to go on where an interrupted run stopped. Equals `continue` in `properties`.
    pub continue_run: bool,
    /// Asked-for stop. The run must return soon after it; the future is dropped a few seconds later.
    pub stop: StopSignal,
    /// Start of the run.
    pub started: DateTime<Utc>,
    /// The clock to use for everything else.
    pub clock: Clock,
}

/// A failed run, dry run or check, with what the scheduler and the API must know about it.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct RunError {
    source: Box<dyn Error + Send + Sync>,
    kind: RunErrorKind,
}

/// How a [`RunError`] is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunErrorKind {
    /// Runs are retried as the task's schedule says; the API answers 500.
    Failed,
    /// Runs are not retried; the API answers 500.
    Permanent,
    /// The properties are at fault. Runs are retried (the cluster may change); the API answers 400.
    Invalid,
}

/// An error with what was being done when it happened.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct During {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl RunError {
    /// An error after which the run may be retried.
    pub fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), kind: RunErrorKind::Failed }
    }

    /// An error that a retry cannot mend: the task waits for its next activation.
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), kind: RunErrorKind::Permanent }
    }

    /// A mistake in the task's properties, which the user can mend.
    pub fn invalid(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), kind: RunErrorKind::Invalid }
    }

    /// Says what was being done, in front of the cause.
    #[must_use]
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.source = Box::new(During { what: what.into(), source: self.source });
        self
    }

    /// How it is treated.
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }

    /// The error chain as one line: `cause` of a run, `message` of an answer.
    pub fn cause(&self) -> String {
        common::error::chain(&*self.source)
    }
}

/// One task type. Implemented by the backup, by the health check, and by the scheduler's tests.
///
/// `run` may be dropped at any `.await`: whatever must happen at the end belongs to the next contact with
/// the agents, not to the run.
pub trait Runner: Send + Sync + 'static {
    /// Adds what must be fresh at every run and is never stored (backup: `retention_map`).
    ///
    /// Called when a task is created or changed, before a dry run, and before each run.
    fn decorate<'a>(
        &'a self,
        _cluster: ClusterId,
        properties: Properties,
    ) -> BoxFuture<'a, Result<Properties, RunError>> {
        Box::pin(async move { Ok(properties) })
    }

    /// Checks decorated properties against the live cluster, before a task is stored.
    ///
    /// Errors carry their whole prefix (e.g. `create backup target: `).
    fn check<'a>(
        &'a self,
        _cluster: ClusterId,
        _properties: &'a Properties,
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Ok(()) })
    }

    /// The target as `GET .../tasks/{type}/target` answers it; `None` if the type has no dry run.
    ///
    /// Errors carry their whole prefix (`get backup target: ` or `get backup target size: `).
    fn dry_run<'a>(
        &'a self,
        _cluster: ClusterId,
        _properties: &'a Properties,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async { Ok(None) })
    }

    /// Removes from the cluster what runs left that will not be continued (backup: local snapshots).
    fn clean_up<'a>(&'a self, _cluster: ClusterId) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Ok(()) })
    }

    /// Progress of a run from local state only; `None` before the first progress row.
    fn progress<'a>(
        &'a self,
        _cluster: ClusterId,
        _task: TaskId,
        _run: RunId,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async { Ok(None) })
    }

    /// Progress of a task that never ran.
    fn empty_progress(&self) -> Value {
        Value::Null
    }

    /// Whether a task may get this rate limit: an [`Invalid`](RunErrorKind::Invalid) error names what is wrong.
    fn check_rate_limit<'a>(
        &'a self,
        _cluster: ClusterId,
        _limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Err(RunError::invalid("this task has no rate limit")) })
    }

    /// Changes the rate limit of the run of a task that works now: on its hosts, and for jobs that it has yet to
    /// start. The caller has stored it in the task before: a run that begins meanwhile finds it there.
    fn change_rate_limit<'a>(
        &'a self,
        _cluster: ClusterId,
        _task: TaskId,
        _limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Err(RunError::invalid("this task has no rate limit")) })
    }

    /// Does the work.
    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>>;
}

/// The runner of each task type that this manager can execute.
#[derive(Clone, Default)]
pub struct Runners(BTreeMap<TaskType, Arc<dyn Runner>>);

impl Runners {
    /// No task type yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the runner of a type.
    #[must_use]
    pub fn with(mut self, task_type: TaskType, runner: Arc<dyn Runner>) -> Self {
        self.0.insert(task_type, runner);
        self
    }

    /// All types with their runners.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskType, &Arc<dyn Runner>)> {
        self.0.iter()
    }

    /// The runner of a type; `None` for types that are out of scope.
    pub fn get(&self, task_type: TaskType) -> Option<&Arc<dyn Runner>> {
        self.0.get(&task_type)
    }
}
