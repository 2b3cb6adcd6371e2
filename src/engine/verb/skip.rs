//! Skip: leave a step of a paused execution out.

use super::{Answer, Ask, FINAL, position, resumed, resumes_with};
use crate::journal::{Event, Skip, State};
use crate::model::{ExecutionStatus, StepStatus};
use crate::runbook::{Kind, Runbook};

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Paused => step(runbook, state, ask),
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Verifying
        | ExecutionStatus::RollingBack => Answer::conflict("a step can be skipped while it is paused"),
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Stopped
        | ExecutionStatus::Rejected
        | ExecutionStatus::Expired
        | ExecutionStatus::RolledBack
        | ExecutionStatus::RollbackFailed => Answer::conflict(FINAL),
    }
}

fn step(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    let index = match position(state, ask) {
        Ok(index) => index,
        Err(answer) => return answer,
    };
    let (seen, id) = (&state.steps[index], runbook.steps[index].id.clone());
    if matches!(runbook.steps[index].kind, Kind::Approve(_)) {
        // Skipping it would be consenting without being asked whether one may.
        return Answer::conflict(format!("step {id} asks for consent: approve or reject it"));
    }
    match seen.status {
        StepStatus::Skipped => return Answer::AlreadySo,
        StepStatus::Running => return Answer::conflict(format!("step {id} is in progress")),
        StepStatus::Succeeded => return Answer::conflict(format!("step {id} is done")),
        StepStatus::Pending
        | StepStatus::Waiting
        | StepStatus::Failed
        | StepStatus::TimedOut
        | StepStatus::Stopped
        | StepStatus::Unknown => {}
    }
    if !seen.open.is_empty() {
        return Answer::conflict(format!("step {id} is in progress"));
    }
    let (actor, reason) = (Some(ask.actor.subject.clone()), Some(ask.reason.clone()));
    let mut events = vec![Event::StepSkipped { step: id, why: Skip::Person, actor, reason }];
    if resumes_with(runbook, state, index) {
        events.push(resumed(ask));
    }
    Answer::Record(events)
}
