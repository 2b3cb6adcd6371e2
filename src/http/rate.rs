//! How often somebody may ask: counts over a window that slides in slices. Pure.
//!
//! A window is a minute in slices of five seconds, and the slice that has begun counts whole, so that there are
//! never more than the limit in *any* minute, while nobody who keeps to it over 65 s is refused. A token bucket would
//! let twice the limit through around a pause; one counter per minute would do so around each full minute. Counts, other
//! than a bucket's level, can be added up, so that instances can share them without asking each other first.
//! May import: `model` (the time). Must never: read a clock.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Milliseconds of a slice.
const SLICE: i64 = 5_000;
/// Slices that count: a minute, and the one that has begun.
const SLICES: i64 = 13;

/// What was asked within the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Window {
    /// The number of the slice that has begun, counted from 1970.
    last: i64,
    /// Counts; the slice numbered `n` stands at `n % SLICES`.
    counts: [u32; SLICES as usize],
}

fn slice(now: Timestamp) -> i64 {
    now.as_millisecond().div_euclid(SLICE)
}

fn place(slice: i64) -> usize {
    slice.rem_euclid(SLICES) as usize
}

impl Window {
    /// Forgets what is older than the window. A clock that was set back begins a new one, unless it was by less.
    fn settle(&mut self, now: Timestamp) {
        let current = slice(now);
        let passed = current.saturating_sub(self.last);
        if passed >= SLICES || passed <= -SLICES {
            *self = Self { last: current, counts: Default::default() };
            return;
        }
        for gone in self.last + 1..=current {
            self.counts[place(gone)] = 0;
        }
        self.last = self.last.max(current);
    }

    /// Counts one at `now`.
    pub(super) fn add(&mut self, now: Timestamp) {
        self.settle(now);
        let count = &mut self.counts[place(self.last)];
        *count = count.saturating_add(1);
    }

    /// How many count at `now`.
    pub(super) fn used(&self, now: Timestamp) -> u32 {
        let mut settled = *self;
        settled.settle(now);
        settled.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How long until fewer than `limit` count of these windows together, if nobody asks meanwhile.
    pub(super) fn wait(windows: &[Self], limit: u32, now: Timestamp) -> Duration {
        let current = slice(now);
        for ahead in 1..=SLICES {
            let then = Timestamp::from_millisecond((current + ahead) * SLICE).unwrap_or(now);
            let used = windows.iter().fold(0u32, |sum, window| sum.saturating_add(window.used(then)));
            if used < limit || ahead == SLICES {
                let left = then.as_millisecond() - now.as_millisecond();
                return Duration::from_millis(u64::try_from(left).unwrap_or(0));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
    }

    #[test]
    fn the_limit_is_reached_and_comes_back_as_the_minute_passes() {
        let mut window = Window::default();
        for second in 0..10 {
            window.add(at(second * 1000));
        }
        assert_eq!((window.used(at(9_000)), window.used(at(64_000)), window.used(at(65_000))), (10, 10, 5));
        assert_eq!(window.used(at(70_000)), 0);
        assert_eq!(Window::wait(&[window], 10, at(9_000)), Duration::from_secs(56));
        assert_eq!(Window::wait(&[window], 5, at(9_000)), Duration::from_secs(61));
        assert_eq!(Window::wait(&[window, window], 15, at(9_000)), Duration::from_secs(56));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_frees_nor_locks() {
        let mut window = Window::default();
        window.add(at(100_000));
        window.add(at(80_000));
        assert_eq!(window.used(at(80_000)), 2);
        assert_eq!(window.used(at(-100_000_000)), 0, "far back, what was counted is of another time");
        window.add(at(-100_000_000));
        assert_eq!(window.used(at(-100_000_000)), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_minute(
            limit in 1u32..20,
            mut times in proptest::collection::vec(0i64..300_000, 1..400),
        ) {
            times.sort_unstable();
            let mut window = Window::default();
            let mut allowed: Vec<i64> = Vec::new();
            for time in times {
                if window.used(at(time)) < limit {
                    window.add(at(time));
                    allowed.push(time);
                } else {
                    // Refused only when there was a reason within 65 s, and the wait that is told is enough.
                    let recent = allowed.iter().filter(|earlier| time - **earlier < 65_000).count();
                    prop_assert!(recent >= limit as usize);
                    let wait = Window::wait(&[window], limit, at(time)).as_millis() as i64;
                    prop_assert!(wait > 0 && wait <= 65_000);
                    prop_assert!(window.used(at(time + wait)) < limit);
                }
            }
            for (first, time) in allowed.iter().enumerate() {
                let within = allowed[first..].iter().filter(|later| **later - time < 60_000).count();
                prop_assert!(within <= limit as usize);
            }
        }
    }
}
