//! Stop: kill what is in progress, start nothing more, undo nothing.

use super::{Answer, Ask, FINAL, ROLLING_BACK};
use crate::journal::{Event, State};
use crate::model::ExecutionStatus;
use crate::runbook::Runbook;

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Paused
        | ExecutionStatus::Verifying => {
            if state.stop.is_some() && (state.cut_short || !is_at_finally(runbook, state)) {
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

/// Whether only `finally` steps are left: a second stop ends those too. Before, it would be one said twice, and
/// what must run whatever happens would not.
fn is_at_finally(runbook: &Runbook, state: &State) -> bool {
    let is_left = |index: usize| !state.steps[index].is_over() || state.steps[index].is_busy();
    let mut left = (0..state.steps.len()).filter(|index| is_left(*index)).peekable();
    state.ending.is_some() && left.peek().is_some() && left.all(|index| runbook.steps[index].is_finally)
}
