//! Tests of how far a runbook has spread, also against a model that remembers every start.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn target(number: u32) -> Target {
    Target::new(&format!("t{number}")).unwrap()
}

#[test]
fn a_known_target_takes_no_place_and_a_new_one_waits_for_one() {
    let limit = Limit { count: 2, within: Duration::from_secs(60) };
    let mut targets = Targets::default();
    targets.started(&target(1), limit, at(0));
    targets.started(&target(2), limit, at(30));
    let spread = |targets: &Targets, number, now| targets.spread(&target(number), limit, at(now));
    assert!(spread(&targets, 1, 59).fits(limit) && spread(&targets, 1, 59).is_known);
    let full = spread(&targets, 3, 59);
    assert!(!full.fits(limit) && !full.is_known);
    assert_eq!(full.others, Counted { count: 2, opens_at: Some(at(60)) });
    assert!(spread(&targets, 3, 60).fits(limit));
    // One that never began gives its place back, one that began earlier keeps it.
    targets.started(&target(1), limit, at(40));
    targets.released(&target(1), Some(at(0)));
    assert!(!spread(&targets, 3, 59).fits(limit) && spread(&targets, 3, 60).fits(limit));
    targets.released(&target(2), None);
    assert!(spread(&targets, 3, 59).fits(limit));
}

#[test]
fn the_largest_record_is_bounded() {
    let limit = Limit { count: 500, within: Duration::from_secs(3600) };
    let mut targets = Targets::default();
    for number in 0..2000 {
        targets.started(&target(number), limit, at(1_763_740_800));
    }
    assert_eq!(targets.0.len(), 500);
    let bytes = serde_json::to_vec(&targets).unwrap();
    assert!(bytes.len() < 34 << 10, "{}", bytes.len());
}

proptest! {
    #[test]
    fn in_no_window_are_more_targets_than_allowed(
        asks in prop::collection::vec((0_u32..8, 0_i64..30, prop::bool::weighted(0.1), 0_i64..500), 0..120),
        count in 1_u32..5,
        within in 1_u64..200,
    ) {
        let limit = Limit { count, within: Duration::from_secs(within) };
        let (mut targets, mut clock, mut real) = (Targets::default(), 100_000, 0);
        let mut told: Vec<(u32, i64)> = Vec::new();
        let mut went_back = false;
        for (number, gap, back, by) in asks {
            clock += gap;
            real += gap;
            if back {
                clock -= by;
                went_back = true;
            }
            targets.settle(at(clock));
            let since = real - within as i64;
            let mut acted: BTreeSet<u32> =
                told.iter().filter(|(_, at)| *at > since).map(|(number, _)| *number).collect();
            acted.insert(number);
            let may = acted.len() <= count as usize;
            let fits = targets.spread(&target(number), limit, at(clock)).fits(limit);
            prop_assert!(may || !fits);
            prop_assert!(went_back || may == fits);
            if fits {
                targets.started(&target(number), limit, at(clock));
                told.push((number, real));
            }
        }
        // In any window, not only in those that end at a start.
        for (_, end) in &told {
            let within = |at: i64| at > end - within as i64 && at <= *end;
            let acted: BTreeSet<u32> = told.iter().filter(|(_, at)| within(*at)).map(|(n, _)| *n).collect();
            prop_assert!(acted.len() <= count as usize);
        }
    }
}
