//! Retry: a failed step of a paused execution once more; of a finished execution all of it, as a new one.

use super::{Anew, Answer, Ask, position, resumed, resumes_with};
use crate::journal::{Event, State, TriggerKind};
use crate::model::{ExecutionStatus, StepStatus};
use crate::runbook::Runbook;

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Paused => step(runbook, state, ask),
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Verifying
        | ExecutionStatus::RollingBack => Answer::conflict("a step can be tried again while it is paused"),
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Stopped
        | ExecutionStatus::Rejected
        | ExecutionStatus::Expired
        | ExecutionStatus::RolledBack
        | ExecutionStatus::RollbackFailed => {
            if ask.step.is_some() {
                return Answer::conflict("it is over: only all of it can be done again");
            }
            if state.created.trigger.kind == TriggerKind::Rollback {
                return Answer::conflict("it was a rollback: ask the execution it took back for another one");
            }
            Answer::Anew(Anew::Retry)
        }
    }
}

fn step(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    let index = match position(state, ask) {
        Ok(index) => index,
        Err(answer) => return answer,
    };
    let (seen, step) = (&state.steps[index], runbook.steps[index].id.clone());
    if seen.status == StepStatus::Pending && seen.since > 0 {
        // It will be tried again as soon as the execution goes on.
        return Answer::AlreadySo;
    }
    if !seen.has_failed() {
        return Answer::conflict(format!(
            "step {step} is {}: only a failed one can be tried again",
            seen.status
        ));
    }
    let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
    let mut events = vec![Event::RetryRequested { step, actor, reason }];
    if resumes_with(runbook, state, index) {
        events.push(resumed(ask));
    }
    Answer::Record(events)
}
