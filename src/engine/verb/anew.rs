//! A finished execution done again or taken back, as a new one: final stays final.

use super::Ask;
use crate::journal::{Created, Inherited, State, Trigger, TriggerKind};
use crate::model::{ExecutionId, Part, Role, StepStatus, Timestamp, after};
use crate::runbook::Runbook;
use std::time::Duration;

/// What a new execution does about a finished one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// All of it once more.
    Retry,
    /// Its undos.
    Rollback,
}

/// The new execution `ask` wants of the finished one in `state`; it takes the version its forebear was pinned to.
#[expect(clippy::too_many_arguments, reason = "called once, and each is one plain value")]
pub fn created(
    runbook: &Runbook,
    state: &State,
    what: Anew,
    ask: &Ask,
    id: ExecutionId,
    seed: u64,
    now: Timestamp,
    queue_deadline: Duration,
) -> Created {
    let old = &*state.created;
    let kind = match what {
        Anew::Retry => TriggerKind::Retry,
        Anew::Rollback => TriggerKind::Rollback,
    };
    // A rollback that failed is taken up again for the execution it was for.
    let first = old.trigger.of.as_ref().filter(|_| old.trigger.kind == TriggerKind::Rollback);
    let trigger = Trigger {
        kind,
        by: ask.actor.subject.clone(),
        reason: Some(ask.reason.clone()),
        of: Some(first.unwrap_or(&old.id).clone()),
        ..old.trigger.clone()
    };
    let lock = old.target.as_ref().filter(|_| runbook.is_changing()).map(ToString::to_string);
    Created {
        id,
        trigger,
        lock: old.lock.clone().or(lock),
        inputs: state.inputs.clone(),
        queue_deadline: after(now, queue_deadline),
        seed,
        parent: None,
        inherited: if what == Anew::Rollback { inherited(state) } else { Vec::new() },
        ..old.clone()
    }
}

/// What is still to be undone: what has begun, less what has been undone.
fn inherited(state: &State) -> Vec<Inherited> {
    let steps = state.created.steps.iter().zip(&state.steps);
    steps
        .filter_map(|(head, seen)| {
            let undone = |part: &Part| {
                let ended = seen.ended.get(&part.with(Role::Undo));
                ended.is_some_and(|(status, _)| *status == StepStatus::Succeeded)
            };
            let begun: Vec<(u64, Part)> =
                seen.begun.iter().filter(|(_, part)| !undone(part)).copied().collect();
            (!begun.is_empty()).then(|| Inherited {
                step: head.id.clone(),
                status: seen.status,
                items: seen.items.clone(),
                begun,
                last: seen.last().map(|attempt| attempt.result.clone()),
            })
        })
        .collect()
}
