//! Resume: go on where it was held; a failed step that held it must have been dealt with.

use super::{Answer, Ask, FINAL, first_failed, is_halted, resumed};
use crate::journal::State;
use crate::model::ExecutionStatus;
use crate::runbook::Runbook;

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Paused if is_halted(state) => {
            Answer::conflict("the kill switch holds it: it goes on by itself when that is running again")
        }
        ExecutionStatus::Paused => match first_failed(runbook, state, None) {
            Some(index) => {
                let (step, status) = (&runbook.steps[index].id, state.steps[index].status);
                Answer::conflict(format!("step {step} is {status}: retry or skip it, or end the execution"))
            }
            None => Answer::Record(vec![resumed(ask)]),
        },
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Verifying
        | ExecutionStatus::RollingBack => Answer::AlreadySo,
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
