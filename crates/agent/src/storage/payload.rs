//! Bytes on their way into a store, with what was computed over them while they were read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

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
    /// Too many for memory: read in blocks while they are sent.
    Range {
        /// The file.
        source: Arc<dyn Source>,
        /// The bytes of it.
        range: ByteRange,
        /// Where blocks are read into.
        buffers: Arc<BufferPool>,
    },
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
    pub async fn streamed(
        source: &Arc<dyn Source>,
        range: ByteRange,
        hashes: Hashes,
        buffers: &Arc<BufferPool>,
    ) -> Result<Self, StorageError> {
        let content = Content::Range { source: source.clone(), range, buffers: buffers.clone() };
        let mut payload = Self { content, crc32: 0, sha256: None, meter: None };
        let mut hashing = Hashing::new(hashes);
        let mut blocks = payload.blocks();
        while let Some(block) = blocks.try_next().await? {
            hashing = super::local::blocking(move || {
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

    /// Number of bytes.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Range { range, .. } => range.length,
        }
    }

    /// The bytes in blocks.
    pub fn blocks(&self) -> BoxStream<'static, Result<Bytes, StorageError>> {
        match self.content.clone() {
            Content::Memory(bytes) => futures::stream::iter([Ok(bytes)]).boxed(),
            Content::Range { source, range, buffers } => {
                futures::stream::try_unfold((source, range), move |(source, range)| {
                    let buffers = buffers.clone();
                    async move {
                        if range.length == 0 {
                            return Ok(None);
                        }
                        let now = ByteRange { length: range.length.min(BLOCK), ..range };
                        let rest =
                            ByteRange { offset: now.offset + now.length, length: range.length - now.length };
                        let buffer = buffers.take(usize::try_from(now.length).unwrap_or(usize::MAX)).await;
                        let bytes = source.read_bytes(now, buffer).await?;
                        Ok(Some((bytes, (source, rest))))
                    }
                })
                .boxed()
            }
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
        Payload { content: Content::Memory(bytes), crc32, sha256, meter: None }
    }
}

/// MD5, only to recognise content that a store knows by no better checksum.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}
