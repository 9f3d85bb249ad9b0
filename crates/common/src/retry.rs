//! Retries as a value: limited, exponential, with jitter; only errors that call themselves transient.

use std::future::Future;
use std::time::Duration;

use rand::Rng;

/// Whether the same call may succeed if it is simply made again.
pub trait Transient {
    /// True for a failure of the moment (connection, overload), false where only a person can help.
    fn is_transient(&self) -> bool;

    /// How long the other side asked to be left alone (`Retry-After`).
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Exponential back-off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// First wait.
    pub wait_min: Duration,
    /// Longest wait; zero means no cap.
    pub wait_max: Duration,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Factor from one wait to the next; below 1 counts as 1.
    pub multiplier: f64,
    /// Share of the wait that is random, 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// No retries at all.
    pub const NONE: Self = Self {
        wait_min: Duration::ZERO,
        wait_max: Duration::ZERO,
        max_retries: 0,
        multiplier: 1.0,
        jitter: 0.0,
    };

    /// The wait before retry number `retry` (from 0), without jitter.
    pub fn wait(&self, retry: u32) -> Duration {
        let factor = self.multiplier.max(1.0).powi(i32::try_from(retry).unwrap_or(i32::MAX));
        let cap = if self.wait_max.is_zero() { f64::MAX } else { self.wait_max.as_secs_f64() };
        // An hour bounds a policy without a cap.
        Duration::from_secs_f64((self.wait_min.as_secs_f64() * factor).min(cap).min(3600.0))
    }

    /// The wait with jitter in both directions.
    pub fn jittered(&self, retry: u32, rng: &mut impl Rng) -> Duration {
        let jitter = self.jitter.clamp(0.0, 1.0);
        self.wait(retry).mul_f64(1.0 + jitter * (rng.random::<f64>() * 2.0 - 1.0))
    }
}

/// Calls `attempt` until it succeeds, fails for good, or the retries are used up. `attempt` gets its number, from 0.
///
/// # Errors
/// The last error.
pub async fn retry<T, E, F>(backoff: &Backoff, mut attempt: impl FnMut(u32) -> F) -> Result<T, E>
where
    E: Transient,
    F: Future<Output = Result<T, E>>,
{
    let mut count = 0;
    loop {
        match attempt(count).await {
            Err(error) if error.is_transient() && count < backoff.max_retries => {
                let wait = backoff.jittered(count, &mut rand::rng());
                tokio::time::sleep(error.retry_after().unwrap_or(wait).max(wait)).await;
                count += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Failure(bool);

    impl Transient for Failure {
        fn is_transient(&self) -> bool {
            self.0
        }
    }

    const POLICY: Backoff = Backoff {
        wait_min: Duration::from_secs(1),
        wait_max: Duration::from_secs(30),
        max_retries: 9,
        multiplier: 2.0,
        jitter: 0.2,
    };

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<u64> = (0..7).map(|i| POLICY.wait(i).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_errors_are_retried_and_only_so_often() {
        let mut calls = 0;
        let outcome: Result<(), _> = retry(&POLICY, |_| {
            calls += 1;
            async { Err(Failure(true)) }
        })
        .await;
        assert_eq!((outcome, calls), (Err(Failure(true)), 10));
        calls = 0;
        let outcome: Result<(), _> = retry(&POLICY, |_| {
            calls += 1;
            async { Err(Failure(false)) }
        })
        .await;
        assert_eq!((outcome, calls), (Err(Failure(false)), 1));
    }
}
