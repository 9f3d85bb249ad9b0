//! Bytes on their way into a store, with what was computed over them while they were read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffer::BufferPool;
use super::{ByteRange, Source, StorageError};

/// Bytes read at a time where a payload is too large for memory.
const BLOCK: u64 = 2 << 20;

/// Checksums that a store wants with its uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256 of the payload, for the signature.
    pub sha256: bool,
}

/// Counts the bytes of a transfer as they go out; a failed attempt takes its bytes back.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Bytes counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where the bytes of a payload are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In memory until an attempt to send them has them all out, so that nothing is held while the store confirms.
    /// Another attempt reads them again.
    Once(Arc<Mutex<Option<Bytes>>>, FileRange),
    /// Too many for memory: read in blocks while they are sent.
    Range(FileRange),
}

/// Bytes that can be read as often as needed.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file.
    pub source: Arc<dyn Source>,
    /// The bytes of it.
    pub range: ByteRange,
    /// Where blocks are read into.
    pub buffers: Arc<BufferPool>,
}

impl FileRange {
    fn blocks(self) -> BoxStream<'static, Result<Bytes, StorageError>> {
        futures::stream::try_unfold(self, |mut file| async move {
            if file.range.length == 0 {
                return Ok(None);
            }
            let now = ByteRange { length: file.range.length.min(BLOCK), ..file.range };
            let buffer = file.buffers.take(usize::try_from(now.length).unwrap_or(usize::MAX)).await;
            let bytes = file.source.read_bytes(now, buffer).await?;
            file.range =
                ByteRange { offset: now.offset + now.length, length: file.range.length - now.length };
            Ok(Some((bytes, file)))
        })
        .boxed()
    }
}

/// What an attempt to send a payload starts with.
pub(crate) enum Sendable {
    /// All of it.
    Whole(Bytes),
    /// A stream of blocks.
    Blocks(BoxStream<'static, Result<Bytes, StorageError>>),
}

/// A small file, or a part of a large one.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The bytes.
    pub content: Content,
    /// CRC-32 (zlib polynomial) of the bytes.
    pub crc32: u32,
    /// SHA-256 of the bytes, if the store wants it.
    pub sha256: Option<[u8; 32]>,
    /// Told about bytes as they go out.
    pub meter: Option<Arc<Meter>>,
    /// Turns on the network: each attempt takes one, and keeps it until its last byte is out.
    pub turns: Option<Arc<Semaphore>>,
}

impl Payload {
    /// Takes the checksums of `bytes`. Meant for small contents; large ones are hashed where they are read.
    pub fn new(bytes: Bytes, hashes: Hashes) -> Self {
        let mut hashing = Hashing::new(hashes);
        hashing.update(&bytes);
        hashing.payload(bytes)
    }

    /// Reads a range of a file for its checksums only; the bytes are read again when they are sent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn streamed(file: FileRange, hashes: Hashes) -> Result<Self, StorageError> {
        let content = Content::Range(file);
        let mut payload = Self { content, crc32: 0, sha256: None, meter: None, turns: None };
        let mut hashing = Hashing::new(hashes);
        let mut blocks = payload.blocks();
        while let Some(block) = blocks.try_next().await? {
            hashing = super::blocking::blocking(move || {
                hashing.update(&block);
                Ok(hashing)
            })
            .await?;
        }
        drop(blocks);
        (payload.crc32, payload.sha256) = hashing.finish();
        Ok(payload)
    }

    /// The same, counted by `meter` when it is sent.
    pub fn metered(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// The same, sent only while it has one of `turns`.
    pub fn in_turn(mut self, turns: Arc<Semaphore>) -> Self {
        self.turns = Some(turns);
        self
    }

    /// Waits for a turn on the network, where turns are counted.
    ///
    /// # Errors
    /// The job is over.
    pub(crate) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, StorageError> {
        match &self.turns {
            Some(turns) => {
                turns.clone().acquire_owned().await.map(Some).map_err(|_| StorageError::Interrupted)
            }
            None => Ok(None),
        }
    }

    /// Number of bytes.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Once(_, file) | Content::Range(file) => file.range.length,
        }
    }

    /// The same, its bytes held only until they are out; `file` has them for another attempt.
    pub fn once(mut self, file: FileRange) -> Self {
        if let Content::Memory(bytes) = self.content {
            self.content = Content::Once(Arc::new(Mutex::new(Some(bytes))), file);
        }
        self
    }

    /// MD5 of the bytes, where they are in memory.
    pub(crate) fn md5(&self) -> Option<[u8; 16]> {
        match &self.content {
            Content::Memory(bytes) => Some(md5(bytes)),
            Content::Once(bytes, _) => {
                bytes.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(md5)
            }
            Content::Range(_) => None,
        }
    }

    /// The bytes for one attempt to send them.
    pub(crate) fn attempt(&self) -> Sendable {
        match &self.content {
            Content::Memory(bytes) => Sendable::Whole(bytes.clone()),
            Content::Once(bytes, file) => match bytes.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(bytes) => Sendable::Whole(bytes),
                None => Sendable::Blocks(file.clone().blocks()),
            },
            Content::Range(file) => Sendable::Blocks(file.clone().blocks()),
        }
    }

    /// The bytes in blocks.
    pub fn blocks(&self) -> BoxStream<'static, Result<Bytes, StorageError>> {
        match self.attempt() {
            Sendable::Whole(bytes) => futures::stream::iter([Ok(bytes)]).boxed(),
            Sendable::Blocks(blocks) => blocks,
        }
    }
}

/// Takes the checksums of bytes as they come.
pub(crate) struct Hashing {
    crc32: crc32fast::Hasher,
    sha256: Option<aws_lc_rs::digest::Context>,
}

impl Hashing {
    pub(crate) fn new(hashes: Hashes) -> Self {
        let sha256 = hashes.sha256.then(|| aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        Self { crc32: crc32fast::Hasher::new(), sha256 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.crc32.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    fn finish(self) -> (u32, Option<[u8; 32]>) {
        let sha256 = self.sha256.map(|context| {
            let mut out = [0; 32];
            out.copy_from_slice(context.finish().as_ref());
            out
        });
        (self.crc32.finalize(), sha256)
    }

    /// The payload that the bytes make.
    pub(crate) fn payload(self, bytes: Bytes) -> Payload {
        let (crc32, sha256) = self.finish();
        Payload { content: Content::Memory(bytes), crc32, sha256, meter: None, turns: None }
    }
}

/// MD5, only to recognise content that a store knows by no better checksum.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}
