//! Tests of starts on one target, also against a model that remembers everything.

use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_cooldown_begins_at_the_later_of_start_and_end_and_denies_while_it_runs() {
    let mut runs = Runs::default();
    let check =
        |runs: &Runs, now: i64, expected: Cooling| assert_eq!(runs.cooling(MINUTE, at(now)), expected);
    check(&runs, 0, Cooling::No(None));
    runs.started("a", true, 3, at(10));
    check(&runs, 1000, Cooling::Live("a".to_owned()));
    runs.ended("a", at(100));
    check(&runs, 159, Cooling::Until { last: at(100), opens_at: at(160) });
    check(&runs, 160, Cooling::No(Some(at(100))));
    // In shadow nothing ends.
    runs.started("b", false, 3, at(200));
    check(&runs, 259, Cooling::Until { last: at(200), opens_at: at(260) });
    runs.released("b");
    check(&runs, 259, Cooling::No(Some(at(100))));
    // A clock that was set back: it begins anew, once.
    assert!(runs.settle(at(50)) && !runs.settle(at(50)));
    check(&runs, 109, Cooling::Until { last: at(50), opens_at: at(110) });
}

#[test]
fn what_is_no_longer_listed_still_cools() {
    let mut runs = Runs::default();
    for (id, second) in [("a", 0), ("b", 10), ("c", 20)] {
        runs.started(id, false, 1, at(second));
    }
    assert!(runs.knows("c") && !runs.knows("b"));
    runs.released("c");
    assert_eq!(runs.last_start(), Some(at(10)));
    assert_eq!(runs.count(Limit { count: 1, within: MINUTE }, at(20)).count, 0);
}

#[test]
fn the_largest_record_stays_small() {
    let mut runs = Runs::default();
    for n in 0..1000 {
        runs.started(&format!("01J9ZQ5K3M8N7P6R5S4T3V{n:04}"), true, 100, at(1_763_740_800 + n));
    }
    assert_eq!(runs.starts.len(), 100);
    let bytes = serde_json::to_vec(&runs).unwrap();
    assert!(bytes.len() < 8 << 10, "{}", bytes.len());
    assert_eq!(serde_json::from_slice::<Runs>(&bytes).unwrap(), runs);
}

#[derive(Debug, Clone)]
enum Event {
    /// An alert asks.
    Ask,
    /// The oldest live one ends.
    End,
    /// The youngest live one never began.
    Release,
    Pass(u64),
    /// The clock goes back.
    Back(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Ask),
        2 => Just(Event::End),
        1 => Just(Event::Release),
        4 => (1_u64..200).prop_map(Event::Pass),
        1 => (1_u64..2000).prop_map(Event::Back),
    ];
    prop::collection::vec(event, 0..120)
}

proptest! {
    #[test]
    fn no_window_of_real_time_holds_more_starts_than_allowed_and_no_cooldown_is_cut_short(
        events in events(),
        cooldown in prop::option::of(1_u64..300),
        limits in prop::collection::vec((1_u32..5, 1_u64..600), 1..4),
    ) {
        let limits: Vec<Limit> = limits
            .into_iter()
            .map(|(count, within)| Limit { count, within: Duration::from_secs(within) })
            .collect();
        let keep = limits.iter().map(|limit| limit.count as usize).max().unwrap();
        let (mut runs, mut clock, mut real, mut next) = (Runs::default(), 100_000_i64, 0_i64, 0);
        // What really happened: id, start, end.
        let mut told: Vec<(String, i64, Option<i64>)> = Vec::new();
        let mut went_back = false;
        for event in events {
            match event {
                Event::Pass(seconds) => {
                    clock += seconds as i64;
                    real += seconds as i64;
                }
                Event::Back(seconds) => {
                    clock -= seconds as i64;
                    went_back = true;
                }
                Event::End => {
                    if let Some(one) = told.iter_mut().find(|one| one.2.is_none()) {
                        one.2 = Some(real);
                        runs.ended(&one.0, at(clock));
                    }
                }
                Event::Release => {
                    if let Some(place) = told.iter().rposition(|one| one.2.is_none()) {
                        runs.released(&told.remove(place).0);
                    }
                }
                Event::Ask => {
                    runs.settle(at(clock));
                    let now = at(clock);
                    let cools = cooldown.is_none_or(|wait| {
                        matches!(runs.cooling(Duration::from_secs(wait), now), Cooling::No(_))
                    });
                    let fits = limits.iter().all(|limit| runs.count(*limit, now).opens_at.is_none());
                    let within = |limit: &Limit| {
                        let since = real - limit.within.as_secs() as i64;
                        told.iter().filter(|one| one.1 > since).count() < limit.count as usize
                    };
                    let rested = cooldown.is_none_or(|wait| {
                        told.iter().all(|one| one.2.is_some_and(|end| real - end.max(one.1) >= wait as i64))
                    });
                    let may = limits.iter().all(within) && rested;
                    if went_back {
                        prop_assert!(may || !(cools && fits));
                    } else if keep >= told.len() {
                        prop_assert_eq!(may, cools && fits);
                    }
                    if cools && fits {
                        prop_assert!(may, "more than allowed");
                        next += 1;
                        let id = format!("{next}");
                        runs.started(&id, true, keep, now);
                        told.push((id, real, None));
                    }
                }
            }
            prop_assert!(runs.starts.len() <= keep);
        }
    }
}
