//! When a schedule is due: against a model that looks at every second, around leaps of clocks, and on leap days.

use super::*;
use proptest::prelude::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule {
        name: "s".to_owned(),
        cron: Cron::parse(cron).unwrap(),
        zone: Zone::named(zone).unwrap(),
        runbook: RunbookId::new("act").unwrap(),
        inputs: BTreeMap::new(),
        catch_up: None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The due times behind `from`, as many as are expected.
#[track_caller]
fn check(cron: &str, zone: &str, from: &str, expected: &[&str]) {
    let schedule = schedule(cron, zone);
    let mut moment = at(from);
    let found: Vec<String> = expected
        .iter()
        .map(|_| {
            moment = schedule.next(moment).unwrap();
            moment.to_string()
        })
        .collect();
    assert_eq!(found, expected, "{cron} in {zone}");
}

#[test]
fn plain_expressions() {
    check("0 2 * * *", "UTC", "2026-03-01T02:00:00Z", &["2026-03-02T02:00:00Z", "2026-03-03T02:00:00Z"]);
    check("*/20 * * * *", "UTC", "2026-03-01T02:21:00.5Z", &["2026-03-01T02:40:00Z", "2026-03-01T03:00:00Z"]);
    check(
        "*/30 59 23 31 12 *",
        "UTC",
        "2026-12-31T23:59:00Z",
        &["2026-12-31T23:59:30Z", "2027-12-31T23:59:00Z"],
    );
    check("0 9 * * MON-fri", "UTC", "2026-07-31T09:00:00Z", &["2026-08-03T09:00:00Z"]);
    check("0 0 * * 7", "UTC", "2026-08-01T00:00:00Z", &["2026-08-02T00:00:00Z", "2026-08-09T00:00:00Z"]);
    check("0 0 * * 5-7", "UTC", "2026-07-31T12:00:00Z", &["2026-08-01T00:00:00Z", "2026-08-02T00:00:00Z"]);
    check(
        "15,45 8-10/2 1 jan,Jul *",
        "UTC",
        "2026-01-01T10:15:00Z",
        &["2026-01-01T10:45:00Z", "2026-07-01T08:15:00Z"],
    );
    // Where both days are restricted either suffices, with a star both must fit.
    check("0 0 13 * 5", "UTC", "2026-08-08T00:00:00Z", &["2026-08-13T00:00:00Z", "2026-08-14T00:00:00Z"]);
    check("0 0 */2 * 5", "UTC", "2026-08-08T00:00:00Z", &["2026-08-21T00:00:00Z", "2026-09-11T00:00:00Z"]);
}

#[test]
fn leap_days() {
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    // Days that are due only on a certain weekday are seldom: 1 July a Wednesday, 29 February a Sunday.
    check("5 5 */7 7 3", "UTC", "2026-11-21T00:00:00Z", &["2037-07-01T05:05:00Z"]);
    check("0 0 29 2 */7", "UTC", "2088-03-01T00:00:00Z", &["2128-02-29T00:00:00Z"]);
    check("59 59 23 28 2 *", "UTC", "2027-03-01T00:00:00Z", &["2028-02-28T23:59:59Z"]);
    check("0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]);
}

#[test]
fn a_wall_time_that_clocks_skip_is_due_once_at_the_next_instant() {
    // 2026-03-29 in Berlin: 02:00 becomes 03:00 at 01:00 UTC.
    let (berlin, eve) = ("Europe/Berlin", "2026-03-28T12:00:00Z");
    check("30 2 * * *", berlin, eve, &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    check("*/15 2 * * *", berlin, eve, &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
    check(
        "0 2,3 * * *",
        berlin,
        eve,
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z"],
    );
    check(
        "0 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"],
    );
    // Half an hour, at Lord Howe: 02:00 becomes 02:30 on 2026-10-04.
    check(
        "10 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"],
    );
    // A whole day, on Samoa: 2011-12-30 did not happen.
    check(
        "0 12 30 12 *",
        "Pacific/Apia",
        "2011-01-01T00:00:00Z",
        &["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"],
    );
}

#[test]
fn a_wall_time_that_clocks_show_twice_is_due_the_first_time_only() {
    // 2026-10-25 in Berlin: 03:00 becomes 02:00 at 01:00 UTC.
    let berlin = "Europe/Berlin";
    check("30 2 * * *", berlin, "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    check("0,30 * * * *", berlin, "2026-10-25T00:15:00Z", &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"]);
    // Asked in the midst of the second time.
    check("* * * * * *", berlin, "2026-10-25T01:20:00Z", &["2026-10-25T02:00:00Z", "2026-10-25T02:00:01Z"]);
    check(
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    );
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-03T20:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    );
}

#[test]
fn what_is_no_expression_is_told_with_its_field() {
    for (text, expected) in [
        ("* * * *", "a cron expression has 5 fields, or 6 with the seconds first, not 4"),
        ("", "a cron expression has 5 fields, or 6 with the seconds first, not 0"),
        ("60 * * * *", "the minute \"60\" is not from 0 to 59"),
        ("* 24 * * *", "the hour \"24\" is not from 0 to 23"),
        ("* * 0 * *", "the day of the month \"0\" is not from 1 to 31"),
        ("* * * foo *", "the month \"foo\" is not from 1 to 12"),
        ("* * * * 8", "the day of the week \"8\" is not from 0 to 7"),
        ("5-1 * * * *", "the minute \"5-1\" ends before it begins"),
        ("*/0 * * * *", "the minute \"*/0\" has a step that is not from 1 to 59"),
        ("5/10 * * * *", "the minute \"5/10\" has a step but no range: write 5-59/10"),
        ("1,,2 * * * *", "the minute \"\" is not from 0 to 59"),
        ("+1 * * * *", "the minute \"+1\" is not from 0 to 59"),
        ("0 0 30 2 *", "no month has such a day: \"0 0 30 2 *\" would never be due"),
        ("0 0 31 4,6 *", "no month has such a day: \"0 0 31 4,6 *\" would never be due"),
    ] {
        assert_eq!(Cron::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert_eq!(Cron::parse("  0   2 * * * ").unwrap().to_string(), "0 2 * * *");
    assert!(Zone::named("Europe/Nowhere").is_err() && Zone::named("../etc/passwd").is_err());
    assert_eq!(Zone::named("europe/berlin").unwrap().name(), "Europe/Berlin");
}

#[test]
fn what_was_missed_is_due_once_and_only_for_so_long() {
    let nightly = schedule("0 2 * * *", "UTC");
    let (two, before) = (at("2026-03-02T02:00:00Z"), at("2026-03-01T02:00:00Z"));
    let due = |now: &str| nightly.due(before, at(now));
    assert_eq!(due("2026-03-02T01:59:59.999Z"), None);
    assert_eq!(due("2026-03-02T02:00:00Z"), Some(Due { at: two, first: two, overdue: None }));
    assert_eq!(due("2026-03-02T03:00:00Z"), Some(Due { at: two, first: two, overdue: None }));
    let hour = Some(MAX_CATCH_UP);
    assert_eq!(due("2026-03-02T03:00:00.001Z"), Some(Due { at: two, first: two, overdue: hour }));
    let four = at("2026-03-05T02:00:00Z");
    assert_eq!(due("2026-03-05T02:10:00Z"), Some(Due { at: four, first: two, overdue: None }));
    assert_eq!(nightly.due(four, at("2026-03-05T02:10:00Z")), None);

    let often = schedule("*/10 * * * * *", "UTC");
    let due = often.due(before, at("2026-03-02T02:00:09Z")).unwrap();
    assert_eq!((due.at, due.first, due.overdue), (two, at("2026-03-01T02:00:10Z"), None));
    let patient = Schedule { catch_up: Some(Duration::from_secs(86_400)), ..nightly.clone() };
    assert_eq!(patient.due(before, at("2026-03-03T01:59:59Z")).unwrap().overdue, None);
    let never = Schedule { catch_up: Some(Duration::ZERO), ..nightly };
    assert_eq!(never.due(before, two).unwrap().overdue, None);
    assert_eq!(never.due(before, at("2026-03-02T02:00:00.001Z")).unwrap().overdue, Some(Duration::ZERO));
}

/// A field of numbers from `low` to `high`, as text and as the set it means.
fn field(low: u32, high: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let part = prop_oneof![
        3 => Just(("*".to_owned(), (low..=high).collect::<Vec<_>>())),
        2 => (low..=high).prop_map(|number| (number.to_string(), vec![number])),
        2 => (low..=high, low..=high, 1..=high.min(20)).prop_map(|(one, other, step)| {
            let (first, last) = (one.min(other), one.max(other));
            let all = (first..=last).filter(|number| (number - first) % step == 0).collect();
            (format!("{first}-{last}/{step}"), all)
        }),
    ];
    prop::collection::vec(part, 1..3).prop_map(|parts| {
        let text = parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        (text, parts.into_iter().flat_map(|(_, all)| all).collect())
    })
}

proptest! {
    /// Against a model that goes through every minute by the wall clock.
    #[test]
    fn the_next_time_is_the_first_that_a_walk_through_all_minutes_finds(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), weekday in field(0, 6),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo",
        ]),
        start in 1_600_000_000_i64..1_900_000_000, near_leap in any::<bool>(),
    ) {
        let text = format!("{} {} {} * {}", minute.0, hour.0, day.0, weekday.0);
        let zone = Zone::named(zone).unwrap();
        let mut start = Timestamp::from_second(start).unwrap();
        if near_leap && let Some(leap) = zone.zone.following(start).next() {
            start = Timestamp::from_second(leap.timestamp().as_second() - 7200).unwrap();
        }
        let schedule = Schedule { cron: Cron::parse(&text).unwrap(), zone: zone.clone(), ..schedule("* * * * *", "UTC") };
        let either = !day.0.starts_with('*') && !weekday.0.starts_with('*');
        let fits = |wall: DateTime| {
            let has = |set: &[u32], number: i8| set.contains(&u32::try_from(number).unwrap());
            let (on_day, on_weekday) = (has(&day.1, wall.day()), has(&weekday.1, wall.weekday().to_sunday_zero_offset()));
            let date = if either { on_day || on_weekday } else { on_day && on_weekday };
            date && has(&minute.1, wall.minute()) && has(&hour.1, wall.hour())
        };
        // Clocks looked at every minute, from a day before to three days behind: due is what they show, or have skipped,
        // for the first time.
        let wall = |at: Timestamp| zone.zone.to_datetime(at);
        let minute_of = |at: Timestamp| at.as_second() - at.as_second().rem_euclid(60);
        let from = minute_of(start) - 86_400;
        let mut shown = wall(Timestamp::from_second(from).unwrap());
        let mut expected = None;
        for second in (from..from + 4 * 86_400).step_by(60).skip(1) {
            let at = Timestamp::from_second(second).unwrap();
            let mut is_due = false;
            while shown < wall(at) {
                shown = shown.checked_add(SignedDuration::from_mins(1)).unwrap();
                is_due |= fits(shown);
            }
            if is_due && at > start {
                expected = Some(at);
                break;
            }
        }
        let found = schedule.next(start).unwrap();
        match expected {
            Some(expected) => prop_assert_eq!(found, expected, "{}", text),
            None => prop_assert!(found > start, "{}", text),
        }
        // What is due at any moment is what the walk has found until then.
        let due = schedule.due(start, found).unwrap();
        prop_assert_eq!((due.at, due.first, due.overdue), (found, found, None));
        let second = schedule.next(found).unwrap();
        let due = schedule.due(start, second).unwrap();
        prop_assert_eq!((due.at, due.first), (second, found));
        prop_assert!(schedule.due(second, second).is_none());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-*/,0-9a-zA-Z? ]{0,24}") {
        if let Ok(cron) = Cron::parse(&text) {
            prop_assert!(cron.first(DateTime::constant(2026, 1, 1, 0, 0, 0, 0)).is_some());
        }
    }
}
