//! Time as an argument: pure code takes a [`Timestamp`], everything else asks a [`Clock`].

pub use jiff::Timestamp;

use std::sync::atomic::{AtomicI64, Ordering};

/// Where wall-clock time comes from. The one real implementation lives in `app`.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC, rounded down to a millisecond so that a stored time reads back equal.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until told otherwise; for tests and simulation.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.as_millisecond()))
    }

    /// Moves the clock forward (or back, for a negative number) by `milliseconds`.
    pub fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// `start` plus `duration`, or the end of time.
pub fn after(start: Timestamp, duration: std::time::Duration) -> Timestamp {
    jiff::SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| start.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `duration` before `end`; the beginning of time where that is earlier.
pub fn before(end: Timestamp, duration: std::time::Duration) -> Timestamp {
    jiff::SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| end.checked_sub(duration).ok())
        .unwrap_or(Timestamp::MIN)
}

/// From `start` to `end`; zero when `end` is earlier, as a clock set back can make it.
pub fn between(start: Timestamp, end: Timestamp) -> std::time::Duration {
    end.duration_since(start).try_into().unwrap_or_default()
}
