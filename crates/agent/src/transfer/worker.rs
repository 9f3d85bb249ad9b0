//! One file after the other: skip it, or keep its older version, send it, delete it, and report.
//!
//! Every file that was begun ends in the job's list exactly once, also when its work is dropped in the middle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::api::agent::{FileOutcome, JobFile};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::equality::Unproven;
use super::lane::Lane;
use super::order::{DirTransfer, SourceFile, Unit};
use super::send::{JobLimits, OpenFile, Sending};
use super::survey::Survey;
use super::{Engine, TransferError, digest};
use crate::jobs::{JobContext, Transfer};
use crate::storage::{ObjectPath, Payload, Place, Result, StorageError};

/// How long a job that ends waits for what it has sent. A stop is bounded (design, section 5).
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(2);

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
    pub survey: Survey,
    pub limits: JobLimits,
    /// The user's wish, or an error that concerns everything.
    pub stop: CancellationToken,
    pub failures: Mutex<Failures>,
}

/// A file that the destination has, before its source is deleted.
struct Sent<'a> {
    guard: FileGuard<'a>,
    done: Done,
    expected: Option<u32>,
}

/// What became of a file.
struct Done {
    outcome: FileOutcome,
    crc32: Option<u32>,
}

impl DirJob {
    /// Sends files of the lane until it is empty or the job ends.
    pub(super) async fn work(&self, lane: &Lane) {
        while !self.stop.is_cancelled() {
            let Some(turn) = lane.next(|unit| self.may_be_read_together(unit)).await else { return };
            match &turn.units[..] {
                [unit] => self.unit(unit).await,
                units => self.together(units, turn.room).await,
            }
        }
    }

    /// Does what can be broken off when the job ends: nothing more begins then, and what is on its way has a moment to
    /// arrive, so that it need not be sent again. Files that were in flight are counted as failed by their guards.
    async fn unless_stopped(&self, work: impl Future<Output = ()>) {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                self.limits.close();
                if tokio::time::timeout(LAST_MOMENT, work).await.is_err() {
                    tracing::debug!("the job ended before everything on its way had arrived");
                }
            }
            () = &mut work => {}
        }
    }

    async fn unit(&self, unit: &Unit) {
        let expected = match &unit.digest {
            Some(digest) => match self.place(&self.dir.from, &digest.name) {
                Ok(place) => digest::read(&place).await,
                Err(_) => None,
            },
            None => None,
        };
        let done = self.file(&unit.file, expected).await;
        let Some(digest) = &unit.digest else { return };
        if done {
            self.file(digest, None).await;
        } else {
            // It stays with its data, for the next try to check.
            let guard = FileGuard::new(self, digest);
            guard.fail(format!("not sent because {} was not", unit.file.name));
        }
    }

    /// Whether reading the file ahead is no waste: it will be sent whole, and no digest depends on it.
    fn may_be_read_together(&self, unit: &Unit) -> bool {
        unit.digest.is_none()
            && unit.file.info.is_some()
            && self.dir.from.store.is_local()
            && self.survey.destination.lacks(&unit.file.name)
    }

    /// Reads small files in one step, sends them side by side, deletes them in one step. Whoever is sent makes room
    /// in the lane; only the deletion waits for the others.
    async fn together(&self, units: &[Unit], mut room: SemaphorePermit<'_>) {
        let mut sent = Vec::with_capacity(units.len());
        self.unless_stopped(async {
            let read = self.read_together(units).await;
            let sending = units.iter().zip(read).map(|(unit, payload)| {
                let own = room.split(1);
                async move {
                    let sent = self.send(&unit.file, None, payload).await;
                    drop(own);
                    sent
                }
            });
            let mut sending: FuturesUnordered<_> = sending.collect();
            while let Some(done) = sending.next().await {
                sent.extend(done);
            }
        })
        .await;
        self.settle(sent).await;
    }

    /// The files' contents in order; where there is none, the file is read when it is sent.
    async fn read_together(&self, units: &[Unit]) -> Vec<Option<Result<Payload>>> {
        let dir = &self.dir.from;
        let file = |unit: &Unit| Some((dir.path.join(&unit.file.name).ok()?, unit.file.info.clone()?));
        if let Some(files) = units.iter().map(file).collect::<Option<Vec<_>>>() {
            let size: u64 = files.iter().map(|(_, info)| info.size).sum();
            // Nobody who holds such a buffer waits for another one, so this ends.
            let buffer = self.engine.buffers.take(usize::try_from(size).unwrap_or(usize::MAX)).await;
            if let Ok(read) = dir.store.read_together(files, self.dir.to.store.wants(), buffer).await {
                return read.into_iter().map(Some).collect();
            }
        }
        units.iter().map(|_| None).collect()
    }

    fn place(&self, dir: &Place, name: &str) -> Result<Place> {
        Ok(Place::new(dir.store.clone(), dir.path.join(name)?))
    }

    /// Sends a file and reports what became of it. `expected` is what its own digest says.
    async fn file(&self, file: &SourceFile, expected: Option<u32>) -> bool {
        let mut sent = None;
        self.unless_stopped(async { sent = self.send(file, expected, None).await }).await;
        match sent {
            Some(sent) => self.settle(vec![sent]).await,
            None => false,
        }
    }

    /// Sends a file, which `read` holds if it was read already; reports only failure.
    async fn send<'a>(
        &'a self,
        file: &'a SourceFile,
        expected: Option<u32>,
        read: Option<Result<Payload>>,
    ) -> Option<Sent<'a>> {
        let mut guard = FileGuard::new(self, file);
        match self.transfer(file, read, &mut guard).await {
            Ok(done) => Some(Sent { guard, done, expected }),
            // The guard reports it.
            Err(TransferError::Storage(StorageError::Interrupted)) if self.stop.is_cancelled() => None,
            Err(error) => {
                if error.is_terminal() {
                    self.give_up(&file.name, &error);
                }
                guard.fail(common::error::chain(&error));
                if let (true, TransferError::Storage(error)) = (error.is_terminal(), error) {
                    self.failures().fatal.get_or_insert(TransferError::Storage(error));
                }
                None
            }
        }
    }

    /// Deletes what the destination has, if the job is a move, and reports. Whether all went well. Never broken off in
    /// the middle: a file is reported as failed if and only if it is still there.
    async fn settle(&self, sent: Vec<Sent<'_>>) -> bool {
        let kept = if self.dir.remove_source { self.remove(&sent).await } else { HashMap::new() };
        for Sent { guard, done, expected } in sent {
            if let Some(reason) = kept.get(guard.name) {
                guard.fail(reason.clone());
                continue;
            }
            let digest_mismatch = matches!((expected, done.crc32), (Some(e), Some(c)) if e != c);
            if digest_mismatch {
                tracing::error!(
                    file = %self.dir.from, name = guard.name, expected, found = done.crc32,
                    "the data of an SSTable does not match its digest: bit rot on the disk of this node"
                );
            }
            guard.succeed(done, digest_mismatch);
        }
        kept.is_empty()
    }

    /// Deletes source files; returns the names of those that are still there, with the reason.
    async fn remove(&self, sent: &[Sent<'_>]) -> HashMap<String, String> {
        let dir = &self.dir.from;
        // Each was opened by this path, so there is one.
        let files = sent.iter().filter_map(|s| Some((s.guard.name, dir.path.join(s.guard.name).ok()?)));
        let (names, paths): (Vec<&str>, Vec<ObjectPath>) = files.unzip();
        let mut kept = HashMap::new();
        for (name, outcome) in names.into_iter().zip(dir.store.delete_each(&paths).await) {
            match outcome {
                Ok(()) => self.context.deleted(1),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    kept.insert(name.to_owned(), common::error::chain(&error));
                }
            }
        }
        kept
    }

    fn give_up(&self, name: &str, error: &TransferError) {
        tracing::warn!(name, error = %common::error::chain(error), "the job ends, no other file can do better");
        self.stop.cancel();
    }

    async fn transfer(
        &self,
        file: &SourceFile,
        read: Option<Result<Payload>>,
        guard: &mut FileGuard<'_>,
    ) -> Result<Done, TransferError> {
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
            let resume = self.survey.unfinished.contains(&file.name);
            let begun = match self.survey.ahead.take(&file.name, size) {
                Some(upload) if resume => {
                    upload.abort().await;
                    None
                }
                begun => begun,
            };
            let transfer = guard.transfer.insert(self.context.transferring(&file.name, size));
            let how = Sending { meter: transfer.meter().clone(), limits: self.limits.clone(), begun, resume };
            let crc32 = match read {
                Some(payload) => self.engine.send_read(payload?, &to, &how).await?,
                None => self.engine.send(&open, &to, how).await?,
            };
            Done { outcome: FileOutcome::Uploaded, crc32: Some(crc32) }
        };
        Ok(done)
    }

    /// Whether the destination has the file already; if it has another of that name, makes way.
    async fn is_there(&self, open: &OpenFile, to: &Place, name: &str) -> Result<bool, TransferError> {
        if self.dir.overwrite.contains(name) {
            return Ok(false);
        }
        let Some(known) = self.survey.destination.find(to, name).await? else { return Ok(false) };
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
        if self.survey.destination.has_version(&copy, name).await? {
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
