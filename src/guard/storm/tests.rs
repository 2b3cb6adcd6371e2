//! Tests of the storm: how it is entered and left, also against a model that remembers every episode.

use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const LIMIT: StormLimit = StormLimit { episodes_per_minute: 3, cooldown: Duration::from_secs(100) };

#[test]
fn one_above_the_limit_is_a_storm_and_only_a_whole_cooldown_of_calm_ends_it() {
    let mut storm = Storm::default();
    for second in [0, 10, 20] {
        storm.began(LIMIT, at(second));
        assert_eq!(storm.raging(LIMIT, at(second)), None, "{second}");
    }
    assert_eq!((storm.rate(at(20)), storm.rate(at(60)), storm.rate(at(61))), (3, 3, 2));
    storm.began(LIMIT, at(30));
    // The rate falls to 3 at 61, and 100 seconds later it is over.
    let raging = |until| Some(Raging { since: at(30), until: at(until) });
    assert_eq!(storm.raging(LIMIT, at(30)), raging(161));
    storm.began(LIMIT, at(100));
    assert_eq!(storm.raging(LIMIT, at(160)), raging(161), "calm is a rate at or below the limit");
    assert_eq!(storm.raging(LIMIT, at(161)), None);
    // A relapse within the cooldown prolongs it, a later one begins another.
    for second in [150, 150, 150] {
        storm.began(LIMIT, at(second));
    }
    assert_eq!(storm.raging(LIMIT, at(200)), raging(261));
    for second in [300, 300, 300, 300] {
        storm.began(LIMIT, at(second));
    }
    let again = storm.raging(LIMIT, at(300)).unwrap();
    assert_eq!((again.since, again.until), (at(300), at(461)));
    // A limit that a reload lifted counts from the next episode on, a cooldown at once.
    let brief = StormLimit { cooldown: Duration::from_secs(1), ..LIMIT };
    assert_eq!(storm.raging(brief, at(362)), None);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_it_endless() {
    let mut storm = Storm::default();
    for _ in 0..4 {
        storm.began(LIMIT, at(100_000));
    }
    assert!(storm.settle(at(1000)) && !storm.settle(at(1000)));
    assert_eq!(storm.rate(at(1000)), 4);
    assert_eq!(storm.raging(LIMIT, at(1160)), Some(Raging { since: at(1000), until: at(1161) }));
    assert_eq!(storm.raging(LIMIT, at(1161)), None);
}

#[test]
fn the_record_is_bounded() {
    let mut storm = Storm::default();
    for second in 0..10_000 {
        storm.began(LIMIT, at(1_763_740_800 + second));
    }
    assert_eq!(storm.seconds.len(), 61);
    assert!(serde_json::to_vec(&storm).unwrap().len() < 2048);
}

proptest! {
    #[test]
    fn it_rages_as_one_that_remembers_every_episode(
        gaps in prop::collection::vec(0_i64..60, 0..80),
        episodes_per_minute in 1_u32..6,
        cooldown in 1_i64..200,
    ) {
        let limit = StormLimit { episodes_per_minute, cooldown: Duration::from_secs(cooldown as u64) };
        let mut storm = Storm::default();
        let (mut now, mut all) = (1000_i64, Vec::<i64>::new());
        // The last second at which the rate was above the limit.
        let mut last_over: Option<i64> = None;
        for gap in gaps {
            for _ in 0..gap {
                now += 1;
                let rate = all.iter().filter(|began| **began >= now - 60).count();
                if rate > episodes_per_minute as usize {
                    last_over = Some(now);
                }
                let raging = last_over.is_some_and(|over| now < over + 1 + cooldown);
                prop_assert_eq!(storm.raging(limit, at(now)).is_some(), raging);
                prop_assert_eq!(storm.rate(at(now)), rate as u64);
            }
            all.push(now);
            storm.began(limit, at(now));
            if all.iter().filter(|began| **began >= now - 60).count() > episodes_per_minute as usize {
                last_over = Some(now);
            }
            let raging = last_over.is_some_and(|over| now < over + 1 + cooldown);
            prop_assert_eq!(storm.raging(limit, at(now)).is_some(), raging);
        }
    }
}
