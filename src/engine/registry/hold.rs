//! Those that the kill switch or a freeze keeps in the queue although a slot and their lock were theirs.
//!
//! May import: what the registry may. Must never: forget one.

use super::{Key, Queued, Registry};
use crate::model::{ExecutionId, ExecutionStatus, Timestamp};

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
