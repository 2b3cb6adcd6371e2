//! Who is live, who waits for what, who holds what: the engine's memory, without any task or clock.
//!
//! A parked execution is one entry here and its bytes in the store. A slot is the right to have a step in
//! progress; a lock is the right to change a target. Both are granted here and nowhere else.
//! May import: `model`. Must never: block, do I/O, or be held across an await.

use super::VerbError;
use super::verb::{Ask, Verb};
use crate::journal::AttemptResult;
use crate::model::{ExecutionId, ExecutionStatus, Part, Reason, Timestamp};
use crate::store::records::Header;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Where the answer to a person's request goes.
pub(super) type Reply = oneshot::Sender<Result<ExecutionStatus, VerbError>>;

/// Something an execution must look at.
#[derive(Debug)]
pub(super) enum Input {
    /// It may leave the queue: a slot and its lock are its own.
    Start,
    /// A slot is its own.
    Slot,
    /// Its time has come.
    Tick,
    /// Its alert resolved.
    Resolved,
    /// A person, or its parent, wants something of it.
    Asked { ask: Box<Ask>, reply: Option<Reply> },
    /// Its parent was to end and cannot know whether it has heard of that.
    Reminded { parent: ExecutionId },
    /// An attempt ended.
    Ended { index: usize, part: Part, attempt: u32, result: Box<AttemptResult> },
    /// The execution one of its steps started is over.
    ChildEnded { child: ExecutionId, status: ExecutionStatus, reason: Option<Reason> },
    /// The question of a step, or with none that of the verify, was answered.
    Observed { step: Option<usize>, holds: bool, detail: String },
    /// The daemon is going: end what is in progress and record it as interrupted.
    Interrupt,
}

struct Live {
    status: ExecutionStatus,
    lock: Option<String>,
    /// The execution whose slot it uses, when that is not its own.
    root: Option<ExecutionId>,
    /// Who uses its slot: itself and those below it. It has one while anybody does.
    users: Vec<ExecutionId>,
    wake: Option<Timestamp>,
    inbox: Vec<Input>,
    /// Rings for the task that drives it; `None` while it is parked.
    driver: Option<Arc<Notify>>,
}

struct Queued {
    id: ExecutionId,
    lock: Option<String>,
    since: Timestamp,
}

/// What a caller of [`Registry::send`] must do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing: its driver was told.
    Told,
    /// Start a driver for it.
    Drive,
    /// It is not live.
    Gone,
}

/// Numbers for status and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live executions by status; every live status is there.
    pub by_status: BTreeMap<ExecutionStatus, u64>,
    /// When the oldest queued one was accepted.
    pub oldest_queued: Option<Timestamp>,
}

/// The engine's memory.
pub(super) struct Registry {
    max_running: usize,
    running: usize,
    draining: bool,
    queue: VecDeque<Queued>,
    locks: HashMap<String, ExecutionId>,
    live: HashMap<ExecutionId, Live>,
    timers: BTreeSet<(Timestamp, ExecutionId)>,
    waiting_for_slot: VecDeque<ExecutionId>,
}

impl Registry {
    pub(super) fn new(max_running: usize) -> Self {
        Self {
            max_running,
            running: 0,
            draining: false,
            queue: VecDeque::new(),
            locks: HashMap::new(),
            live: HashMap::new(),
            timers: BTreeSet::new(),
            waiting_for_slot: VecDeque::new(),
        }
    }

    /// Takes in an execution read from the store, parked. False when it is known already.
    pub(super) fn take_in(&mut self, header: &Header) -> bool {
        if self.live.contains_key(&header.id) {
            return false;
        }
        let root = header.parent.as_ref().map(|parent| parent.root.clone());
        let queued = header.status == ExecutionStatus::Queued && root.is_none();
        let (id, lock) = (header.id.clone(), header.lock.clone());
        if queued {
            self.queue.push_back(Queued { id: id.clone(), lock: lock.clone(), since: header.created_at });
        } else if let Some(lock) = &lock {
            self.locks.insert(lock.clone(), id.clone());
        }
        let live = Live {
            status: header.status,
            lock,
            root,
            users: Vec::new(),
            wake: None,
            inbox: Vec::new(),
            driver: None,
        };
        self.live.insert(id.clone(), live);
        self.set_timer(&id, header.wake);
        true
    }

    /// Leaves `input` for `id`.
    pub(super) fn send(&mut self, id: &ExecutionId, input: Input) -> Sent {
        let Some(live) = self.live.get_mut(id) else { return Sent::Gone };
        live.inbox.push(input);
        if let Some(driver) = &live.driver {
            driver.notify_one();
            return Sent::Told;
        }
        live.driver = Some(Arc::new(Notify::new()));
        Sent::Drive
    }

    /// The bell of the driver of `id`.
    pub(super) fn bell(&self, id: &ExecutionId) -> Option<Arc<Notify>> {
        self.live.get(id)?.driver.clone()
    }

    /// Takes what lies in the inbox of `id`.
    pub(super) fn take_inputs(&mut self, id: &ExecutionId) -> Vec<Input> {
        self.live.get_mut(id).map(|live| std::mem::take(&mut live.inbox)).unwrap_or_default()
    }

    /// Whether a stop waits in the inbox of `id`; a driver that cannot commit still kills.
    pub(super) fn has_stop(&self, id: &ExecutionId) -> bool {
        let is_end = |input: &Input| match input {
            Input::Asked { ask, .. } => matches!(ask.verb, Verb::Stop | Verb::Rollback),
            Input::Interrupt => true,
            _ => false,
        };
        self.live.get(id).is_some_and(|live| live.inbox.iter().any(is_end))
    }

    /// The driver of `id` has nothing more to do until `wake`; false when something has arrived meanwhile.
    pub(super) fn park(&mut self, id: &ExecutionId, wake: Option<Timestamp>) -> bool {
        self.set_timer(id, wake);
        let Some(live) = self.live.get_mut(id) else { return true };
        if !live.inbox.is_empty() {
            return false;
        }
        live.driver = None;
        self.give_back_slot(id);
        true
    }

    /// Sets the one timer of `id`.
    pub(super) fn set_timer(&mut self, id: &ExecutionId, wake: Option<Timestamp>) {
        let Some(live) = self.live.get_mut(id) else { return };
        if live.wake == wake {
            return;
        }
        if let Some(old) = live.wake.take() {
            self.timers.remove(&(old, id.clone()));
        }
        if let Some(at) = wake {
            live.wake = Some(at);
            self.timers.insert((at, id.clone()));
        }
    }

    /// The timer of `id`.
    pub(super) fn timer_of(&self, id: &ExecutionId) -> Option<Timestamp> {
        self.live.get(id)?.wake
    }

    /// Notes the status of `id` after a commit.
    pub(super) fn set_status(&mut self, id: &ExecutionId, status: ExecutionStatus) {
        if let Some(live) = self.live.get_mut(id) {
            live.status = status;
        }
    }

    /// Forgets `id`; true when it was still in the queue.
    pub(super) fn finish(&mut self, id: &ExecutionId) -> bool {
        self.set_timer(id, None);
        self.give_back_slot(id);
        self.waiting_for_slot.retain(|waiting| waiting != id);
        if let Some(live) = self.live.remove(id)
            && let Some(lock) = &live.lock
            && self.locks.get(lock) == Some(id)
        {
            self.locks.remove(lock);
        }
        let before = self.queue.len();
        self.queue.retain(|queued| queued.id != *id);
        before != self.queue.len()
    }

    /// Nobody drives `id` any more although it is not over; what it holds alone stays held.
    pub(super) fn abandon(&mut self, id: &ExecutionId) {
        self.set_timer(id, None);
        self.give_back_slot(id);
        if let Some(live) = self.live.get_mut(id) {
            live.driver = None;
            live.inbox.clear();
        }
    }

    /// A slot for `id` now, or a place in the line for one.
    pub(super) fn take_slot(&mut self, id: &ExecutionId) -> bool {
        let Some(live) = self.live.get(id) else { return false };
        let root = live.root.clone().unwrap_or_else(|| id.clone());
        let shares = self.live.get(&root).is_some_and(|root| !root.users.is_empty());
        let is_next = self.waiting_for_slot.front().is_none_or(|first| first == id);
        if shares || (!self.draining && self.running < self.max_running && is_next) {
            if self.waiting_for_slot.front().is_some() {
                self.waiting_for_slot.retain(|waiting| waiting != id);
            }
            return self.occupy(&root, id);
        }
        if !self.waiting_for_slot.contains(id) {
            self.waiting_for_slot.push_back(id.clone());
        }
        false
    }

    /// A place in the line for a slot, for an execution that had one when the daemon ended.
    pub(super) fn line_up(&mut self, id: &ExecutionId) {
        self.waiting_for_slot.push_back(id.clone());
    }

    /// `id` uses the slot of `root`, which is counted once for all that do.
    fn occupy(&mut self, root: &ExecutionId, id: &ExecutionId) -> bool {
        let Some(holder) = self.live.get_mut(root) else { return false };
        if holder.users.is_empty() {
            self.running += 1;
        }
        if !holder.users.contains(id) {
            holder.users.push(id.clone());
        }
        true
    }

    fn give_back_slot(&mut self, id: &ExecutionId) {
        let Some(live) = self.live.get(id) else { return };
        let root = live.root.clone().unwrap_or_else(|| id.clone());
        if let Some(holder) = self.live.get_mut(&root)
            && !holder.users.is_empty()
        {
            holder.users.retain(|user| user != id);
            self.running -= usize::from(holder.users.is_empty());
        }
    }

    /// Hands out free slots: first to executions that have begun, then to the queue, in order, passing over
    /// those whose lock another one holds. Gives who left the queue, and who needs a driver.
    pub(super) fn grant(&mut self) -> Granted {
        let mut granted = Granted::default();
        while !self.draining && self.running < self.max_running {
            let (id, input) = match self.waiting_for_slot.pop_front() {
                Some(id) => (id, Input::Slot),
                None => match self.next_startable() {
                    Some(id) => {
                        granted.left_queue += 1;
                        (id, Input::Start)
                    }
                    None => break,
                },
            };
            let Some(live) = self.live.get(&id) else { continue };
            let root = live.root.clone().unwrap_or_else(|| id.clone());
            if !self.occupy(&root, &id) {
                continue;
            }
            if self.send(&id, input) == Sent::Drive {
                granted.drive.push(id);
            }
        }
        granted
    }

    fn next_startable(&mut self) -> Option<ExecutionId> {
        let free = |queued: &Queued| queued.lock.as_ref().is_none_or(|lock| !self.locks.contains_key(lock));
        let position = self.queue.iter().position(free)?;
        let Queued { id, lock, .. } = self.queue.remove(position)?;
        if let Some(lock) = lock {
            self.locks.insert(lock, id.clone());
        }
        Some(id)
    }

    /// Who must be looked at at `now`.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<ExecutionId> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, id)) = self.timers.pop_first()
        {
            if let Some(live) = self.live.get_mut(&id) {
                live.wake = None;
            }
            due.push(id);
        }
        due
    }

    /// When the next timer ends.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// From now on nothing begins.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Those with a driver, in the order of their ids.
    pub(super) fn driven(&self) -> Vec<ExecutionId> {
        let driven = self.live.iter().filter(|(_, live)| live.driver.is_some());
        let mut driven: Vec<ExecutionId> = driven.map(|(id, _)| id.clone()).collect();
        driven.sort_unstable();
        driven
    }

    /// The numbers as far as they are known here; what is accepted but not taken in yet is not.
    pub(super) fn counts(&self) -> Counts {
        let mut by_status: BTreeMap<_, u64> = ExecutionStatus::live().map(|status| (status, 0)).collect();
        for live in self.live.values() {
            *by_status.entry(live.status).or_default() += 1;
        }
        // Who has left the queue and has not recorded its start yet is as good as running.
        let queued = by_status.insert(ExecutionStatus::Queued, self.queue.len() as u64).unwrap_or(0);
        let starting = queued.saturating_sub(self.queue.len() as u64);
        *by_status.entry(ExecutionStatus::Running).or_default() += starting;
        Counts { by_status, oldest_queued: self.queue.front().map(|queued| queued.since) }
    }
}

/// What [`Registry::grant`] did.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// How many left the queue.
    pub(super) left_queue: usize,
    /// Who needs a driver now.
    pub(super) drive: Vec<ExecutionId>,
}
