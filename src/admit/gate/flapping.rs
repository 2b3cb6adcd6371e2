//! An alert that fires and resolves again and again is not helped by what is done to it.

use super::super::{Answer, Case};
use crate::guard::flapping::flaps;
use humantime::format_duration;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let guards = &case.guards;
    if let Some(answer) = case.not_asked() {
        return answer;
    }
    let Some(limit) = guards.settings.flapping else {
        return Answer::off("turned off: flapping is false");
    };
    let seen = flaps(guards.changes, limit, case.guards.counted);
    let within = format_duration(limit.within);
    let said = format!("the alert changed {} times in {within}, {} are allowed", seen.count, limit.count);
    let answer = match seen.opens_at {
        None => Answer::pass(said),
        Some(at) => Answer::deny(format!("{said}; quiet again at {at} if it stays as it is"))
            .with("quiet_at", at.to_string()),
    };
    answer.with("changes", seen.count).with("allowed", limit.count).with("within", within.to_string())
}
