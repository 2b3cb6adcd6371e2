//! Those that are kept in the queue although a slot and their lock were theirs; and what is held for those below.
//!
//! May import: what the registry may. Must never: forget one, or let two hold the same.

use super::{Key, Lock, Queued, Registry};
use crate::model::{ExecutionId, ExecutionStatus, Timestamp};
use std::collections::hash_map::Entry;

impl Registry {
    /// Back into the queue, where it stays until [`Registry::requeue_held`]; without its slot, its lock and its driver.
    /// False when something has arrived for it meanwhile.
    pub(in crate::engine) fn hold(&mut self, id: &ExecutionId, since: Timestamp) -> bool {
        let key = Key::of(id);
        let Some(live) = self.live.get_mut(&key) else { return true };
        if let Some(busy) = &mut live.busy {
            if !busy.inbox.is_empty() {
                return false;
            }
            busy.driver = None;
        }
        let (lock, runbook) = (live.lock, live.runbook);
        self.driven.remove(&key);
        self.give_back_slot(key);
        self.free(lock, key);
        self.one_fewer_begun(runbook);
        self.held.insert(key, Queued { lock, since });
        true
    }

    /// What a step of `id` starts is going to change what `lock` names: the execution at the top holds that alone from
    /// now on, to its own end. False where it held it as its own lock anyway.
    ///
    /// # Errors
    /// Who holds it. Nobody waits here: two that wait for what the other one holds would wait for ever.
    pub(in crate::engine) fn hold_for_child(
        &mut self,
        id: &ExecutionId,
        lock: &str,
    ) -> Result<bool, Option<ExecutionId>> {
        let (key, lock) = (Key::of(id), Lock::of(lock));
        let root = self.live.get(&key).map_or(key, |live| live.root(key));
        if self.live.get(&root).is_some_and(|live| live.lock == Some(lock)) {
            return Ok(false);
        }
        match self.locks.get(&lock).copied() {
            Some(holder) if holder != root => Err(self.id_of(holder)),
            _ => {
                self.hold_beside(root, lock);
                Ok(true)
            }
        }
    }

    /// `root` holds `lock` for one below it, unless somebody holds it already.
    pub(super) fn hold_beside(&mut self, root: Key, lock: Lock) {
        if let Entry::Vacant(free) = self.locks.entry(lock) {
            free.insert(root);
            self.beside.entry(root).or_default().push(lock);
        }
    }

    /// Those that were held take their places in the queue again.
    pub(in crate::engine) fn requeue_held(&mut self) {
        self.queue.append(&mut self.held);
    }

    /// Those without a driver whose status is one of these.
    pub(in crate::engine) fn parked(&self, wanted: impl Fn(ExecutionStatus) -> bool) -> Vec<ExecutionId> {
        let parked = self.live.iter().filter(|(key, live)| !self.driven.contains(key) && wanted(live.status));
        parked.filter_map(|(key, _)| self.id_of(*key)).collect()
    }
}
