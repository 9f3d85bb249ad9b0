//! How many parts may be out that the store has not confirmed yet.
//!
//! A part that has left may be in the store or in buffers on the way to it; only the reply tells. What is in buffers
//! when a job is cut off is sent again, so a slow line gets a narrow window. Where replies come quickly there is
//! nothing on the way for long, and a wide window hides the time that each of them takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::storage::{Result, StorageError};

/// The window at its narrowest, per part that may be on the network.
const NARROW: usize = 2;
/// At its widest.
const WIDE: usize = 4;
/// More parts than that are never out for the sake of latency.
const WIDEST: usize = 64;
/// A part that was sent and confirmed within this time met no buffers worth speaking of.
const QUICK: Duration = Duration::from_millis(250);

/// For so long the width that a reply left is a fair guess for the next job: tables of a backup follow one another at
/// once.
const FRESH: Duration = Duration::from_secs(10);

/// How wide the window of the latest reply was, for the next job to start with.
#[derive(Debug, Default)]
pub(super) struct LatestWidth(Mutex<Option<(Instant, usize)>>);

impl LatestWidth {
    fn get(&self) -> Option<usize> {
        let latest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.filter(|(at, _)| at.elapsed() <= FRESH).map(|(_, width)| width)
    }

    fn set(&self, width: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), width));
    }
}

/// Room for unconfirmed parts. Each quick reply widens it by one, a slow or failed one narrows it at once.
#[derive(Debug)]
pub(super) struct Window {
    room: Semaphore,
    state: Mutex<State>,
    narrow: usize,
    wide: usize,
    latest: Arc<LatestWidth>,
}

#[derive(Debug)]
struct State {
    width: usize,
    /// Places that are taken and go away when they come back.
    surplus: usize,
}

/// A part that is out. Dropped without [`Out::confirmed`] it counts as failed.
#[derive(Debug)]
pub(super) struct Out<'a> {
    window: &'a Window,
    place: Option<SemaphorePermit<'a>>,
    since: Instant,
    quick: bool,
}

impl Window {
    /// A window for that many parts on the network.
    pub(super) fn new(parts: usize, latest: Arc<LatestWidth>) -> Self {
        let times = |factor: usize| parts.max(1).saturating_mul(factor).min(Semaphore::MAX_PERMITS);
        let narrow = times(NARROW);
        let wide = times(WIDE).min(WIDEST).max(narrow);
        let width = latest.get().unwrap_or(narrow).clamp(narrow, wide);
        let state = Mutex::new(State { width, surplus: 0 });
        Self { room: Semaphore::new(width), state, narrow, wide, latest }
    }

    /// Waits for room for one part.
    ///
    /// # Errors
    /// The job is over.
    pub(super) async fn enter(&self) -> Result<Out<'_>> {
        let place = self.room.acquire().await.map_err(|_| StorageError::Interrupted)?;
        Ok(Out { window: self, place: Some(place), since: Instant::now(), quick: false })
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.room.close();
    }

    fn widen(&self) {
        let mut state = self.state();
        if state.width == self.wide {
            return;
        }
        state.width += 1;
        if state.surplus > 0 {
            state.surplus -= 1;
        } else {
            self.room.add_permits(1);
        }
    }

    fn narrow(&self) {
        let mut state = self.state();
        let excess = state.width - self.narrow;
        state.width = self.narrow;
        state.surplus += excess - self.room.forget_permits(excess);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out<'_> {
    /// The store has the part.
    pub(super) fn confirmed(mut self) {
        self.quick = self.since.elapsed() <= QUICK;
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        if self.quick {
            self.window.widen();
        } else {
            self.window.narrow();
        }
        let mut state = self.window.state();
        self.window.latest.set(state.width);
        if state.surplus > 0 {
            state.surplus -= 1;
            if let Some(place) = self.place.take() {
                place.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(parts: usize) -> Window {
        Window::new(parts, Arc::default())
    }

    fn room(window: &Window) -> usize {
        window.room.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn quick_replies_widen_it_up_to_a_bound() {
        let window = window(4);
        assert_eq!(room(&window), 8);
        for sent in 1..20 {
            window.enter().await.unwrap().confirmed();
            assert_eq!(room(&window), (8 + sent).min(16));
        }
        assert_eq!(room(&Window::new(100, Arc::default())), 200, "never narrower than what a slow line has");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reply_or_a_failure_narrows_it_at_once() {
        for fails in [false, true] {
            let window = window(1);
            for _ in 0..2 {
                window.enter().await.unwrap().confirmed();
            }
            let mut out = Vec::new();
            for _ in 0..4 {
                out.push(window.enter().await.unwrap());
            }
            assert_eq!(room(&window), 0);
            tokio::time::advance(QUICK * 2).await;
            match (out.pop(), fails) {
                (Some(part), false) => part.confirmed(),
                (part, _) => drop(part),
            }
            assert_eq!(room(&window), 0, "three are still out, one more than may be");
            out.pop();
            assert_eq!(room(&window), 0);
            out.pop();
            assert_eq!(room(&window), 1);
            out.clear();
            assert_eq!(room(&window), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_job_starts_with_the_latest_width_unless_it_is_old() {
        let latest = Arc::<LatestWidth>::default();
        let start = || room(&Window::new(4, latest.clone()));
        let first = Window::new(4, latest.clone());
        for _ in 0..3 {
            first.enter().await.unwrap().confirmed();
        }
        assert_eq!(start(), 11);
        assert_eq!(room(&Window::new(1, latest.clone())), 4, "within its own bounds");
        drop(first.enter().await.unwrap());
        assert_eq!(start(), 8, "a failure is remembered too");
        first.enter().await.unwrap().confirmed();
        assert_eq!(start(), 9);
        tokio::time::advance(FRESH * 2).await;
        assert_eq!(start(), 8);
    }

    #[tokio::test]
    async fn a_closed_window_lets_nobody_in() {
        let window = window(1);
        let out = window.enter().await.unwrap();
        window.close();
        assert!(matches!(window.enter().await, Err(StorageError::Interrupted)));
        out.confirmed();
    }
}
