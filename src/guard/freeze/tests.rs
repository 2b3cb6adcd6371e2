//! Tests of freezes: borders, midnight, and the days on which clocks are set.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn weekly(days: &[Weekday], from: &str, until: &str, zone: &str) -> Freeze {
    let time = |text: &str| text.parse::<Time>().unwrap();
    let zone = TimeZone::get(zone).unwrap();
    let weekly = Weekly { days: days.to_vec(), from: time(from), until: time(until), zone };
    Freeze { name: "w".to_owned(), window: Window::Weekly(weekly), allow_manual: false }
}

/// The freeze begins exactly at `from` and ends exactly at `until`.
fn check(freeze: &Freeze, from: &str, until: &str) {
    let (from, until) = (at(from), at(until));
    let step = Span::new().milliseconds(1);
    assert_eq!(freeze.ends(from - step), None, "before {from}");
    assert_eq!(freeze.ends(from), Some(until), "from {from}");
    assert_eq!(freeze.ends(until - step), Some(until), "last of {until}");
    assert_eq!(freeze.ends(until), None, "until {until}");
}

#[test]
fn the_beginning_is_part_of_a_freeze_and_the_end_is_not() {
    let window = Window::Once { from: at("2026-12-24T00:00:00Z"), until: at("2027-01-02T00:00:00Z") };
    let freeze = Freeze { name: "year end".to_owned(), window, allow_manual: false };
    check(&freeze, "2026-12-24T00:00:00Z", "2027-01-02T00:00:00Z");
}

#[test]
fn a_weekly_freeze_crosses_midnight_and_knows_its_zone() {
    use Weekday::Friday;
    let freeze = weekly(&[Friday], "18:00", "02:00", "Europe/Berlin");
    check(&freeze, "2026-11-20T17:00:00Z", "2026-11-21T01:00:00Z");
    check(&freeze, "2026-07-03T16:00:00Z", "2026-07-04T00:00:00Z");
    let day = weekly(&[Friday], "00:00", "00:00", "Asia/Kolkata");
    check(&day, "2026-11-19T18:30:00Z", "2026-11-20T18:30:00Z");
    let leap = weekly(&[Weekday::Tuesday], "22:00", "06:00", "UTC");
    check(&leap, "2028-02-29T22:00:00Z", "2028-03-01T06:00:00Z");
}

#[test]
fn a_border_in_the_hour_that_is_left_out_is_the_jump_and_in_the_repeated_hour_it_is_the_safe_one() {
    use Weekday::{Saturday, Sunday};
    // Berlin 2026-03-29: 02:00 becomes 03:00 at 01:00Z. 2026-10-25: 03:00 becomes 02:00 at 01:00Z.
    check(
        &weekly(&[Sunday], "02:30", "12:00", "Europe/Berlin"),
        "2026-03-29T01:00:00Z",
        "2026-03-29T10:00:00Z",
    );
    check(
        &weekly(&[Saturday], "22:00", "02:30", "Europe/Berlin"),
        "2026-03-28T21:00:00Z",
        "2026-03-29T01:00:00Z",
    );
    check(
        &weekly(&[Sunday], "02:30", "12:00", "Europe/Berlin"),
        "2026-10-25T00:30:00Z",
        "2026-10-25T11:00:00Z",
    );
    check(
        &weekly(&[Saturday], "22:00", "02:30", "Europe/Berlin"),
        "2026-10-24T20:00:00Z",
        "2026-10-25T01:30:00Z",
    );
    // Both borders in the hour that is left out: there is no such window on that day.
    let nothing = weekly(&[Sunday], "02:10", "02:50", "Europe/Berlin");
    assert_eq!(nothing.ends(at("2026-03-29T01:00:00Z")), None);
    // Clocks that are set at midnight: the day begins at 01:00. Beirut 2026-03-29.
    let day = weekly(&[Sunday], "00:00", "06:00", "Asia/Beirut");
    check(&day, "2026-03-28T22:00:00Z", "2026-03-29T03:00:00Z");
}

#[test]
fn freezes_that_follow_one_another_end_together() {
    let days = weekly(&[Weekday::Saturday, Weekday::Sunday], "00:00", "00:00", "UTC");
    let early = weekly(&[Weekday::Monday], "00:00", "06:00", "UTC");
    let all = [days, early];
    assert_eq!(thaws(&all, at("2026-11-21T09:00:00Z")), Some(at("2026-11-23T06:00:00Z")));
    assert_eq!(thaws(&all, at("2026-11-23T06:00:00Z")), None);
    assert_eq!(in_force(&all, at("2026-11-23T05:00:00Z")).count(), 1);
    let always = [weekly(
        &[
            Weekday::Monday,
            Weekday::Tuesday,
            Weekday::Wednesday,
            Weekday::Thursday,
            Weekday::Friday,
            Weekday::Saturday,
            Weekday::Sunday,
        ],
        "09:00",
        "09:00",
        "UTC",
    )];
    assert!(thaws(&always, at("2026-11-23T06:00:00Z")).is_some());
}

/// Whether a clock on the wall says so.
fn by_the_wall(weekly: &Weekly, now: Timestamp) -> bool {
    let shown = now.to_zoned(weekly.zone.clone()).datetime();
    [shown.date(), shown.date().yesterday().unwrap()].into_iter().any(|day| {
        let last = if weekly.until > weekly.from { day } else { day.tomorrow().unwrap() };
        weekly.days.contains(&day.weekday())
            && day.to_datetime(weekly.from) <= shown
            && shown < last.to_datetime(weekly.until)
    })
}

proptest! {
    #[test]
    fn it_is_what_the_clock_on_the_wall_says_and_more_only_while_that_shows_an_hour_twice(
        zone in prop::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana", "UTC",
        ]),
        days in prop::collection::btree_set(1_i8..=7, 1..4),
        from in (0_i8..24, 0_i8..60),
        until in (0_i8..24, 0_i8..60),
        minute in 0_i64..(2 * 366 * 24 * 60),
    ) {
        let days: Vec<Weekday> =
            days.into_iter().map(|day| Weekday::from_monday_one_offset(day).unwrap()).collect();
        let time = |(hour, minute)| Time::new(hour, minute, 0, 0).unwrap();
        let weekly =
            Weekly { days, from: time(from), until: time(until), zone: TimeZone::get(zone).unwrap() };
        let now = Timestamp::from_second(1_767_225_600 + minute * 60).unwrap();
        let told = weekly.ends(now).is_some();
        // Within a day of a clock that is set back, the two may differ, and then it is frozen.
        let hours = |count: i64| Span::new().hours(count);
        let offset = |at: Timestamp| weekly.zone.to_offset(at);
        let is_set_back = offset(now - hours(26)) > offset(now + hours(26));
        if is_set_back {
            prop_assert!(told || !by_the_wall(&weekly, now));
        } else {
            prop_assert_eq!(told, by_the_wall(&weekly, now));
        }
    }
}
