//! One run, from its decorated properties to its outcome, bounded once it is asked to stop.

use std::sync::Arc;
use std::time::Duration;

use common::task::TaskStatus;
use tokio::task::JoinError;

use super::plan::RunEnd;
use super::runner::{RunContext, RunError, RunErrorKind, Runner};
use super::stop::StopReason;

/// How long a run may take to return once it is asked to stop. After that its future is dropped, so that a
/// stop is over within 10 s also with dead agents (design section 5).
pub const STOP_GRACE: Duration = Duration::from_secs(8);

/// How the future of a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// By itself.
    Returned(Result<(), RunError>),
    /// It ignored its stop and was dropped.
    Abandoned,
    /// It panicked.
    Panicked(String),
    /// It was not allowed to start.
    Refused(RunError),
}

impl From<JoinError> for Outcome {
    fn from(error: JoinError) -> Self {
        if error.is_cancelled() {
            return Self::Abandoned;
        }
        let payload = error.into_panic();
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(text.unwrap_or_default())
    }
}

/// Runs a task. `context` holds the properties as they are stored.
pub async fn execute(runner: Arc<dyn Runner>, mut context: RunContext) -> Outcome {
    let stop = context.stop.clone();
    let work = async move {
        context.properties = runner
            .decorate(context.cluster, context.properties)
            .await
            .map_err(|e| e.context("decorate properties"))?;
        runner.run(context).await
    };
    let deadline = async {
        stop.stopped().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        biased;
        result = Box::pin(work) => Outcome::Returned(result),
        () = deadline => Outcome::Abandoned,
    }
}

/// What is written of an outcome, and what it means for planning (spec manager.md 4.4).
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Final status.
    pub status: TaskStatus,
    /// Final cause.
    pub cause: String,
    /// `None`: the scheduler itself ends or is suspended, nothing is planned.
    pub end: Option<RunEnd>,
}

/// Judges an outcome. The reason of a stop decides, not the error text; a success is a success.
pub fn judge(outcome: &Outcome, reason: Option<StopReason>) -> Verdict {
    let failed = |cause: String, permanent: bool| {
        let end = if permanent { RunEnd::Final } else { RunEnd::Failed };
        Verdict { status: TaskStatus::Error, cause, end: Some(end) }
    };
    match (outcome, reason) {
        (Outcome::Returned(Ok(())), _) => {
            Verdict { status: TaskStatus::Done, cause: String::new(), end: Some(RunEnd::Final) }
        }
        (Outcome::Returned(Err(_)) | Outcome::Abandoned | Outcome::Panicked(_), Some(reason)) => Verdict {
            status: reason.status(),
            cause: reason.cause().to_owned(),
            end: match reason {
                StopReason::User => Some(RunEnd::Final),
                StopReason::WindowEnd => Some(RunEnd::WindowEnd),
                StopReason::Suspend | StopReason::Shutdown => None,
            },
        },
        (Outcome::Returned(Err(error)), None) | (Outcome::Refused(error), _) => {
            failed(error.cause(), error.kind() == RunErrorKind::Permanent)
        }
        (Outcome::Panicked(text), None) => {
            failed(format!("internal error, please report it: the run panicked: {text}"), false)
        }
        (Outcome::Abandoned, None) => failed("the run was dropped".to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_stop_decides() {
        use StopReason::{Shutdown, Suspend, User, WindowEnd};
        use TaskStatus::{Aborted, Done, Error, Stopped, Waiting};
        let error = |e: fn(&'static str) -> RunError| Outcome::Returned(Err(e("boom")));
        for (outcome, reason, status, cause, end) in [
            (Outcome::Returned(Ok(())), None, Done, "", Some(RunEnd::Final)),
            (Outcome::Returned(Ok(())), Some(User), Done, "", Some(RunEnd::Final)),
            (error(RunError::failed), None, Error, "boom", Some(RunEnd::Failed)),
            (error(RunError::invalid), None, Error, "boom", Some(RunEnd::Failed)),
            (error(RunError::permanent), None, Error, "boom", Some(RunEnd::Final)),
            (error(RunError::failed), Some(User), Stopped, "task was stopped", Some(RunEnd::Final)),
            (Outcome::Abandoned, Some(User), Stopped, "task was stopped", Some(RunEnd::Final)),
            (
                Outcome::Abandoned,
                Some(WindowEnd),
                Waiting,
                "task got out of --window",
                Some(RunEnd::WindowEnd),
            ),
            (error(RunError::failed), Some(Shutdown), Aborted, "scheduler and all tasks were stopped", None),
            (error(RunError::failed), Some(Suspend), Stopped, "scheduler and all tasks were stopped", None),
            (
                Outcome::Panicked("x".into()),
                None,
                Error,
                "internal error, please report it: the run panicked: x",
                Some(RunEnd::Failed),
            ),
        ] {
            let expected = Verdict { status, cause: cause.to_owned(), end };
            assert_eq!(judge(&outcome, reason), expected, "{outcome:?} {reason:?}");
        }
    }
}
