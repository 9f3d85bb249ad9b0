//! Jobs over many files: a directory up, a list of files down (spec agent.md 2.6.12, 2.6.13).
//!
//! Two lanes run side by side, so that neither the many small components of SSTables nor the few large ones wait for
//! the other kind. Each file succeeds or fails for itself; only what concerns all of them ends the job early.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, stat};
use super::lane::{Lane, READ_TOGETHER};
use super::order::{CopyPaths, DirTransfer, SourceFile, Unit};
use super::parts::{Plan, plan};
use super::survey::Survey;
use super::worker::DirJob;
use super::{Engine, TransferError, digest, small_at_once};
use crate::jobs::JobContext;
use crate::storage::{Depth, EntryKind, ObjectInfo, Place, Result, StorageError};

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
        let names: HashSet<String> = files.iter().map(|f| f.name.clone()).collect();
        let (mut small, mut large): (Vec<Unit>, Vec<Unit>) =
            units(files).into_iter().partition(|unit| is_small(&unit.file));
        // The largest first: no single one is left for the end.
        large.sort_by_key(|unit| std::cmp::Reverse(unit.file.size));
        small.sort_by(|a, b| a.file.name.cmp(&b.file.name));
        let transfers = dir.transfers.unwrap_or(self.transfers.get()).max(1) as usize;
        // One file of each pair starts or ends, which takes round trips, while the other one sends.
        let large_at_once = transfers.saturating_mul(2);
        let suffix = dir.suffix.as_deref().unwrap_or_default();
        let first = &large[..large.len().min(large_at_once)];
        let survey =
            Survey::take(context.cancel(), &dir.to, &names, suffix, first, self.buffers.budget()).await?;
        drop(names);
        let lanes = [
            // For each file on the network one that the store confirms, and those that are just read.
            Lane::new(small, 2 * small_at_once(transfers) + READ_TOGETHER, READ_TOGETHER),
            Lane::new(large, large_at_once, 1),
        ];
        let limits = self.limits_of_job(transfers, &dir.to);
        let job = Arc::new(DirJob {
            engine: self.clone(),
            context: context.clone(),
            dir,
            survey,
            limits,
            stop: context.cancel().child_token(),
            failures: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        for lane in lanes {
            let lane = Arc::new(lane);
            for _ in 0..lane.workers() {
                let (job, lane) = (job.clone(), lane.clone());
                workers.spawn(async move { job.work(&lane).await });
            }
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        job.survey.ahead.abort_rest().await;
        job.outcome(total)
    }
}

/// Runs `work` unless the job is stopped.
pub(super) async fn stoppable<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<T, TransferError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(TransferError::Stopped),
        outcome = work => outcome.map_err(TransferError::Storage),
    }
}

async fn list_source(from: &Place) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut entries = from.store.list(&from.path, Depth::All);
    while let Some(entry) = entries.try_next().await? {
        if entry.kind == EntryKind::File {
            let info = ObjectInfo { size: entry.size, modified: entry.modified, md5: entry.md5, crc32: None };
            files.push(SourceFile { name: entry.path, size: entry.size, info: Some(info), missing: false });
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

/// Puts each digest behind its `Data.db`. On the disk it stays for the next try to check the data; in the bucket it must
/// not stand beside older data of the same name and size, which deduplication would take for the new one.
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
