//! A finished execution done again or taken back, as a new one: final stays final.

use super::Ask;
use crate::journal::{Created, Inherited, State, Trigger, TriggerKind};
use crate::model::{ExecutionId, ExecutionStatus, Part, Role, StepStatus, Timestamp, after};
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

impl Anew {
    /// What triggers the new execution.
    pub fn kind(self) -> TriggerKind {
        match self {
            Self::Retry => TriggerKind::Retry,
            Self::Rollback => TriggerKind::Rollback,
        }
    }
}

/// What an earlier execution of the same kind means for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing: another one may begin.
    Over,
    /// It is what is asked for: asking again is no error, and does nothing twice.
    IsIt,
    /// It stands in the way.
    Conflict(String),
}

/// What `earlier`, the last one begun of this kind and now `status`, means for what is asked of `asked`.
pub fn earlier(what: Anew, asked: &ExecutionId, earlier: &ExecutionId, status: ExecutionStatus) -> Earlier {
    if !status.is_final() {
        return Earlier::IsIt;
    }
    match (what, status) {
        // Once over, a repetition may be repeated.
        (Anew::Retry, _) => Earlier::Over,
        _ if earlier == asked => Earlier::Over,
        (Anew::Rollback, ExecutionStatus::RolledBack) => Earlier::IsIt,
        // These undid nothing.
        (Anew::Rollback, ExecutionStatus::Expired | ExecutionStatus::Stopped | ExecutionStatus::Rejected) => {
            Earlier::Over
        }
        (Anew::Rollback, _) => Earlier::Conflict(format!(
            "{earlier} has taken back a part of it: ask for the rollback of that one, which goes on there"
        )),
    }
}

/// The execution that is done again or taken back: a rollback that failed is taken up for the one it was for.
pub fn forebear(state: &State) -> &ExecutionId {
    let old = &*state.created;
    let first = old.trigger.of.as_ref().filter(|_| old.trigger.kind == TriggerKind::Rollback);
    first.unwrap_or(&old.id)
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
    let kind = what.kind();
    let trigger = Trigger {
        kind,
        by: ask.actor.subject.clone(),
        reason: Some(ask.reason.clone()),
        of: Some(forebear(state).clone()),
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
        decision: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_back_twice_and_what_is_on_its_way_is_not_begun_again() {
        let asked = ExecutionId::new("r_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let other = ExecutionId::new("r_01ARZ3NDEKTSV4RRFFQ69G5FAW").unwrap();
        for status in ExecutionStatus::live() {
            for what in [Anew::Retry, Anew::Rollback] {
                assert_eq!(earlier(what, &asked, &other, status), Earlier::IsIt, "{status}");
            }
        }
        for status in ExecutionStatus::ALL.iter().copied().filter(|status| status.is_final()) {
            assert_eq!(earlier(Anew::Retry, &asked, &other, status), Earlier::Over, "{status}");
            // A rollback that failed goes on where it stopped.
            assert_eq!(earlier(Anew::Rollback, &asked, &asked, status), Earlier::Over, "{status}");
        }
        let check = |status, wanted: &str| {
            let word = match earlier(Anew::Rollback, &asked, &other, status) {
                Earlier::Over => "over",
                Earlier::IsIt => "is it",
                Earlier::Conflict(why) => {
                    assert!(why.contains(other.as_str()), "{why}");
                    "conflict"
                }
            };
            assert_eq!(word, wanted, "{status}");
        };
        check(ExecutionStatus::RolledBack, "is it");
        check(ExecutionStatus::RollbackFailed, "conflict");
        check(ExecutionStatus::Failed, "conflict");
        check(ExecutionStatus::Expired, "over");
        check(ExecutionStatus::Stopped, "over");
    }
}
