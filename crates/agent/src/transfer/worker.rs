//! One file after the other: skip it, or keep its older version, send it, delete it, and report.
//!
//! Every file that was begun ends in the job's list exactly once, also when its work is dropped in the middle.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::api::agent::{FileOutcome, JobFile};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::destination::Destination;
use super::directory::DirTransfer;
use super::equality::Unproven;
use super::send::{OpenFile, Sending};
use super::{Engine, TransferError, digest};
use crate::jobs::{JobContext, Transfer};
use crate::storage::{ObjectInfo, Place, Result, StorageError};

/// A file to be sent.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub name: String,
    pub size: u64,
    /// `None`: ask the store. `Err`: it is not there.
    pub info: Option<ObjectInfo>,
    pub missing: bool,
}

/// A file, and the digest that goes after it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub file: SourceFile,
    pub digest: Option<SourceFile>,
}

/// What went wrong so far.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: usize,
    first: Option<(String, String)>,
    fatal: Option<TransferError>,
}

/// The work of one job, shared by its workers.
pub(super) struct DirJob {
    pub engine: Arc<Engine>,
    pub context: JobContext,
    pub dir: DirTransfer,
    pub destination: Destination,
    pub unfinished: BTreeSet<String>,
    pub limits: (Arc<Semaphore>, Arc<Semaphore>),
    /// The user's wish, or an error that concerns everything.
    pub stop: CancellationToken,
    pub failures: Mutex<Failures>,
}

/// What became of a file.
struct Done {
    outcome: FileOutcome,
    crc32: Option<u32>,
}

impl DirJob {
    /// Sends files from the queue until it is empty or the job ends.
    pub(super) async fn work(&self, queue: &Mutex<VecDeque<Unit>>) {
        while !self.stop.is_cancelled() {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(unit) = next else { return };
            tokio::select! {
                biased;
                // What was in flight is dropped, and counted as failed by its guard.
                () = self.stop.cancelled() => {}
                () = self.unit(unit) => {}
            }
        }
    }

    async fn unit(&self, unit: Unit) {
        let expected = match &unit.digest {
            Some(digest) => match self.place(&self.dir.from, &digest.name) {
                Ok(place) => digest::read(&place).await,
                Err(_) => None,
            },
            None => None,
        };
        let done = self.file(&unit.file, expected).await;
        let Some(digest) = unit.digest else { return };
        if done {
            self.file(&digest, None).await;
        } else {
            // It stays with its data, for the next try to check.
            let guard = FileGuard::new(self, &digest);
            guard.fail(format!("not sent because {} was not", unit.file.name));
        }
    }

    fn place(&self, dir: &Place, name: &str) -> Result<Place> {
        Ok(Place::new(dir.store.clone(), dir.path.join(name)?))
    }

    /// Sends a file and reports what became of it. `expected` is what its own digest says.
    async fn file(&self, file: &SourceFile, expected: Option<u32>) -> bool {
        let mut guard = FileGuard::new(self, file);
        let done = match self.transfer(file, &mut guard).await {
            Ok(done) => done,
            Err(error) => {
                if error.is_terminal() {
                    self.give_up(&file.name, &error);
                }
                guard.fail(common::error::chain(&error));
                if let (true, TransferError::Storage(error)) = (error.is_terminal(), error) {
                    self.failures().fatal.get_or_insert(TransferError::Storage(error));
                }
                return false;
            }
        };
        let digest_mismatch = matches!((expected, done.crc32), (Some(e), Some(c)) if e != c);
        if digest_mismatch {
            tracing::error!(
                file = %self.dir.from, name = file.name, expected, found = done.crc32,
                "the data of an SSTable does not match its digest: bit rot on the disk of this node"
            );
        }
        guard.succeed(done, digest_mismatch);
        true
    }

    fn give_up(&self, name: &str, error: &TransferError) {
        tracing::warn!(name, error = %common::error::chain(error), "the job ends, no other file can do better");
        self.stop.cancel();
    }

    async fn transfer(&self, file: &SourceFile, guard: &mut FileGuard<'_>) -> Result<Done, TransferError> {
        let (from, to) = (self.place(&self.dir.from, &file.name)?, self.place(&self.dir.to, &file.name)?);
        if file.missing {
            return Err(StorageError::NotFound { path: from.path.to_string() }.into());
        }
        let open = OpenFile::open(from.clone(), file.info.clone()).await?;
        let size = open.source.size();
        guard.size = size;
        let done = if self.is_there(&open, &to, &file.name).await? {
            Done { outcome: FileOutcome::Skipped, crc32: None }
        } else {
            let transfer = guard.transfer.insert(self.context.transferring(&file.name, size));
            let how = Sending {
                meter: transfer.meter().clone(),
                slots: self.limits.0.clone(),
                in_memory: self.limits.1.clone(),
                resume: self.unfinished.contains(&file.name),
            };
            let crc32 = self.engine.send(&open, &to, &how).await?;
            Done { outcome: FileOutcome::Uploaded, crc32: Some(crc32) }
        };
        drop(open);
        if self.dir.remove_source {
            match from.store.delete(&from.path).await {
                Ok(()) => self.context.deleted(1),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// Whether the destination has the file already; if it has another of that name, makes way.
    async fn is_there(&self, open: &OpenFile, to: &Place, name: &str) -> Result<bool, TransferError> {
        if self.dir.overwrite.contains(name) {
            return Ok(false);
        }
        let Some(known) = self.destination.find(to, name).await? else { return Ok(false) };
        let unproven = if self.dir.suffix.is_some() { Unproven::Different } else { Unproven::Equal };
        if self.engine.is_equal(open, to, &known, unproven).await? {
            return Ok(true);
        }
        if self.engine.immutable {
            return Err(TransferError::Immutable { path: to.to_string() });
        }
        if let Some(suffix) = &self.dir.suffix {
            self.keep_version(to, name, suffix).await?;
        }
        Ok(false)
    }

    /// Renames an object that is about to be replaced. Where a copy of that version exists already, this run wrote
    /// the plain object itself, or the rename was cut short after the copy: then there is nothing to keep.
    async fn keep_version(&self, to: &Place, name: &str, suffix: &str) -> Result<()> {
        let copy = self.place(&self.dir.to, &format!("{name}{suffix}"))?;
        if self.destination.has_version(&copy, name).await? {
            return Ok(());
        }
        to.store.rename(&to.path, &copy.path).await?;
        self.context.renamed(1);
        tracing::info!(object = %to, version = %copy.path, "kept an older version of an object");
        Ok(())
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the job ended, once all workers are done.
    pub(super) fn outcome(&self, total: usize) -> Result<(), TransferError> {
        let mut failures = self.failures();
        if let Some(fatal) = failures.fatal.take() {
            return Err(fatal);
        }
        if self.context.cancel().is_cancelled() && (failures.count > 0 || self.context.file_count() < total) {
            return Err(TransferError::Stopped);
        }
        match failures.first.take() {
            None => Ok(()),
            Some((name, error)) => Err(TransferError::Files { failed: failures.count, total, name, error }),
        }
    }
}

/// Sees to it that every file that was begun is reported, also when its work is dropped.
struct FileGuard<'a> {
    job: &'a DirJob,
    name: &'a str,
    size: u64,
    transfer: Option<Transfer>,
    reported: bool,
}

impl<'a> FileGuard<'a> {
    fn new(job: &'a DirJob, file: &'a SourceFile) -> Self {
        Self { job, name: &file.name, size: file.size, transfer: None, reported: false }
    }

    fn succeed(mut self, done: Done, digest_mismatch: bool) {
        self.reported = true;
        match (self.transfer.take(), done.outcome) {
            (Some(transfer), _) => transfer.done(),
            (None, _) => self.job.context.skipped(self.name, self.size),
        }
        self.job.context.log_file(&JobFile {
            name: self.name.to_owned(),
            size: self.size,
            crc32: done.crc32,
            outcome: done.outcome,
            digest_mismatch,
            error: String::new(),
        });
    }

    fn fail(mut self, error: String) {
        self.report_failure(error);
    }

    fn report_failure(&mut self, error: String) {
        self.reported = true;
        match self.transfer.take() {
            Some(transfer) => transfer.failed(&error),
            None => self.job.context.failed(self.size, &error),
        }
        let file = JobFile {
            name: self.name.to_owned(),
            size: self.size,
            crc32: None,
            outcome: FileOutcome::Failed,
            digest_mismatch: false,
            error: error.clone(),
        };
        self.job.context.log_file(&file);
        let mut failures = self.job.failures();
        failures.count += 1;
        failures.first.get_or_insert((file.name, error));
    }
}

impl Drop for FileGuard<'_> {
    fn drop(&mut self) {
        if !self.reported {
            self.report_failure(TransferError::Stopped.to_string());
        }
    }
}
