//! The machine: what comes next for an execution in this state at this time.
//!
//! Pure. May import: `model`, `runbook`, `journal`, and `engine::{view, retry}` which are as pure. Must never:
//! do I/O, read a clock, draw a random number. The driver appends what [`next`] records and carries out what
//! [`consequence`] names; [`resume`] says what a crash did to each attempt. `steps` moves one step on, `work`
//! one part of it, `ending` leads from a decided end to the final status.

mod crash;
mod ending;
mod items;
mod steps;
mod work;

pub use crash::{doomed, resume};

use super::view;
use crate::journal::{Event, State, StepState, TriggerKind};
use crate::model::{ExecutionStatus, Part, Reason, StepId, StepStatus, Timestamp, after};
use crate::runbook::{Condition, OnFailure, OnResolved, Runbook, Step};
use std::cell::Cell;

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Append this event, then ask again.
    Record(Event),
    /// Begin this attempt: it needs a slot, and its intent must be durable first.
    Begin {
        /// The step's position.
        index: usize,
        /// The part of the step.
        part: Part,
        /// The attempt's number.
        attempt: u32,
    },
    /// Schedule this attempt, if its dependency's retry budget allows it.
    Retry {
        /// The step's position.
        index: usize,
        /// The part of the step.
        part: Part,
        /// The attempt's number.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// Show what would follow and ask for consent to it.
    Ask {
        /// The step's position.
        index: usize,
    },
    /// Nothing until an input arrives, or until this time.
    Idle {
        /// When to ask again.
        wake: Option<Timestamp>,
    },
    /// It is over.
    Done,
}

/// What an appended event demands of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Start the attempt whose intent this is.
    Start,
    /// End the attempts in progress: their outcome will be `stopped`. Undos are left alone.
    KillStopped,
    /// End the attempts in progress: their outcome will be `timed_out`.
    KillTimedOut,
    /// End everything in progress, undos too: their outcome will be `stopped`.
    KillAll,
}

/// What `event` demands of the world once it is durable; `before` is the state it met.
pub fn consequence(runbook: &Runbook, before: &State, event: &Event) -> Option<Consequence> {
    let ends = matches!(runbook.on_resolved, OnResolved::Stop | OnResolved::Rollback);
    match event {
        Event::StepIntended { .. } => Some(Consequence::Start),
        Event::Aborted { .. } => Some(Consequence::KillAll),
        Event::StopRequested { .. } => Some(Consequence::KillStopped),
        // What runs after the end was decided is no business of the alert.
        Event::AlertResolved if ends && before.ending.is_none() => Some(Consequence::KillStopped),
        Event::DeadlinePassed => Some(Consequence::KillTimedOut),
        _ => None,
    }
}

/// What comes next for `state` at `now`.
pub fn next(runbook: &Runbook, state: &State, now: Timestamp) -> Next {
    Look { runbook, state, now, may_begin: true, wake: Cell::new(None) }.next()
}

/// What comes next while no attempt may begin, for there is no slot: timers, deadlines and people do not wait for one.
pub fn next_beside(runbook: &Runbook, state: &State, now: Timestamp) -> Next {
    Look { runbook, state, now, may_begin: false, wake: Cell::new(None) }.next()
}

/// The end of `part` of a step that is not even tried, or not tried again.
pub fn refusal(state: &State, index: usize, part: Part, reason: Option<Reason>, why: String) -> Event {
    part_over(state, index, part, StepStatus::Failed, reason, Some(why))
}

fn part_over(
    state: &State,
    index: usize,
    part: Part,
    status: StepStatus,
    reason: Option<Reason>,
    error: Option<String>,
) -> Event {
    let step = state.created.steps[index].id.clone();
    match part {
        Part::MAIN => Event::StepFinished { step, status, reason, error },
        part => Event::PartFinished { step, part, status, error },
    }
}

/// One look at an execution; gathers when the next one is due.
struct Look<'l> {
    runbook: &'l Runbook,
    state: &'l State,
    now: Timestamp,
    /// Whether an attempt may begin; if not, everything but that is looked at.
    may_begin: bool,
    wake: Cell<Option<Timestamp>>,
}

/// How the execution must end.
struct Verdict {
    status: ExecutionStatus,
    reason: Option<Reason>,
    message: Option<String>,
    rollback: bool,
}

impl Verdict {
    fn new(status: ExecutionStatus, reason: Reason) -> Self {
        Self { status, reason: Some(reason), message: None, rollback: false }
    }
}

impl Look<'_> {
    fn next(&self) -> Next {
        match self.state.status {
            ExecutionStatus::Queued => self.queued(),
            ExecutionStatus::Running | ExecutionStatus::AwaitingApproval => self.running(),
            ExecutionStatus::Paused => self.paused(),
            ExecutionStatus::Verifying => self.verifying(),
            ExecutionStatus::RollingBack => self.ending(),
            ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::NotVerified
            | ExecutionStatus::Stopped
            | ExecutionStatus::Rejected
            | ExecutionStatus::Expired
            | ExecutionStatus::RolledBack
            | ExecutionStatus::RollbackFailed => Next::Done,
        }
    }

    fn step(&self, index: usize) -> &Step {
        &self.runbook.steps[index]
    }

    fn seen(&self, index: usize) -> &StepState {
        &self.state.steps[index]
    }

    fn id(&self, index: usize) -> StepId {
        self.state.created.steps[index].id.clone()
    }

    /// Looks again at `at` at the latest.
    fn wake_at(&self, at: Timestamp) {
        self.wake.set(Some(self.wake.get().map_or(at, |wake| wake.min(at))));
    }

    fn idle(&self) -> Next {
        Next::Idle { wake: self.wake.get() }
    }

    /// The positions of the steps that make up the execution itself.
    fn proper(&self) -> impl Iterator<Item = usize> {
        (0..self.state.steps.len()).filter(|index| !self.step(*index).is_finally)
    }

    fn queued(&self) -> Next {
        let end =
            |status, reason| Next::Record(Event::Finished { status, reason: Some(reason), message: None });
        if self.state.aborted.is_some() {
            return end(ExecutionStatus::Stopped, Reason::Aborted);
        }
        if self.state.stop.is_some() {
            return end(ExecutionStatus::Stopped, Reason::Stopped);
        }
        // What is taken back was done for an alert that may long be over, and a child follows its parent.
        let follows_alert = self.state.created.parent.is_none() && !self.is_rollback();
        if self.state.resolved_at.is_some() && follows_alert {
            return end(ExecutionStatus::Expired, Reason::Resolved);
        }
        // A child is in no queue: it waits for the word that its creation is durable, and for no time.
        if self.state.created.parent.is_none() {
            let deadline = self.state.created.queue_deadline;
            if self.now >= deadline {
                return end(ExecutionStatus::Expired, Reason::QueueExpired);
            }
            self.wake_at(deadline);
        }
        self.idle()
    }

    fn is_rollback(&self) -> bool {
        self.state.created.trigger.kind == TriggerKind::Rollback
    }

    fn running(&self) -> Next {
        if self.state.ending.is_some() {
            return self.ending();
        }
        if self.is_rollback() {
            let (status, message) = (ExecutionStatus::RolledBack, self.state.created.trigger.reason.clone());
            return Next::Record(Event::Ending { status, reason: None, message, rollback: true });
        }
        if let Some(verdict) = self.must_end() {
            return self.decide(verdict);
        }
        if let Some(next) = self.deadline() {
            return next;
        }
        if let Some(index) = self.proper().find(|index| self.failed_for_good(*index)) {
            return self.failure(index);
        }
        let mut is_waiting = false;
        for index in self.proper().filter(|index| !self.seen(*index).is_over()) {
            is_waiting = true;
            if self.is_ready(index)
                && let Some(next) = self.advance(index)
            {
                return next;
            }
        }
        if is_waiting {
            return self.idle();
        }
        match &self.runbook.verify {
            None => self.decide(Verdict {
                status: ExecutionStatus::Succeeded,
                reason: None,
                message: None,
                rollback: false,
            }),
            Some(verify) => {
                let until = after(self.now, verify.within);
                let until = self.state.deadline.map_or(until, |deadline| until.min(deadline));
                Next::Record(Event::VerifyStarted { until })
            }
        }
    }

    fn deadline(&self) -> Option<Next> {
        // People have their own limit, and the time they take is not the runbook's.
        let deadline = self.state.deadline.filter(|_| self.state.awaiting_since.is_none())?;
        if self.now >= deadline {
            return Some(Next::Record(Event::DeadlinePassed));
        }
        self.wake_at(deadline);
        None
    }

    /// How it must end because of something outside its steps, if it must.
    fn must_end(&self) -> Option<Verdict> {
        if self.state.aborted.is_some() {
            return Some(Verdict::new(ExecutionStatus::Stopped, Reason::Aborted));
        }
        if let Some(stop) = &self.state.stop {
            let verdict = Verdict::new(ExecutionStatus::Stopped, Reason::Stopped);
            return Some(Verdict { rollback: stop.rollback, ..verdict });
        }
        if self.state.resolved_at.is_some() {
            let verdict = Verdict::new(ExecutionStatus::Stopped, Reason::Resolved);
            match self.runbook.on_resolved {
                OnResolved::Stop => return Some(verdict),
                OnResolved::Rollback => return Some(Verdict { rollback: true, ..verdict }),
                OnResolved::Finish if self.is_unbegun_consent() => {
                    return Some(Verdict::new(ExecutionStatus::Expired, Reason::Resolved));
                }
                OnResolved::Finish | OnResolved::Continue => {}
            }
        }
        if self.state.deadline_passed {
            let verdict = Verdict::new(ExecutionStatus::Failed, Reason::Timeout);
            return Some(Verdict { rollback: true, ..verdict });
        }
        None
    }

    /// Whether it waits for consent and has changed nothing so far.
    fn is_unbegun_consent(&self) -> bool {
        self.state.awaits_approval() && !self.has_changed()
    }

    /// Whether a step that can change something has begun.
    fn has_changed(&self) -> bool {
        let begun = |index: usize| !self.seen(index).begun.is_empty();
        (0..self.state.steps.len()).any(|index| begun(index) && self.state.effect(index).is_changing())
    }

    fn failed_for_good(&self, index: usize) -> bool {
        let seen = self.seen(index);
        // A step that was no longer wanted has not failed.
        let unwanted = seen.reason == Some(Reason::Resolved);
        seen.has_failed() && !unwanted && self.step(index).on_failure != OnFailure::Continue
    }

    fn failure(&self, index: usize) -> Next {
        let (step, seen) = (self.step(index), self.seen(index));
        let reason = match (seen.reason, seen.status) {
            (Some(reason), _) => reason,
            (None, StepStatus::Unknown) => Reason::UnknownOutcome,
            (None, _) => Reason::StepFailed,
        };
        if step.on_failure == OnFailure::Pause {
            let said = format!("step {} ended as {}", step.id, seen.status);
            return Next::Record(Event::Paused { actor: None, reason: said, code: Some(reason) });
        }
        let status = match reason {
            Reason::Rejected if !self.has_changed() => ExecutionStatus::Rejected,
            Reason::ApprovalExpired if !self.has_changed() => ExecutionStatus::Expired,
            _ => ExecutionStatus::Failed,
        };
        let message = Some(format!("step {} ended as {}", step.id, seen.status));
        let rollback = step.on_failure == OnFailure::Rollback;
        self.decide(Verdict { status, reason: Some(reason), message, rollback })
    }

    fn paused(&self) -> Next {
        if self.state.ending.is_some() {
            // Held on its way to an end that is decided.
            return Next::Idle { wake: None };
        }
        if let Some(verdict) = self.must_end() {
            return self.decide(verdict);
        }
        // What was in progress when it was held still ends; nothing begins.
        for index in 0..self.state.steps.len() {
            let seen = self.seen(index);
            if seen.status == StepStatus::Running
                && !seen.is_busy()
                && let Some(next) = self.advance(index)
                && !matches!(next, Next::Begin { .. } | Next::Record(Event::TimerStarted { .. }))
            {
                return next;
            }
        }
        Next::Idle { wake: None }
    }

    fn verifying(&self) -> Next {
        if self.state.ending.is_some() {
            return self.ending();
        }
        if self.state.aborted.is_some() || self.state.stop.is_some() {
            return self.must_end().map_or_else(|| self.idle(), |verdict| self.decide(verdict));
        }
        let (Some(verify), Some(proof)) = (&self.runbook.verify, &self.state.verify) else {
            return self.decide(Verdict::new(ExecutionStatus::Failed, Reason::Unreadable));
        };
        // The delivery that said so is in the journal: no question needs to be asked.
        let resolved =
            matches!(verify.condition, Condition::AlertResolved) && self.state.resolved_at.is_some();
        if resolved && proof.holds_since.is_none() {
            return Next::Record(Event::VerifyObserved {
                holds: true,
                detail: "the alert resolved".to_owned(),
            });
        }
        if let Some(since) = proof.holds_since {
            let proven_at = after(since, verify.hold);
            if self.now >= proven_at && proven_at <= proof.until {
                let status = ExecutionStatus::Succeeded;
                return self.decide(Verdict { status, reason: None, message: None, rollback: false });
            }
            self.wake_at(proven_at);
        }
        if self.now >= proof.until {
            let verdict = Verdict::new(ExecutionStatus::NotVerified, Reason::NotVerified);
            return self.decide(Verdict { rollback: true, ..verdict });
        }
        self.wake_at(proof.until);
        self.idle()
    }
}

#[cfg(test)]
mod tests;
