//! A queue of files with a bound on how many of them are in flight.
//!
//! Small files are handed out several at a time: what a thread switch costs for each of them would be more than its
//! bytes cost.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::order::Unit;

/// Small files that are read in one step: those of one SSTable.
pub(super) const READ_TOGETHER: usize = 8;
/// Their bytes at most.
const READ_TOGETHER_BYTES: u64 = 512 << 10;

/// Files that wait, and room for those in flight.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Unit>>,
    room: Semaphore,
    width: usize,
    together: usize,
}

/// What a worker does next.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// One file, or several small ones.
    pub units: Vec<Unit>,
    /// Room for each of them.
    pub room: SemaphorePermit<'a>,
}

impl Lane {
    /// A lane for `width` files in flight that are handed out up to `together` at a time.
    pub(super) fn new(units: Vec<Unit>, width: usize, together: usize) -> Self {
        let width = width.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            queue: Mutex::new(units.into()),
            room: Semaphore::new(width),
            width,
            together: together.clamp(1, width),
        }
    }

    /// Workers that have something to do.
    pub(super) fn workers(&self) -> usize {
        self.queue().len().min(self.width)
    }

    /// Waits for room and takes files from the queue; `None` when it is empty. Files for which `may_join` says no
    /// come alone.
    pub(super) async fn next(&self, may_join: impl Fn(&Unit) -> bool) -> Option<Turn<'_>> {
        let room = u32::try_from(self.together).unwrap_or(u32::MAX);
        let mut room = self.room.acquire_many(room).await.ok()?;
        let units = self.take(may_join)?;
        drop(room.split(self.together.saturating_sub(units.len())));
        Some(Turn { units, room })
    }

    fn take(&self, may_join: impl Fn(&Unit) -> bool) -> Option<Vec<Unit>> {
        let mut queue = self.queue();
        // A short queue is shared out: nobody waits for a row of files while others have nothing to do.
        let share = queue.len().div_ceil((self.width / self.together).max(1)).min(self.together);
        let mut units = vec![queue.pop_front()?];
        let mut bytes = units.iter().map(|unit| unit.file.size).sum::<u64>();
        if !units.iter().all(&may_join) {
            return Some(units);
        }
        while units.len() < share
            && let Some(unit) = queue.pop_front_if(|next| {
                bytes += next.file.size;
                bytes <= READ_TOGETHER_BYTES && may_join(next)
            })
        {
            units.push(unit);
        }
        Some(units)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Unit>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::SourceFile;
    use super::*;

    fn lane(sizes: &[u64], width: usize) -> Lane {
        let unit = |(at, size): (usize, &u64)| Unit {
            file: SourceFile { name: format!("{at}"), size: *size, info: None, missing: false },
            digest: None,
        };
        Lane::new(sizes.iter().enumerate().map(unit).collect(), width, READ_TOGETHER)
    }

    async fn turns(lane: &Lane, may_join: impl Fn(&Unit) -> bool) -> Vec<usize> {
        let mut turns = Vec::new();
        while let Some(turn) = lane.next(&may_join).await {
            turns.push(turn.units.len());
        }
        turns
    }

    #[tokio::test]
    async fn small_files_come_together_and_others_alone() {
        let kib = |n: u64| n << 10;
        for (sizes, expected) in [
            (vec![kib(1); 40], vec![8, 8, 6, 5, 4, 3, 2, 1, 1, 1, 1]),
            (vec![kib(1); 3], vec![1, 1, 1]),
            (vec![kib(200); 33], [vec![2; 15], vec![1; 3]].concat()),
            (vec![kib(600); 2], vec![1, 1]),
            (vec![], vec![]),
        ] {
            assert_eq!(turns(&lane(&sizes, 32), |_| true).await, expected, "{sizes:?}");
        }
        assert_eq!(turns(&lane(&[1; 20], 8), |unit| unit.file.name != "5").await, [5, 1, 8, 6]);
    }

    #[tokio::test]
    async fn no_more_than_the_width_is_in_flight() {
        let lane = lane(&[1; 100], 16);
        let (first, second) = (lane.next(|_| true).await.unwrap(), lane.next(|_| true).await.unwrap());
        assert_eq!((first.units.len(), second.units.len(), lane.room.available_permits()), (8, 8, 0));
        drop(first);
        let alone = lane.next(|_| false).await.unwrap();
        assert_eq!((alone.units.len(), lane.room.available_permits()), (1, 7));
    }
}
