//! Stop: kill what is in progress, start nothing more, undo nothing.

use crate::model::ExecutionStatus;

/// What a stop means for an execution in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It will be stopped.
    Accepted,
    /// It is stopped already; asking again is no error.
    AlreadySo,
    /// It is over in another way: final is final.
    Over(ExecutionStatus),
    /// It is being undone; half an undo would be worse than either end.
    RollingBack,
}

/// Whether `status` allows a stop.
pub fn answer(status: ExecutionStatus) -> Answer {
    match status {
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Paused
        | ExecutionStatus::Verifying => Answer::Accepted,
        ExecutionStatus::RollingBack => Answer::RollingBack,
        ExecutionStatus::Stopped => Answer::AlreadySo,
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Rejected
        | ExecutionStatus::Expired
        | ExecutionStatus::RolledBack
        | ExecutionStatus::RollbackFailed => Answer::Over(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_status_can_be_stopped_but_a_rollback_and_no_final_one_can() {
        for status in ExecutionStatus::ALL {
            let expected = match (*status, status.is_final()) {
                (ExecutionStatus::Stopped, _) => Answer::AlreadySo,
                (ExecutionStatus::RollingBack, _) => Answer::RollingBack,
                (status, true) => Answer::Over(status),
                (_, false) => Answer::Accepted,
            };
            assert_eq!(answer(*status), expected);
        }
    }
}
