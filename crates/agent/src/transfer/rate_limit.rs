//! Token bucket over the bytes that leave or arrive, for the whole process.
//!
//! Retries pay again: what counts is what goes over the network. Callers queue in order of arrival; a new rate
//! applies at once, also to those that wait already. The bucket starts empty (spec agent.md 2.6.1).

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Largest burst, bytes (design, transfer engine).
const MAX_BURST: f64 = (4 << 20) as f64;
/// The burst is at most what passes in this time.
const BURST_TIME: f64 = 0.25;
/// Longest time to sleep before the clock is looked at again; also bounds very low rates.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// One direction of traffic.
#[derive(Debug)]
pub struct RateLimiter {
    state: Mutex<State>,
    changed: Notify,
}

/// `granted` and `requested` only grow: a request for `n` bytes is served when `granted` reaches the value that
/// `requested` had after it. Waiting needs no lock, and a new rate moves everybody's turn.
#[derive(Debug)]
struct State {
    rate: Option<f64>,
    granted: f64,
    requested: f64,
    updated: Instant,
}

impl State {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        match self.rate {
            // Served requests make room; an idle bucket fills up to the burst.
            Some(rate) => {
                self.granted = (self.granted + rate * passed).min(self.requested + burst(rate));
            }
            None => self.granted = self.requested,
        }
    }

    /// How long until `turn` is reached; `None` when it is.
    fn wait(&self, turn: f64) -> Option<Duration> {
        match self.rate {
            // Less than half a byte is rounding, not debt.
            Some(rate) if self.granted + 0.5 < turn => Some(
                Duration::try_from_secs_f64((turn - self.granted) / rate)
                    .map_or(MAX_WAIT, |w| w.min(MAX_WAIT)),
            ),
            _ => None,
        }
    }
}

impl RateLimiter {
    /// A limiter; `None` or 0 bytes per second for no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let state =
            State { rate: positive(bytes_per_second), granted: 0.0, requested: 0.0, updated: Instant::now() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// A limiter whose bucket is full from the start: what comes first need not wait.
    pub fn filled(per_second: Option<u64>) -> Self {
        let limiter = Self::new(per_second);
        {
            let mut state = limiter.state();
            state.granted = state.rate.map_or(0.0, burst);
        }
        limiter
    }

    /// Changes the rate, at once and for everybody; `None` or 0 for no limit.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        let mut state = self.state();
        state.refill(Instant::now());
        let rate = positive(bytes_per_second);
        if state.rate.is_none() && rate.is_some() {
            // The bucket starts empty.
            state.granted = state.requested;
        }
        state.rate = rate;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The rate in bytes per second, if there is one.
    pub fn get(&self) -> Option<u64> {
        self.state().rate.map(|rate| rate as u64)
    }

    /// How many bytes to ask for at a time: the whole burst at most, so that progress stays smooth.
    pub fn grain(&self) -> Option<usize> {
        self.state()
            .rate
            .map(|rate| ((rate * BURST_TIME).min(MAX_BURST) / 4.0).clamp(1024.0, 262_144.0) as usize)
    }

    /// Waits until `bytes` may pass.
    pub fn acquire(&self, bytes: u64) -> impl Future<Output = ()> + Send + '_ {
        let turn = self.turn(bytes);
        async move {
            loop {
                // Register first: a change between looking and sleeping must wake us.
                let changed = self.changed.notified();
                let Some(wait) = self.wait(turn) else { return };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = changed => {}
                }
            }
        }
    }

    /// Queues for `bytes` and returns the turn to wait for.
    pub(crate) fn turn(&self, bytes: u64) -> f64 {
        let mut state = self.state();
        state.refill(Instant::now());
        state.requested += bytes as f64;
        state.requested
    }

    /// How long until `turn` is reached, at the rate of now; `None` when it is.
    pub(crate) fn wait(&self, turn: f64) -> Option<Duration> {
        let mut state = self.state();
        state.refill(Instant::now());
        state.wait(turn)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an idle bucket saves.
fn burst(rate: f64) -> f64 {
    (rate * BURST_TIME).min(MAX_BURST)
}

fn positive(rate: Option<u64>) -> Option<f64> {
    rate.filter(|rate| *rate > 0).map(|rate| rate as f64)
}

/// Both directions.
#[derive(Debug)]
pub struct RateLimits {
    /// Bytes that leave.
    pub up: RateLimiter,
    /// Bytes that arrive.
    pub down: RateLimiter,
}

impl RateLimits {
    /// Limits at start, bytes per second.
    pub fn new(rate: crate::size_suffix::RatePair) -> Self {
        Self { up: RateLimiter::new(rate.up.limit()), down: RateLimiter::new(rate.down.limit()) }
    }

    /// Changes both, at once.
    pub fn set(&self, rate: crate::size_suffix::RatePair) {
        self.up.set(rate.up.limit());
        self.down.set(rate.down.limit());
    }

    /// What is in force.
    pub fn get(&self) -> crate::size_suffix::RatePair {
        use crate::size_suffix::{RatePair, SizeSuffix};
        RatePair { up: SizeSuffix(self.up.get()), down: SizeSuffix(self.down.get()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MIB: u64 = 1 << 20;

    async fn send(limiter: &RateLimiter, mut bytes: u64) -> Duration {
        let start = Instant::now();
        while bytes > 0 {
            let grain = limiter.grain().map_or(bytes, |g| g as u64).min(bytes);
            limiter.acquire(grain).await;
            bytes -= grain;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_from_the_first_byte() {
        for (rate, bytes) in [(MIB, 10 * MIB), (100 * MIB, 1000 * MIB), (1000, 5000)] {
            let limiter = RateLimiter::new(Some(rate));
            let took = send(&limiter, bytes).await.as_secs_f64();
            let expected = bytes as f64 / rate as f64;
            assert!((took - expected).abs() < 0.02 * expected + 0.01, "{took} s instead of {expected} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_saves_a_quarter_of_a_second_or_four_mebibytes() {
        for (rate, burst) in [(MIB, MIB / 4), (100 * MIB, 4 * MIB)] {
            let limiter = RateLimiter::new(Some(rate));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(send(&limiter, burst).await < Duration::from_millis(1));
            assert!(send(&limiter, rate).await > Duration::from_millis(990));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_reaches_those_who_wait() {
        let limiter = Arc::new(RateLimiter::new(Some(1)));
        let waiting = limiter.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { send(&waiting, 10 * MIB).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        limiter.set(Some(MIB));
        tokio::time::sleep(Duration::from_secs(5)).await;
        limiter.set(None);
        let took = tasks.join_next().await.unwrap().unwrap();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_050), "{took:?}");
        assert_eq!(limiter.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_senders_share_one_limit() {
        let limiter = Arc::new(RateLimiter::new(Some(8 * MIB)));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let limiter = limiter.clone();
            tasks.spawn(async move { send(&limiter, 2 * MIB).await });
        }
        tasks.join_all().await;
        let took = start.elapsed().as_secs_f64();
        assert!((took - 2.0).abs() < 0.05, "{took}");
    }
}
