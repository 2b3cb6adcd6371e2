//! One part of a step: its attempts one after the other, until one of them settles it.

use super::Look;
use crate::engine::retry::{self, Again};
use crate::journal::{Attempt, StepState};
use crate::model::{AttemptOutcome, Part, Role, StepStatus, Timestamp};
use crate::runbook::Retry;

/// Where a part stands.
pub(super) enum Work {
    /// This attempt is to begin.
    Begin(Part, u32),
    /// An attempt is in progress.
    Busy,
    /// The next attempt is planned for then.
    Later(Timestamp),
    /// This attempt is worth making then.
    Retry(Part, u32, Timestamp),
    /// It is settled, and why where no attempt says it.
    Over(StepStatus, Option<String>),
}

impl Look<'_> {
    /// Where `part` of the step at `index` stands.
    pub(super) fn work(&self, index: usize, part: Part) -> Work {
        let seen = self.seen(index);
        self.work_since(index, part, seen.since)
    }

    /// The same, of which only the attempts from position `since` on count.
    fn work_since(&self, index: usize, part: Part, since: usize) -> Work {
        let seen = self.seen(index);
        if let Some((status, error)) = seen.ended.get(&part) {
            return Work::Over(*status, error.clone());
        }
        if seen.open_of(part).is_some() {
            return Work::Busy;
        }
        let total = seen.deadline.filter(|_| part.role == Role::Main);
        if let Some(planned) = seen.retries.get(&part) {
            if total.is_some_and(|total| self.now >= total) {
                return Work::Over(StepStatus::TimedOut, Some("its total_timeout passed".to_owned()));
            }
            if self.now >= planned.at {
                return Work::Begin(part, planned.attempt);
            }
            return Work::Later(total.map_or(planned.at, |total| total.min(planned.at)));
        }
        let Some((position, last)) = last_since(seen, part, since) else {
            return Work::Begin(part, seen.next_number(part));
        };
        match last.result.outcome {
            AttemptOutcome::Interrupted => Work::Begin(part, last.attempt),
            AttemptOutcome::Succeeded => Work::Over(StepStatus::Succeeded, None),
            AttemptOutcome::Stopped => Work::Over(StepStatus::Stopped, None),
            AttemptOutcome::Unknown => self.unknown(index, part, position),
            AttemptOutcome::Failed => self.again(index, part, last, StepStatus::Failed),
            AttemptOutcome::TimedOut => self.again(index, part, last, StepStatus::TimedOut),
        }
    }

    /// Another attempt after `last`, or the end with `status`.
    fn again(&self, index: usize, part: Part, last: &Attempt, status: StepStatus) -> Work {
        let seen = self.seen(index);
        let asked = retry::Asked {
            policy: self.policy(index, part),
            tried: seen.tried(part),
            result: &last.result,
            now: self.now,
            limit: [seen.deadline.filter(|_| part.role == Role::Main), self.limit(part)]
                .into_iter()
                .flatten()
                .min(),
            seed: retry::seed(self.state.created.seed, index, part, last.attempt),
        };
        match retry::decide(&asked) {
            Again::At(at) => Work::Retry(part, last.attempt + 1, at),
            Again::No(why) => Work::Over(status, why),
        }
    }

    /// Undos and `finally` steps are not bound by the execution's own timeout.
    fn limit(&self, part: Part) -> Option<Timestamp> {
        self.state.deadline.filter(|_| part.role != Role::Undo && self.state.ending.is_none())
    }

    fn policy(&self, index: usize, part: Part) -> Retry {
        let step = self.step(index);
        match part.role {
            Role::Main => step.retry.clone(),
            Role::Probe => Retry::default(),
            Role::Undo => step.undo.as_ref().map(|undo| undo.retry.clone()).unwrap_or_default(),
        }
    }

    /// Never a blind second run: either the probe of the step tells what happened, or it stays unknown.
    fn unknown(&self, index: usize, part: Part, position: usize) -> Work {
        if part.role != Role::Main || self.step(index).probe.is_none() {
            return Work::Over(StepStatus::Unknown, None);
        }
        match self.work_since(index, part.with(Role::Probe), position + 1) {
            Work::Over(StepStatus::Succeeded, _) => {
                Work::Over(StepStatus::Succeeded, Some("the probe says that it happened".to_owned()))
            }
            Work::Over(StepStatus::Failed, _) => {
                Work::Over(StepStatus::Failed, Some("the probe says that it did not happen".to_owned()))
            }
            Work::Over(..) => {
                Work::Over(StepStatus::Unknown, Some("the probe could not tell what happened".to_owned()))
            }
            work => work,
        }
    }
}

/// The last attempt of `part` among those from position `since` on, and its position.
fn last_since(seen: &StepState, part: Part, since: usize) -> Option<(usize, &Attempt)> {
    let of_part = seen.attempts.iter().enumerate().skip(since).rev();
    of_part.into_iter().find(|(_, attempt)| attempt.part == part)
}
