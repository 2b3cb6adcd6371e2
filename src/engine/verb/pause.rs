//! Pause: what is in progress ends, nothing begins, and no time passes for timers and timeouts.

use super::{Answer, Ask, FINAL, QUEUED, ROLLING_BACK, is_halted};
use crate::journal::{Event, State};
use crate::model::ExecutionStatus;

pub(super) fn answer(state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::AwaitingApproval | ExecutionStatus::Running | ExecutionStatus::Verifying => {
            if state.ending.is_some() || state.stop.is_some() {
                return Answer::conflict("it is ending already");
            }
            let (actor, reason) = (Some(ask.actor.subject.clone()), ask.reason.clone());
            Answer::Record(vec![Event::Paused { actor, reason, code: None }])
        }
        ExecutionStatus::Paused if is_halted(state) => {
            Answer::conflict("the kill switch holds it already, and lets it go on by itself")
        }
        ExecutionStatus::Paused => Answer::AlreadySo,
        ExecutionStatus::Queued => Answer::conflict(QUEUED),
        ExecutionStatus::RollingBack => Answer::conflict(ROLLING_BACK),
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
