//! The machine: what comes next for an execution in this state at this time.
//!
//! Pure. May import: `model`, `runbook`, `journal`, and `engine::view` which is as pure. Must never: do
//! I/O, read a clock, draw a random number. The driver appends what [`next`] records and carries out what
//! [`consequence`] names; [`resume`] says what a crash did to each step.

use super::view;
use crate::journal::{AttemptResult, Event, Skip, State, StepState};
use crate::model::{AttemptOutcome, Effect, ExecutionStatus, Reason, StepId, StepStatus, Timestamp, after};
use crate::runbook::{Condition, Kind, OnFailure, OnResolved, Runbook, Step};

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Append this event, then ask again.
    Record(Event),
    /// Begin this attempt: it needs a slot, and its intent must be durable first.
    Begin {
        /// The step's position.
        index: usize,
        /// The attempt's number.
        attempt: u32,
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
    /// End the attempt in progress: its outcome will be `stopped`.
    KillStopped,
    /// End the attempt in progress: its outcome will be `timed_out`.
    KillTimedOut,
}

/// What `event` demands of the world once it is durable.
pub fn consequence(runbook: &Runbook, event: &Event) -> Option<Consequence> {
    match event {
        Event::StepIntended { .. } => Some(Consequence::Start),
        Event::StopRequested { .. } => Some(Consequence::KillStopped),
        Event::AlertResolved if runbook.on_resolved == OnResolved::Stop => Some(Consequence::KillStopped),
        Event::DeadlinePassed => Some(Consequence::KillTimedOut),
        _ => None,
    }
}

/// What comes next for `state` at `now`.
pub fn next(runbook: &Runbook, state: &State, now: Timestamp) -> Next {
    match state.status {
        ExecutionStatus::Queued => queued(state, now),
        ExecutionStatus::Running => running(runbook, state, now),
        ExecutionStatus::Verifying => verifying(runbook, state, now),
        // No event of this version leads into the other live statuses.
        ExecutionStatus::AwaitingApproval | ExecutionStatus::Paused | ExecutionStatus::RollingBack => {
            Next::Idle { wake: None }
        }
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

fn queued(state: &State, now: Timestamp) -> Next {
    if state.stop.is_some() {
        return finish(ExecutionStatus::Stopped, Some(Reason::Stopped));
    }
    if state.resolved_at.is_some() {
        return finish(ExecutionStatus::Expired, Some(Reason::Resolved));
    }
    let deadline = state.created.queue_deadline;
    if now >= deadline {
        return finish(ExecutionStatus::Expired, Some(Reason::QueueExpired));
    }
    Next::Idle { wake: Some(deadline) }
}

fn running(runbook: &Runbook, state: &State, now: Timestamp) -> Next {
    if let Some(verdict) = ending(runbook, state) {
        return wind_down(state, verdict);
    }
    let deadline = state.deadline.unwrap_or(now);
    if now >= deadline {
        return Next::Record(Event::DeadlinePassed);
    }
    for index in 0..state.steps.len() {
        let (step, seen) = (&runbook.steps[index], &state.steps[index]);
        if seen.is_over() {
            if failed_for_good(step, seen) {
                return wind_down(state, failure(state, index));
            }
            continue;
        }
        return advance(runbook, state, index, now, deadline);
    }
    match &runbook.verify {
        None => finish(ExecutionStatus::Succeeded, None),
        Some(verify) => Next::Record(Event::VerifyStarted { until: after(now, verify.within).min(deadline) }),
    }
}

/// How the execution must end because of something outside its steps, if it must.
fn ending(runbook: &Runbook, state: &State) -> Option<Ending> {
    if state.stop.is_some() {
        return Some(Ending { status: ExecutionStatus::Stopped, reason: Reason::Stopped });
    }
    if state.resolved_at.is_some() && runbook.on_resolved == OnResolved::Stop {
        return Some(Ending { status: ExecutionStatus::Stopped, reason: Reason::Resolved });
    }
    if state.deadline_passed {
        return Some(Ending { status: ExecutionStatus::Failed, reason: Reason::Timeout });
    }
    None
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    status: ExecutionStatus,
    reason: Reason,
}

/// Waits for the attempt in progress to end, settles the steps that remain, then ends.
fn wind_down(state: &State, ending: Ending) -> Next {
    for (index, step) in state.steps.iter().enumerate() {
        let id = state.created.steps[index].id.clone();
        match step.status {
            StepStatus::Running if step.open.is_some() => return Next::Idle { wake: None },
            StepStatus::Running => return Next::Record(settle(id, step)),
            StepStatus::Waiting => {
                let status =
                    if ending.reason == Reason::Timeout { StepStatus::TimedOut } else { StepStatus::Stopped };
                return Next::Record(Event::StepFinished { step: id, status, error: None });
            }
            StepStatus::Pending => return Next::Record(Event::StepSkipped { step: id, why: Skip::Ended }),
            _ => {}
        }
    }
    finish(ending.status, Some(ending.reason))
}

/// What follows for the first step that is not over.
fn advance(runbook: &Runbook, state: &State, index: usize, now: Timestamp, deadline: Timestamp) -> Next {
    let (step, seen) = (&runbook.steps[index], &state.steps[index]);
    match seen.status {
        StepStatus::Running if seen.open.is_some() => Next::Idle { wake: Some(deadline) },
        StepStatus::Running => Next::Record(settle(step.id.clone(), seen)),
        StepStatus::Waiting => match seen.until {
            Some(until) if now >= until => Next::Record(Event::StepFinished {
                step: step.id.clone(),
                status: StepStatus::Succeeded,
                error: None,
            }),
            Some(until) => Next::Idle { wake: Some(until.min(deadline)) },
            // Interrupted by a crash: the same attempt again.
            None => Next::Begin { index, attempt: seen.last().map_or(1, |attempt| attempt.attempt) },
        },
        _ => begin(runbook, state, index, now),
    }
}

/// What a step that has not begun becomes.
fn begin(runbook: &Runbook, state: &State, index: usize, now: Timestamp) -> Next {
    let step = &runbook.steps[index];
    let skip = |why| Next::Record(Event::StepSkipped { step: step.id.clone(), why });
    if state.created.range.is_some_and(|(from, to)| !(from..=to).contains(&index)) {
        return skip(Skip::Range);
    }
    if state.resolved_at.is_some() && runbook.on_resolved == OnResolved::Finish && step.effect.is_changing() {
        return skip(Skip::Resolved);
    }
    if let Some(when) = &step.when {
        match when.evaluate(&view::context_of(runbook, state)) {
            Ok(true) => {}
            Ok(false) => return skip(Skip::When),
            Err(error) => {
                let error = Some(format!("its `when` cannot be answered: {error}"));
                let (step, status) = (step.id.clone(), StepStatus::Failed);
                return Next::Record(Event::StepFinished { step, status, error });
            }
        }
    }
    match step.kind {
        Kind::Wait { duration } => {
            Next::Record(Event::TimerStarted { step: step.id.clone(), until: after(now, duration) })
        }
        _ => Next::Begin { index, attempt: 1 },
    }
}

/// The end of a step whose attempt has ended.
fn settle(step: StepId, seen: &StepState) -> Event {
    let status = match seen.last().map(|attempt| attempt.result.outcome) {
        Some(AttemptOutcome::Succeeded) => StepStatus::Succeeded,
        Some(AttemptOutcome::Failed) => StepStatus::Failed,
        Some(AttemptOutcome::TimedOut) => StepStatus::TimedOut,
        Some(AttemptOutcome::Stopped) => StepStatus::Stopped,
        Some(AttemptOutcome::Unknown | AttemptOutcome::Interrupted) | None => StepStatus::Unknown,
    };
    Event::StepFinished { step, status, error: None }
}

fn failed_for_good(step: &Step, seen: &StepState) -> bool {
    let failed = matches!(
        seen.status,
        StepStatus::Failed | StepStatus::TimedOut | StepStatus::Stopped | StepStatus::Unknown
    );
    failed && step.on_failure != OnFailure::Continue
}

/// Nothing can be undone in this version, so a rollback with nothing to undo ends as failed, like a stop.
fn failure(state: &State, index: usize) -> Ending {
    let reason = match state.steps[index].status {
        StepStatus::Unknown => Reason::UnknownOutcome,
        _ => Reason::StepFailed,
    };
    Ending { status: ExecutionStatus::Failed, reason }
}

fn verifying(runbook: &Runbook, state: &State, now: Timestamp) -> Next {
    if state.stop.is_some() {
        return finish(ExecutionStatus::Stopped, Some(Reason::Stopped));
    }
    let (Some(verify), Some(proof)) = (&runbook.verify, &state.verify) else {
        return finish(ExecutionStatus::Failed, Some(Reason::Unreadable));
    };
    // The delivery that said so is in the journal: no question needs to be asked.
    let resolved = matches!(verify.condition, Condition::AlertResolved) && state.resolved_at.is_some();
    if resolved && proof.holds_since.is_none() {
        return Next::Record(Event::VerifyObserved { holds: true, detail: "the alert resolved".to_owned() });
    }
    if let Some(since) = proof.holds_since {
        let proven_at = after(since, verify.hold);
        if now >= proven_at && proven_at <= proof.until {
            return finish(ExecutionStatus::Succeeded, None);
        }
    }
    if now >= proof.until {
        return finish(ExecutionStatus::NotVerified, Some(Reason::NotVerified));
    }
    let held = proof.holds_since.map(|since| after(since, verify.hold));
    Next::Idle { wake: Some(held.map_or(proof.until, |held| held.min(proof.until))) }
}

fn finish(status: ExecutionStatus, reason: Option<Reason>) -> Next {
    Next::Record(Event::Finished { status, reason, message: None })
}

/// What a crash did to each attempt that was in progress: the crash rules.
///
/// Read-only, idempotent and keyed attempts were interrupted and run again with the same number (and so the
/// same idempotency key). An at-most-once attempt may or may not have happened: unknown, never a second run.
pub fn resume(state: &State) -> Vec<Event> {
    let open = state.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step.open.as_ref()?)));
    open.map(|(index, open)| {
        let (outcome, error) = match state.effect(index) {
            Effect::ReadOnly | Effect::Idempotent | Effect::Keyed => (
                AttemptOutcome::Interrupted,
                "runbookd ended while this ran; it runs again with the same number",
            ),
            Effect::AtMostOnce => (
                AttemptOutcome::Unknown,
                "runbookd ended while this ran; it may or may not have happened and is not run again",
            ),
        };
        Event::AttemptFinished {
            step: state.created.steps[index].id.clone(),
            attempt: open.attempt,
            result: Box::new(AttemptResult::plain(outcome, String::new(), Some(error.to_owned()))),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests;
