//! Jobs over many files: a directory up, a list of files down (spec agent.md 2.6.12, 2.6.13).
//!
//! Two lanes run side by side, so that neither the many small components of SSTables nor the few large ones wait for
//! the other kind. Each file succeeds or fails for itself; only what concerns all of them ends the job early.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::api::agent::{FileOutcome, JobFile};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, stat};
use super::equality::Unproven;
use super::parts::{Plan, plan};
use super::send::{OpenFile, Sending};
use super::{Engine, MAX_SMALL, SMALL_PER_TRANSFER, TransferError, digest};
use crate::jobs::{JobContext, Transfer};
use crate::storage::{Depth, EntryKind, ObjectInfo, Place, Result, StorageError};

/// Upload of a directory.
#[derive(Clone, Debug)]
pub struct DirTransfer {
    /// Source directory.
    pub from: Place,
    /// Destination directory.
    pub to: Place,
    /// `.<snapshot tag>`: what an object with other content is renamed with before it is replaced.
    pub suffix: Option<String>,
    /// Names that are sent whatever the destination holds.
    pub overwrite: HashSet<String>,
    /// Delete each source file once the destination has it.
    pub remove_source: bool,
    /// Files at once; `None` for the process's setting.
    pub transfers: Option<u32>,
}

/// Download of files.
#[derive(Clone, Debug)]
pub struct CopyPaths {
    /// Source directory.
    pub from: Place,
    /// Destination directory; directories in it are created.
    pub to: Place,
    /// Files relative to both.
    pub paths: Vec<String>,
    /// Files at once; `None` for the process's setting.
    pub transfers: Option<u32>,
}

impl Engine {
    /// Copies or moves every file of a directory.
    ///
    /// # Errors
    /// One or more files failed, after all others were done; or the job was stopped; or something that concerns every
    /// file, such as a missing bucket, ended it early.
    pub async fn transfer_dir(
        self: &Arc<Self>,
        context: &JobContext,
        dir: DirTransfer,
    ) -> Result<(), TransferError> {
        if dir.from.store.provider() == dir.to.store.provider() && dir.from.path == dir.to.path {
            return Err(TransferError::Overlapping { path: dir.from.to_string() });
        }
        let files = stoppable(context.cancel(), list_source(&dir.from)).await?;
        self.run(context, dir, files).await
    }

    /// Copies files to a local directory.
    ///
    /// # Errors
    /// As for [`Engine::transfer_dir`]; a missing source file is one that failed.
    pub async fn copy_paths(
        self: &Arc<Self>,
        context: &JobContext,
        copy: CopyPaths,
    ) -> Result<(), TransferError> {
        let files = stoppable(context.cancel(), find_source(&copy.from, &copy.paths)).await?;
        let dir = DirTransfer {
            from: copy.from,
            to: copy.to,
            suffix: None,
            overwrite: HashSet::new(),
            remove_source: false,
            transfers: copy.transfers,
        };
        self.run(context, dir, files).await
    }

    async fn run(
        self: &Arc<Self>,
        context: &JobContext,
        dir: DirTransfer,
        files: Vec<SourceFile>,
    ) -> Result<(), TransferError> {
        if files.is_empty() {
            return Ok(());
        }
        let total = files.len();
        let rules = dir.to.store.part_rules();
        let is_small = |file: &SourceFile| plan(file.size, rules, self.buffers.budget()) == Plan::Small;
        let any_large = files.iter().any(|file| !is_small(file));
        let names: HashSet<String> = files.iter().map(|f| f.name.clone()).collect();
        let suffix = dir.suffix.as_deref().unwrap_or_default();
        let survey = async {
            let destination = Destination::survey(&dir.to, &names, suffix).await?;
            // Only large files leave parts behind.
            let unfinished =
                if any_large { dir.to.store.unfinished(&dir.to.path).await? } else { BTreeSet::new() };
            Ok((destination, unfinished))
        };
        let (destination, unfinished) = stoppable(context.cancel(), survey).await?;
        drop(names);
        let transfers = dir.transfers.unwrap_or(self.transfers.get()).max(1) as usize;
        let (mut small, mut large): (Vec<Unit>, Vec<Unit>) =
            units(files).into_iter().partition(|unit| is_small(&unit.file));
        // The largest first: no single one is left for the end.
        large.sort_by_key(|unit| std::cmp::Reverse(unit.file.size));
        small.sort_by(|a, b| a.file.name.cmp(&b.file.name));
        let lanes = [
            ((SMALL_PER_TRANSFER * transfers).min(MAX_SMALL), VecDeque::from(small)),
            (transfers, VecDeque::from(large)),
        ];
        let job = Arc::new(DirJob {
            engine: self.clone(),
            context: context.clone(),
            dir,
            destination,
            unfinished,
            slots: Arc::new(Semaphore::new(
                transfers.saturating_mul(self.parts_at_once).min(Semaphore::MAX_PERMITS),
            )),
            stop: context.cancel().child_token(),
            failures: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        for (width, queue) in lanes {
            let width = width.min(queue.len());
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..width {
                let (job, queue) = (job.clone(), queue.clone());
                workers.spawn(async move { job.work(&queue).await });
            }
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        job.outcome(total)
    }
}

/// Runs `work` unless the job is stopped.
async fn stoppable<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<T, TransferError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(TransferError::Stopped),
        outcome = work => outcome.map_err(TransferError::Storage),
    }
}

/// A file to be sent.
#[derive(Clone, Debug)]
struct SourceFile {
    name: String,
    size: u64,
    /// `None`: ask the store. `Err`: it is not there.
    info: Option<ObjectInfo>,
    missing: bool,
}

async fn list_source(from: &Place) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut entries = from.store.list(&from.path, Depth::All);
    while let Some(entry) = entries.try_next().await? {
        if entry.kind == EntryKind::File {
            files.push(SourceFile { name: entry.path, size: entry.size, info: None, missing: false });
        }
    }
    Ok(files)
}

/// Sizes of the named files: from one listing, or one by one where they are few.
async fn find_source(from: &Place, paths: &[String]) -> Result<Vec<SourceFile>> {
    /// Questions at once.
    const ASK: usize = 32;
    let names: HashSet<String> = paths.iter().cloned().collect();
    let known: HashMap<String, ObjectInfo> = match Destination::survey(from, &names, "").await? {
        Destination::Known { present, .. } => present,
        Destination::Ask => {
            let asks = names.iter().cloned().map(|name| async move {
                let place = Place::new(from.store.clone(), from.path.join(&name)?);
                Ok::<_, StorageError>(stat(&place).await?.map(|info| (name, info)))
            });
            let found: Vec<_> = futures::stream::iter(asks).buffer_unordered(ASK).try_collect().await?;
            found.into_iter().flatten().collect()
        }
    };
    let file = |name: String| {
        let info = known.get(&name).cloned();
        SourceFile { size: info.as_ref().map_or(0, |i| i.size), missing: info.is_none(), info, name }
    };
    let mut sorted: Vec<String> = names.into_iter().collect();
    sorted.sort_unstable();
    Ok(sorted.into_iter().map(file).collect())
}

/// A file, and the digest that goes after it.
#[derive(Clone, Debug)]
struct Unit {
    file: SourceFile,
    digest: Option<SourceFile>,
}

/// Puts each digest behind its `Data.db`, so that an interrupted job can still check the data.
fn units(files: Vec<SourceFile>) -> Vec<Unit> {
    let mut by_name: BTreeMap<String, SourceFile> = files.into_iter().map(|f| (f.name.clone(), f)).collect();
    let data: Vec<String> = by_name.keys().filter(|n| digest::digest_of(n).is_some()).cloned().collect();
    let mut units = Vec::with_capacity(by_name.len());
    for name in data {
        let digest = digest::digest_of(&name).and_then(|d| by_name.remove(&d));
        units.extend(by_name.remove(&name).map(|file| Unit { file, digest }));
    }
    units.extend(by_name.into_values().map(|file| Unit { file, digest: None }));
    units
}

#[derive(Debug, Default)]
struct Failures {
    count: usize,
    first: Option<(String, String)>,
    fatal: Option<TransferError>,
}

struct DirJob {
    engine: Arc<Engine>,
    context: JobContext,
    dir: DirTransfer,
    destination: Destination,
    unfinished: BTreeSet<String>,
    slots: Arc<Semaphore>,
    /// The user's wish, or an error that concerns everything.
    stop: CancellationToken,
    failures: Mutex<Failures>,
}

/// What became of a file.
struct Done {
    outcome: FileOutcome,
    crc32: Option<u32>,
}

impl DirJob {
    async fn work(&self, queue: &Mutex<VecDeque<Unit>>) {
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
                slots: self.slots.clone(),
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

    fn outcome(&self, total: usize) -> Result<(), TransferError> {
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
