//! ULIDs that only ever grow, so that the order of ids is the order of acceptance.

use crate::model::Timestamp;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use ulid::Ulid;

/// Gives ids. One per store; shared by everything that makes executions and decisions.
#[derive(Debug)]
pub struct Ids(Mutex<Source>);

struct Source {
    last: Ulid,
    random: Box<dyn FnMut() -> u128 + Send>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Ids {
    /// Ids behind `latest`, the last one stored: also when the clock went back since.
    pub fn after(latest: Option<&str>) -> Self {
        Self::drawn(latest, || Ulid::generate().random())
    }

    /// The same, whose randomness is the caller's: for tests and simulations, which must come to the same ids again.
    pub fn drawn(latest: Option<&str>, random: impl FnMut() -> u128 + Send + 'static) -> Self {
        let latest = latest.and_then(|text| Ulid::from_string(text).ok());
        Self(Mutex::new(Source { last: latest.unwrap_or(Ulid::nil()), random: Box::new(random) }))
    }

    /// The next id at `now`.
    pub fn next(&self, now: Timestamp) -> Ulid {
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
        // 80 random bits; of the same or an earlier millisecond: one more than the last.
        let fresh = Ulid::from_parts(milliseconds, (source.random)());
        source.last = if fresh > source.last { fresh } else { source.last.increment().unwrap_or(fresh) };
        source.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_when_the_clock_goes_back() {
        let stored = Ulid::from_parts(2_000_000_000_000, 7).to_string();
        let ids = Ids::after(Some(&stored));
        let mut last = stored;
        for milliseconds in [1_900_000_000_000, 2_100_000_000_000, 2_100_000_000_000, 5] {
            let next = ids.next(Timestamp::from_millisecond(milliseconds).unwrap()).to_string();
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn the_same_randomness_gives_the_same_ids() {
        let [first, second] = [(); 2].map(|()| {
            let mut count = 0;
            let ids = Ids::drawn(None, move || {
                count += 1;
                count
            });
            [1, 1, 2].map(|at| ids.next(Timestamp::from_millisecond(at).unwrap()))
        });
        assert_eq!(first, second);
    }
}
