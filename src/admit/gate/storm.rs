//! In a storm no runbook is the answer: too much began at once.

use super::super::{Answer, Case};
use humantime::format_duration;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let Some((limit, storm)) = case.guards.storm else {
        return Answer::off("turned off: automation.storm is false");
    };
    let (rate, allowed) = (storm.rate(case.guards.counted), limit.episodes_per_minute);
    let answer = match storm.raging(limit, case.guards.counted) {
        None => {
            Answer::pass(format!("{rate} episodes that matched a runbook began in a minute, {allowed} are allowed"))
        }
        Some(raging) => Answer::deny(format!(
            "a storm since {}: {rate} episodes that matched a runbook began in a minute, {allowed} are allowed; \
             over at {} if it stays calm for {}",
            raging.since,
            raging.until,
            format_duration(limit.cooldown)
        ))
        .with("since", raging.since.to_string())
        .with("until", raging.until.to_string()),
    };
    answer.with("episodes_per_minute", rate).with("allowed", allowed)
}
