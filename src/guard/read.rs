//! How guards are written in files: one reader, so that the config and a runbook mean the same by the same words.

use super::settings::{Limit, MAX_RUNS, MAX_TARGETS, MAX_WITHIN, Overrides};
use crate::document::{Table, Value};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The most limits in `max_runs`.
const MAX_LIMITS: usize = 8;
/// The shortest time worth counting in.
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Takes the keys of every `[guard]` from `table`; what is wrong is noted and left out.
pub fn overrides(table: &mut Table<'_>) -> Overrides {
    Overrides {
        cooldown: table
            .take("cooldown")
            .and_then(|value| switch(value, "a duration", |value| value.duration(SECOND..=MAX_WITHIN))),
        max_runs: table.take("max_runs").and_then(max_runs),
        max_concurrent: table
            .take("max_concurrent")
            .and_then(|value| switch(value, "a number", |value| number(&value, 1..=10_000))),
        max_targets: table.take("max_targets").and_then(|value| {
            let help = "{ count = 10, within = \"1h\" }";
            switch(value, help, |value| limit(value, "count", 1..=MAX_TARGETS.into(), MAX_WITHIN))
        }),
        flapping: table.take("flapping").and_then(|value| {
            let help = "{ changes = 6, within = \"30m\" }";
            switch(value, help, |value| limit(value, "changes", 2..=50, DAY))
        }),
        confirm: table.take("confirm").and_then(|value| value.boolean()),
    }
}

/// A value, or `false` for what is turned off.
fn switch<'d, T>(
    value: Value<'d>,
    example: &str,
    read: impl FnOnce(Value<'d>) -> Option<T>,
) -> Option<Option<T>> {
    if !value.is_bool() {
        return read(value).map(Some);
    }
    is_off(&value, example).then_some(None)
}

/// Whether a value that is `true` or `false` is the latter.
fn is_off(value: &Value<'_>, example: &str) -> bool {
    let off = value.boolean() == Some(false);
    if !off {
        value.error("true says not how much", format!("write {example}, or false to turn the guard off"));
    }
    off
}

fn number(value: &Value<'_>, range: RangeInclusive<i64>) -> Option<u32> {
    u32::try_from(value.integer(range)?).ok()
}

fn max_runs(value: Value<'_>) -> Option<Vec<Limit>> {
    const HELP: &str = "[{ count = 3, within = \"1h\" }]";
    if value.is_bool() {
        return is_off(&value, HELP).then(Vec::new);
    }
    let (place, problems) = (value.place(), value.problems());
    let items = value.array()?;
    if items.is_empty() || items.len() > MAX_LIMITS {
        let message = format!("expected 1 to {MAX_LIMITS} limits, found {}", items.len());
        let help = format!("write {HELP}, or false to turn the guard off");
        problems.add(place.problem(crate::document::Severity::Error, message, help));
        return None;
    }
    let read = |item| limit(item, "count", 1..=MAX_RUNS.into(), MAX_WITHIN);
    Some(items.into_iter().filter_map(read).collect())
}

/// `{ count = …, within = … }`, the count under the name `count`.
fn limit(
    value: Value<'_>,
    count: &'static str,
    range: RangeInclusive<i64>,
    longest: Duration,
) -> Option<Limit> {
    let mut table = value.table()?;
    let number_of =
        table.require(count, &format!("write how many, such as {count} = {}", range.end().min(&6)));
    let number = number_of.and_then(|value| number(&value, range));
    let within = table.require("within", "write in which time, such as within = \"1h\"");
    let within = within.and_then(|value| value.duration(SECOND..=longest));
    table.finish();
    Some(Limit { count: number?, within: within? })
}
