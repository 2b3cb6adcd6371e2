//! Rollback: of a live execution stop, then undo; of a finished one undo what it did, as a new execution.

use super::{Anew, Answer, Ask};
use crate::journal::{Event, State};
use crate::model::{ExecutionStatus, Role, StepStatus};
use crate::runbook::Runbook;

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    if let Some(index) = past_return(runbook, state)
        && !matches!(state.status, ExecutionStatus::RolledBack | ExecutionStatus::RollingBack)
    {
        let step = &runbook.steps[index].id;
        return Answer::conflict(format!("step {step} is irreversible and has begun: only forward"));
    }
    match state.status {
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Paused
        | ExecutionStatus::Verifying => live(state, ask),
        ExecutionStatus::RollingBack | ExecutionStatus::RolledBack => Answer::AlreadySo,
        ExecutionStatus::Rejected | ExecutionStatus::Expired => Answer::conflict("it has done nothing"),
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Stopped
        | ExecutionStatus::RollbackFailed => {
            if is_undoable(runbook, state) {
                Answer::Anew(Anew::Rollback)
            } else {
                Answer::conflict("nothing of what it did has an undo")
            }
        }
    }
}

fn live(state: &State, ask: &Ask) -> Answer {
    if let Some(ending) = &state.ending {
        return match ending.rollback {
            true => Answer::AlreadySo,
            false => Answer::conflict("it is ending without a rollback; ask again when it is over"),
        };
    }
    if state.stop.as_ref().is_some_and(|stop| stop.rollback) {
        return Answer::AlreadySo;
    }
    let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
    Answer::Record(vec![Event::StopRequested { actor, reason, rollback: true }])
}

/// The irreversible step that has begun, if one has.
fn past_return(runbook: &Runbook, state: &State) -> Option<usize> {
    (0..state.steps.len())
        .find(|index| runbook.steps[*index].irreversible && !state.steps[*index].begun.is_empty())
}

/// Whether something it did has an undo that has not succeeded yet.
fn is_undoable(runbook: &Runbook, state: &State) -> bool {
    state.begun().into_iter().any(|(index, part)| {
        let step = &runbook.steps[index];
        let ended = state.steps[index].ended.get(&part.with(Role::Undo));
        !step.is_finally
            && step.undo.is_some()
            && ended.is_none_or(|(status, _)| *status != StepStatus::Succeeded)
    })
}
