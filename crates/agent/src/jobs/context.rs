//! What running work sees of its job: the wish to stop, counters, and the list of finished files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use common::api::agent::{JobFile, JobFilesPage};
use tokio_util::sync::CancellationToken;

use super::files::FileLog;
use super::{Clock, Totals};
use crate::storage::payload::Meter;

/// Finished items that `job/info` can show (spec agent.md 2.6.5).
const RECENT: usize = 100;

/// Numbers of one job; bytes unless the name says otherwise.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub uploaded: AtomicU64,
    pub skipped: AtomicU64,
    pub failed: AtomicU64,
    pub errors: AtomicU64,
    pub checked_files: AtomicU64,
    pub transferred_files: AtomicU64,
    pub deleted_files: AtomicU64,
    pub deleted_dirs: AtomicU64,
    pub renamed_files: AtomicU64,
}

/// A file in transfer.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Name relative to the source directory.
    pub name: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes sent so far.
    pub meter: Arc<Meter>,
    /// When its transfer started.
    pub started: DateTime<Utc>,
}

/// A finished item for `job/info`.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Name relative to the source directory.
    pub name: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Compared or deleted rather than transferred.
    pub checked: bool,
    /// Empty for success.
    pub error: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub completed: DateTime<Utc>,
}

#[derive(Debug, Default)]
struct Lists {
    next: u64,
    in_flight: BTreeMap<u64, InFlight>,
    recent: VecDeque<Finished>,
    files: FileLog,
    last_error: String,
}

/// Handle of a job, or of a call without one, for the work that it does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobContext(Arc<Inner>);

struct Inner {
    cancel: CancellationToken,
    counters: Counters,
    totals: Arc<Totals>,
    clock: Clock,
    lists: Mutex<Lists>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl JobContext {
    /// A context of its own; `Jobs::call` and `Jobs::start` make those that are seen from outside.
    pub fn new(cancel: CancellationToken, totals: Arc<Totals>, clock: Clock) -> Self {
        let (counters, lists) = (Counters::default(), Mutex::default());
        Self(Arc::new(Inner { cancel, counters, totals, clock, lists }))
    }

    /// Asked to stop; long work looks at it between steps.
    pub fn cancel(&self) -> &CancellationToken {
        &self.0.cancel
    }

    /// The time of the job registry's clock.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0.clock)()
    }

    /// The numbers so far, transfers in progress not included.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Bytes moved, transfers in progress included.
    pub fn uploaded(&self) -> u64 {
        // Under the lock a finishing file is counted exactly once.
        let lists = self.lists();
        let flying: u64 = lists.in_flight.values().map(|f| f.meter.get().min(f.size)).sum();
        self.0.counters.uploaded.load(Ordering::Relaxed) + flying
    }

    /// Notes that a transfer starts; [`JobContext::transferred`] ends it.
    pub fn transferring(&self, name: &str, size: u64) -> Transfer {
        let meter = Arc::new(Meter::default());
        let flying = InFlight { name: name.to_owned(), size, meter: meter.clone(), started: self.now() };
        let mut lists = self.lists();
        lists.next += 1;
        let id = lists.next;
        lists.in_flight.insert(id, flying);
        Transfer { context: self.clone(), id, meter }
    }

    /// Counts `bytes` of a file that the destination holds already.
    pub fn skipped(&self, name: &str, bytes: u64) {
        self.add(|c| &c.skipped, bytes);
        self.checked(name, bytes);
    }

    /// Notes that a file was compared.
    pub fn checked(&self, name: &str, size: u64) {
        self.add(|c| &c.checked_files, 1);
        let now = self.now();
        let item = Finished {
            name: name.into(),
            size,
            bytes: 0,
            checked: true,
            error: String::new(),
            started: now,
            completed: now,
        };
        self.remember(item);
    }

    /// Counts `bytes` of a file whose transfer failed.
    pub fn failed(&self, bytes: u64, error: &str) {
        self.add(|c| &c.failed, bytes);
        self.error(error);
    }

    /// Counts an error and keeps its text as the last one.
    pub fn error(&self, error: &str) {
        self.add(|c| &c.errors, 1);
        error.clone_into(&mut self.lists().last_error);
    }

    /// Counts deleted files.
    pub fn deleted(&self, files: u64) {
        self.add(|c| &c.deleted_files, files);
    }

    /// Counts deleted directories.
    pub fn deleted_dirs(&self, dirs: u64) {
        self.add(|c| &c.deleted_dirs, dirs);
    }

    /// Counts renamed files.
    pub fn renamed(&self, files: u64) {
        self.add(|c| &c.renamed_files, files);
    }

    /// Adds a finished file to the list for `job/files`.
    pub fn log_file(&self, file: &JobFile) {
        self.lists().files.push(file);
    }

    /// A page of finished files.
    pub fn files(&self, offset: u64) -> JobFilesPage {
        self.lists().files.page(offset)
    }

    /// Number of finished files.
    pub fn file_count(&self) -> usize {
        self.lists().files.count()
    }

    /// Forgets the finished files and releases their memory.
    pub fn forget_files(&self) {
        self.lists().files = FileLog::default();
    }

    /// Transfers in progress.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.lists().in_flight.values().cloned().collect()
    }

    /// The last hundred finished items.
    pub fn recent(&self) -> Vec<Finished> {
        self.lists().recent.iter().cloned().collect()
    }

    /// Text of the last error; empty for none.
    pub fn last_error(&self) -> String {
        self.lists().last_error.clone()
    }

    fn add(&self, counter: impl Fn(&Counters) -> &AtomicU64, n: u64) {
        counter(&self.0.counters).fetch_add(n, Ordering::Relaxed);
        counter(&self.0.totals.counters).fetch_add(n, Ordering::Relaxed);
    }

    fn remember(&self, item: Finished) {
        let mut lists = self.lists();
        if lists.recent.len() == RECENT {
            lists.recent.pop_front();
        }
        lists.recent.push_back(item);
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer in progress. Dropping it without an outcome takes its bytes out of the progress again.
#[derive(Debug)]
pub struct Transfer {
    context: JobContext,
    id: u64,
    meter: Arc<Meter>,
}

impl Transfer {
    /// Counter for the bytes that go out.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The whole file arrived: its size counts as uploaded.
    pub fn done(self) {
        self.end(None);
    }

    /// The transfer failed: its size counts as failed.
    pub fn failed(self, error: &str) {
        self.end(Some(error));
    }

    fn end(&self, error: Option<&str>) {
        let mut lists = self.context.lists();
        let Some(flying) = lists.in_flight.remove(&self.id) else { return };
        // Still under the lock, so that progress never shows the file twice or not at all.
        match error {
            None => {
                self.context.add(|c| &c.uploaded, flying.size);
                self.context.add(|c| &c.transferred_files, 1);
            }
            Some(_) => self.context.add(|c| &c.failed, flying.size),
        }
        drop(lists);
        if let Some(error) = error {
            self.context.error(error);
        }
        self.context.remember(Finished {
            name: flying.name,
            size: flying.size,
            bytes: if error.is_none() { flying.size } else { flying.meter.get() },
            checked: false,
            error: error.unwrap_or_default().to_owned(),
            started: flying.started,
            completed: self.context.now(),
        });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.context.lists().in_flight.remove(&self.id);
    }
}
