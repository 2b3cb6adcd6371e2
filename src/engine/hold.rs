//! What the kill switch means for the executions that live: who is held, who goes on, who ends.
//!
//! May import: `guard`, `journal`, `model`. Must never: keep an order from counting because something else fails.

use super::registry::Input;
use super::{Engine, Shared};
use crate::guard::freeze::in_force;
use crate::guard::{Board, Order, SwitchState};
use crate::journal::State;
use crate::model::{ExecutionId, ExecutionStatus, RunbookId, Timestamp};
use crate::store::records::switch::MAX_ORDERS;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How many parked executions look at a changed switch at once.
const STRIDE: usize = 256;

impl Shared {
    pub(super) fn unsaved(&self) -> MutexGuard<'_, BTreeMap<String, Order>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

/// How long a person waits for the store to take an order that is in force already.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// It is in force and durable.
    Durable,
    /// It is in force; why it is not durable yet. That is tried again until it is.
    InForce(String),
}

/// Why an order does not count.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It would let automation go on, and that must be durable first.
    #[error("it could not be made durable, so what was ordered before still counts: {0}")]
    NotDurable(String),
    /// Too many scopes.
    #[error("{MAX_ORDERS} orders stand already: take some back, or order something of everything")]
    TooMany,
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

    /// What is in force.
    pub fn board(&self) -> &Arc<Board> {
        &self.shared.board
    }

    /// Puts an order in force and makes it durable. What holds automation back counts at once, whether or not it can
    /// be made durable; what lets it go on is durable first.
    ///
    /// # Errors
    /// [`OrderError`]; then what was in force before still is.
    pub async fn post(&self, order: Order) -> Result<Posted, OrderError> {
        let (board, now) = (&self.shared.board, self.shared.clock.now());
        let before =
            board.read().get(&order.scope).filter(|before| before.stands(now)).map(|before| before.state);
        if before.is_none()
            && order.state > SwitchState::Running
            && board.read().orders().count() >= MAX_ORDERS
        {
            return Err(OrderError::TooMany);
        }
        let is_stricter =
            order.state >= before.unwrap_or(SwitchState::Running) && order.state > SwitchState::Running;
        if is_stricter {
            self.enforce(order.clone());
        }
        let saving = tokio::time::timeout(PATIENCE, self.shared.records.put_order(&order));
        let saved = match saving.await {
            Ok(saved) => saved.map_err(|error| error.to_string()),
            Err(_) => Err("the store did not answer".to_owned()),
        };
        match saved {
            Ok(()) => {
                self.shared.unsaved().remove(&order.scope.key());
                self.enforce(order);
                Ok(Posted::Durable)
            }
            Err(why) if is_stricter => {
                tracing::error!(why, "the kill switch is in force, but not durable yet");
                self.shared.unsaved().insert(order.scope.key(), order);
                Ok(Posted::InForce(why))
            }
            Err(why) => Err(OrderError::NotDurable(why)),
        }
    }

    /// Puts an order in force, or takes it back; whether it is durable is seen to elsewhere.
    pub fn enforce(&self, order: Order) {
        self.shared.board.change(|switch| match order.state {
            SwitchState::Running => drop(switch.clear(&order.scope)),
            SwitchState::Draining | SwitchState::Halted | SwitchState::Aborted => switch.set(order),
        });
        self.heed();
    }

    /// The orders in force that are not durable yet.
    pub fn unsaved_orders(&self) -> Vec<Order> {
        self.shared.unsaved().values().cloned().collect()
    }

    /// Rings, so that what was posted on the board counts at once.
    pub fn heed(&self) {
        self.shared.wake.notify_one();
    }
}
