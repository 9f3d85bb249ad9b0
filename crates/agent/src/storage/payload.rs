//! Bytes on their way into a store, with what was computed over them while they were read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

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

/// A small file, or a part of a large one, in memory.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The bytes.
    pub bytes: Bytes,
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
        let crc32 = crc32fast::hash(&bytes);
        let sha256 = hashes.sha256.then(|| sha256(&bytes));
        Self { bytes, crc32, sha256, meter: None }
    }

    /// The same, counted by `meter` when it is sent.
    pub fn metered(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// MD5, only to recognise content that a store knows by no better checksum.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}
