//! Waits between the attempts of one activation (spec manager.md 4.6).

use chrono::TimeDelta;

/// First wait when the task names none.
const DEFAULT_WAIT: TimeDelta = TimeDelta::minutes(10);

/// No wait is longer.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(3);

/// How often and when a failed run is repeated. The budget belongs to one chain of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// Wait before the first of them; zero stands for 10 minutes.
    pub wait: TimeDelta,
}

impl RetryPolicy {
    /// The wait before attempt `retry` (1 is the first repetition); `None` when the budget is used up.
    pub fn backoff(&self, retry: u32) -> Option<TimeDelta> {
        if retry == 0 || retry > self.retries {
            return None;
        }
        let first = if self.wait <= TimeDelta::zero() { DEFAULT_WAIT } else { self.wait };
        let factor = 1_i32.checked_shl(retry - 1).filter(|f| *f > 0);
        let wait = factor.and_then(|f| first.checked_mul(f)).unwrap_or(LONGEST_WAIT);
        Some(wait.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_three_hours() {
        let minutes = |wait, retries| {
            let policy = RetryPolicy { retries, wait };
            (1..=retries + 1).map_while(|n| policy.backoff(n)).map(|w| w.num_minutes()).collect::<Vec<_>>()
        };
        assert_eq!(minutes(TimeDelta::zero(), 7), [10, 20, 40, 80, 160, 180, 180]);
        assert_eq!(minutes(TimeDelta::minutes(1), 3), [1, 2, 4]);
        assert_eq!(minutes(TimeDelta::hours(5), 2), [180, 180]);
        assert_eq!(minutes(TimeDelta::zero(), 0), [0_i64; 0]);
        let many = RetryPolicy { retries: u32::MAX, wait: TimeDelta::seconds(5) };
        assert_eq!(many.backoff(u32::MAX), Some(TimeDelta::hours(3)));
        assert_eq!(many.backoff(0), None);
    }
}
