//! Who is live, who waits for what, who holds what: the engine's memory, without any task or clock.
//!
//! A parked execution is one entry here and its bytes in the store. A slot is the right to have a step in
//! progress; a lock is the right to change a target. Both are granted here and nowhere else.
//! May import: `model`, the shape of `store`'s records. Must never: block, do I/O, or be held across an await.

mod hold;

use super::VerbError;
use super::verb::{Ask, Verb};
use crate::journal::AttemptResult;
use crate::model::{ExecutionId, ExecutionStatus, GateReport, Part, Reason, RunbookId, Timestamp};
use crate::store::records::Parked;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU64;
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
    /// What was asked before it may leave the queue is answered.
    Answered(Vec<GateReport>),
    /// The daemon is going: end what is in progress and record it as interrupted.
    Interrupt,
}

/// An execution here: the number in its ULID, so that a hundred thousand parked ones cost no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64, u64);

impl Key {
    fn of(id: &ExecutionId) -> Self {
        let number = id.number();
        // Both halves, so nothing is cut off; two of them ask for less alignment than the whole.
        Self((number >> 64) as u64, number as u64)
    }

    fn number(self) -> u128 {
        (u128::from(self.0) << 64) | u128::from(self.1)
    }
}

/// What is held alone, as a hash. Should two ever have the same, one waits for the other for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lock(NonZeroU64, u64);

impl Lock {
    fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let half =
            |from: usize| digest.iter().skip(from).take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
        Self(NonZeroU64::new(half(0)).unwrap_or(NonZeroU64::MIN), half(8))
    }
}

/// A timer, in nanoseconds since 1970; what lies beyond the year 2262 is due then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wake(i64);

impl Wake {
    /// No timer.
    const NEVER: Self = Self(i64::MAX);

    fn of(at: Option<Timestamp>) -> Self {
        let nanoseconds = |at: Timestamp| at.as_nanosecond().clamp(i64::MIN.into(), (i64::MAX - 1).into());
        at.map_or(Self::NEVER, |at| Self(i64::try_from(nanoseconds(at)).unwrap_or(i64::MAX - 1)))
    }

    fn at(self) -> Option<Timestamp> {
        (self != Self::NEVER).then(|| Timestamp::from_nanosecond(self.0.into()).unwrap_or(Timestamp::MAX))
    }
}

/// One that is parked and nobody's child is this and no more.
struct Live {
    wake: Wake,
    lock: Option<Lock>,
    /// Its runbook: a position in [`Registry::runbooks`].
    runbook: u32,
    status: ExecutionStatus,
    busy: Option<Box<Busy>>,
}

/// What one that is not simply parked needs in addition.
#[derive(Default)]
struct Busy {
    /// The execution whose slot it uses, when that is not its own.
    root: Option<Key>,
    /// Who uses its slot: itself and those below it. It has one while anybody does.
    users: Vec<Key>,
    inbox: Vec<Input>,
    /// Rings for the task that drives it; `None` while it is parked.
    driver: Option<Arc<Notify>>,
    /// It waits for a slot.
    in_line: bool,
}

impl Busy {
    fn is_idle(&self) -> bool {
        self.root.is_none()
            && self.users.is_empty()
            && self.inbox.is_empty()
            && self.driver.is_none()
            && !self.in_line
    }
}

impl Live {
    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    fn settle(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_idle()) {
            self.busy = None;
        }
    }

    /// The execution whose slot it uses, `own` being its own.
    fn root(&self, own: Key) -> Key {
        self.busy.as_ref().and_then(|busy| busy.root).unwrap_or(own)
    }

    fn has_slot(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| !busy.users.is_empty())
    }
}

struct Queued {
    lock: Option<Lock>,
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
    /// In the order of acceptance, which is that of the ULIDs.
    queue: BTreeMap<Key, Queued>,
    /// Those that stay in the queue because of what only their journal says.
    held: BTreeMap<Key, Queued>,
    /// How many executions of a runbook have left the queue and are not over; children are part of their parent.
    begun: HashMap<u32, u32>,
    /// Who holds what: always the execution at the top.
    locks: HashMap<Lock, Key>,
    /// What executions hold for those below them, besides their own.
    beside: HashMap<Key, Vec<Lock>>,
    live: HashMap<Key, Live>,
    by_status: BTreeMap<ExecutionStatus, u64>,
    timers: BTreeSet<(Wake, Key)>,
    waiting_for_slot: VecDeque<Key>,
    driven: BTreeSet<Key>,
    /// Every runbook that had a live execution; there are not many.
    runbooks: Vec<RunbookId>,
}

impl Registry {
    pub(super) fn new(max_running: usize) -> Self {
        Self {
            max_running,
            running: 0,
            draining: false,
            queue: BTreeMap::new(),
            held: BTreeMap::new(),
            begun: HashMap::new(),
            locks: HashMap::new(),
            beside: HashMap::new(),
            live: HashMap::new(),
            by_status: ExecutionStatus::live().map(|status| (status, 0)).collect(),
            timers: BTreeSet::new(),
            waiting_for_slot: VecDeque::new(),
            driven: BTreeSet::new(),
            runbooks: Vec::new(),
        }
    }

    /// Takes in an execution read from the store, parked. False when it is known already.
    pub(super) fn take_in(&mut self, parked: &Parked) -> bool {
        let key = Key::of(&parked.id);
        if self.live.contains_key(&key) {
            return false;
        }
        let Some(runbook) = self.runbook(&parked.id) else { return false };
        let lock = parked.lock.as_deref().map(Lock::of);
        if parked.status == ExecutionStatus::Queued && parked.root.is_none() {
            self.queue.insert(key, Queued { lock, since: parked.created_at });
        } else if let (Some(lock), Some(root)) = (lock, &parked.root) {
            self.hold_beside(Key::of(root), lock);
        } else if let Some(lock) = lock {
            self.locks.insert(lock, key);
        }
        if parked.status != ExecutionStatus::Queued && parked.root.is_none() {
            *self.begun.entry(runbook).or_default() += 1;
        }
        let root =
            parked.root.as_ref().map(|root| Box::new(Busy { root: Some(Key::of(root)), ..Busy::default() }));
        let live = Live { wake: Wake::NEVER, lock, runbook, status: parked.status, busy: root };
        self.live.insert(key, live);
        *self.by_status.entry(parked.status).or_default() += 1;
        self.wake(key, Wake::of(parked.wake));
        true
    }

    /// The position of the runbook of `id`; none for an id that no runbook could have.
    fn runbook(&mut self, id: &ExecutionId) -> Option<u32> {
        let name = id.runbook();
        let known = self.runbooks.iter().position(|runbook| runbook.as_str() == name);
        let position = match known {
            Some(position) => position,
            None => {
                self.runbooks.push(RunbookId::new(name).ok()?);
                self.runbooks.len() - 1
            }
        };
        u32::try_from(position).ok()
    }

    fn id_of(&self, key: Key) -> Option<ExecutionId> {
        let runbook = self.runbooks.get(usize::try_from(self.live.get(&key)?.runbook).ok()?)?;
        Some(ExecutionId::numbered(runbook, key.number()))
    }

    fn busy_of(&self, id: &ExecutionId) -> Option<&Busy> {
        self.live.get(&Key::of(id))?.busy.as_deref()
    }

    /// Leaves `input` for `id`.
    pub(super) fn send(&mut self, id: &ExecutionId, input: Input) -> Sent {
        self.leave(Key::of(id), input)
    }

    fn leave(&mut self, key: Key, input: Input) -> Sent {
        let Some(live) = self.live.get_mut(&key) else { return Sent::Gone };
        let busy = live.busy();
        busy.inbox.push(input);
        if let Some(driver) = &busy.driver {
            driver.notify_one();
            return Sent::Told;
        }
        busy.driver = Some(Arc::new(Notify::new()));
        self.driven.insert(key);
        Sent::Drive
    }

    /// The bell of the driver of `id`.
    pub(super) fn bell(&self, id: &ExecutionId) -> Option<Arc<Notify>> {
        self.busy_of(id)?.driver.clone()
    }

    /// Takes what lies in the inbox of `id`.
    pub(super) fn take_inputs(&mut self, id: &ExecutionId) -> Vec<Input> {
        let busy = self.live.get_mut(&Key::of(id)).and_then(|live| live.busy.as_mut());
        busy.map(|busy| std::mem::take(&mut busy.inbox)).unwrap_or_default()
    }

    /// Whether a stop waits in the inbox of `id`; a driver that cannot commit still kills.
    pub(super) fn has_stop(&self, id: &ExecutionId) -> bool {
        let is_end = |input: &Input| match input {
            Input::Asked { ask, .. } => matches!(ask.verb, Verb::Stop | Verb::Rollback),
            Input::Interrupt => true,
            _ => false,
        };
        self.busy_of(id).is_some_and(|busy| busy.inbox.iter().any(is_end))
    }

    /// The driver of `id` has nothing more to do until `wake`; false when something has arrived meanwhile.
    pub(super) fn park(&mut self, id: &ExecutionId, wake: Option<Timestamp>) -> bool {
        let key = Key::of(id);
        self.wake(key, Wake::of(wake));
        let Some(live) = self.live.get_mut(&key) else { return true };
        if let Some(busy) = &mut live.busy {
            if !busy.inbox.is_empty() {
                return false;
            }
            busy.driver = None;
        }
        self.driven.remove(&key);
        self.give_back_slot(key);
        true
    }

    /// Sets the one timer of `id`; whether that is another than it had.
    pub(super) fn set_timer(&mut self, id: &ExecutionId, wake: Option<Timestamp>) -> bool {
        self.wake(Key::of(id), Wake::of(wake))
    }

    fn wake(&mut self, key: Key, wake: Wake) -> bool {
        let Some(live) = self.live.get_mut(&key) else { return false };
        let old = std::mem::replace(&mut live.wake, wake);
        if old == wake {
            return false;
        }
        if old != Wake::NEVER {
            self.timers.remove(&(old, key));
        }
        if wake != Wake::NEVER {
            self.timers.insert((wake, key));
        }
        true
    }

    /// The timer of `id`.
    pub(super) fn timer_of(&self, id: &ExecutionId) -> Option<Timestamp> {
        self.live.get(&Key::of(id))?.wake.at()
    }

    /// Notes the status of `id` after a commit.
    pub(super) fn set_status(&mut self, id: &ExecutionId, status: ExecutionStatus) {
        if let Some(live) = self.live.get_mut(&Key::of(id)) {
            let before = std::mem::replace(&mut live.status, status);
            self.one_fewer(before);
            *self.by_status.entry(status).or_default() += 1;
        }
    }

    fn one_fewer(&mut self, status: ExecutionStatus) {
        if let Some(count) = self.by_status.get_mut(&status) {
            *count = count.saturating_sub(1);
        }
    }

    /// Forgets `id`; true when it was still in the queue.
    pub(super) fn finish(&mut self, id: &ExecutionId) -> bool {
        let key = Key::of(id);
        self.wake(key, Wake::NEVER);
        self.give_back_slot(key);
        self.leave_line(key);
        self.driven.remove(&key);
        let waited = self.queue.remove(&key).or_else(|| self.held.remove(&key)).is_some();
        if let Some(live) = self.live.remove(&key) {
            self.one_fewer(live.status);
            if !waited && live.root(key) == key {
                self.one_fewer_begun(live.runbook);
            }
            self.free(live.lock, key);
            for lock in self.beside.remove(&key).unwrap_or_default() {
                self.free(Some(lock), key);
            }
        }
        waited
    }

    /// What `key` holds alone, if it does, is free.
    fn free(&mut self, lock: Option<Lock>, key: Key) {
        if let Some(lock) = lock
            && self.locks.get(&lock) == Some(&key)
        {
            self.locks.remove(&lock);
        }
    }

    fn one_fewer_begun(&mut self, runbook: u32) {
        if let Some(count) = self.begun.get_mut(&runbook) {
            *count = count.saturating_sub(1);
        }
    }

    /// Nobody drives `id` any more although it is not over; what it holds alone stays held.
    pub(super) fn abandon(&mut self, id: &ExecutionId) {
        let key = Key::of(id);
        self.wake(key, Wake::NEVER);
        if let Some(busy) = self.live.get_mut(&key).and_then(|live| live.busy.as_mut()) {
            busy.driver = None;
            busy.inbox.clear();
        }
        self.driven.remove(&key);
        self.give_back_slot(key);
    }

    /// A slot for `id` now, or a place in the line for one.
    pub(super) fn take_slot(&mut self, id: &ExecutionId) -> bool {
        let key = Key::of(id);
        let Some(live) = self.live.get(&key) else { return false };
        let root = live.root(key);
        let shares = self.live.get(&root).is_some_and(Live::has_slot);
        let is_next = self.waiting_for_slot.front().is_none_or(|first| *first == key);
        if shares || (!self.draining && self.running < self.max_running && is_next) {
            self.leave_line(key);
            return self.occupy(root, key);
        }
        self.join_line(key);
        false
    }

    /// A place in the line for a slot, for an execution that had one when the daemon ended.
    pub(super) fn line_up(&mut self, id: &ExecutionId) {
        self.join_line(Key::of(id));
    }

    fn join_line(&mut self, key: Key) {
        if let Some(live) = self.live.get_mut(&key)
            && !std::mem::replace(&mut live.busy().in_line, true)
        {
            self.waiting_for_slot.push_back(key);
        }
    }

    fn leave_line(&mut self, key: Key) {
        if let Some(busy) = self.live.get_mut(&key).and_then(|live| live.busy.as_mut())
            && std::mem::replace(&mut busy.in_line, false)
        {
            self.waiting_for_slot.retain(|waiting| *waiting != key);
        }
    }

    /// `key` uses the slot of `root`, which is counted once for all that do.
    fn occupy(&mut self, root: Key, key: Key) -> bool {
        let Some(holder) = self.live.get_mut(&root) else { return false };
        let users = &mut holder.busy().users;
        if users.is_empty() {
            self.running += 1;
        }
        if !users.contains(&key) {
            users.push(key);
        }
        true
    }

    fn give_back_slot(&mut self, key: Key) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let root = live.root(key);
        live.settle();
        if let Some(holder) = self.live.get_mut(&root)
            && let Some(busy) = &mut holder.busy
            && !busy.users.is_empty()
        {
            busy.users.retain(|user| *user != key);
            self.running -= usize::from(busy.users.is_empty());
            holder.settle();
        }
    }

    /// Hands out free slots: first to executions that have begun, then to the queue, in order, passing over
    /// those whose lock another one holds, and those whose runbook has as many going as `at_once` says. Gives who left
    /// the queue, and who needs a driver.
    pub(super) fn grant(&mut self, at_once: impl Fn(&RunbookId) -> u32) -> Granted {
        let mut granted = Granted::default();
        let limits: Vec<u32> = match self.queue.is_empty() {
            true => Vec::new(),
            false => self.runbooks.iter().map(at_once).collect(),
        };
        while !self.draining && self.running < self.max_running {
            let (key, input) = match self.waiting_for_slot.front().copied() {
                Some(key) => {
                    self.waiting_for_slot.pop_front();
                    if let Some(busy) = self.live.get_mut(&key).and_then(|live| live.busy.as_mut()) {
                        busy.in_line = false;
                    }
                    (key, Input::Slot)
                }
                None => match self.next_startable(&limits) {
                    Some(key) => {
                        granted.left_queue += 1;
                        (key, Input::Start)
                    }
                    None => break,
                },
            };
            let Some(live) = self.live.get(&key) else { continue };
            if !self.occupy(live.root(key), key) {
                continue;
            }
            if self.leave(key, input) == Sent::Drive {
                granted.drive.extend(self.id_of(key));
            }
        }
        granted
    }

    fn next_startable(&mut self, limits: &[u32]) -> Option<Key> {
        let free = |queued: &Queued| queued.lock.is_none_or(|lock| !self.locks.contains_key(&lock));
        let has_room = |runbook: u32| {
            let limit = usize::try_from(runbook).ok().and_then(|at| limits.get(at)).copied().unwrap_or(0);
            self.begun.get(&runbook).copied().unwrap_or(0) < limit
        };
        let may = |key: &Key| self.live.get(key).is_some_and(|live| has_room(live.runbook));
        let key = *self.queue.iter().find(|(key, queued)| free(queued) && may(key))?.0;
        if let Some(live) = self.live.get(&key) {
            *self.begun.entry(live.runbook).or_default() += 1;
        }
        if let Some(lock) = self.queue.remove(&key)?.lock {
            self.locks.insert(lock, key);
        }
        Some(key)
    }

    /// Who must be looked at at `now`.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<ExecutionId> {
        let (mut due, now) = (Vec::new(), Wake::of(Some(now)));
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            if let Some(live) = self.live.get_mut(&key) {
                live.wake = Wake::NEVER;
            }
            due.extend(self.id_of(key));
        }
        due
    }

    /// When the next timer ends.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first()?.0.at()
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
        let mut driven: Vec<ExecutionId> = self.driven.iter().filter_map(|key| self.id_of(*key)).collect();
        driven.sort_unstable();
        driven
    }

    /// The numbers as far as they are known here; what is accepted but not taken in yet is not.
    pub(super) fn counts(&self) -> Counts {
        let known = self.by_status.iter().filter(|(status, count)| !status.is_final() || **count > 0);
        let mut by_status: BTreeMap<_, u64> = known.map(|(status, count)| (*status, *count)).collect();
        // Who has left the queue and has not recorded its start yet is as good as running.
        let waiting = (self.queue.len() + self.held.len()) as u64;
        let queued = by_status.insert(ExecutionStatus::Queued, waiting).unwrap_or(0);
        let starting = queued.saturating_sub(waiting);
        *by_status.entry(ExecutionStatus::Running).or_default() += starting;
        Counts { by_status, oldest_queued: self.queue.first_key_value().map(|(_, queued)| queued.since) }
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

#[cfg(test)]
mod tests;
