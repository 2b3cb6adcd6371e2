//! An episode starts one execution at most, and a schedule has one at a time.

use super::super::{Answer, Case};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    if let Some(occasion) = case.occasion {
        return match occasion.live {
            Some(id) => Answer::deny(format!("the execution {id} of an earlier due time is not over"))
                .with("execution_id", id.as_str()),
            None => Answer::pass("no execution of an earlier due time lives"),
        };
    }
    let execution = case.open_episode().and_then(|episode| episode.execution.as_ref());
    match execution {
        Some(id) => Answer::deny(format!("this episode already has the execution {id}"))
            .with("execution_id", id.as_str()),
        None => Answer::pass("this episode has no execution yet"),
    }
}
