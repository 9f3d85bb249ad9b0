//! Request body over bytes in memory: rate-limited, counted, never copied.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use crate::storage::StorageError;
use crate::storage::payload::{Meter, Payload, Sendable};
use crate::transfer::rate_limit::RateLimits;

/// Bytes handed to the connection at a time when there is no limit. Each is one slice of the same buffer.
const FRAME: usize = 256 << 10;
/// A new rate is noticed within this time.
const RECHECK: Duration = Duration::from_millis(100);

/// One attempt to send a payload. Dropped before `confirm`, its bytes are taken out of the progress again.
pub(super) struct Attempt {
    meter: Option<Arc<Meter>>,
    sent: Arc<AtomicU64>,
    confirmed: bool,
}

impl Attempt {
    /// The body for a request, and the record of what it sent. The body keeps its turn on the network until the last
    /// byte is out: while the store confirms, another one has it.
    pub(super) fn new(
        payload: &Payload,
        limits: &Arc<RateLimits>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> (Self, SdkBody) {
        let sent = Arc::new(AtomicU64::new(0));
        let meter = payload.meter.clone();
        let (ready, later, blocks) = match payload.attempt() {
            Sendable::Whole(bytes) => (bytes, 0, None),
            Sendable::Blocks(blocks) => (Bytes::new(), payload.length(), Some(Mutex::new(blocks))),
        };
        let body = LimitedBody {
            ready,
            later,
            blocks,
            limits: limits.clone(),
            waiting: None,
            meter: meter.clone(),
            sent: sent.clone(),
            turn,
        };
        (Self { meter, sent, confirmed: false }, SdkBody::from_body_1_x(body))
    }

    /// The store has the bytes.
    pub(super) fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let (Some(meter), false) = (&self.meter, self.confirmed) {
            meter.take_back(self.sent.load(Ordering::Relaxed));
        }
    }
}

/// What is still to be sent.
struct LimitedBody {
    /// Bytes at hand.
    ready: Bytes,
    /// Bytes to come after those; none for a payload in memory.
    later: u64,
    /// Where those come from. The mutex is never locked: it makes the stream `Sync`, as the SDK demands.
    blocks: Option<Mutex<BoxStream<'static, Result<Bytes, StorageError>>>>,
    limits: Arc<RateLimits>,
    waiting: Option<Waiting>,
    meter: Option<Arc<Meter>>,
    sent: Arc<AtomicU64>,
    turn: Option<OwnedSemaphorePermit>,
}

struct Waiting {
    turn: f64,
    bytes: usize,
    sleep: Pin<Box<Sleep>>,
}

impl LimitedBody {
    /// Bytes that may go now; `ready` is not empty.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let limiter = &self.limits.up;
        if self.waiting.is_none() {
            let Some(grain) = limiter.grain() else {
                return Poll::Ready(FRAME.min(self.ready.len()));
            };
            let bytes = grain.min(self.ready.len());
            let turn = limiter.turn(bytes as u64);
            let Some(wait) = limiter.wait(turn) else { return Poll::Ready(bytes) };
            let sleep = Box::pin(tokio::time::sleep(wait.min(RECHECK)));
            self.waiting = Some(Waiting { turn, bytes, sleep });
        }
        while let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.sleep.as_mut().poll(cx));
            match limiter.wait(waiting.turn) {
                Some(wait) => waiting.sleep.as_mut().reset(tokio::time::Instant::now() + wait.min(RECHECK)),
                None => {
                    let bytes = waiting.bytes;
                    self.waiting = None;
                    return Poll::Ready(bytes);
                }
            }
        }
        Poll::Ready(FRAME.min(self.ready.len()))
    }

    /// Makes sure that `ready` holds something, unless all is sent.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StorageError>> {
        while self.ready.is_empty() && self.later > 0 {
            let Some(blocks) = &mut self.blocks else { return Poll::Ready(Ok(())) };
            let blocks = blocks.get_mut().unwrap_or_else(PoisonError::into_inner);
            match std::task::ready!(blocks.poll_next_unpin(cx)) {
                Some(block) => {
                    self.ready = block?;
                    self.later = self.later.saturating_sub(self.ready.len() as u64);
                }
                None => return Poll::Ready(Err(StorageError::Interrupted)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = StorageError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StorageError>>> {
        let this = self.get_mut();
        if let Err(error) = std::task::ready!(this.poll_block(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        if this.ready.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = std::task::ready!(this.poll_turn(cx));
        let frame = this.ready.split_to(bytes);
        this.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(meter) = &this.meter {
            meter.add(bytes as u64);
        }
        if this.is_end_stream() {
            this.turn = None;
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.later == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.ready.len() as u64 + self.later)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::size_suffix::RatePair;
    use crate::storage::buffer::BufferPool;
    use crate::storage::local::LocalStore;
    use crate::storage::payload::{FileRange, Hashes};
    use crate::storage::{ByteRange, ObjectPath, ObjectStore as _};

    #[tokio::test]
    async fn a_part_leaves_memory_and_network_with_its_last_byte_and_can_be_sent_again() {
        const BUDGET: usize = 4 << 20;
        let dir = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect();
        std::fs::write(dir.path().join("me-1-big-Data.db"), &data).unwrap();
        let store = LocalStore::data(dir.path());
        let source = store.source(&ObjectPath::parse("me-1-big-Data.db").unwrap(), None).await.unwrap();
        let (buffers, limits) =
            (BufferPool::new(BUDGET as u64), Arc::new(RateLimits::new(RatePair::default())));
        let range = ByteRange { offset: 0, length: data.len() as u64 };
        let payload = source.read(range, Hashes::default(), buffers.take(data.len()).await).await.unwrap();
        let file = FileRange { source, range, buffers: buffers.clone() };
        let turns = Arc::new(Semaphore::new(1));
        let payload = payload.once(file).in_turn(turns.clone());

        for attempt in ["first", "second"] {
            let (record, mut body) = Attempt::new(&payload, &limits, payload.turn().await.unwrap());
            assert_eq!(turns.available_permits(), 0, "{attempt}");
            let mut sent = Vec::new();
            while sent.len() < data.len() {
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                sent.extend_from_slice(&frame);
            }
            assert!(sent == data, "{attempt}");
            assert_eq!(
                turns.available_permits(),
                1,
                "{attempt}: the next part may go while this one is confirmed"
            );
            let everything = tokio::time::timeout(Duration::from_secs(10), buffers.take(BUDGET)).await;
            assert!(everything.is_ok(), "{attempt}: nothing of the part is in memory");
            drop((record, body));
        }
    }
}
