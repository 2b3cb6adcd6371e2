//! An episode starts one execution at most.

use super::super::{Answer, Case};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let execution = case.open_episode().and_then(|episode| episode.execution.as_ref());
    match execution {
        Some(id) => Answer::deny(format!("this episode already has the execution {id}"))
            .with("execution_id", id.as_str()),
        None => Answer::pass("this episode has no execution yet"),
    }
}
