//! Bodies that are counted, slowed down or cut while they pass.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A body with a limit on its bytes, on its rate, and an observer.
pub(super) struct Metered<B> {
    inner: B,
    observe: Box<dyn FnMut(u64) + Send>,
    /// Bytes that may still pass before the connection breaks.
    left: Option<u64>,
    /// The sender was given a turn to flush what passed before the break.
    flushed: bool,
    pace: Option<Pace>,
}

struct Pace {
    bytes_per_second: u64,
    started: Instant,
    passed: u64,
    pause: Pin<Box<Sleep>>,
}

impl<B> Metered<B> {
    pub(super) fn new(inner: B, observe: impl FnMut(u64) + Send + 'static) -> Self {
        Self { inner, observe: Box::new(observe), left: None, flushed: false, pace: None }
    }

    /// Breaks the body after `bytes`.
    pub(super) fn cut_after(mut self, bytes: Option<u64>) -> Self {
        self.left = bytes;
        self
    }

    /// Lets at most `bytes_per_second` through.
    pub(super) fn throttled(mut self, bytes_per_second: Option<u64>) -> Self {
        self.pace = bytes_per_second.filter(|rate| *rate > 0).map(|bytes_per_second| Pace {
            bytes_per_second,
            started: Instant::now(),
            passed: 0,
            pause: Box::pin(tokio::time::sleep(Duration::ZERO)),
        });
        self
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Some(pace) = &mut this.pace {
            ready!(pace.pause.as_mut().poll(cx));
        }
        if this.left == Some(0) {
            if !std::mem::replace(&mut this.flushed, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "cut by a fault rule",
            ))));
        }
        let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let mut frame = frame.map_err(io::Error::other)?;
        if let Some(data) = frame.data_mut() {
            if let Some(left) = &mut this.left {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
            }
            let bytes = data.len() as u64;
            (this.observe)(bytes);
            if let Some(pace) = &mut this.pace {
                pace.passed += bytes;
                let due = Duration::from_secs_f64(pace.passed as f64 / pace.bytes_per_second as f64);
                pace.pause.as_mut().reset(pace.started + due);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Unpin for Metered<B> where B: Unpin {}
