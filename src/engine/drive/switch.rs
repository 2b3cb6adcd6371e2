//! What the kill switch says to one execution: end, hold, go on, or stay in the queue.
//!
//! May import: `guard`, `journal`, `model`. Must never: wait for a commit where it only has to kill.

use super::Drive;
use crate::guard::SwitchState;
use crate::journal::{Event, State, TriggerKind};
use crate::model::{Reason, Timestamp};

/// Who acts where no person does.
const AUTOMATION: &str = "runbookd";

impl Drive {
    /// What the switch says to an execution in `state`, where it says something.
    pub(super) fn switched(&self, state: &State, now: Timestamp) -> Option<Event> {
        if state.status.is_final() {
            return None;
        }
        let order = self.shared.order(state, now);
        let level = order.as_ref().map_or(SwitchState::Running, |order| order.state);
        if let Some(order) = order.filter(|_| level == SwitchState::Aborted) {
            let aborts = state.aborted.is_none();
            return aborts.then_some(Event::Aborted { actor: order.by, reason: order.reason });
        }
        let halted = state.pause.as_ref().is_some_and(|pause| pause.code == Some(Reason::Halted));
        (halted && level < SwitchState::Halted).then(|| Event::Resumed {
            actor: AUTOMATION.to_owned(),
            reason: "the kill switch lets it go on".to_owned(),
        })
    }

    /// Whether everything in progress must end at once.
    pub(super) fn is_aborted(&self) -> bool {
        let order = self.shared.order(&self.state, self.shared.clock.now());
        order.is_some_and(|order| order.state == SwitchState::Aborted)
    }

    /// That nothing begins now, where that is so.
    pub(super) fn halted(&self, state: &State, now: Timestamp) -> Option<Event> {
        let order = self.shared.order(state, now)?;
        (order.state >= SwitchState::Halted).then(|| Event::Paused {
            actor: Some(order.by.clone()),
            reason: order.sentence(),
            code: Some(Reason::Halted),
        })
    }

    /// Whether it must stay in the queue although a slot and its lock are its own: what was accepted before a freeze
    /// or a storm does not start in it either. A child is a step of something that has begun, so it stays in no queue; where the
    /// switch also holds what has begun, it is held at its first step.
    pub(super) fn is_held_back(&self, state: &State, now: Timestamp) -> bool {
        if state.created.parent.is_some() {
            return false;
        }
        let shared = &self.shared;
        let frozen = match state.created.trigger.kind {
            TriggerKind::Alert | TriggerKind::Schedule => shared.starts_nothing(now),
            TriggerKind::Manual | TriggerKind::Retry => shared.freeze_for_people(now).is_some(),
            // To take back what was done must stay possible.
            TriggerKind::Rollback | TriggerKind::Runbook => false,
        };
        frozen || shared.order(state, now).is_some()
    }

    /// Why consent given now would begin what may not begin now. What has taken its first step may go on, and a halt
    /// lets people consent, because it holds at the first step all the same.
    pub(super) fn must_not_begin(&self, state: &State, now: Timestamp) -> Option<String> {
        if state.steps.iter().any(|step| !step.begun.is_empty()) {
            return None;
        }
        let order = self.shared.order(state, now);
        if let Some(order) = order.filter(|order| order.state == SwitchState::Draining) {
            return Some(order.sentence());
        }
        let (freeze, until) = self.shared.freeze_for_people(now)?;
        Some(format!("frozen by {freeze:?} until {until}"))
    }
}
