//! What a crash did to each attempt that was in progress: the crash rules.

use crate::journal::{AttemptResult, Decided, Event, Open, State};
use crate::model::{AttemptOutcome, Effect, ExecutionId, ExecutionStatus, Reason, Role};
use crate::runbook::Runbook;

/// How each attempt in progress ended when the daemon did.
///
/// Read-only, idempotent and keyed attempts were interrupted and run again with the same number (and the same
/// idempotency key). An at-most-once attempt may or may not have happened: unknown, never a second run. A child
/// execution has a journal of its own and goes on: its attempt stays open.
pub fn resume(runbook: &Runbook, state: &State) -> Vec<Event> {
    let mut events = Vec::new();
    for (index, step) in state.steps.iter().enumerate() {
        for open in step.open.iter().filter(|open| open.child.is_none()) {
            let (outcome, error) = match effect(runbook, state, index, open) {
                Effect::ReadOnly | Effect::Idempotent | Effect::Keyed => (
                    AttemptOutcome::Interrupted,
                    "runbookd ended while this ran; it runs again with the same number",
                ),
                Effect::AtMostOnce => (
                    AttemptOutcome::Unknown,
                    "runbookd ended while this ran; it may or may not have happened and is not run again",
                ),
            };
            events.push(Event::AttemptFinished {
                step: state.created.steps[index].id.clone(),
                part: open.part,
                attempt: open.attempt,
                result: Box::new(AttemptResult::plain(outcome, String::new(), Some(error.to_owned()))),
            });
        }
    }
    events
}

/// The children in progress that were to end with what started them: told again, for the word may not have reached
/// them before the daemon ended. Those of `finally` steps end only when the end itself is cut short.
pub fn doomed(runbook: &Runbook, state: &State) -> Vec<ExecutionId> {
    let by_alert = |ending: &Decided| {
        (ending.status, ending.reason) == (ExecutionStatus::Stopped, Some(Reason::Resolved))
    };
    let must_end =
        state.stop.is_some() || state.deadline_passed || state.ending.as_ref().is_some_and(by_alert);
    let steps = runbook.steps.iter().zip(&state.steps);
    let doomed = steps.filter(|(step, _)| if step.is_finally { state.cut_short } else { must_end });
    doomed.flat_map(|(_, seen)| seen.open.iter().filter_map(|open| open.child.clone())).collect()
}

fn effect(runbook: &Runbook, state: &State, index: usize, open: &Open) -> Effect {
    match open.part.role {
        Role::Main => state.effect(index),
        Role::Probe => Effect::ReadOnly,
        Role::Undo => runbook.steps[index].undo.as_ref().map_or(Effect::AtMostOnce, |undo| undo.effect),
    }
}
