//! What the simulation knows of the shapes of events and attempts, in one place: a new event or role is told here.
//!
//! May import: `journal`, `model`, `step`. Must never: judge.

use crate::engine::verb::Verb;
use crate::journal::Event;
use crate::model::{AttemptOutcome, ExecutionId, ExecutionStatus, Part, Reason, Role, StepId};
use crate::runbook::Step;
use crate::step::AttemptContext;
use std::fmt;

/// Which attempt of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Act {
    /// The step.
    pub(super) step: StepId,
    /// The step itself, its probe or its undo, for which item.
    pub(super) part: Part,
    /// The number.
    pub(super) attempt: u32,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]#{}", self.step, self.part, self.attempt)
    }
}

/// The act an attempt is.
pub(super) fn act_of(context: &AttemptContext) -> Act {
    Act { step: context.step.clone(), part: context.part, attempt: context.attempt }
}

/// The act whose intent this event is.
pub(super) fn intent(event: &Event) -> Option<Act> {
    match event {
        Event::StepIntended { step, part, attempt, .. } => {
            Some(Act { step: step.clone(), part: *part, attempt: *attempt })
        }
        _ => None,
    }
}

/// The act whose end this event is, and how it ended.
pub(super) fn end(event: &Event) -> Option<(Act, AttemptOutcome)> {
    match event {
        Event::AttemptFinished { step, part, attempt, result } => {
            Some((Act { step: step.clone(), part: *part, attempt: *attempt }, result.outcome))
        }
        _ => None,
    }
}

/// The execution this event starts, and the act it is.
pub(super) fn child_of(event: &Event) -> Option<(ExecutionId, Act)> {
    match event {
        Event::StepIntended { child: Some(child), .. } => Some((child.clone(), intent(event)?)),
        _ => None,
    }
}

/// How many attempts a part of `step` has.
pub(super) fn policy_of(step: &Step, part: Part) -> u32 {
    match part.role {
        Role::Main => step.retry.attempts,
        // Looked for once for each attempt that may have happened.
        Role::Probe => u32::MAX,
        Role::Undo => step.undo.as_ref().map_or(1, |undo| undo.retry.attempts),
    }
}

/// Whether an act of `step` may begin although a stop was asked for.
pub(super) fn may_follow_a_stop(step: &Step, act: &Act) -> bool {
    act.part.role == Role::Undo || step.is_finally
}

/// The effect of an act of `step`.
pub(super) fn effect_of(step: &Step, act: &Act) -> crate::model::Effect {
    match act.part.role {
        Role::Main => step.effect,
        Role::Probe => crate::model::Effect::ReadOnly,
        Role::Undo => step.undo.as_ref().map_or(step.effect, |undo| undo.effect),
    }
}

/// The words of all events.
const EVENTS: &[&str] = &[
    "created",
    "started",
    "step_skipped",
    "items_listed",
    "step_intended",
    "timer_started",
    "step_observed",
    "approval_requested",
    "approved",
    "rejected",
    "acknowledged",
    "attempt_finished",
    "retry_scheduled",
    "part_finished",
    "step_finished",
    "alert_resolved",
    "stop_requested",
    "paused",
    "resumed",
    "retry_requested",
    "modified",
    "deadline_passed",
    "verify_started",
    "verify_observed",
    "ending",
    "rollback_started",
    "finished",
];

/// The codes of the gates that must have denied something.
const DENIALS: &[Reason] = &[
    Reason::Frozen,
    Reason::Quarantined,
    Reason::Cooldown,
    Reason::AttemptsExhausted,
    Reason::TooManyTargets,
    Reason::PrecheckFailed,
    Reason::QueueExpired,
];

/// Every word that must come up in many stories: of events, of final statuses, of verbs that were acknowledged, of
/// denials.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    let ends = ExecutionStatus::ALL.iter().filter(|status| status.is_final()).map(|status| status.as_str());
    let denials = DENIALS.iter().map(|reason| reason.as_str());
    EVENTS.iter().copied().chain(ends).chain(Verb::ALL.map(Verb::as_str)).chain(denials)
}
