//! What did not help so often does not help.

use super::super::{Answer, Case};
use humantime::format_duration;
use serde_json::{Value, json};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let created = match case.to_count() {
        Ok(created) => created,
        Err(answer) => return answer,
    };
    let limits = &case.guards.settings.max_runs;
    if limits.is_empty() {
        return Answer::off("turned off: max_runs is false");
    }
    let on = created.target.as_ref().map_or_else(String::new, |target| format!(" on {target}"));
    let (mut said, mut numbers, mut full) = (Vec::new(), Vec::new(), None);
    for limit in limits {
        let seen = case.guards.runs.count(*limit, case.guards.counted);
        let within = format_duration(limit.within).to_string();
        said.push(format!("{} of {} in {within}", seen.count, limit.count));
        let mut number = json!({ "runs": seen.count, "allowed": limit.count, "within": within });
        if let Some(at) = seen.opens_at {
            number["until"] = at.to_string().into();
        }
        numbers.push(number);
        // The one that lasts longest decides when there may be another.
        full = full.max(seen.opens_at);
    }
    let said = format!("it was started{on} {}", said.join(", "));
    let answer = match full {
        None => Answer::pass(said),
        Some(at) => {
            Answer::deny(format!("{said}; there may be another at {at}")).with("until", at.to_string())
        }
    };
    answer.with("limits", Value::Array(numbers))
}
