//! How many requests go to an endpoint at once, and when a failed one is tried again.
//!
//! Concurrency is additive-increase, multiplicative-decrease: a throttled answer halves it, a row of good ones adds
//! one. The transfer engine's lanes bound it from above; this bound only matters when the service complains.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::retry::{Backoff, Transient as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::storage::{FailureClass, Result, StorageError};

/// Requests at once when nobody complains.
const MAX_CONCURRENCY: usize = 256;
/// Never fewer than this.
const MIN_CONCURRENCY: usize = 2;
/// One wave of throttled answers counts once.
const CUT_PAUSE: Duration = Duration::from_millis(200);
/// First wait after a throttled answer.
const THROTTLED_WAIT: Duration = Duration::from_millis(250);

/// Paces the requests to one endpoint.
#[derive(Debug)]
pub(super) struct Pacer {
    slots: Semaphore,
    state: Mutex<State>,
    backoff: Backoff,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Slots that are in use and go away when they come back.
    surplus: usize,
    good: usize,
    last_cut: Option<Instant>,
}

impl Pacer {
    /// `attempts` per request; waits double from 10 ms to 2 s (spec agent.md 2.7).
    pub(super) fn new(attempts: u32) -> Self {
        Self {
            slots: Semaphore::new(MAX_CONCURRENCY),
            state: Mutex::new(State { limit: MAX_CONCURRENCY, surplus: 0, good: 0, last_cut: None }),
            backoff: Backoff {
                wait_min: Duration::from_millis(10),
                wait_max: Duration::from_secs(2),
                max_retries: attempts.saturating_sub(1),
                multiplier: 2.0,
                jitter: 0.25,
            },
        }
    }

    /// Sends a request, and again while it fails for reasons of the moment.
    pub(super) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retry = 0;
        loop {
            // The SDK's futures are large; one box here instead of copies all the way up.
            let error = match self.once(Box::pin(attempt())).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !error.is_transient() || retry >= self.backoff.max_retries {
                return Err(error);
            }
            let wait = self.wait(&error, retry);
            tracing::debug!(error = %common::error::chain(&error), retry, ?wait, "request to the store is tried again");
            tokio::time::sleep(wait).await;
            retry += 1;
        }
    }

    /// Sends a request once.
    pub(super) async fn once<T>(&self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let slot = Slot { pacer: self, permit: self.slots.acquire().await.ok() };
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.good(),
            Err(error) if is_throttled(error) => self.cut(),
            Err(_) => {}
        }
        drop(slot);
        outcome
    }

    /// How long to wait before retry number `retry`.
    pub(super) fn wait(&self, error: &StorageError, retry: u32) -> Duration {
        let wait = self.backoff.jittered(retry, &mut rand::rng());
        let least =
            if is_throttled(error) { THROTTLED_WAIT.mul_f64(rand::random_range(0.75..1.25)) } else { wait };
        error.retry_after().unwrap_or_default().max(wait).max(least)
    }

    fn good(&self) {
        let mut state = self.state();
        if state.limit == MAX_CONCURRENCY {
            return;
        }
        state.good += 1;
        if state.good >= state.limit {
            state.good = 0;
            state.limit += 1;
            if state.surplus > 0 {
                state.surplus -= 1;
            } else {
                self.slots.add_permits(1);
            }
        }
    }

    fn cut(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.last_cut.is_some_and(|last| now - last < CUT_PAUSE) {
            return;
        }
        state.last_cut = Some(now);
        state.good = 0;
        // What was really in flight was too much, not the bound that nobody reached.
        let in_flight = state.limit.saturating_sub(self.slots.available_permits());
        let wanted = (in_flight.min(state.limit) / 2).max(MIN_CONCURRENCY);
        let excess = state.limit.saturating_sub(wanted);
        state.limit -= excess;
        state.surplus += excess - self.slots.forget_permits(excess);
        tracing::debug!(limit = state.limit, "the store asks for fewer requests at once");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Slot<'a> {
    pacer: &'a Pacer,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.pacer.state();
        if let (true, Some(permit)) = (state.surplus > 0, self.permit.take()) {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

fn is_throttled(error: &StorageError) -> bool {
    error.service().is_some_and(|s| s.class == FailureClass::Throttled)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::storage::s3::errors::service;

    fn failure(status: u16) -> StorageError {
        service("PutObject", "b/k".into(), status, "", "", None)
    }

    #[tokio::test(start_paused = true)]
    async fn transient_answers_are_tried_again_and_terminal_ones_not() {
        let pacer = Pacer::new(20);
        for (status, good_after, expected) in [(500, 5, 6), (500, 99, 20), (403, 99, 1), (400, 99, 1)] {
            let calls = AtomicUsize::new(0);
            let outcome = pacer
                .run(|| async {
                    let call = calls.fetch_add(1, Ordering::Relaxed);
                    if call < good_after { Err(failure(status)) } else { Ok(()) }
                })
                .await;
            assert_eq!(calls.into_inner(), expected, "{status}");
            assert_eq!(outcome.is_ok(), good_after < 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_concurrency_and_good_answers_bring_it_back() {
        let pacer = Pacer::new(1);
        let work = |status: u16| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if status == 200 { Ok(()) } else { Err(failure(status)) }
        };
        let many = |n: usize, status: u16| {
            futures::future::join_all((0..n).map(|_| pacer.once(work(status))).collect::<Vec<_>>())
        };
        many(64, 503).await;
        let after_cut = pacer.state().limit;
        assert_eq!(after_cut, 32);
        assert_eq!(pacer.slots.available_permits(), after_cut);
        let start = Instant::now();
        many(64, 200).await;
        assert!(start.elapsed() >= Duration::from_millis(100));
        many(20_000, 200).await;
        assert!(pacer.state().limit > 150);
        assert_eq!(pacer.slots.available_permits(), pacer.state().limit);
    }
}
