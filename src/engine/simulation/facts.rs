//! What the simulation knows of the shapes of events and attempts, in one place: a new event or role is told here.
//!
//! May import: `journal`, `model`, `step`. Must never: judge.

use crate::journal::Event;
use crate::model::{AttemptOutcome, Part, Role, StepId};
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

/// The step this event ends for good.
pub(super) fn step_over(event: &Event) -> Option<&StepId> {
    match event {
        Event::StepFinished { step, .. } | Event::StepSkipped { step, .. } => Some(step),
        _ => None,
    }
}

/// Whether this event says that nothing more may begin, but what takes things back or tidies up.
pub(super) fn is_stop(event: &Event) -> bool {
    matches!(event, Event::StopRequested { .. } | Event::DeadlinePassed)
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
