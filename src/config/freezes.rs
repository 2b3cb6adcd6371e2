//! `[[freezes]]`: when automation starts nothing.
//!
//! May import: `document`, `model`, `guard` (what a freeze is). Must never: know the time.

use super::source::{Source, Sources};
use crate::document::{Table, Value};
use crate::guard::{Freeze, Weekly, Window};
use crate::model::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// The most freezes: each is asked for every alert.
const MOST: usize = 1000;

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

/// Reads all freezes; wrong ones are noted and left out.
pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Vec<Freeze> {
    let value = root.take("freezes");
    let place = value.as_ref().map(Value::place);
    let values = value.and_then(Value::array).unwrap_or_default();
    if let (Some(place), true) = (place, values.len() > MOST) {
        let message = format!("{} freezes are too many", values.len());
        let help = format!("write at most {MOST}");
        sources.problems.add(place.problem(crate::document::Severity::Error, message, help));
    }
    let mut names = BTreeSet::new();
    let freezes: Vec<Freeze> = values.into_iter().filter_map(|value| read_one(value, &mut names)).collect();
    if freezes.is_empty() {
        sources.item("freezes", "", Source::Default);
    }
    for (index, freeze) in freezes.iter().enumerate() {
        sources.item(format!("freezes[{index}]"), show(freeze), Source::File);
    }
    freezes
}

fn show(freeze: &Freeze) -> String {
    let window = match &freeze.window {
        Window::Once { from, until } => format!("{from} to {until}"),
        Window::Weekly(Weekly { days, from, until, zone }) => {
            let name =
                |day: &Weekday| DAYS.iter().find(|(_, known)| known == day).map_or("", |(name, _)| name);
            let days: Vec<&str> = days.iter().map(name).collect();
            let zone = zone.iana_name().unwrap_or("UTC");
            format!("{} {from} to {until} {zone}", days.join(" "))
        }
    };
    let manual = if freeze.allow_manual { ", people may start" } else { "" };
    format!("{}: {window}{manual}", freeze.name)
}

fn read_one(value: Value<'_>, names: &mut BTreeSet<String>) -> Option<Freeze> {
    let mut table = value.table()?;
    let name = table.require("name", "give the freeze a name of its own, such as name = \"year end\"");
    let name = name.and_then(|value| {
        let name = value.parsed("write 1 to 128 characters without control characters", check_name)?;
        if !names.insert(name.clone()) {
            value.error(format!("another freeze is called {name:?}"), "give each freeze a name of its own");
        }
        Some(name)
    });
    let weekly = table.take("weekly");
    let is_once = table.has("from") || table.has("until");
    if is_once == weekly.is_some() {
        let message = if is_once { "the freeze is both once and weekly" } else { "the freeze has no time" };
        table.error(message, "write either from and until, or weekly = { days, from, until, zone }");
    }
    let window = match weekly {
        Some(weekly) => weekly.table().and_then(read_weekly).map(Window::Weekly),
        None => is_once.then(|| read_once(&mut table)).flatten(),
    };
    if is_once {
        // Asked for, also where they do not belong, so that they are not unknown keys.
        table.take("from");
        table.take("until");
    }
    let allow_manual = table.take("allow_manual").and_then(|value| value.boolean()).unwrap_or(false);
    table.finish();
    Some(Freeze { name: name?, window: window?, allow_manual })
}

fn check_name(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.contains(char::is_control) && !text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name for a freeze"))
}

fn read_once(table: &mut Table<'_>) -> Option<Window> {
    const HELP: &str = "write a time with its zone, such as \"2026-12-24T00:00:00Z\"";
    let time = |value: &Value<'_>| {
        value.parsed(HELP, |text| {
            text.parse::<Timestamp>().map_err(|_| format!("{text:?} is not a time with a zone"))
        })
    };
    let from = table.require("from", HELP).and_then(|value| time(&value));
    let until = table.require("until", HELP).and_then(|value| Some((time(&value)?, value)));
    let (from, (until, value)) = (from?, until?);
    if until <= from {
        value.error(
            "the freeze ends before it begins",
            "write a time behind `from`; it is the first that is free",
        );
        return None;
    }
    Some(Window::Once { from, until })
}

fn read_weekly(mut table: Table<'_>) -> Option<Weekly> {
    let days = table.require("days", "write the days on which it begins, such as days = [\"Fri\"]");
    let days = days.and_then(read_days);
    let from = table.require("from", "write when it begins, such as from = \"18:00\"");
    let from = from.and_then(|value| Some((read_time(&value, false)?, value)));
    let until = table.require("until", "write when it ends, such as until = \"02:00\"");
    let until = until.and_then(|value| read_time(&value, true));
    let help = "write the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"";
    let zone = table.require("zone", help).and_then(|value| {
        value.parsed(help, |text| {
            TimeZone::get(text).map_err(|_| format!("{text:?} is not a time zone known here"))
        })
    });
    table.finish();
    let ((from, value), until) = (from?, until?);
    if from == until && from != Time::midnight() {
        let help = "for a whole day write from = \"00:00\" and until = \"24:00\"";
        value.error("the freeze begins and ends at the same time", help);
        return None;
    }
    Some(Weekly { days: days?, from, until, zone: zone? })
}

fn read_days(value: Value<'_>) -> Option<Vec<Weekday>> {
    let place = value.place();
    let problems = value.problems();
    let items = value.array()?;
    if items.is_empty() {
        let help = "write some of Mon, Tue, Wed, Thu, Fri, Sat, Sun";
        problems.add(place.problem(crate::document::Severity::Error, "no day would ever be frozen", help));
        return None;
    }
    let count = items.len();
    let days: Vec<Weekday> = items.iter().filter_map(|item| item.one_of(&DAYS)).collect();
    (days.len() == count).then_some(days)
}

/// A time of the day; the end of a day is `24:00`, or `00:00`.
fn read_time(value: &Value<'_>, is_end: bool) -> Option<Time> {
    let help = if is_end {
        "write hours and minutes, 00:00 to 24:00"
    } else {
        "write hours and minutes, 00:00 to 23:59"
    };
    value.parsed(help, |text| {
        if is_end && text == "24:00" {
            return Ok(Time::midnight());
        }
        let digits = text.len() == 5 && text.bytes().enumerate().all(|(at, b)| (at == 2) == (b == b':'));
        let time = text.parse::<Time>().ok().filter(|_| digits);
        time.ok_or_else(|| format!("{text:?} is not a time of the day"))
    })
}
