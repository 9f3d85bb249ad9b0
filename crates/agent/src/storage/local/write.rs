//! Writing local files: under a temporary name, made durable, then renamed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use rustix::fs::{
    Advice, AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::RateLimits;
use super::jail::{self, Jail};
use crate::storage::blocking::blocking;
use crate::storage::{LargeSpec, LargeUpload, ObjectPath, Payload, Result, StorageError, StoredPart};

/// Start of temporary names. Without a dash, so that nobody takes it for a component of an SSTable.
const PREFIX: &str = ".partial_";

/// Tells the temporary files of this process from those of one that crashed.
static SESSION: LazyLock<String> = LazyLock::new(|| format!("{PREFIX}{:016x}_", rand::random::<u64>()));
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Whether a name belongs to a file that is not complete.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether a temporary name was made by this process.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(SESSION.as_str())
}

/// A file that nobody sees yet. Dropped without `publish` it is removed.
#[derive(Debug)]
pub(super) struct Temporary {
    dir: OwnedFd,
    name: Option<String>,
    file: OwnedFd,
    target: ObjectPath,
}

impl Temporary {
    /// Makes an empty file beside `target`, with room for `size` bytes; directories are created.
    pub(super) fn create(jail: &Jail, target: &ObjectPath, size: u64) -> Result<Self> {
        let dir = jail.open_parent(target, true)?;
        let name = format!("{}{}", *SESSION, COUNT.fetch_add(1, Ordering::Relaxed));
        let file =
            jail::create(&dir, &name).map_err(|e| StorageError::io("create", target.as_str(), e.into()))?;
        let temporary = Self { dir, name: Some(name), file, target: target.clone() };
        match rustix::fs::fallocate(&temporary.file, FallocateFlags::KEEP_SIZE, 0, size.max(1)) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(temporary.error("reserve space for", error)),
            // A file system without reservation: the writes will tell.
            _ => Ok(temporary),
        }
    }

    pub(super) fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(written) => {
                    offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.error("write", error)),
            }
        }
        Ok(())
    }

    /// Copies the whole of `source`; the kernel does it where the file system can share or move blocks.
    pub(super) fn fill_from(&self, source: OwnedFd, from: &ObjectPath) -> Result<()> {
        let mut source = std::fs::File::from(source);
        let file = self.file.try_clone().map_err(|e| StorageError::io("write", self.target.as_str(), e))?;
        std::io::copy(&mut source, &mut std::fs::File::from(file))
            .map(drop)
            .map_err(|e| StorageError::io("copy", from.as_str(), e))
    }

    /// Makes the content durable and gives it its name, replacing a file of that name.
    pub(super) fn publish(mut self) -> Result<()> {
        rustix::fs::fsync(&self.file).map_err(|e| self.error("write", e))?;
        // It is on the disk: memory belongs to the database. Only a hint.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        if let Some(name) = &self.name {
            let stat = statat(&self.dir, self.target.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory) {
                return Err(StorageError::NotAFile { path: self.target.to_string() });
            }
            renameat(&self.dir, name.as_str(), &self.dir, self.target.file_name())
                .map_err(|e| self.error("rename", e))?;
        }
        self.name = None;
        sync_directory(&self.dir, &self.target)
    }

    fn error(&self, action: &'static str, error: Errno) -> StorageError {
        StorageError::io(action, self.target.as_str(), error.into())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Failing leaves a hidden file that a later listing removes.
            let _ = unlinkat(&self.dir, name.as_str(), AtFlags::empty());
        }
    }
}

/// Makes a change of names in a directory durable.
pub(super) fn sync_directory(dir: &OwnedFd, path: &ObjectPath) -> Result<()> {
    match rustix::fs::fsync(dir) {
        // Some file systems cannot, and then need not.
        Ok(()) | Err(Errno::INVAL | Errno::BADF) => Ok(()),
        Err(error) => Err(StorageError::io("sync directory of", path.as_str(), error.into())),
    }
}

/// A large file written part by part, in any order.
pub(super) struct LocalUpload {
    temporary: Arc<std::sync::Mutex<Option<Arc<Temporary>>>>,
    spec: LargeSpec,
    limits: Option<Arc<RateLimits>>,
}

impl LocalUpload {
    pub(super) fn new(temporary: Temporary, spec: LargeSpec, limits: Option<Arc<RateLimits>>) -> Self {
        Self { temporary: Arc::new(std::sync::Mutex::new(Some(Arc::new(temporary)))), spec, limits }
    }

    fn take(&self) -> Option<Arc<Temporary>> {
        self.temporary.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn get(&self) -> Result<Arc<Temporary>> {
        let slot = self.temporary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.clone().ok_or(StorageError::Interrupted)
    }
}

impl LargeUpload for LocalUpload {
    fn stored(&self, _index: u32) -> Option<StoredPart> {
        None
    }

    fn keep(&self, _index: u32) {}

    fn put_part<'a>(&'a self, index: u32, part: &'a Payload) -> BoxFuture<'a, Result<()>> {
        async move {
            let _turn = part.turn().await?;
            let mut offset = self.spec.range(index).offset;
            let mut blocks = part.blocks();
            while let Some(block) = blocks.try_next().await? {
                if let Some(limits) = &self.limits {
                    limits.up.acquire(block.len() as u64).await;
                }
                let (temporary, length) = (self.get()?, block.len() as u64);
                blocking(move || temporary.write_at(&block, offset)).await?;
                offset += length;
                if let Some(meter) = &part.meter {
                    meter.add(length);
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(&'a self, _crc32: u32) -> BoxFuture<'a, Result<()>> {
        async move {
            let temporary = self.take().ok_or(StorageError::Interrupted)?;
            let temporary = Arc::into_inner(temporary).ok_or(StorageError::Interrupted)?;
            blocking(move || temporary.publish()).await
        }
        .boxed()
    }

    fn abort<'a>(&'a self) -> BoxFuture<'a, ()> {
        async move { drop(self.take()) }.boxed()
    }
}

/// Deletes a directory with all in it; links are removed, never followed. Returns the number of files.
pub(super) fn remove_tree(jail: &Jail, path: &ObjectPath) -> Result<u64> {
    if path.is_root() {
        return Err(StorageError::NotADirectory { path: "the root of a provider cannot be purged".into() });
    }
    let dir = jail.open_dir(path)?;
    let files = empty_directory(&dir, path)?;
    let parent = jail.open_parent(path, false)?;
    unlinkat(&parent, path.file_name(), AtFlags::REMOVEDIR)
        .map_err(|e| StorageError::io("delete directory", path.as_str(), e.into()))?;
    Ok(files)
}

fn empty_directory(dir: &OwnedFd, path: &ObjectPath) -> Result<u64> {
    let error = |e: Errno| StorageError::io("delete", path.as_str(), e.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(error)? {
        let name = entry.map_err(error)?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    let mut files = 0;
    for name in names {
        match unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) => files += 1,
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                let below = open_sub(dir, &name).map_err(error)?;
                files += empty_directory(&below, path)?;
                unlinkat(dir, &name, AtFlags::REMOVEDIR).map_err(error)?;
            }
            Err(e) => return Err(error(e)),
        }
    }
    Ok(files)
}

fn open_sub(dir: impl AsFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
