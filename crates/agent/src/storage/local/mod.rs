//! Directories of this machine: the node's data directory (`data`) and `localstorage`.
//!
//! All system calls run on blocking threads. Files appear whole or not at all: temporary name, fsync, rename.
//! Temporary names never look like SSTable components and are never listed.

mod file;
mod jail;
mod list;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use rustix::fs::{AtFlags, Stat, unlinkat};

use self::file::LocalFile;
use self::jail::Jail;
use super::blocking::blocking;
use super::buffer::Buffer;
use super::{
    ByteRange, DeleteReport, Depth, Entry, Hashes, LargeSpec, LargeUpload, Leftover, ObjectInfo, ObjectPath,
    ObjectReader, ObjectStore, PartRules, Payload, Result, Source, Space, StorageError,
};
use crate::transfer::rate_limit::RateLimits;

/// A local provider.
#[derive(Clone, Debug)]
pub struct LocalStore {
    provider: String,
    jail: Jail,
    /// Set where writing means leaving the node.
    limits: Option<Arc<RateLimits>>,
}

impl LocalStore {
    /// The node's data directory.
    pub fn data(root: &Path) -> Self {
        Self { provider: "data".into(), jail: Jail::new(root), limits: None }
    }

    /// The directory whose sub-directories stand for buckets. The rate limits hold here too: it may be a network
    /// file system.
    pub fn localstorage(root: &Path, limits: Arc<RateLimits>) -> Self {
        Self { provider: "localstorage".into(), jail: Jail::new(root), limits: Some(limits) }
    }

    async fn open_file(&self, path: &ObjectPath) -> Result<LocalFile> {
        let path = path.clone();
        self.run(move |jail| LocalFile::open(jail, &path)).await
    }

    /// Runs file system work on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Jail) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let jail = self.jail.clone();
        blocking(move || work(&jail)).await
    }
}

impl ObjectStore for LocalStore {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn is_local(&self) -> bool {
        true
    }

    fn wants(&self) -> Hashes {
        Hashes::default()
    }

    fn part_rules(&self) -> PartRules {
        PartRules { min_part: 1, chunk: 8 << 20, max_parts: u32::MAX, cutoff: 0, concurrency: 2 }
    }

    fn list<'a>(&'a self, dir: &'a ObjectPath, depth: Depth) -> BoxStream<'a, Result<Entry>> {
        list::stream(self.jail.clone(), dir.clone(), depth).boxed()
    }

    fn stat<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        let path = path.clone();
        self.run(move |jail| {
            let stat = jail.stat(&path)?;
            if !jail::is_regular(&stat) {
                return Err(StorageError::NotAFile { path: path.to_string() });
            }
            Ok(info(&stat))
        })
        .boxed()
    }

    fn open<'a>(
        &'a self,
        path: &'a ObjectPath,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectReader>> {
        async move {
            let file = self.open_file(path).await?;
            let range = clip(range, file.size());
            Ok(ObjectReader { length: range.length, bytes: file.stream(range).boxed() })
        }
        .boxed()
    }

    fn source<'a>(
        &'a self,
        path: &'a ObjectPath,
        known: Option<ObjectInfo>,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>>> {
        async move {
            let file = match known {
                // It is opened where it is read: one trip to a blocking thread less for each small file.
                Some(known) => LocalFile::later(&self.jail, path, known),
                None => self.open_file(path).await?,
            };
            Ok(Arc::new(file) as Arc<dyn Source>)
        }
        .boxed()
    }

    fn read_together<'a>(
        &'a self,
        files: Vec<(ObjectPath, ObjectInfo)>,
        hashes: Hashes,
        buffer: Buffer,
    ) -> BoxFuture<'a, Result<Vec<Result<Payload>>>> {
        self.run(move |jail| {
            let files: Vec<_> =
                files.into_iter().map(|(path, known)| LocalFile::later(jail, &path, known)).collect();
            Ok(file::read_together(&files, hashes, buffer))
        })
        .boxed()
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, content: &'a Payload) -> BoxFuture<'a, Result<()>> {
        async move {
            let upload = self.begin_large(path, LargeSpec::whole(content.length()), false).await?;
            upload.put_part(0, content).await?;
            upload.finish(content.crc32).await
        }
        .boxed()
    }

    fn begin_large<'a>(
        &'a self,
        path: &'a ObjectPath,
        spec: LargeSpec,
        _resume: bool,
    ) -> BoxFuture<'a, Result<Box<dyn LargeUpload>>> {
        async move {
            let (target, size) = (path.clone(), spec.size);
            let temporary = self.run(move |jail| write::Temporary::create(jail, &target, size)).await?;
            Ok(Box::new(write::LocalUpload::new(temporary, spec, self.limits.clone()))
                as Box<dyn LargeUpload>)
        }
        .boxed()
    }

    fn unfinished<'a>(&'a self, _dir: &'a ObjectPath) -> BoxFuture<'a, Result<Vec<Leftover>>> {
        // Temporary files are not continued.
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |jail| {
            let (source, stat) = jail.open_file(&from)?;
            let temporary = write::Temporary::create(jail, &to, size(&stat))?;
            temporary.fill_from(source, &from)?;
            temporary.publish()
        })
        .boxed()
    }

    fn rename<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |jail| {
            if !jail::is_regular(&jail.stat(&from)?) {
                return Err(StorageError::NotAFile { path: from.to_string() });
            }
            let source = jail.open_parent(&from, false)?;
            let target = jail.open_parent(&to, true)?;
            rustix::fs::renameat(&source, from.file_name(), &target, to.file_name())
                .map_err(|e| jail::file_error("rename", &from, e))?;
            write::sync_directory(&target, &to)
        })
        .boxed()
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        let path = path.clone();
        self.run(move |jail| remove_file(jail, &path)).boxed()
    }

    fn delete_each<'a>(&'a self, paths: &'a [ObjectPath]) -> BoxFuture<'a, Vec<Result<()>>> {
        let (owned, count) = (paths.to_vec(), paths.len());
        async move {
            let outcomes =
                self.run(move |jail| Ok(owned.iter().map(|path| remove_file(jail, path)).collect()));
            // Only a runtime that shuts down does not run it.
            outcomes.await.unwrap_or_else(|_| (0..count).map(|_| Err(StorageError::Interrupted)).collect())
        }
        .boxed()
    }

    fn delete_many<'a>(&'a self, paths: &'a [ObjectPath]) -> BoxFuture<'a, Result<DeleteReport>> {
        let paths = paths.to_vec();
        self.run(move |jail| {
            let mut report = DeleteReport::default();
            let mut not_a_file = None;
            for path in paths {
                match remove_file(jail, &path) {
                    Ok(()) => report.deleted += 1,
                    Err(error) if error.is_not_found() => {}
                    Err(error @ StorageError::NotAFile { .. }) => not_a_file = Some(error),
                    Err(error) => report.failed.push((path, common::error::chain(&error))),
                }
            }
            not_a_file.map_or(Ok(report), Err)
        })
        .boxed()
    }

    fn purge<'a>(&'a self, dir: &'a ObjectPath) -> BoxFuture<'a, Result<u64>> {
        let dir = dir.clone();
        self.run(move |jail| write::remove_tree(jail, &dir)).boxed()
    }

    fn about(&self) -> BoxFuture<'_, Result<Space>> {
        self.run(|jail| {
            let root = jail.root()?;
            let stat = rustix::fs::fstatvfs(&root)
                .map_err(|e| StorageError::io("get free space of", "the root directory", e.into()))?;
            let total = stat.f_blocks * stat.f_frsize;
            Ok(Space {
                total,
                used: total.saturating_sub(stat.f_bfree * stat.f_frsize),
                free: stat.f_bavail * stat.f_frsize,
            })
        })
        .boxed()
    }
}

fn remove_file(jail: &Jail, path: &ObjectPath) -> Result<()> {
    let parent = match jail.open_parent(path, false) {
        Err(StorageError::DirectoryNotFound { .. } | StorageError::NotADirectory { .. }) => {
            return Err(StorageError::NotFound { path: path.to_string() });
        }
        other => other?,
    };
    unlinkat(&parent, path.file_name(), AtFlags::empty()).map_err(|e| jail::file_error("delete", path, e))
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn info(stat: &Stat) -> ObjectInfo {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    ObjectInfo {
        size: size(stat),
        modified: DateTime::<Utc>::from_timestamp(stat.st_mtime, nanos),
        md5: None,
        crc32: None,
    }
}

/// The part of `range` that lies in a file of `size` bytes.
fn clip(range: Option<ByteRange>, size: u64) -> ByteRange {
    let range = range.unwrap_or(ByteRange { offset: 0, length: size });
    let offset = range.offset.min(size);
    ByteRange { offset, length: range.length.min(size - offset) }
}
