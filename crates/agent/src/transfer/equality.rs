//! Whether a file at the destination is the file to be sent (spec agent.md 2.7).
//!
//! Sizes decide first, then a checksum that the store knows without reading. Without one, equal sizes count as equal
//! when the name cannot stand for other content, and as different when it can: that is what a suffix says.

use md5::Digest as _;

use super::Engine;
use super::send::OpenFile;
use crate::storage::{ByteRange, ObjectInfo, Place, Result, Source};

/// Bytes that are read at a time for a checksum of a local file.
const BLOCK: u64 = 4 << 20;

/// What equal sizes mean when there is no checksum to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// The original's rule.
    Equal,
    /// The same name may hold other content.
    Different,
}

/// Checksums of a whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub crc32: u32,
    pub md5: [u8; 16],
}

impl Engine {
    /// Compares a file with what the destination is known to hold under its name.
    pub(super) async fn is_equal(
        &self,
        from: &OpenFile,
        to: &Place,
        known: &ObjectInfo,
        unproven: Unproven,
    ) -> Result<bool> {
        if known.size != from.source.size() {
            return Ok(false);
        }
        if known.size == 0 {
            return Ok(true);
        }
        let first = self.compare(from, to, known).await?;
        if first == Some(true) {
            return Ok(true);
        }
        // A listing tells less than a HEAD, and its ETag may be no MD5 after all.
        let full = if to.store.is_local() { known.clone() } else { to.store.stat(&to.path).await? };
        if full.size != known.size {
            return Ok(false);
        }
        let verdict = if full == *known { first } else { self.compare(from, to, &full).await? };
        Ok(verdict.unwrap_or(unproven == Unproven::Equal))
    }

    /// `None` when there is nothing to compare.
    async fn compare(&self, from: &OpenFile, to: &Place, known: &ObjectInfo) -> Result<Option<bool>> {
        let info = from.source.info();
        // Both know it: nothing to read.
        if let (Some(a), Some(b)) = (info.crc32, known.crc32) {
            return Ok(Some(a == b));
        }
        if let (Some(a), Some(b)) = (info.md5, known.md5) {
            return Ok(Some(a == b));
        }
        match (from.place.store.is_local(), to.store.is_local()) {
            (true, true) => {
                let other = to.store.source(&to.path, None).await?;
                Ok(Some(self.sums(&*from.source).await? == self.sums(&*other).await?))
            }
            (true, false) => self.matches(&*from.source, known).await,
            (false, true) => self.matches(&*to.store.source(&to.path, None).await?, info).await,
            (false, false) => Ok(None),
        }
    }

    /// Whether the content of a local file has the checksum that a store knows.
    async fn matches(&self, local: &dyn Source, known: &ObjectInfo) -> Result<Option<bool>> {
        if known.crc32.is_none() && known.md5.is_none() {
            return Ok(None);
        }
        let sums = self.sums(local).await?;
        Ok(known.crc32.map(|crc32| crc32 == sums.crc32).or(known.md5.map(|md5| md5 == sums.md5)))
    }

    /// Reads a whole file for its checksums.
    pub(super) async fn sums(&self, source: &dyn Source) -> Result<Sums> {
        let (mut crc32, mut md5) = (crc32fast::Hasher::new(), md5::Md5::new());
        let mut offset = 0;
        while offset < source.size() {
            let range = ByteRange { offset, length: BLOCK.min(source.size() - offset) };
            let buffer = self.buffers.take(usize::try_from(range.length).unwrap_or(usize::MAX)).await;
            let block = source.read_bytes(range, buffer).await?;
            (crc32, md5) = crate::storage::blocking::blocking(move || {
                crc32.update(&block);
                md5.update(&block);
                Ok((crc32, md5))
            })
            .await?;
            offset += range.length;
        }
        Ok(Sums { crc32: crc32.finalize(), md5: md5.finalize().into() })
    }
}
