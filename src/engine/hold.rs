//! What the kill switch means for the executions that live: who is held, who goes on, who ends.
//!
//! May import: `guard`, `journal`, `model`. Must never: keep an order from counting because something else fails.

use super::registry::Input;
use super::{Engine, Shared};
use crate::guard::freeze::in_force;
use crate::guard::{Order, SwitchState};
use crate::journal::State;
use crate::model::{ExecutionId, ExecutionStatus, RunbookId, Timestamp};
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// How many parked executions look at a changed switch at once.
const STRIDE: usize = 256;

impl Shared {
    /// The strictest order that covers an execution.
    pub(super) fn order(&self, state: &State, now: Timestamp) -> Option<Order> {
        let switch = self.board.read();
        if switch.is_empty() {
            return None;
        }
        let created = &state.created;
        let parent = created.parent.as_ref();
        let above = parent.map(|parent| [parent.id.runbook(), parent.root.runbook()]);
        let above = above.into_iter().flatten().filter_map(|name| RunbookId::new(name).ok());
        let runbooks: Vec<RunbookId> = std::iter::once(created.runbook.clone()).chain(above).collect();
        let runbooks: Vec<&RunbookId> = runbooks.iter().collect();
        switch.strictest(&runbooks, Some(&created.trigger.labels), now).cloned()
    }

    /// Whether automation starts nothing now, also of what it has accepted: in a freeze and in a storm.
    pub(super) fn starts_nothing(&self, now: Timestamp) -> bool {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let storms =
            limits.storm.is_some() && now.as_millisecond() < self.storm_until.load(Ordering::Relaxed);
        storms || in_force(&limits.freezes, now).next().is_some()
    }

    /// The freeze that keeps people from starting something now, and its end.
    pub(super) fn freeze_for_people(&self, now: Timestamp) -> Option<(String, Timestamp)> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let (freeze, end) = in_force(&limits.freezes, now).find(|(freeze, _)| !freeze.allow_manual)?;
        Some((freeze.name.clone(), end))
    }

    /// How many executions of a runbook may be going at once, as far as that can be said without their labels: none
    /// where the kill switch is thrown.
    pub(super) fn at_once(&self, now: Timestamp) -> impl Fn(&RunbookId) -> u32 {
        let switch = self.board.read();
        let default = self.limits.lock().unwrap_or_else(PoisonError::into_inner).guard.max_concurrent;
        move |runbook| {
            if !switch.is_empty() && switch.strictest(&[runbook], None, now).is_some() {
                return 0;
            }
            let pinned = self.runbooks.current(runbook);
            let limit =
                pinned.map_or(default, |pinned| pinned.runbook.guard.settings.max_concurrent_over(default));
            limit.unwrap_or(u32::MAX)
        }
    }
}

/// The executions that have not looked at the switch since it changed.
#[derive(Default)]
pub(super) struct Unaware {
    version: u64,
    /// Whether there was a freeze or a storm for automation, and a freeze for people.
    frozen: [bool; 2],
    left: VecDeque<ExecutionId>,
}

impl Engine {
    /// Learns whether there is a storm: the record of it is written with the decisions that ring the engine.
    pub(super) async fn look_at_the_storm(&self) {
        let shared = &self.shared;
        let limit = shared.limits.lock().unwrap_or_else(PoisonError::into_inner).storm;
        let Some(limit) = limit else { return };
        let now = shared.clock.now();
        // While the store cannot be read, what was known of it counts.
        if let Ok(storm) = shared.records.storm(now).await {
            let until = storm.raging(limit, now).map_or(i64::MIN, |raging| raging.until.as_millisecond());
            shared.storm_until.store(until, Ordering::Relaxed);
        }
    }

    /// Lets those look at the switch that it may concern, the ones in the middle of something first. True when
    /// some are left for the next time.
    pub(super) fn heed_switch(&self, unaware: &mut Unaware, expired: bool, now: Timestamp) -> bool {
        let version = self.shared.board.version();
        let frozen = [self.shared.starts_nothing(now), self.shared.freeze_for_people(now).is_some()];
        let before = std::mem::replace(&mut unaware.frozen, frozen);
        let thawed = before.iter().zip(frozen).any(|(before, now)| *before && !now);
        if version != unaware.version || expired || thawed {
            unaware.version = version;
            let mut registry = self.shared.registry();
            registry.requeue_held();
            let driven = registry.driven();
            let aborts = self.shared.board.read().orders().any(|order| order.state == SwitchState::Aborted);
            // Going on is for those that are held, an end for all.
            let parked = registry.parked(|status| aborts || status == ExecutionStatus::Paused);
            unaware.left = parked.into();
            drop(registry);
            for id in driven {
                self.shared.send(&id, Input::Tick);
            }
        }
        let count = unaware.left.len().min(STRIDE);
        for id in unaware.left.drain(..count) {
            self.shared.send(&id, Input::Tick);
        }
        !unaware.left.is_empty()
    }
}
