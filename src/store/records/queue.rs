//! How many of the stored executions are queued: counted in memory, because it is asked in every request.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many executions are queued. Intake adds, the engine takes away.
#[derive(Debug, Default)]
pub struct QueueCount(AtomicUsize);

impl QueueCount {
    /// How many.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// `count` more, unless that would exceed `limit`; none more always fit, also where the limit was lowered.
    ///
    /// # Errors
    /// How many are queued.
    pub fn try_add(&self, count: usize, limit: usize) -> Result<(), usize> {
        if count == 0 {
            return Ok(());
        }
        let room = |queued: usize| queued.checked_add(count).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).map(|_| ())
    }

    /// `count` fewer.
    pub fn remove(&self, count: usize) {
        // Never below zero: a count that wrapped round would refuse every alert.
        let _before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |queued| Some(queued.saturating_sub(count)));
    }
}
