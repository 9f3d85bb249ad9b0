//! The task type that suspends and resumes its cluster (spec manager.md 3.9, 4.10).

use std::sync::OnceLock;

use chrono::TimeDelta;
use common::ids::ClusterId;
use common::task::TaskType;
use common::units::TaskDuration;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use super::handle::{Scheduler, SchedulerError, TaskKey};
use super::runner::{Properties, RunContext, RunError, Runner, Runners};
use super::suspend::{ResumeOptions, SuspendOptions};

/// Properties of a suspend task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SuspendProperties {
    duration: TaskDuration,
    start_tasks: bool,
    allow_task_type: String,
    suspend_policy: String,
    no_continue: bool,
    resume: bool,
}

/// Suspend options that contradict each other or name what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSuspend {
    /// Not of the expected types.
    #[error("invalid suspend properties: {0}")]
    Malformed(String),
    /// Starting tasks is part of the resume, which only a duration plans.
    #[error("can't use startTasks without a duration")]
    StartTasksWithoutDuration,
    /// A negative duration.
    #[error("duration {0} is negative")]
    NegativeDuration(TaskDuration),
    /// A type that runs anyway, or that does not exist.
    #[error("{0:?} is not a task type that a suspend may allow")]
    AllowedType(String),
}

/// Reads a type that may go on while its cluster is suspended; an empty text is none.
///
/// # Errors
/// No such type, or one that is never suspended.
pub fn parse_allowed_type(text: &str) -> Result<Option<TaskType>, InvalidSuspend> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(TaskType::Suspend | TaskType::HealthCheck) | Err(_) => {
            Err(InvalidSuspend::AllowedType(text.to_owned()))
        }
        Ok(allowed) => Ok(Some(allowed)),
    }
}

impl SuspendProperties {
    fn parse(properties: &Properties) -> Result<Self, InvalidSuspend> {
        let parsed: Self = serde_json::from_value(Value::Object(properties.clone()))
            .map_err(|e| InvalidSuspend::Malformed(e.to_string()))?;
        if parsed.duration < TaskDuration::ZERO {
            return Err(InvalidSuspend::NegativeDuration(parsed.duration));
        }
        if parsed.start_tasks && parsed.duration.is_zero() && !parsed.resume {
            return Err(InvalidSuspend::StartTasksWithoutDuration);
        }
        parse_allowed_type(&parsed.allow_task_type)?;
        Ok(parsed)
    }

    fn options(&self, properties: &Properties, asked_by: TaskKey) -> Result<SuspendOptions, InvalidSuspend> {
        let duration: TimeDelta = self.duration.to_chrono();
        Ok(SuspendOptions {
            allow: parse_allowed_type(&self.allow_task_type)?,
            fail_if_running: self.suspend_policy == FAIL_IF_RUNNING,
            no_continue: self.no_continue,
            resume_after: (!self.duration.is_zero()).then(|| (duration, properties.clone())),
            asked_by: Some(asked_by),
        })
    }
}

/// The policy that refuses to suspend while other tasks run.
pub const FAIL_IF_RUNNING: &str = "fail_if_running_tasks";

/// The default policy.
pub const STOP_RUNNING: &str = "stop_running_tasks";

/// Runs suspend tasks. It is one of the scheduler's own runners, so the handle comes later: see
/// [`connect`](SuspendRunner::connect).
#[derive(Default)]
pub struct SuspendRunner {
    link: OnceLock<(Scheduler, Runners)>,
}

impl SuspendRunner {
    /// Says which scheduler to suspend, and whose leftovers to clean up. Only the first call counts.
    pub fn connect(&self, scheduler: Scheduler, runners: Runners) {
        let _ = self.link.set((scheduler, runners));
    }
}

impl Runner for SuspendRunner {
    fn check<'a>(
        &'a self,
        _cluster: ClusterId,
        properties: &'a Properties,
    ) -> BoxFuture<'a, Result<(), RunError>> {
        let parsed = SuspendProperties::parse(properties).map(drop);
        let refused = |e| RunError::invalid(e).context("create suspend properties");
        Box::pin(async move { parsed.map_err(refused) })
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let Some((scheduler, runners)) = self.link.get() else {
                return Err(RunError::failed("the scheduler is not ready"));
            };
            let properties = SuspendProperties::parse(&context.properties).map_err(RunError::invalid)?;
            if properties.resume {
                let options = ResumeOptions { start_tasks: properties.start_tasks, ..Default::default() };
                return scheduler.resume(context.cluster, options).await.map_err(RunError::failed);
            }
            let key = TaskKey { cluster: context.cluster, task_type: context.task_type, id: context.task };
            let options = properties.options(&context.properties, key).map_err(RunError::invalid)?;
            match suspend(scheduler, runners, context.cluster, options).await {
                Ok(()) => Ok(()),
                Err(SuspendError::Refused(error)) => Err(RunError::failed(error)),
                Err(SuspendError::CleanUp(error)) => Err(error),
            }
        })
    }
}

/// A suspend that was refused, or that left something on the nodes.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// The scheduler did not suspend.
    #[error(transparent)]
    Refused(#[from] SchedulerError),
    /// The cluster is suspended, but what its runs left could not be removed.
    #[error(transparent)]
    CleanUp(RunError),
}

/// Suspends a cluster, and cleans up after runs that will not be continued.
///
/// # Errors
/// The policy refuses, the database failed, or a clean-up failed (the cluster is suspended then).
pub async fn suspend(
    scheduler: &Scheduler,
    runners: &Runners,
    cluster: ClusterId,
    options: SuspendOptions,
) -> Result<(), SuspendError> {
    let (allow, no_continue) = (options.allow, options.no_continue);
    scheduler.suspend(cluster, options).await?;
    if !no_continue {
        return Ok(());
    }
    for (task_type, runner) in runners.iter().filter(|(task_type, _)| Some(**task_type) != allow) {
        let cleaned = runner.clean_up(cluster).await;
        cleaned.map_err(|e| SuspendError::CleanUp(e.context(format!("clean up after {task_type} tasks"))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_checked() {
        for (json, expected) in [
            (r#"{}"#, Ok(())),
            (r#"{"duration":"2h","start_tasks":true,"allow_task_type":"backup"}"#, Ok(())),
            (r#"{"start_tasks":true,"resume":true}"#, Ok(())),
            (r#"{"start_tasks":true}"#, Err("can't use startTasks without a duration")),
            (r#"{"duration":"-2h"}"#, Err("duration -2h is negative")),
            (
                r#"{"allow_task_type":"suspend"}"#,
                Err("\"suspend\" is not a task type that a suspend may allow"),
            ),
            (r#"{"allow_task_type":"x"}"#, Err("\"x\" is not a task type that a suspend may allow")),
        ] {
            let properties: Properties = serde_json::from_str(json).unwrap();
            let actual = SuspendProperties::parse(&properties).map(drop).map_err(|e| e.to_string());
            assert_eq!(actual, expected.map_err(str::to_owned), "{json}");
        }
    }
}
