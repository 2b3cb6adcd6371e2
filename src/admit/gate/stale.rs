//! A firing that began before its last episode ended is an old delivery; a due time can be too long ago.

use super::super::{Answer, Case, Occasion, is_stale};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    if let Some(occasion) = case.occasion {
        return timely(occasion);
    }
    let last = case.episode.and_then(|episode| Some((episode, episode.resolved_at?)));
    let Some((episode, ended)) = last else {
        return Answer::pass("no earlier episode of this alert has ended");
    };
    let (began, started) = (case.alert.starts_at, episode.starts_at);
    let answer = if is_stale(case.alert, episode) {
        Answer::deny(format!(
            "this firing began at {began}, before the last episode ended at {ended}: an old delivery"
        ))
    } else {
        Answer::pass(format!("this firing began at {began}, after the last episode ended at {ended}"))
    };
    answer
        .with("starts_at", began.to_string())
        .with("last_starts_at", started.to_string())
        .with("last_resolved_at", ended.to_string())
}

/// Whether a schedule's run is not too late.
fn timely(occasion: &Occasion<'_>) -> Answer {
    let Occasion { schedule, due, overdue, .. } = occasion;
    let answer = match overdue {
        None => Answer::pass(format!("the schedule {schedule:?} was due at {due}")),
        Some(grace) => {
            let grace = humantime::format_duration(*grace).to_string();
            Answer::deny(format!(
                "the schedule {schedule:?} was due at {due}, could not be seen to then, and may be late by {grace}"
            ))
            .with("catch_up", grace)
        }
    };
    answer.with("due", due.to_string())
}
