//! Stop: kill what is in progress, start nothing more, undo nothing.

use super::{Answer, Ask, FINAL, ROLLING_BACK};
use crate::journal::{Event, State};
use crate::model::ExecutionStatus;

pub(super) fn answer(state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Paused
        | ExecutionStatus::Verifying => {
            // A second stop ends what runs whatever happens.
            let new = state.stop.is_none() || (state.ending.is_some() && !state.cut_short);
            if !new {
                return Answer::AlreadySo;
            }
            let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
            Answer::Record(vec![Event::StopRequested { actor, reason, rollback: false }])
        }
        ExecutionStatus::RollingBack => Answer::conflict(ROLLING_BACK),
        ExecutionStatus::Stopped => Answer::AlreadySo,
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Rejected
        | ExecutionStatus::Expired
        | ExecutionStatus::RolledBack
        | ExecutionStatus::RollbackFailed => Answer::conflict(FINAL),
    }
}
