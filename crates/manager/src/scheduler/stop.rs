//! Asked-for stops of a run, with their reason.

use std::sync::{Arc, OnceLock};

use common::task::TaskStatus;
use tokio_util::sync::CancellationToken;

/// Why a run is asked to end early (spec manager.md 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `sctool stop`.
    User,
    /// The end of the maintenance window.
    WindowEnd,
    /// The cluster was suspended.
    Suspend,
    /// The manager shuts down.
    Shutdown,
}

impl StopReason {
    /// The final status of a run that ends for this reason.
    pub fn status(self) -> TaskStatus {
        match self {
            Self::User | Self::Suspend => TaskStatus::Stopped,
            Self::WindowEnd => TaskStatus::Waiting,
            Self::Shutdown => TaskStatus::Aborted,
        }
    }

    /// The cause written to the run.
    pub fn cause(self) -> &'static str {
        match self {
            Self::User => "task was stopped",
            Self::WindowEnd => "task got out of --window",
            Self::Suspend | Self::Shutdown => SCHEDULER_STOPPED,
        }
    }
}

/// Cause of runs that ended with the scheduler, by shutdown, crash or suspend.
pub const SCHEDULER_STOPPED: &str = "scheduler and all tasks were stopped";

/// The runner's side of a stop: a cancellation token that knows its reason.
///
/// A run that sees it must return soon: after a grace period its future is dropped.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl StopSignal {
    /// A signal that nobody gave yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop. Only the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Whether the stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The reason, once asked for.
    pub fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Returns when the stop is asked for. Safe to use in `select!`.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// The bare token, for code that does not care about the reason.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}
