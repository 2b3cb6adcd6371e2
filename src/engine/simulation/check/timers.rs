//! Time: nothing happens before it is due, and nothing that is due is forgotten.
//!
//! May import: what `check` may. Must never: count time in which an execution was held or waited for consent.

use super::{Case, Delays};
use crate::engine::simulation::facts::intent;
use crate::engine::simulation::time::{Moment, moment_of};
use crate::journal::{Entry, Event, State};
use crate::model::{ExecutionStatus, Reason, StepStatus, Timestamp, after, between};
use crate::runbook::Kind;
use std::time::Duration;

/// What is wrong with the timers of `case`.
pub(super) fn check(case: &Case<'_>, delays: &Delays) -> Vec<String> {
    let mut wrong = no_timer_is_early(case);
    wrong.extend(no_timer_is_late(case, delays));
    wrong.extend(the_whole_time_is_kept(case, delays));
    wrong
}

/// When the step of `event` was to end by itself at the latest.
fn due_of(case: &Case<'_>, before: &State, event: &Event) -> Option<(Timestamp, StepStatus)> {
    let Event::StepFinished { step, status, .. } = event else { return None };
    let undisturbed = before.ending.is_none() && before.stop.is_none();
    let seen = &before.steps[case.index(step)];
    seen.until.filter(|_| undisturbed && seen.status == StepStatus::Waiting).map(|until| (until, *status))
}

fn no_timer_is_early(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    case.walk(|before, Entry { at, event, .. }| {
        let mut early = |what: &str, due| {
            if *at < due {
                wrong.push(format!("{what} at {at}, which was due at {due}"));
            }
        };
        if let Some(act) = intent(event)
            && let Some(planned) = before.steps[case.index(&act.step)].retries.get(&act.part)
        {
            early("a retry began", planned.at);
        }
        match (event, due_of(case, before, event)) {
            (Event::StepFinished { step, .. }, Some((until, StepStatus::Succeeded)))
                if matches!(case.step(step).kind, Kind::Wait { .. }) =>
            {
                early("a wait ended", until);
            }
            (Event::StepFinished { .. }, Some((until, StepStatus::TimedOut))) => {
                early("a wait was given up", until)
            }
            (Event::RetryScheduled { at: planned, .. }, _) if planned < at => {
                wrong.push(format!("at {at} a retry was planned for {planned}"));
            }
            (Event::Ending { status, .. } | Event::Finished { status, .. }, _) if before.ending.is_none() => {
                match (status, &before.verify) {
                    (ExecutionStatus::NotVerified, Some(proof)) => {
                        early("the proof was given up", proof.until)
                    }
                    (ExecutionStatus::Succeeded, Some(proof)) => {
                        let hold = case.runbook.verify.as_ref().map_or(Duration::ZERO, |verify| verify.hold);
                        early("it was proved", proof.holds_since.map_or(*at, |since| after(since, hold)));
                    }
                    _ => {}
                }
                if let Event::Finished { reason: Some(Reason::QueueExpired), .. } = event {
                    early("it expired", before.created.queue_deadline);
                }
            }
            _ => {}
        }
    });
    wrong
}

fn no_timer_is_late(case: &Case<'_>, delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    case.walk(|before, Entry { at, event, .. }| {
        let mut late = |what: &str, due| {
            if delays.too_late(moment_of(*at), moment_of(due)) {
                wrong.push(format!("{what} at {at}, which was due at {due}"));
            }
        };
        match (event, due_of(case, before, event)) {
            (Event::StepFinished { .. }, Some((until, _))) => late("a wait ended", until),
            (Event::Finished { reason: Some(Reason::QueueExpired), .. }, _) => {
                late("it expired", before.created.queue_deadline);
            }
            (
                Event::Ending { status: ExecutionStatus::NotVerified, .. }
                | Event::Finished { status: ExecutionStatus::NotVerified, .. },
                _,
            ) if before.ending.is_none() => {
                late("the proof was given up", before.verify.as_ref().map_or(*at, |proof| proof.until));
            }
            _ => {}
        }
    });
    wrong
}

/// The timeout of the whole, counted without the time in which it was held or waited for consent.
fn the_whole_time_is_kept(case: &Case<'_>, delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    let whole = Duration::from_millis(case.state.created.timeout_ms);
    let (mut spent, mut since) = (Duration::ZERO, case.journal[0].at);
    case.walk(|before, Entry { at, event, .. }| {
        let counts = matches!(before.status, ExecutionStatus::Running | ExecutionStatus::Verifying);
        if counts && before.ending.is_none() {
            spent += between(since, *at);
            let over = Moment::try_from(spent.saturating_sub(whole).as_millis()).unwrap_or(Moment::MAX);
            if delays.too_late(moment_of(*at), moment_of(*at).saturating_sub(over)) && !before.deadline_passed
            {
                wrong.push(format!("at {at} it has gone on for {spent:?}, {whole:?} were allowed"));
            }
        }
        since = *at;
        if *event == Event::DeadlinePassed && spent < whole {
            wrong.push(format!("at {at} its time was up after {spent:?} of {whole:?}"));
        }
    });
    wrong
}
