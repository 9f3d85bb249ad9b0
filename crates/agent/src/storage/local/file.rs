//! Reading local files: in large blocks on blocking threads, hashed while the bytes are still in the processor's cache.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustix::fs::Advice;

use super::jail::Jail;
use super::{info, size};
use crate::storage::blocking::blocking;
use crate::storage::buffer::Buffer;
use crate::storage::payload::Hashing;
use crate::storage::{ByteRange, Hashes, ObjectInfo, ObjectPath, Payload, Result, Source, StorageError};

/// Bytes read at a time where a file is streamed.
const STREAM_BLOCK: u64 = 1 << 20;
/// Bytes read and hashed at a time; they stay in the second-level cache in between.
const HASH_BLOCK: usize = 128 << 10;

/// A file, open or to be opened at the first read.
#[derive(Clone, Debug)]
pub(super) struct LocalFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jail: Jail,
    path: ObjectPath,
    info: ObjectInfo,
    fd: OnceLock<OwnedFd>,
}

impl Drop for Inner {
    /// What the kernel has read ahead beyond a part that was given back before, and what was not read in parts.
    fn drop(&mut self) {
        if let Some(fd) = self.fd.get() {
            // Only a hint.
            let _ = rustix::fs::fadvise(fd, 0, None, Advice::DontNeed);
        }
    }
}

impl LocalFile {
    pub(super) fn open(jail: &Jail, path: &ObjectPath) -> Result<Self> {
        let (fd, stat) = jail.open_file(path)?;
        Ok(Self(Arc::new(Inner { jail: jail.clone(), path: path.clone(), info: info(&stat), fd: fd.into() })))
    }

    pub(super) fn later(jail: &Jail, path: &ObjectPath, info: ObjectInfo) -> Self {
        Self(Arc::new(Inner { jail: jail.clone(), path: path.clone(), info, fd: OnceLock::new() }))
    }

    fn fd(&self) -> Result<&OwnedFd> {
        if let Some(fd) = self.0.fd.get() {
            return Ok(fd);
        }
        let (fd, stat) = self.0.jail.open_file(&self.0.path)?;
        if size(&stat) != self.0.info.size {
            return Err(self.changed(format!(
                "it has {} bytes now, and had {}",
                size(&stat),
                self.0.info.size
            )));
        }
        // Another thread may have been faster; its file is the same.
        Ok(self.0.fd.get_or_init(|| fd))
    }

    fn changed(&self, detail: String) -> StorageError {
        StorageError::Changed { path: self.0.path.to_string(), detail }
    }

    pub(super) fn stream(self, range: ByteRange) -> impl futures::Stream<Item = Result<Bytes>> + Send {
        futures::stream::try_unfold((self, range), |(file, range)| async move {
            if range.length == 0 {
                return Ok(None);
            }
            let now = ByteRange { length: range.length.min(STREAM_BLOCK), ..range };
            let rest = ByteRange { offset: now.offset + now.length, length: range.length - now.length };
            let reader = file.clone();
            let bytes = blocking(move || {
                let mut bytes = vec![0; length(now)];
                reader.read_at(now.offset, &mut bytes)?;
                Ok(bytes)
            })
            .await?;
            Ok(Some((Bytes::from(bytes), (file, rest))))
        })
    }

    /// Fills `bytes` from `offset` on.
    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> Result<()> {
        let fd = self.fd()?;
        while !bytes.is_empty() {
            match rustix::io::pread(fd, &mut *bytes, offset) {
                Ok(0) => {
                    return Err(
                        self.changed(format!("it ends at byte {offset}, before {}", self.0.info.size))
                    );
                }
                Ok(read) => {
                    offset += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(StorageError::io("read", self.0.path.as_str(), error.into())),
            }
        }
        Ok(())
    }

    /// The bytes are in our memory now: give the page cache back to the database.
    fn give_back(&self, range: ByteRange) {
        if let Some(fd) = self.0.fd.get() {
            // Only a hint.
            let _ = rustix::fs::fadvise(fd, range.offset, NonZeroU64::new(range.length), Advice::DontNeed);
        }
    }

    /// Reads a range and takes its checksums.
    fn read_hashed(&self, range: ByteRange, hashes: Hashes, space: &mut [u8]) -> Result<Hashing> {
        let mut hashing = Hashing::new(hashes);
        let mut offset = range.offset;
        self.fd()?;
        for block in space.chunks_mut(HASH_BLOCK) {
            self.read_at(offset, block)?;
            hashing.update(block);
            offset += block.len() as u64;
        }
        self.give_back(range);
        Ok(hashing)
    }

    fn whole(&self) -> ByteRange {
        ByteRange { offset: 0, length: self.0.info.size }
    }
}

/// Reads whole files into `buffer`, one behind the other.
pub(super) fn read_together(files: &[LocalFile], hashes: Hashes, mut buffer: Buffer) -> Vec<Result<Payload>> {
    let mut rest = buffer.space(files.iter().map(|file| length(file.whole())).sum());
    let mut read = Vec::with_capacity(files.len());
    for file in files {
        let (space, behind) = rest.split_at_mut(length(file.whole()));
        read.push(file.read_hashed(file.whole(), hashes, space));
        rest = behind;
    }
    let mut bytes = buffer.freeze();
    let payload = |(file, hashing): (&LocalFile, Result<Hashing>)| {
        let own = bytes.split_to(length(file.whole()));
        hashing.map(|hashing| hashing.payload(own))
    };
    files.iter().zip(read).map(payload).collect()
}

fn length(range: ByteRange) -> usize {
    usize::try_from(range.length).unwrap_or(usize::MAX)
}

impl Source for LocalFile {
    fn size(&self) -> u64 {
        self.0.info.size
    }

    fn info(&self) -> &ObjectInfo {
        &self.0.info
    }

    fn read<'a>(
        &'a self,
        range: ByteRange,
        hashes: Hashes,
        buffer: Buffer,
    ) -> BoxFuture<'a, Result<Payload>> {
        let file = self.clone();
        blocking(move || {
            let mut buffer = buffer;
            let hashing = file.read_hashed(range, hashes, buffer.space(length(range)))?;
            Ok(hashing.payload(buffer.freeze()))
        })
        .boxed()
    }

    fn release(&self, range: ByteRange) {
        self.give_back(range);
    }

    fn read_bytes<'a>(&'a self, range: ByteRange, buffer: Buffer) -> BoxFuture<'a, Result<Bytes>> {
        let file = self.clone();
        blocking(move || {
            let mut buffer = buffer;
            file.read_at(range.offset, buffer.space(length(range)))?;
            Ok(buffer.freeze())
        })
        .boxed()
    }
}
