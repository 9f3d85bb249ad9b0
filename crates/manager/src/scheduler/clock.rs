//! The clock as a value, so that a test can run years of schedules in milliseconds.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::time::Instant;

/// Longest sleep on the system clock before it is read again: a clock that was set, or a machine that
/// slept, is noticed within this time.
const SYSTEM_CLOCK_CHECK: Duration = Duration::from_secs(15);

/// Longest sleep tokio's timer takes (about two years); longer ones are cut into pieces.
const LONGEST_SLEEP: Duration = Duration::from_secs(366 * 24 * 3600);

/// Tells the time of day and waits for one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    /// Moves with tokio's timer, which tests can pause.
    Timer {
        start: DateTime<Utc>,
        zero: Instant,
    },
}

impl Clock {
    /// The clock of the machine.
    pub const fn system() -> Self {
        Self { source: Source::System }
    }

    /// A clock that shows `start` now and moves with tokio's timer: under paused time it jumps.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self { source: Source::Timer { start, zero: Instant::now() } }
    }

    /// The time, in whole milliseconds (the precision of the store).
    pub fn now(&self) -> DateTime<Utc> {
        let now = match self.source {
            Source::System => Utc::now(),
            Source::Timer { start, zero } => {
                start + chrono::Duration::from_std(zero.elapsed()).unwrap_or(chrono::Duration::zero())
            }
        };
        now.trunc_subsecs(3)
    }

    /// Returns when the clock shows `time` or later. Safe to drop and call again.
    pub async fn sleep_until(&self, time: DateTime<Utc>) {
        let longest = match self.source {
            Source::System => SYSTEM_CLOCK_CHECK,
            Source::Timer { .. } => LONGEST_SLEEP,
        };
        // A time in the past does not convert: then there is nothing to wait for.
        while let Ok(left) = (time - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            // `now` is truncated, so what is left is never too short: no spinning on the last millisecond.
            tokio::time::sleep(left.min(longest)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_jumps_over_years() {
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = Clock::starting_at(start);
        assert_eq!(clock.now(), start);
        let later = start + chrono::Duration::days(5 * 365);
        clock.sleep_until(later).await;
        assert!(clock.now() >= later && clock.now() < later + chrono::Duration::seconds(1));
        clock.sleep_until(start).await;
    }
}
