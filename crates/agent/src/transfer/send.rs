//! Sends one file, small or in parts, and takes its CRC-32 on the way.

use std::sync::Arc;

use common::retry::Transient as _;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::parts::{Plan, plan};
use super::window::Window;
use super::{Engine, small_at_once};
use crate::storage::payload::{FileRange, Meter};
use crate::storage::{
    ByteRange, LargeSpec, LargeUpload, ObjectInfo, Payload, Place, Result, Source, StorageError, StoredPart,
};

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    pub place: Place,
    pub source: Arc<dyn Source>,
}

impl OpenFile {
    pub(super) async fn open(place: Place, known: Option<ObjectInfo>) -> Result<Self> {
        let source = place.store.source(&place.path, known).await?;
        Ok(Self { place, source })
    }
}

/// How a file is sent.
pub(super) struct Sending {
    /// Counts bytes as they go.
    pub meter: Arc<Meter>,
    /// What the files of the job share.
    pub limits: JobLimits,
    /// An upload of the file that was begun for it.
    pub begun: Option<Box<dyn LargeUpload>>,
    /// Take up what an interrupted upload left behind.
    pub resume: bool,
}

/// How much of a job happens at once. A payload leaves the network with its last byte: the store confirms it while the
/// next one is sent.
#[derive(Clone, Debug)]
pub(super) struct JobLimits {
    /// Parts on the network.
    parts: Arc<Semaphore>,
    /// Parts in memory: some more than on the network, so that the next one is read while others are sent, but never
    /// so many that small files would have to wait for room.
    in_memory: Arc<Semaphore>,
    /// Parts on the network, and those that the store has not confirmed yet.
    unconfirmed: Arc<Window>,
    /// Small files on the network.
    small: Arc<Semaphore>,
}

impl JobLimits {
    /// Lets nothing more begin; what is on its way goes on.
    pub(super) fn close(&self) {
        for limit in [&self.parts, &self.in_memory, &self.small] {
            limit.close();
        }
        self.unconfirmed.close();
    }
}

/// Parts of one file that are worked on at once; the semaphores bound what they do.
const PARTS_PER_FILE: usize = 8;
/// Parts read ahead while others are sent.
const READ_AHEAD: usize = 2;

impl Engine {
    /// What `transfers` transfers' worth of a job may do at once.
    pub(super) fn limits_of_job(&self, transfers: usize, to: &Place) -> JobLimits {
        let parts = transfers.max(1).saturating_mul(self.parts_at_once.max(1)).min(Semaphore::MAX_PERMITS);
        let budget = self.buffers.budget();
        let part = to.store.part_rules().chunk.min(budget / 8).max(to.store.part_rules().min_part);
        let room = usize::try_from(budget / 4 * 3 / part.max(1)).unwrap_or(usize::MAX).max(1);
        let in_memory = parts.saturating_add(READ_AHEAD).min(room).min(Semaphore::MAX_PERMITS);
        // A disk says nothing about the network.
        let latest = if to.store.is_local() { Arc::default() } else { self.latest_width.clone() };
        let limit = |width| Arc::new(Semaphore::new(width));
        JobLimits {
            parts: limit(parts),
            in_memory: limit(in_memory),
            unconfirmed: Arc::new(Window::new(parts, latest)),
            small: limit(small_at_once(transfers.max(1))),
        }
    }

    /// Sends a file and returns the CRC-32 of its content. The destination has it, whole, when this returns.
    pub(super) async fn send(&self, from: &OpenFile, to: &Place, how: Sending) -> Result<u32> {
        let size = from.source.size();
        match plan(size, to.store.part_rules(), self.buffers.budget()) {
            Plan::Small => {
                let range = ByteRange { offset: 0, length: size };
                let payload = self.read(from, to, range).await?;
                self.send_read(payload, to, &how).await
            }
            Plan::Parts(spec) => self.send_parts(from, to, how, spec, false).await,
            Plan::Streamed(spec) => self.send_parts(from, to, how, spec, true).await,
        }
    }

    async fn send_parts(
        &self,
        from: &OpenFile,
        to: &Place,
        mut how: Sending,
        spec: LargeSpec,
        streamed: bool,
    ) -> Result<u32> {
        let begun = how.begun.take();
        Parts { engine: self, from, to, how: &how, spec, streamed }.send(begun).await
    }

    /// Sends a small file that was read already.
    pub(super) async fn send_read(&self, payload: Payload, to: &Place, how: &Sending) -> Result<u32> {
        let payload = payload.metered(how.meter.clone()).in_turn(how.limits.small.clone());
        to.store.put(&to.path, &payload).await?;
        Ok(payload.crc32)
    }

    async fn read(&self, from: &OpenFile, to: &Place, range: ByteRange) -> Result<Payload> {
        let buffer = self.buffers.take(usize::try_from(range.length).unwrap_or(usize::MAX)).await;
        from.source.read(range, to.store.wants(), buffer).await
    }
}

/// A file that is sent in parts.
struct Parts<'a> {
    engine: &'a Engine,
    from: &'a OpenFile,
    to: &'a Place,
    how: &'a Sending,
    spec: LargeSpec,
    /// Parts are read twice, hashed and then streamed, because memory has no room for a whole one.
    streamed: bool,
}

impl Parts<'_> {
    async fn send(&self, begun: Option<Box<dyn LargeUpload>>) -> Result<u32> {
        // The store takes a round trip to begin: the first part is read meanwhile.
        let (upload, first) = futures::join!(self.begin(begun), self.read(0));
        let upload = upload?;
        let outcome = self.send_to(&*upload, first).await;
        if let Err(error) = &outcome
            && !worth_continuing(error)
        {
            upload.abort().await;
        }
        outcome
    }

    async fn begin(&self, begun: Option<Box<dyn LargeUpload>>) -> Result<Box<dyn LargeUpload>> {
        match begun {
            Some(upload) => Ok(upload),
            None => self.to.store.begin_large(&self.to.path, self.spec, self.how.resume).await,
        }
    }

    async fn send_to(&self, upload: &dyn LargeUpload, first: Result<ReadPart>) -> Result<u32> {
        let mut first = Some(first);
        let parts = (0..self.spec.parts()).map(|index| self.send_part(upload, index, first.take()));
        let mut parts = futures::stream::iter(parts).buffer_unordered(PARTS_PER_FILE);
        let (mut sums, mut stopped) = (Vec::new(), None);
        while let Some(part) = parts.next().await {
            match part {
                Ok(sum) => sums.push(sum),
                // Nothing more begins, but those on their way are worth waiting for.
                Err(error @ StorageError::Interrupted) => stopped = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = stopped {
            return Err(error);
        }
        sums.sort_unstable();
        let crc32 = combine(sums.iter().map(|(index, crc32)| (*crc32, self.spec.range(*index).length)));
        upload.finish(crc32).await?;
        Ok(crc32)
    }

    /// Reads a part as soon as there is room for it.
    async fn read(&self, index: u32) -> Result<ReadPart> {
        let (engine, how, wants) = (self.engine, self.how, self.to.store.wants());
        let room =
            how.limits.in_memory.clone().acquire_owned().await.map_err(|_| StorageError::Interrupted)?;
        let range = self.spec.range(index);
        let source = &self.from.source;
        let file = FileRange { source: source.clone(), range, buffers: engine.buffers.clone() };
        let (payload, room) = if self.streamed {
            (Payload::streamed(file, wants).await?, Some(room))
        } else {
            let buffer = engine.buffers.take(usize::try_from(range.length).unwrap_or(usize::MAX)).await;
            let payload = source.read(range, wants, buffer.holding(room)).await?;
            (payload.once(file), None)
        };
        let payload = payload.metered(how.meter.clone()).in_turn(how.limits.parts.clone());
        Ok(ReadPart { payload, room })
    }

    /// Sends a part, which `read` holds if it was read already, unless the store has it from an interrupted upload.
    /// Returns its index and CRC-32.
    async fn send_part(
        &self,
        upload: &dyn LargeUpload,
        index: u32,
        read: Option<Result<ReadPart>>,
    ) -> Result<(u32, u32)> {
        let ReadPart { payload, room } = match read {
            Some(read) => read?,
            None => self.read(index).await?,
        };
        let range = self.spec.range(index);
        match upload.stored(index) {
            Some(stored) if is_same(stored, &payload) => {
                upload.keep(index);
                self.how.meter.add(range.length);
            }
            _ => {
                let out = self.how.limits.unconfirmed.enter().await?;
                upload.put_part(index, &payload).await?;
                out.confirmed();
            }
        }
        if room.is_some() {
            // Between the two passes over it the part was better kept.
            self.from.source.release(range);
        }
        Ok((index, payload.crc32))
    }
}

/// A part that is ready to be sent.
#[derive(Debug)]
struct ReadPart {
    payload: Payload,
    /// Room in memory that is not given back with the payload's own buffer.
    room: Option<OwnedSemaphorePermit>,
}

/// CRC-32 of the whole from those of the parts and their lengths.
fn combine(parts: impl Iterator<Item = (u32, u64)>) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    for (crc32, length) in parts {
        whole.combine(&crc32fast::Hasher::new_with_initial_len(crc32, length));
    }
    whole.finalize()
}

/// Whether a stored part has the bytes that would be sent.
fn is_same(stored: StoredPart, payload: &Payload) -> bool {
    if stored.size != payload.length() {
        return false;
    }
    match (stored.crc32, stored.md5) {
        (Some(crc32), _) => crc32 == payload.crc32,
        (None, Some(sum)) => payload.md5() == Some(sum),
        (None, None) => false,
    }
}

/// Whether parts in the store are of use to a later try: the network or the service failed, not the file.
fn worth_continuing(error: &StorageError) -> bool {
    error.is_transient() || error.is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_parts_combine() {
        let data: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let parts = data.chunks(33_333).map(|c| (crc32fast::hash(c), c.len() as u64));
        assert_eq!(combine(parts), crc32fast::hash(&data));
        assert_eq!(combine(std::iter::empty()), crc32fast::hash(b""));
    }
}
