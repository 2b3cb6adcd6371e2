//! What is known of a schedule before it is due: whether its runbook can begin with what it gives it, and whether the
//! guards let its rhythm pass. By the functions that decide when it is due, so that the answers cannot differ.
//!
//! May import: what intake may. Must never: read the store or the clock.

use super::occasion::{stand_in, trigger};
use crate::admit::{self, Request};
use crate::guard::{Cooling, Runs, Settings};
use crate::model::{ExecutionId, Timestamp, after};
use crate::routing::{Library, Listed};
use crate::runbook::Pinned;
use crate::schedule::{Due, Schedule};
use humantime::format_duration;
use std::time::Duration;
use ulid::Ulid;

/// How many due times are looked at. The longest list of starts that a guard keeps is half of it.
const LOOKED_AT: usize = 200;

/// Why `pinned` cannot begin with what `schedule` gives it; `None` where it can.
pub fn refusal(schedule: &Schedule, pinned: &Pinned, now: Timestamp) -> Option<String> {
    let due = Due { at: now, first: now, overdue: None };
    let planned = admit::plan(Request {
        pinned,
        trigger: trigger(schedule, due, &stand_in(schedule, due).labels),
        given: schedule.inputs.clone(),
        env: Default::default(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, Ulid::nil()),
        queue_deadline: Duration::ZERO,
        seed: 0,
        instance: "",
        now,
    });
    planned.err().map(|denial| denial.to_string())
}

/// Why nothing of `schedule` is due for a while, where all up to `handled` has been seen to. What a clock that was ahead
/// had run is not run once more.
pub fn ahead(schedule: &Schedule, handled: Timestamp, now: Timestamp) -> Option<String> {
    schedule.was_ahead(handled, now).then(|| {
        format!("the clock was ahead: what is due until {handled} was seen to already, and is not started once more")
    })
}

/// Why `schedule` starts nothing, now or until it is due next; `None` where only the guards will tell.
pub fn problem(schedule: &Schedule, library: &Library, handled: Timestamp, now: Timestamp) -> Option<String> {
    let of_runbook = || match library.get(&schedule.runbook) {
        Some(Listed::Good(pinned)) => refusal(schedule, pinned, now),
        _ => library.lacks(&schedule.runbook),
    };
    of_runbook().or_else(|| ahead(schedule, handled, now))
}

/// How many of the due times after `from` the guards will deny if nothing but the schedule starts its runbook and each
/// execution is over at once; `None` where that is none.
pub fn too_often(schedule: &Schedule, settings: &Settings, from: Timestamp) -> Option<String> {
    let (mut runs, mut at) = (Runs::default(), from);
    let (mut seen, mut cooling, mut exhausted) = (0, 0, 0);
    while let Some(due) = schedule.next(at).filter(|_| seen < LOOKED_AT) {
        (at, seen) = (due, seen + 1);
        let cools = |cooldown| !matches!(runs.cooling(cooldown, at), Cooling::No(_));
        if settings.cooldown.is_some_and(cools) {
            cooling += 1;
        } else if settings.max_runs.iter().any(|limit| runs.count(*limit, at).opens_at.is_some()) {
            exhausted += 1;
        } else {
            runs.started("", false, settings.runs_kept(), at);
            // A cooldown begins at the end, and that is later than the start.
            runs.ended("", after(at, Duration::from_millis(1)));
        }
    }
    let cooldown = settings.cooldown.map(format_duration).map(|cooldown| cooldown.to_string());
    let limits: Vec<String> = settings
        .max_runs
        .iter()
        .map(|limit| format!("{} in {}", limit.count, format_duration(limit.within)))
        .collect();
    let by =
        [(cooling, "cooldown", cooldown.unwrap_or_default()), (exhausted, "max_runs", limits.join(", "))];
    let by: Vec<String> = by
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, guard, limit)| format!("{count} by {guard} ({limit})"))
        .collect();
    let denied = cooling + exhausted;
    (denied > 0)
        .then(|| format!("of the next {seen} due times at least {denied} will be denied: {}", by.join(", ")))
}

#[cfg(test)]
mod tests;
