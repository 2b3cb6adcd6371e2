//! ULIDs that only ever grow, so that the order of ids is the order of acceptance.

use crate::model::Timestamp;
use std::sync::{Mutex, PoisonError};
use ulid::Ulid;

/// Gives ids. One per store; shared by everything that makes executions and decisions.
#[derive(Debug)]
pub struct Ids(Mutex<Ulid>);

impl Ids {
    /// Ids behind `latest`, the last one stored: also when the clock went back since.
    pub fn after(latest: Option<&str>) -> Self {
        let latest = latest.and_then(|text| Ulid::from_string(text).ok());
        Self(Mutex::new(latest.unwrap_or(Ulid::nil())))
    }

    /// The next id at `now`.
    pub fn next(&self, now: Timestamp) -> Ulid {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
        // 80 random bits; of the same or an earlier millisecond: one more than the last.
        let fresh = Ulid::from_parts(milliseconds, Ulid::generate().random());
        *last = if fresh > *last { fresh } else { last.increment().unwrap_or(fresh) };
        *last
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
}
