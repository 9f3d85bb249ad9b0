//! Buffers under one byte budget, so that the agent's memory depends neither on files nor on settings.
//!
//! A buffer is taken before bytes are read into it and comes back when the last reference to those bytes is
//! dropped, which is after the network has taken them. Memory of large buffers is reused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the budget, bytes: a semaphore counts 32 bits of permits at a time.
const UNIT: usize = 1024;
/// Smaller buffers are cheaper to allocate than to keep.
const MIN_POOLED: usize = 1 << 20;

/// The byte budget and the free buffers.
#[derive(Debug)]
pub struct BufferPool {
    budget: u64,
    permits: Arc<Semaphore>,
    free: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A pool of at most `budget` bytes.
    pub fn new(budget: u64) -> Arc<Self> {
        let units = usize::try_from(budget / UNIT as u64).unwrap_or(Semaphore::MAX_PERMITS);
        let units = units.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { budget, permits: Arc::new(Semaphore::new(units)), free: Mutex::default() })
    }

    /// The budget in bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Waits for room for `size` bytes. More than the whole budget waits for the whole budget.
    pub async fn take(self: &Arc<Self>, size: usize) -> Buffer {
        let whole = usize::try_from(self.budget / UNIT as u64).unwrap_or(usize::MAX).max(1);
        let units = size.div_ceil(UNIT).clamp(1, whole);
        let permit = self
            .permits
            .clone()
            .acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX))
            .await
            .expect("the semaphore is never closed");
        // Zeroed pages come from the kernel when they are first touched, so this costs nothing extra.
        let storage = self.reuse(size).unwrap_or_else(|| vec![0; size]);
        Buffer { storage, length: 0, home: Some((self.clone(), permit)), room: None }
    }

    fn reuse(&self, size: usize) -> Option<Vec<u8>> {
        let mut free = self.free();
        // The last one given back is the likeliest to be in the processor's cache.
        let found = free.iter().rposition(|b| size >= MIN_POOLED && b.len() >= size && b.len() <= 2 * size);
        let found = found.map(|index| free.remove(index));
        self.trim(&mut free);
        found
    }

    fn give_back(&self, storage: Vec<u8>) {
        if storage.len() >= MIN_POOLED {
            let mut free = self.free();
            free.push(storage);
            self.trim(&mut free);
        }
    }

    /// What is free and what is in use stay within the budget together.
    fn trim(&self, free: &mut Vec<Vec<u8>>) {
        let idle = self.permits.available_permits() * UNIT;
        let mut kept: usize = free.iter().map(Vec::len).sum();
        while kept > idle {
            kept -= free.pop().map_or(kept, |b| b.len());
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the memory of free buffers, once nothing is in transfer.
    pub fn shrink(&self) {
        *self.free() = Vec::new();
    }
}

/// Room for bytes, with its share of the budget.
#[derive(Debug)]
pub struct Buffer {
    storage: Vec<u8>,
    length: usize,
    home: Option<(Arc<BufferPool>, OwnedSemaphorePermit)>,
    /// Held as long as the buffer.
    room: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// The buffer with a permit that goes back when it does.
    pub fn holding(mut self, room: OwnedSemaphorePermit) -> Self {
        self.room = Some(room);
        self
    }

    /// Makes the buffer `length` bytes long and returns them for overwriting; what they hold is arbitrary.
    pub fn space(&mut self, length: usize) -> &mut [u8] {
        if self.storage.len() < length {
            self.storage.resize(length, 0);
        }
        self.length = length;
        &mut self.storage[..length]
    }

    /// Shares the bytes; the budget gets its share back with the last reference.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.storage[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, permit)) = self.home.take() {
            drop(permit);
            pool.give_back(std::mem::take(&mut self.storage));
            // Last: whoever waits for it finds the budget free.
            drop(self.room.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_kept_until_the_last_slice_is_gone() {
        let pool = BufferPool::new(10 << 20);
        let mut buffer = pool.take(6 << 20).await;
        buffer.space(3).copy_from_slice(b"abc");
        let whole = buffer.freeze();
        let slice = whole.slice(1..2);
        drop(whole);
        assert!(tokio::time::timeout(Duration::from_secs(1), pool.take(6 << 20)).await.is_err());
        drop(slice);
        assert_eq!(pool.free().len(), 1);
        let again = pool.take(5 << 20).await;
        assert!(again.as_ref().is_empty());
        assert_eq!(pool.free().len(), 0);
    }

    #[tokio::test]
    async fn free_and_used_memory_stay_within_the_budget() {
        let pool = BufferPool::new(10 << 20);
        drop(pool.take(8 << 20).await);
        assert_eq!(pool.free().len(), 1);
        let small: Vec<_> = futures::future::join_all((0..4).map(|_| pool.take(1 << 20))).await;
        assert_eq!(pool.free().len(), 0);
        drop(small);
        pool.shrink();
        assert_eq!(pool.free().len(), 0);
    }

    #[tokio::test]
    async fn more_than_everything_gets_everything() {
        let pool = BufferPool::new(1 << 20);
        drop(pool.take(5 << 20).await);
        assert_eq!(pool.permits.available_permits(), 1024);
    }
}
