//! Step 4 of an alert's way: executions, from durable to done.
//!
//! May import: `model`, `runbook`, `journal`, `admit` (the context), `plan`, `store`, `step`, `telemetry`. Must never:
//! decide whether an alert may start something (that has been decided), or do anything whose intent is not
//! durable. `transition` says purely what comes next, `drive` does it for one execution, `registry` grants
//! slots and locks, and the scheduler here looks at the store whenever it is woken: wake-ups carry no data,
//! so a lost one costs time, never correctness.

mod amx;
mod begin;
mod drive;
mod hold;
mod observe;
mod orders;
mod registry;
mod retry;
mod tell;
pub mod transition;
mod upstream;
pub mod verb;

pub use crate::plan::preview;
pub use begin::{BeginError, Wish};
pub use registry::Counts;
pub use upstream::{Near, Rules, Upstream};

use crate::admit::late::Confirmation;
use crate::guard::{Board, Freeze, Profiles, Settings, StormLimit};
use crate::journal::{Entry, Event, State};
use crate::model::{Clock, ExecutionId, ExecutionStatus, Labels, Reason, RunbookId, Timestamp, between};
use crate::plan as call;
use crate::plan::view;
use crate::runbook::{self, Pinned, Runbook};
use crate::step::{AttemptContext, Call, Finished, KillSignal, QueryAnswer};
use crate::store::records::{Parked, QueueCount, Records, Signal, append, guards, outbox, transact};
use crate::store::{Ids, ReadError, Txn};
use crate::telemetry::Metrics;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hold::Unaware;
use orders::Desk;
use registry::{Input, Registry, Sent};
use retry::Budgets;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

mod control;
pub use control::{Controlled, VerbError};
pub use orders::{OrderError, Posted};

/// How long the scheduler sleeps at most: a lost wake-up costs no more than this.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// How many live executions are read from the store at once.
const STRIDE: usize = 1024;

/// The world outside: processes, requests, Prometheus.
pub trait World: Send + Sync + 'static {
    /// Carries out one attempt.
    fn attempt(&self, context: AttemptContext, call: Call, kill: KillSignal) -> BoxFuture<'static, Finished>;
    /// Whether there is something at `path`, for the attempt of a check.
    fn exists(&self, _context: AttemptContext, path: PathBuf) -> BoxFuture<'static, bool> {
        async move { tokio::fs::symlink_metadata(&path).await.is_ok() }.boxed()
    }
    /// Whether an Alertmanager can be asked.
    fn has_alertmanager(&self) -> bool {
        false
    }
    /// Asks Alertmanager what it knows of the alert with these labels; an error is a sentence.
    fn confirm(&self, _labels: Labels) -> BoxFuture<'static, Result<Confirmation, String>> {
        async { Err("no [alertmanager] is configured".to_owned()) }.boxed()
    }
    /// Asks Prometheus; an error is a sentence.
    fn query(&self, promql: String) -> BoxFuture<'static, Result<QueryAnswer, String>>;
}

/// The runbooks as they are now: what a step that names one starts.
pub trait Runbooks: Send + Sync + 'static {
    /// The version of `id` in force.
    fn current(&self, id: &RunbookId) -> Option<Arc<Pinned>>;
}

/// What of the config the engine goes by, and a reload may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an execution may wait in the queue.
    pub queue_deadline: Duration,
    /// How many may wait.
    pub queue_limit: usize,
    /// The breaker profiles.
    pub breakers: Profiles,
    /// The guards of runbooks that say nothing themselves.
    pub guard: Settings,
    /// When automation starts nothing.
    pub freezes: Vec<Freeze>,
    /// What makes a storm; `None` where that guard is off.
    pub storm: Option<StormLimit>,
}

/// What the engine is made of.
pub struct Parts {
    /// The store.
    pub records: Records,
    /// The world.
    pub world: Arc<dyn World>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Metrics,
    /// Rung by whoever left something in the store for the engine.
    pub wake: Arc<Notify>,
    /// How many executions are queued.
    pub queue: Arc<QueueCount>,
    /// `automation.max_running`.
    pub max_running: usize,
    /// The runbooks.
    pub runbooks: Arc<dyn Runbooks>,
    /// Where ids come from.
    pub ids: Arc<Ids>,
    /// What a reload may change.
    pub limits: Limits,
}

/// Runbooks as they were stored, parsed; a version never changes.
type Parsed = HashMap<(RunbookId, u64), Arc<Runbook>>;
/// How many of them are kept.
const PARSED: usize = 64;

struct Shared {
    records: Records,
    world: Arc<dyn World>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    wake: Arc<Notify>,
    queue: Arc<QueueCount>,
    registry: Mutex<Registry>,
    /// Executions of an earlier life that must be looked at before anything else.
    left_open: Mutex<Vec<(ExecutionId, Input)>>,
    /// How often the scheduler looked round.
    rounds: tokio::sync::watch::Sender<u64>,
    /// Set once, when driving may begin.
    begun: tokio::sync::watch::Sender<bool>,
    parsed: Mutex<Parsed>,
    budgets: Mutex<Budgets>,
    runbooks: Arc<dyn Runbooks>,
    ids: Arc<Ids>,
    limits: Mutex<Limits>,
    board: Arc<Board>,
    /// When the storm that was last seen is over, in milliseconds since 1970.
    storm_until: AtomicI64,
    /// The orders of the kill switch, and which of them the store has.
    desk: Desk,
    /// Executions with new events.
    news: broadcast::Sender<ExecutionId>,
    /// Set once, when the daemon must end.
    fatal: tokio::sync::watch::Sender<Option<String>>,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine that has not looked at the store yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { records, world, clock, metrics, wake, queue, max_running, runbooks, ids, limits } = parts;
        let shared = Shared {
            records,
            world,
            clock,
            metrics,
            wake,
            queue,
            registry: Mutex::new(Registry::new(max_running)),
            left_open: Mutex::default(),
            rounds: tokio::sync::watch::Sender::new(0),
            begun: tokio::sync::watch::channel(false).0,
            parsed: Mutex::default(),
            budgets: Mutex::default(),
            runbooks,
            ids,
            limits: Mutex::new(limits),
            board: Arc::default(),
            storm_until: AtomicI64::new(i64::MIN),
            desk: Desk::default(),
            news: broadcast::channel(1024).0,
            fatal: tokio::sync::watch::channel(None).0,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes in every live execution of the store. Nothing is driven before [`Engine::schedule`] begins, those a crash
    /// left in the middle first. Gives the ULID behind which new ones will be looked for, and how many are live.
    ///
    /// # Errors
    /// What the store says; then the daemon cannot serve.
    pub async fn recover(&self) -> Result<(Option<String>, usize), ReadError> {
        let (mut cursor, mut count) = (None, 0);
        loop {
            let stride = self.shared.records.parked(cursor.as_deref(), STRIDE).await?;
            let Some(last) = stride.last() else { return Ok((cursor, count)) };
            cursor = Some(last.id.ulid().to_owned());
            count += stride.len();
            let look_at = self.park(stride);
            self.shared.left_open().extend(look_at);
        }
    }

    /// Takes in executions of an earlier life; gives those that must be looked at at once, and why.
    fn park(&self, stride: Vec<Parked>) -> Vec<(ExecutionId, Input)> {
        let mut registry = self.shared.registry();
        let mut look_at = Vec::new();
        for parked in stride {
            registry.take_in(&parked);
            match parked.status {
                // A child waits for nothing: what it needs is its parent's.
                ExecutionStatus::Queued if parked.root.is_some() => look_at.push((parked.id, Input::Start)),
                // A full queue from before is kept, also beyond a limit that was lowered since.
                ExecutionStatus::Queued => drop(self.shared.queue.try_add(1, usize::MAX)),
                // A proof is asked for again at once, an attempt left open is dealt with at once.
                ExecutionStatus::Verifying => look_at.push((parked.id, Input::Tick)),
                _ if parked.wake.is_none() => {
                    // It was in the middle of something: its slot comes before anything that is queued.
                    registry.line_up(&parked.id);
                    look_at.push((parked.id, Input::Tick));
                }
                _ => {}
            }
        }
        look_at
    }

    /// Schedules until the process ends; `cursor` is what [`Engine::recover`] gave.
    pub async fn schedule(self, mut cursor: Option<String>) {
        let (mut unaware, mut expiry) = (Unaware::default(), None);
        self.shared.begun.send_replace(true);
        let left_open = std::mem::take(&mut *self.shared.left_open());
        for (id, input) in left_open {
            self.shared.send(&id, input);
        }
        loop {
            self.shared.rounds.send_modify(|rounds| *rounds += 1);
            if let Err(error) = self.look(&mut cursor).await {
                tracing::error!(%error, "the engine cannot read the store");
            }
            self.look_at_the_storm().await;
            let now = self.shared.clock.now();
            let due = self.shared.registry().due(now);
            for id in due {
                self.shared.send(&id, Input::Tick);
            }
            let expired = expiry.is_some_and(|at| at <= now);
            let is_left = self.heed_switch(&mut unaware, expired, now);
            expiry = self.shared.board.read().next_expiry(now);
            self.grant(now);
            let timer = self.shared.registry().next_timer();
            let next = [timer, expiry].into_iter().flatten().min();
            let pause = match is_left {
                true => Duration::ZERO,
                false => next.map_or(SCAN_EVERY, |at| between(now, at).min(SCAN_EVERY)),
            };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits until the scheduler begins to look round once more; at once as long as it may not begin. What asks this
    /// knows whether it stands still.
    pub async fn look_round(&self) {
        let mut rounds = self.shared.rounds.subscribe();
        let now = *rounds.borrow_and_update();
        self.shared.wake.notify_one();
        if *self.shared.begun.borrow() {
            // An error means that the engine is gone, and with it the question.
            let _gone = rounds.wait_for(|rounds| *rounds > now).await;
        }
    }

    /// Reads what is new in the store: executions, and word that alerts resolved.
    async fn look(&self, cursor: &mut Option<String>) -> Result<(), ReadError> {
        loop {
            let fresh = self.shared.records.parked(cursor.as_deref(), STRIDE).await?;
            let Some(last) = fresh.last() else { break };
            *cursor = Some(last.id.ulid().to_owned());
            let mut registry = self.shared.registry();
            for parked in &fresh {
                registry.take_in(parked);
            }
        }
        for (ulid, signal) in self.shared.records.signals(STRIDE).await? {
            let Some(header) = self.shared.records.header(&ulid).await? else { continue };
            let input = match signal {
                Signal::Resolved => Input::Resolved,
                Signal::ChildEnded(child) => {
                    let Some(end) = self.shared.records.header(child.ulid()).await? else { continue };
                    Input::ChildEnded { child, status: end.status, reason: end.reason }
                }
            };
            self.shared.send(&header.id, input);
        }
        Ok(())
    }

    fn grant(&self, now: Timestamp) {
        let granted = self.shared.registry().grant(self.shared.at_once(now));
        self.shared.queue.remove(granted.left_queue);
        for id in granted.drive {
            Shared::drive(&self.shared, id);
        }
    }

    /// Numbers for status and metrics.
    pub fn counts(&self) -> Counts {
        let mut counts = self.shared.registry().counts();
        // Counted where it is accepted, so that what a sender was told is in the very next answer.
        counts.by_status.insert(ExecutionStatus::Queued, self.shared.queue.get() as u64);
        counts
    }

    /// Hears of executions with new events. Nothing but the id is told: the journal is the truth.
    pub fn news(&self) -> broadcast::Receiver<ExecutionId> {
        self.shared.news.subscribe()
    }

    /// Resolves when the engine cannot go on and the daemon must end; says why.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.shared.fatal.subscribe();
        let reason = fatal.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Begins nothing more, lets attempts in progress end within `limit`, then ends them and records them as
    /// interrupted. When it returns nothing runs; an undo alone is not cut off, and may if it takes 10 s more.
    pub async fn drain(&self, limit: Duration) {
        self.shared.registry().drain();
        if !*self.shared.begun.borrow() {
            return;
        }
        if tokio::time::timeout(limit, self.idle()).await.is_err() {
            // Not in the head of the loop: the lock would be held for all of it, and `send` takes it too.
            let driven = self.shared.registry().driven();
            for id in driven {
                self.shared.send(&id, Input::Interrupt);
            }
            if tokio::time::timeout(Duration::from_secs(10), self.idle()).await.is_err() {
                tracing::error!("some steps did not end; the next start deals with them by the crash rules");
            }
        }
    }

    async fn idle(&self) {
        while !self.shared.registry().driven().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An execution that cannot be loaded, as far as it could be read.
struct Unreadable {
    state: Option<Box<State>>,
    why: String,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Every method leaves it whole, so a panic elsewhere does not spoil it.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_open(&self) -> MutexGuard<'_, Vec<(ExecutionId, Input)>> {
        self.left_open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parsed(&self) -> MutexGuard<'_, Parsed> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `input` for `id` and sees to it that somebody looks.
    fn send(self: &Arc<Self>, id: &ExecutionId, input: Input) {
        let sent = self.registry().send(id, input);
        if sent == Sent::Drive {
            Self::drive(self, id.clone());
        }
    }

    fn drive(shared: &Arc<Self>, id: ExecutionId) {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            // A person may ask for something before the scheduler begins.
            if shared.begun.subscribe().wait_for(|begun| *begun).await.is_err() {
                return;
            }
            match shared.load(&id).await {
                Ok((runbook, state)) => {
                    let drive = drive::Drive::new(Arc::clone(&shared), runbook, state);
                    if AssertUnwindSafe(drive.run()).catch_unwind().await.is_err() {
                        // Its attempts ended with it. What it holds stays held, and the next start tries again.
                        tracing::error!(execution_id = %id, "driving the execution failed; it is left alone until a stop or the next start");
                        shared.registry().abandon(&id);
                    }
                }
                Err(unreadable) => shared.give_up(&id, unreadable).await,
            }
        });
    }

    /// The pinned runbook and the state told by the journal.
    async fn load(&self, id: &ExecutionId) -> Result<(Arc<Runbook>, State), Unreadable> {
        let nothing = |why: String| Unreadable { state: None, why };
        let entries =
            self.records.journal(id, 0, usize::MAX).await.map_err(|error| nothing(error.to_string()))?;
        let state = State::replay(entries).map_err(|error| nothing(error.to_string()))?;
        match self.pinned(&state).await {
            Ok(runbook) => Ok((runbook, state)),
            Err(why) => Err(Unreadable { state: Some(Box::new(state)), why }),
        }
    }

    async fn pinned(&self, state: &State) -> Result<Arc<Runbook>, String> {
        let (name, version) = (&state.created.runbook, state.created.version);
        let runbook = self.version(name, version).await?;
        let same =
            runbook.steps.iter().map(|step| &step.id).eq(state.created.steps.iter().map(|head| &head.id));
        if same {
            Ok(runbook)
        } else {
            Err(format!("version {version} of {name} reads differently than before"))
        }
    }

    async fn version(&self, name: &RunbookId, version: u64) -> Result<Arc<Runbook>, String> {
        let key = (name.clone(), version);
        let known = self.parsed().get(&key).map(Arc::clone);
        if let Some(known) = known {
            return Ok(known);
        }
        let stored = self.records.version(name, version).await.map_err(|error| error.to_string())?;
        let stored = stored.ok_or_else(|| format!("version {version} of {name} is not in the store"))?;
        let parsed = runbook::parse(name, &stored.file_name, &stored.text);
        let runbook =
            parsed.runbook.ok_or_else(|| format!("version {version} of {name} cannot be read any more"))?;
        let (runbook, mut all) = (Arc::new(runbook), self.parsed());
        if all.len() >= PARSED {
            all.clear();
        }
        all.insert(key, Arc::clone(&runbook));
        Ok(runbook)
    }

    /// Ends an execution this program cannot continue, where its journal can still be written to.
    async fn give_up(self: &Arc<Self>, id: &ExecutionId, unreadable: Unreadable) {
        let Unreadable { state, why } = unreadable;
        tracing::error!(execution_id = %id, why, "the execution cannot be continued");
        if let Some(mut state) = state {
            let (status, reason) = (ExecutionStatus::Failed, Some(Reason::Unreadable));
            let event = Event::Finished { status, reason, message: Some(why) };
            let entry = Entry { seq: state.seq + 1, at: self.clock.now(), event };
            if state.apply(&entry).is_ok() {
                let (key, header) = (id.clone(), drive::header_of(&state, None));
                let store = Arc::clone(self.records.store());
                let (created, now) = (state.created.clone(), entry.at);
                let words = [crate::report::unreadable(&state, entry.at)];
                let work = move |txn: &mut dyn Txn| {
                    guards::ended(txn, &created, now)?;
                    append(txn, &key, std::slice::from_ref(&entry), &header)?;
                    outbox::apply(txn, &words, entry.at)
                };
                if let Err(error) = transact(&*store, work).await {
                    tracing::error!(execution_id = %id, %error, "its end could not be recorded");
                }
                self.announce(id);
            }
        }
        self.ended(id);
    }

    fn announce(&self, id: &ExecutionId) {
        // Nobody may be listening.
        drop(self.news.send(id.clone()));
    }

    /// The execution is over: what it held is free.
    fn ended(&self, id: &ExecutionId) {
        let was_queued = self.registry().finish(id);
        self.queue.remove(usize::from(was_queued));
        self.wake.notify_one();
    }

    fn fatal(&self, why: &str) {
        tracing::error!(why, "the daemon must end");
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert_with(|| why.to_owned());
            first
        });
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
