//! Listing of local directories: read on a blocking thread, handed over in batches through a bounded channel.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat, unlinkat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::jail::{Jail, directory_error};
use super::{info, size, write};
use crate::storage::{Depth, Entry, EntryKind, ObjectPath, Result, StorageError};

/// Entries per message.
const BATCH: usize = 256;
/// Messages that may wait for a slow reader.
const QUEUE: usize = 4;
/// Age at which a temporary file of another process counts as left over from a crash.
const LEFTOVER: Duration = Duration::from_secs(24 * 3600);

/// Entries below `dir`; the reading stops when the stream is dropped.
pub(super) fn stream(jail: Jail, dir: ObjectPath, depth: Depth) -> impl Stream<Item = Result<Entry>> + Send {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = tokio::task::spawn_blocking(move || {
        let mut out = Batches { sender, batch: Vec::with_capacity(BATCH) };
        let outcome = walk(&jail, &dir, depth, &mut out);
        out.finish(outcome);
    });
    let batches =
        futures::stream::unfold((receiver, Some(reader)), |(mut receiver, mut reader)| async move {
            if let Some(batch) = receiver.recv().await {
                return Some((batch, (receiver, reader)));
            }
            // The channel is closed: either all is told, or the reader died without a word.
            let died = reader.take()?.await.is_err();
            died.then(|| (vec![Err(StorageError::Interrupted)], (receiver, None)))
        });
    batches.flat_map(futures::stream::iter)
}

struct Batches {
    sender: mpsc::Sender<Vec<Result<Entry>>>,
    batch: Vec<Result<Entry>>,
}

/// The reader of the stream is gone.
struct Gone;

impl Batches {
    fn push(&mut self, entry: Entry) -> std::result::Result<(), Gone> {
        self.batch.push(Ok(entry));
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> std::result::Result<(), Gone> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.blocking_send(batch).map_err(|_| Gone)
    }

    fn finish(mut self, outcome: std::result::Result<(), Stop>) {
        if let Err(Stop::Failed(error)) = outcome {
            self.batch.push(Err(error));
        }
        // Nobody listens any more: nothing left to do.
        let _ = self.flush();
    }
}

enum Stop {
    Gone,
    Failed(StorageError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

fn walk(jail: &Jail, dir: &ObjectPath, depth: Depth, out: &mut Batches) -> std::result::Result<(), Stop> {
    let mut pending = vec![String::new()];
    while let Some(prefix) = pending.pop() {
        let here = dir.join(&prefix).map_err(|e| Stop::Failed(e.into()))?;
        let entries = match read_dir(jail, &here) {
            Ok(entries) => entries,
            // Gone since its parent was read, as if it had been listed later.
            Err(StorageError::DirectoryNotFound { .. }) if !prefix.is_empty() => continue,
            Err(error) => return Err(Stop::Failed(error)),
        };
        let below = pending.len();
        for (name, kind, stat) in entries {
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if kind == EntryKind::Directory && depth == Depth::All {
                pending.push(path.clone());
            }
            let size = if kind == EntryKind::File { size(&stat) } else { 0 };
            out.push(Entry { path, kind, size, modified: info(&stat).modified, md5: None })?;
        }
        // Taken from the end, so reversing keeps the order of names.
        pending[below..].reverse();
    }
    Ok(())
}

/// Files and directories of one directory, sorted by name; the names of a directory are held in memory.
fn read_dir(jail: &Jail, path: &ObjectPath) -> Result<Vec<(String, EntryKind, Stat)>> {
    let fd = jail.open_dir(path)?;
    let error = |e: Errno| directory_error(path.as_str(), e);
    let mut entries = Vec::new();
    for entry in Dir::read_from(&fd).map_err(error)? {
        let entry = entry.map_err(error)?;
        let Ok(name) = entry.file_name().to_str() else {
            tracing::warn!(directory = %path, "skipped a name that is not UTF-8");
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let stat = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(error(e)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            other => {
                tracing::debug!(directory = %path, name, ?other, "skipped a link or special file");
                continue;
            }
        };
        if kind == EntryKind::File && write::is_temporary(name) {
            remove_leftover(&fd, name, &stat);
            continue;
        }
        entries.push((name.to_owned(), kind, stat));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn remove_leftover(dir: impl AsFd, name: &str, stat: &Stat) {
    let modified = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let age = SystemTime::UNIX_EPOCH + modified;
    let old = SystemTime::now().duration_since(age).is_ok_and(|age| age > LEFTOVER);
    if old && !write::is_ours(name) && unlinkat(dir, name, AtFlags::empty()).is_ok() {
        tracing::info!(name, "removed a temporary file of a transfer that was cut short");
    }
}
