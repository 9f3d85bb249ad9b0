//! Waiting for a state with a deadline.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, MissedTickBehavior};

/// How long and how often a state is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// Give up after this long.
    pub limit: Duration,
    /// Look this often.
    pub every: Duration,
}

impl Deadline {
    /// A deadline of that many seconds, looked at ten times a second.
    #[must_use]
    pub const fn seconds(limit: u64) -> Self {
        Self { limit: Duration::from_secs(limit), every: Duration::from_millis(100) }
    }
}

/// Asks `look` until it answers `Some`.
///
/// # Errors
/// The deadline passed, or `look` failed; `what` names the state in the message.
pub async fn wait_for<T>(
    what: &str,
    deadline: Deadline,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline.limit;
    let mut ticks = tokio::time::interval(deadline.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("{what} did not happen within {:?}", deadline.limit);
        }
    }
}
