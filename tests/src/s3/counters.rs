//! What the server was asked for: every request by kind, and bytes received over time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::request::{RequestKind, Target};

/// Width of one window of received bytes.
pub const WINDOW: Duration = Duration::from_millis(100);
/// Windows kept: one hour.
const MAX_WINDOWS: usize = 36_000;
/// Requests remembered one by one; older ones are only counted.
const MAX_LOG: usize = 100_000;

/// Totals of one kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCount {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests answered with 4xx or 5xx, or cut off.
    pub failed: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
}

/// One request, as the log remembers it.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Operation.
    pub kind: RequestKind,
    /// Bucket, empty for `ListBuckets`.
    pub bucket: String,
    /// Key; the prefix for listings, empty for other requests to a bucket.
    pub key: String,
    /// Status answered; 0 when the connection was cut.
    pub status: u16,
    /// When it arrived: time since the counts began.
    pub began: Duration,
    /// When it was answered.
    pub at: Duration,
}

struct State {
    started: Instant,
    kinds: BTreeMap<RequestKind, KindCount>,
    log: VecDeque<RequestRecord>,
    /// Received bytes per window and bucket; the first window is number `first_window`.
    windows: VecDeque<BTreeMap<String, u64>>,
    first_window: u64,
}

/// Counters of one server; clones share them.
#[derive(Clone)]
pub struct Counters(Arc<Mutex<State>>);

impl Counters {
    pub(super) fn new() -> Self {
        let state = State {
            started: Instant::now(),
            kinds: BTreeMap::new(),
            log: VecDeque::new(),
            windows: VecDeque::new(),
            first_window: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; returns when it arrived.
    pub(super) fn arrived(&self, kind: RequestKind) -> Duration {
        let mut state = self.lock();
        state.kinds.entry(kind).or_default().requests += 1;
        state.started.elapsed()
    }

    pub(super) fn received(&self, target: &Target, bytes: u64) {
        let mut state = self.lock();
        state.kinds.entry(target.kind).or_default().bytes_in += bytes;
        let window = window_of(state.started.elapsed());
        while state.first_window + (state.windows.len() as u64) <= window {
            state.windows.push_back(BTreeMap::new());
        }
        while state.windows.len() > MAX_WINDOWS {
            state.windows.pop_front();
            state.first_window += 1;
        }
        let at = usize::try_from(window.saturating_sub(state.first_window)).unwrap_or(0);
        if let Some(counts) = state.windows.get_mut(at) {
            match counts.get_mut(&target.bucket) {
                Some(count) => *count += bytes,
                None => drop(counts.insert(target.bucket.clone(), bytes)),
            }
        }
    }

    pub(super) fn answered(&self, target: Target, began: Duration, status: u16) {
        let mut state = self.lock();
        if !(200..400).contains(&status) {
            state.kinds.entry(target.kind).or_default().failed += 1;
        }
        if state.log.len() == MAX_LOG {
            state.log.pop_front();
        }
        let at = state.started.elapsed();
        state.log.push_back(RequestRecord {
            kind: target.kind,
            bucket: target.bucket,
            key: target.key,
            status,
            began,
            at,
        });
    }

    /// Totals by kind since the start or the last [`reset`](Self::reset).
    pub fn by_kind(&self) -> BTreeMap<RequestKind, KindCount> {
        self.lock().kinds.clone()
    }

    /// Totals of one kind.
    pub fn of(&self, kind: RequestKind) -> KindCount {
        self.lock().kinds.get(&kind).copied().unwrap_or_default()
    }

    /// All requests together.
    pub fn total(&self) -> KindCount {
        let add = |sum: KindCount, count: &KindCount| KindCount {
            requests: sum.requests + count.requests,
            failed: sum.failed + count.failed,
            bytes_in: sum.bytes_in + count.bytes_in,
        };
        self.lock().kinds.values().fold(KindCount::default(), add)
    }

    /// The last 100,000 requests, oldest first.
    pub fn log(&self) -> Vec<RequestRecord> {
        self.lock().log.iter().cloned().collect()
    }

    /// Keys below `prefix` that were written (PUT, copy, completed upload) and answered with success.
    pub fn written_keys(&self, prefix: &str) -> Vec<String> {
        let writes = [RequestKind::PutObject, RequestKind::CopyObject, RequestKind::CompleteMultipartUpload];
        let written = |record: &&RequestRecord| {
            record.status == 200 && writes.contains(&record.kind) && record.key.starts_with(prefix)
        };
        self.lock().log.iter().filter(written).map(|record| record.key.clone()).collect()
    }

    /// Bytes received per window of 100 ms, oldest first.
    pub fn received_per_window(&self) -> Vec<u64> {
        self.lock().windows.iter().map(|counts| counts.values().sum()).collect()
    }

    /// The same for one bucket.
    pub fn received_per_window_into(&self, bucket: &str) -> Vec<u64> {
        let state = self.lock();
        state.windows.iter().map(|counts| counts.get(bucket).copied().unwrap_or_default()).collect()
    }

    /// Time since the counts began.
    pub fn elapsed(&self) -> Duration {
        self.lock().started.elapsed()
    }

    /// Starts all counts from zero.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.started = Instant::now();
        state.kinds.clear();
        state.log.clear();
        state.windows.clear();
        state.first_window = 0;
    }
}

fn window_of(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX)
}
