//! A cause that is on many targets is not on any of them.

use super::super::{Answer, Case};
use humantime::format_duration;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let created = match case.to_count() {
        Ok(created) => created,
        Err(answer) => return answer,
    };
    let Some(limit) = case.guards.settings.max_targets else {
        return Answer::off("turned off: max_targets is false");
    };
    let Some(target) = &created.target else { return Answer::off("the runbook has no target") };
    let spread = case.guards.targets.spread(target, limit, case.guards.counted);
    let (others, within) = (spread.others.count, format_duration(limit.within));
    let said = format!("it was started on {others} other targets in {within}, on {} it may be", limit.count);
    let answer = match spread.others.opens_at {
        None => Answer::pass(said),
        Some(at) => {
            Answer::deny(format!("{said}; there is room for {target} at {at}")).with("until", at.to_string())
        }
    };
    answer.with("others", others).with("allowed", limit.count).with("within", within.to_string())
}
