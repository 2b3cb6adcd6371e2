//! Flapping: an alert that fires and resolves again and again is not helped by what is done to it.
//!
//! An episode keeps when its alert changed; time is treated as in `runs`.

use super::runs::{Counted, counted};
use super::settings::Limit;
use crate::model::Timestamp;

/// The most changes remembered of an alert: no limit can ask for more, plus the one that is above it.
const KEPT: usize = 51;

/// `changes`, the oldest first, with one more at `now`.
pub fn changed(changes: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let surplus = (changes.len() + 1).saturating_sub(KEPT);
    changes.iter().skip(surplus).map(|at| (*at).min(now)).chain([now]).collect()
}

/// How many changes lie within `limit`, and, where they are too many, when they no longer are if no more come.
pub fn flaps(changes: &[Timestamp], limit: Limit, now: Timestamp) -> Counted {
    // As many as the limit says are allowed, so there is room again when the one above it has left.
    let above = Limit { count: limit.count.saturating_add(1), ..limit };
    counted(changes.iter().copied(), above, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn as_many_changes_as_the_limit_says_are_allowed() {
        let limit = Limit { count: 3, within: Duration::from_secs(60) };
        let changes = [at(0), at(10), at(20), at(30)];
        let check = |known: &[Timestamp], now: i64, count: usize, opens_at: Option<i64>| {
            let expected = Counted { count, opens_at: opens_at.map(at) };
            assert_eq!(flaps(known, limit, at(now)), expected, "{now}");
        };
        check(&changes[..3], 20, 3, None);
        check(&changes, 30, 4, Some(60));
        check(&changes, 59, 4, Some(60));
        check(&changes, 60, 3, None);
        check(&[], 60, 0, None);
    }

    proptest! {
        #[test]
        fn it_counts_as_one_that_remembers_everything(
            gaps in prop::collection::vec(0_i64..40, 0..90),
            count in 2_u32..=50,
            within in 1_u64..600,
        ) {
            let limit = Limit { count, within: Duration::from_secs(within) };
            let (mut now, mut all, mut kept) = (0, Vec::new(), Vec::new());
            for gap in gaps {
                now += gap;
                all.push(now);
                kept = changed(&kept, at(now));
                prop_assert!(kept.len() <= KEPT);
                let told = all.iter().filter(|change| **change > now - within as i64).count();
                let seen = flaps(&kept, limit, at(now));
                prop_assert_eq!(seen.opens_at.is_some(), told > count as usize);
                prop_assert_eq!(seen.count, told.min(KEPT));
            }
        }

        #[test]
        fn a_clock_that_goes_back_forgets_no_change(
            gaps in prop::collection::vec(-300_i64..40, 0..50),
        ) {
            let limit = Limit { count: 2, within: Duration::from_secs(60) };
            let (mut now, mut real, mut kept, mut all) = (10_000, 0, Vec::new(), Vec::new());
            for gap in gaps {
                real += gap.max(0);
                now += gap;
                kept = changed(&kept, at(now));
                all.push(real);
                let told = all.iter().filter(|change| **change > real - 60).count();
                prop_assert!(flaps(&kept, limit, at(now)).count >= told);
            }
        }
    }
}
