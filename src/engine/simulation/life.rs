//! Plays a plan: life after life of an engine over one platter, until all is over.
//!
//! May import: `admit`, `engine`, `guard`, `intake`, `journal`, `model`, `routing`, `store`, `telemetry`. Must never:
//! judge; that is `check`.

use super::disk::{Disk, Habits, Mishap};
use super::library::Book;
use super::people::Said;
use super::plan::{Deed, End, Intention, Plan};
use super::random::Random;
use super::time::{Moment, WorldClock, at};
use super::world::{Ledger, Run, Scene};
use crate::admit::{self, Request};
use crate::engine::{Engine, Limits, Parts, Runbooks};
use crate::guard::freeze::Window;
use crate::guard::{Freeze, Profiles};
use crate::intake::{Intake, Options};
use crate::journal::{Created, Trigger, TriggerKind};
use crate::model::{Clock, ExecutionId, Labels, Role, RunbookId, Timestamp};
use crate::routing::{Library, Listed, Rules, Source};
use crate::runbook::Pinned;
use crate::store::records::{Header, QueueCount, Records, Signal, create, key, read, to_bytes, transact};
use crate::store::{Ids, MemoryStore, Store};
use crate::telemetry::{Build, Metrics};
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// After so long without faults and deeds everything must be over: longer than any queue deadline, timeout and
/// grace of the library together, several times over for those that wait for one lock.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The same for a stage where something is wrong on purpose: what is never over there is found as soon.
const SHORT: Duration = Duration::from_secs(20 * 60);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_secs(3);

/// What must not be, for showing that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// The store acknowledges this commit of the first life and forgets it.
    Lie(u64),
    /// Every attempt happens twice.
    Stutter,
}

/// What people and senders know.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The executions whose acceptance was acknowledged, by number.
    pub(super) accepted: BTreeMap<usize, ExecutionId>,
    /// What people said, as far as it was acknowledged.
    pub(super) said: Vec<Said>,
    /// The executions that were live when it was acknowledged that their alert resolved, and when.
    pub(super) resolved: Vec<(ExecutionId, Moment)>,
    /// When nobody was there.
    pub(super) down: Vec<(Moment, Moment)>,
    /// What went wrong while it was played.
    pub(super) trouble: Vec<String>,
    /// The creations that a gate denied.
    pub(super) denied: BTreeSet<usize>,
    /// Why.
    pub(super) reasons: BTreeSet<&'static str>,
    /// The deeds that are done.
    done: Vec<bool>,
}

/// A seed being played.
pub(super) struct Stage {
    /// Its number.
    pub(super) seed: u64,
    /// What is going to happen.
    pub(super) plan: Arc<Plan>,
    /// The time.
    pub(super) clock: Arc<WorldClock>,
    /// What is durable.
    pub(super) platter: Arc<MemoryStore>,
    /// What really happened.
    pub(super) ledger: Ledger,
    /// What people know.
    pub(super) memory: Arc<Mutex<Memory>>,
    sabotage: Sabotage,
}

/// One daemon.
#[derive(Clone)]
pub(super) struct Life {
    plan: Arc<Plan>,
    pub(super) engine: Engine,
    pub(super) disk: Arc<Disk>,
    queue: Arc<QueueCount>,
    wake: Arc<Notify>,
    pub(super) clock: Arc<WorldClock>,
    ids: Arc<Ids>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) random: Random,
    intake: Arc<Intake>,
    patience: Duration,
}

impl Stage {
    /// A stage on which nothing has happened.
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let plan = Arc::new(Plan::of(seed));
        let memory = Memory { done: vec![false; plan.deeds.len()], ..Memory::default() };
        Self {
            seed,
            plan,
            clock: Arc::new(WorldClock::new()),
            platter: Arc::new(MemoryStore::new()),
            ledger: Ledger::default(),
            memory: Arc::new(Mutex::new(memory)),
            sabotage,
        }
    }

    /// What is durable.
    pub(super) fn records(&self) -> Records {
        Records::new(Arc::clone(&self.platter) as Arc<dyn Store>)
    }

    /// When nothing can be expected: nobody is there, the disk is full (and for the second until a driver looks
    /// again), or the life is at its end, draining or with a store that has failed.
    pub(super) fn hindrances(&self) -> Vec<(Moment, Moment)> {
        let down = self.memory.lock().unwrap().down.clone();
        let slow = |end: &End| {
            matches!(end, End::Commit(_, Mishap::FailBefore | Mishap::FailAfter) | End::Drain(..))
        };
        let last = self.plan.lives.iter().zip(&down).filter(|((end, _), _)| slow(end));
        let last = last.map(|(_, (died, _))| (died.saturating_sub(60_000), *died));
        let full = self.plan.full.iter().map(|(from, to)| (*from, *to + 1000));
        last.chain(full).chain(down.iter().copied()).collect()
    }

    /// Plays it to the end.
    pub(super) fn play(&self) {
        for Book { pinned, text } in &self.plan.library {
            let (records, now) = (self.records(), self.clock.now());
            let id = &pinned.runbook.id;
            records
                .version_of(id, &pinned.hash, &pinned.file_name, text, now)
                .now_or_never()
                .unwrap()
                .unwrap();
        }
        for (number, (end, down)) in self.plan.lives.iter().enumerate() {
            self.live(number, Some(*end));
            let gone = self.clock.moment();
            self.clock.skip(*down);
            self.memory.lock().unwrap().down.push((gone, self.clock.moment()));
        }
        self.live(self.plan.lives.len(), None);
    }

    /// The way of alerts to the engine. Whom it would wake is woken here, or not.
    fn intake(
        &self,
        disk: &Arc<Disk>,
        ids: &Arc<Ids>,
        queue: &Arc<QueueCount>,
        engine: &Engine,
    ) -> Arc<Intake> {
        let books = self.plan.library.iter();
        let listed =
            books.map(|book| (book.pinned.runbook.id.clone(), Listed::Good(Arc::clone(&book.pinned))));
        let library = Arc::new(RwLock::new(Arc::new(Library::new(listed.collect()))));
        Arc::new(Intake::new(
            Arc::clone(disk) as Arc<dyn Store>,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Arc::clone(ids),
            library,
            options(&self.plan, Duration::ZERO),
            Arc::clone(queue),
            Arc::default(),
            metrics(),
            Arc::clone(engine.board()),
        ))
    }

    fn live(&self, number: usize, end: Option<End>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            self.clock.run();
            let life = self.begin(number, end).await;
            tokio::select! {
                biased;
                () = life.disk.death.notified() => {}
                _ = life.engine.fatal() => {}
                () = life.until(end) => self.look_for_leftovers(end),
            }
            if life.disk.is_spun() {
                let trouble = format!("the engine goes round in circles at {}", self.clock.moment());
                self.memory.lock().unwrap().trouble.push(trouble);
            }
            life.disk.die();
            // What its tasks leave behind when they are dropped happens at this moment.
            self.clock.stand();
        });
    }

    /// When a drain is over nothing runs, unless a full disk did not let go of it, but undos: nobody cuts those off.
    fn look_for_leftovers(&self, end: Option<End>) {
        let runs = |run: &&Run| run.ended.is_none() && run.act.part.role != Role::Undo;
        let open = self.ledger.lock().unwrap().iter().filter(runs).count();
        if matches!(end, Some(End::Drain(..))) && self.plan.full.is_empty() && open > 0 {
            self.memory.lock().unwrap().trouble.push(format!("{open} attempts run on after a drain"));
        }
    }

    async fn begin(&self, number: usize, end: Option<End>) -> Life {
        let random = Random::of(self.seed, &format!("life {number}"));
        let mishap = match (end, self.sabotage) {
            (_, Sabotage::Lie(at)) if number == 0 => Some((at, Mishap::Lie)),
            (Some(End::Commit(at, mishap)), _) => Some((at, mishap)),
            _ => None,
        };
        let disk = Disk::spin_up(
            Arc::clone(&self.platter),
            Arc::clone(&self.clock),
            Habits { random: random.clone(), mishap },
        );
        let scene = Scene {
            seed: self.seed,
            life: number,
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            platter: Arc::clone(&self.platter),
            dead: Arc::clone(&disk.dead),
            stutters: self.sabotage == Sabotage::Stutter,
        };
        let (queue, wake) = (Arc::new(QueueCount::default()), Arc::new(Notify::new()));
        let clock = Arc::clone(&self.clock);
        let latest = self.records().latest_ulid().await.unwrap();
        let mut drawn = random.clone();
        let ids = Arc::new(Ids::drawn(latest.as_deref(), move || u128::from(drawn.below(u64::MAX))));
        let engine = Engine::new(Parts {
            records: Records::new(Arc::clone(&disk) as Arc<dyn Store>),
            world: Arc::new(scene),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: metrics(),
            wake: Arc::clone(&wake),
            queue: Arc::clone(&queue),
            max_running: self.plan.max_running,
            runbooks: Arc::new(Shelf(Arc::clone(&self.plan))),
            ids: Arc::clone(&ids),
            limits: Limits {
                queue_deadline: Duration::from_secs(600),
                queue_limit: usize::MAX,
                breakers: Profiles::default(),
                guard: self.plan.guards.settings.clone(),
                freezes: freezes(&self.plan),
                storm: None,
            },
        });
        let intake = self.intake(&disk, &ids, &queue, &engine);
        let (cursor, _) = engine.recover().await.unwrap();
        tokio::spawn(engine.clone().schedule(cursor));
        let (plan, memory) = (Arc::clone(&self.plan), Arc::clone(&self.memory));
        let patience = if self.sabotage == Sabotage::None { PATIENCE } else { SHORT };
        let life = Life { plan, engine, disk, queue, wake, clock, ids, memory, random, intake, patience };
        life.be_asked();
        life
    }
}

fn freezes(plan: &Plan) -> Vec<Freeze> {
    let freeze = |(from, until, allow_manual): &(Moment, Moment, bool)| Freeze {
        name: "f".to_owned(),
        window: Window::Once { from: at(*from), until: at(*until) },
        allow_manual: *allow_manual,
    };
    plan.guards.freezes.iter().map(freeze).collect()
}

/// What decisions rest on, for an alert whose execution may wait so long.
fn options(plan: &Plan, queue_deadline: Duration) -> Options {
    Options {
        rules: Rules { mappings: Vec::new(), order: vec![Source::Runbook] },
        episode_ttl: Duration::from_secs(24 * 3600),
        queue_deadline,
        queue_limit: usize::MAX,
        breakers: Profiles::default(),
        guard: plan.guards.settings.clone(),
        storm: None,
        freezes: freezes(plan),
        has_alertmanager: false,
        instance: "i".to_owned(),
    }
}

/// Numbers nobody looks at; one for all, because making them takes longer than a life.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let build = Build { version: "0", revision: "0" };
    METRICS.get_or_init(|| Metrics::new(&build, Timestamp::UNIX_EPOCH)).clone()
}

impl Life {
    /// Lets everything that is still to be done be done at its time.
    fn be_asked(&self) {
        for (from, to) in self.plan.full.clone() {
            let life = self.clone();
            tokio::spawn(async move {
                for (at, full) in [(from, true), (to, false)] {
                    life.sleep_until(at).await;
                    life.disk.fill(full);
                }
            });
        }
        let done = self.memory.lock().unwrap().done.clone();
        for (index, intention) in self.plan.deeds.clone().into_iter().enumerate().filter(|(at, _)| !done[*at])
        {
            let life = self.clone();
            tokio::spawn(async move {
                life.sleep_until(intention.at).await;
                while !life.attempt(intention).await {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                life.memory.lock().unwrap().done[index] = true;
            });
        }
    }

    async fn sleep_until(&self, moment: Moment) {
        let wait = moment.saturating_sub(self.clock.moment());
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// One try; false when it must be tried again, as a sender does.
    async fn attempt(&self, intention: Intention) -> bool {
        let number = intention.execution;
        let (id, denied) = {
            let memory = self.memory.lock().unwrap();
            (memory.accepted.get(&number).cloned(), memory.denied.contains(&number))
        };
        match (intention.deed, id) {
            (Deed::Create { book, target, is_alert: true, patience }, _) => {
                self.send(number, book, target, patience).await
            }
            (Deed::Create { .. }, _) => self.create(intention).await,
            // Of what was never begun nothing can be wanted.
            (_, None) if denied => true,
            (_, None) => false,
            (Deed::Resolve, Some(id)) => self.resolve(id).await,
            (Deed::Say(word), Some(id)) => self.hear_out(&id, word).await,
        }
    }

    /// Sends the alert `number` once; false when it must be sent again.
    async fn send(&self, number: usize, book: usize, target: &str, patience: u64) -> bool {
        let body = serde_json::json!({ "version": "4", "status": "firing", "alerts": [{
            "status": "firing",
            "labels": { "alertname": format!("A{book}"), "t": target, "n": number.to_string() },
            "annotations": {},
            "startsAt": at(self.plan.first_heard(number)).to_string(),
        }] });
        self.intake.reconfigure(options(&self.plan, Duration::from_millis(patience)));
        let Ok(accepted) = self.intake.accept(body.to_string().as_bytes()).await else { return false };
        let decided = &accepted.decisions[0];
        let mut memory = self.memory.lock().unwrap();
        match &decided.execution_id {
            Some(id) => drop(memory.accepted.insert(number, id.clone())),
            None => {
                memory.denied.insert(number);
                memory.reasons.insert(decided.reason.as_str());
            }
        }
        drop(memory);
        self.ring(&format!("create {number}"));
        true
    }

    async fn create(&self, intention: Intention) -> bool {
        let (plan, clock, queue) = (Arc::clone(&self.plan), Arc::clone(&self.clock), Arc::clone(&self.queue));
        let counted = Arc::new(AtomicBool::new(false));
        let (number, noted, ids) = (intention.execution, Arc::clone(&counted), Arc::clone(&self.ids));
        let accepted = transact(&*self.disk, move |txn| {
            let name = format!("z/{number}").into_bytes();
            if let Some(id) = read::<ExecutionId>(txn, &name)? {
                return Ok(id);
            }
            let now = clock.now();
            // Drawn within the commit: the order of ids is the order of acceptance.
            let created = created(&plan, intention, ids.next(now), now);
            let id = created.id.clone();
            create(txn, created, now)?;
            txn.put(name, to_bytes(&id)?);
            queue.try_add(1, usize::MAX).ok();
            noted.store(true, Ordering::SeqCst);
            Ok(id)
        });
        match accepted.await {
            Ok(id) => {
                self.memory.lock().unwrap().accepted.insert(number, id);
                self.ring(&format!("create {number}"));
                true
            }
            Err(_) => {
                self.queue.remove(usize::from(counted.load(Ordering::SeqCst)));
                false
            }
        }
    }

    async fn resolve(&self, id: ExecutionId) -> bool {
        let told = id.clone();
        let answer = transact(&*self.disk, move |txn| {
            let header: Option<Header> = read(txn, &key::header(told.ulid()))?;
            let live = header.is_some_and(|header| !header.status.is_final());
            if live {
                txn.put(key::resolved(told.ulid()), to_bytes(&Signal::Resolved)?);
            }
            Ok(live)
        });
        let answer = answer.await;
        self.ring(&format!("resolve {id}"));
        if let Ok(true) = answer {
            let now = self.clock.moment();
            self.memory.lock().unwrap().resolved.push((id, now));
        }
        answer.is_ok()
    }

    /// Wakes the engine, unless this one is lost.
    fn ring(&self, what: &str) {
        let mut random = Random::of(self.random.clone().below(u64::MAX), what);
        if !random.percent(self.plan.lost_bells) {
            self.wake.notify_one();
        }
    }

    /// Until the life ends as it must; the last one, until all is over.
    async fn until(&self, end: Option<End>) {
        match end {
            Some(End::Crash(after)) => tokio::time::sleep(Duration::from_millis(after)).await,
            // A commit that never comes would make this life the last one.
            Some(End::Commit(..)) => tokio::time::sleep(Duration::from_secs(60)).await,
            Some(End::Drain(after, limit)) => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                self.engine.drain(Duration::from_millis(limit)).await;
            }
            None => self.until_all_is_over().await,
        }
    }

    async fn until_all_is_over(&self) {
        let platter = Records::new(Arc::clone(&self.disk) as Arc<dyn Store>);
        let mut left = self.patience;
        loop {
            tokio::time::sleep(LOOK).await;
            let live = platter.live(None, usize::MAX).await.unwrap();
            let waiting = self.memory.lock().unwrap().done.iter().any(|done| !done);
            if live.is_empty() && !waiting {
                return self.look_at_the_counts().await;
            }
            left = left.saturating_sub(LOOK);
            if left.is_zero() {
                let names = live.iter().map(|header| format!("{} {}", header.id, header.status));
                let trouble = format!("never over: {}", names.collect::<Vec<_>>().join(", "));
                return self.memory.lock().unwrap().trouble.push(trouble);
            }
            // Who waits for a person may wait for ever; now and then somebody comes.
            if left.as_secs().is_multiple_of(30) {
                self.visit(&live, left.as_secs() / 30).await;
            }
        }
    }

    async fn look_at_the_counts(&self) {
        // What has just been committed is told a moment later.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let counts = self.engine.counts();
        let sum: u64 = counts.by_status.values().sum();
        if sum > 0 || self.queue.get() > 0 {
            let trouble = format!("nothing is live, but the engine counts {counts:?}");
            self.memory.lock().unwrap().trouble.push(trouble);
        }
    }
}

fn created(plan: &Plan, intention: Intention, ulid: ulid::Ulid, now: Timestamp) -> Created {
    let Deed::Create { book, target, patience, .. } = intention.deed else {
        unreachable!("only a creation creates")
    };
    let pinned = &plan.library[book].pinned;
    let trigger = Trigger {
        kind: TriggerKind::Manual,
        alertname: None,
        fingerprint: None,
        starts_at: None,
        generator_url: String::new(),
        external_url: String::new(),
        labels: Labels::from([("t".to_owned(), target.to_owned())]),
        annotations: Labels::new(),
        by: "someone".to_owned(),
        reason: None,
        of: None,
    };
    let request = Request {
        pinned,
        trigger,
        given: BTreeMap::new(),
        env: BTreeMap::new(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, ulid),
        queue_deadline: Duration::from_millis(patience),
        seed: ulid.0 as u64,
        instance: "i",
        now,
    };
    admit::plan(request).unwrap()
}

/// The runbooks of the plan, for steps that start one.
struct Shelf(Arc<Plan>);

impl Runbooks for Shelf {
    fn current(&self, id: &RunbookId) -> Option<Arc<Pinned>> {
        self.0.library.iter().find(|book| book.pinned.runbook.id == *id).map(|book| Arc::clone(&book.pinned))
    }
}
