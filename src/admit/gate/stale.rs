//! A firing that began before its last episode ended is an old delivery.

use super::super::{Answer, Case, is_stale};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
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
