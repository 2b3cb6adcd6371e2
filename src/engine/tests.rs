//! The engine over a store in memory and a world of the test's own: slots, locks, order, and a store that says no.

use super::*;
use crate::journal::{Created, StepHead, Trigger, TriggerKind};
use crate::model::{AttemptOutcome, Labels, RunbookId, Target, Timestamp, after};
use crate::step::Captured;
use crate::store::records::{QueueCount, create, transact};
use crate::store::{Fault, MemoryStore, Store};
use crate::telemetry::Build;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

mod orders;

struct SteppingClock(std::time::Instant);

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let now = after(start, self.0.elapsed());
        Timestamp::from_millisecond(now.as_millisecond()).unwrap()
    }
}

/// Attempts that end when the test lets them, and remember who ran beside whom.
#[derive(Default)]
struct Stage {
    running: Mutex<Vec<ExecutionId>>,
    most: AtomicUsize,
    order: Mutex<Vec<ExecutionId>>,
    may_end: Option<Arc<Semaphore>>,
}

impl World for Arc<Stage> {
    fn attempt(
        &self,
        context: AttemptContext,
        _: Call,
        mut kill: KillSignal,
    ) -> BoxFuture<'static, Finished> {
        let stage = Arc::clone(self);
        async move {
            {
                let mut running = stage.running.lock().unwrap();
                running.push(context.execution.clone());
                stage.most.fetch_max(running.len(), Ordering::SeqCst);
                stage.order.lock().unwrap().push(context.execution.clone());
            }
            let outcome = match &stage.may_end {
                Some(may_end) => tokio::select! {
                    permit = may_end.acquire() => { permit.unwrap().forget(); AttemptOutcome::Succeeded }
                    _ = kill.asked() => AttemptOutcome::Stopped,
                },
                None => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    AttemptOutcome::Succeeded
                }
            };
            stage.running.lock().unwrap().retain(|id| *id != context.execution);
            let (stdout, stderr) = (Captured::default(), Captured::default());
            Finished {
                outcome,
                exit_code: Some(0),
                signal: None,
                http_status: None,
                retry_after: None,
                stdout,
                stderr,
                error: None,
            }
        }
        .boxed()
    }

    fn query(&self, _: String) -> BoxFuture<'static, Result<QueryAnswer, String>> {
        async { Err("nobody to ask".to_owned()) }.boxed()
    }
}

struct NoRunbooks;

impl Runbooks for NoRunbooks {
    fn current(&self, _: &RunbookId) -> Option<Arc<Pinned>> {
        None
    }
}

struct Bench {
    engine: Engine,
    store: Arc<MemoryStore>,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    queue: Arc<QueueCount>,
    created: u64,
}

const RUNBOOK: &str =
    "mode = \"auto\"\ntarget = \"{{ labels.t }}\"\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";

fn parts(
    records: Records,
    stage: &Arc<Stage>,
    clock: &Arc<dyn Clock>,
    wake: &Arc<Notify>,
    queue: &Arc<QueueCount>,
    max_running: usize,
) -> Parts {
    Parts {
        records,
        world: Arc::new(Arc::clone(stage)),
        clock: Arc::clone(clock),
        metrics: Metrics::new(&Build { version: "0", revision: "0" }, clock.now()),
        wake: Arc::clone(wake),
        queue: Arc::clone(queue),
        max_running,
        runbooks: Arc::new(NoRunbooks),
        ids: Arc::new(Ids::after(None)),
        limits: Limits {
            queue_deadline: LONG,
            queue_limit: 1000,
            breakers: Profiles::default(),
            guard: Settings::off(),
            freezes: Vec::new(),
            storm: None,
        },
    }
}

impl Bench {
    async fn new(max_running: usize, may_end: Option<Arc<Semaphore>>) -> Self {
        Self::playing(RUNBOOK, max_running, may_end).await
    }

    async fn playing(text: &str, max_running: usize, may_end: Option<Arc<Semaphore>>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SteppingClock(std::time::Instant::now()));
        let store = Arc::new(MemoryStore::new());
        let records = Records::new(Arc::clone(&store) as Arc<dyn Store>);
        let id = RunbookId::new("r").unwrap();
        records.version_of(&id, "h", "r.toml", text, clock.now()).await.unwrap();
        let stage = Arc::new(Stage { may_end, ..Stage::default() });
        let (wake, queue) = (Arc::new(Notify::new()), Arc::new(QueueCount::default()));
        let engine = Engine::new(parts(records, &stage, &clock, &wake, &queue, max_running));
        tokio::spawn(engine.clone().schedule(None));
        Self { engine, store, stage, clock, wake, queue, created: 0 }
    }

    /// The daemon goes, and comes again over the same store.
    async fn restart(&mut self) {
        self.engine.drain(Duration::ZERO).await;
        self.queue = Arc::new(QueueCount::default());
        let records = Records::new(Arc::clone(&self.store) as Arc<dyn Store>);
        self.engine = Engine::new(parts(records, &self.stage, &self.clock, &self.wake, &self.queue, 1));
        let (cursor, _) = self.engine.recover().await.unwrap();
        tokio::spawn(self.engine.clone().schedule(cursor));
    }

    /// The engine of the next life of the daemon, which has not looked at the store yet.
    fn next_life(&self, stage: &Arc<Stage>) -> Engine {
        let (wake, queue) = (Arc::new(Notify::new()), Arc::new(QueueCount::default()));
        Engine::new(parts(
            Records::new(Arc::clone(&self.store) as Arc<dyn Store>),
            stage,
            &self.clock,
            &wake,
            &queue,
            4,
        ))
    }

    async fn add(&mut self, target: &str, queue_deadline: Duration) -> ExecutionId {
        self.created += 1;
        let runbook = RunbookId::new("r").unwrap();
        let id = ExecutionId::of(&runbook, ulid::Ulid::from_parts(1_800_000_000_000 + self.created, 1));
        let now = self.clock.now();
        let created = Created {
            id: id.clone(),
            runbook,
            version: 1,
            hash: "h".into(),
            title: "r".into(),
            trigger: Trigger {
                kind: TriggerKind::Manual,
                alertname: None,
                fingerprint: None,
                starts_at: None,
                generator_url: String::new(),
                external_url: String::new(),
                labels: Labels::new(),
                annotations: Labels::new(),
                by: "test".into(),
                reason: None,
                of: None,
            },
            target: Target::new(target).ok(),
            lock: Some(target.to_owned()),
            inputs: BTreeMap::new(),
            steps: vec![StepHead {
                id: crate::model::StepId::new("s").unwrap(),
                title: "s".into(),
                kind: "command".into(),
                effect: crate::model::Effect::AtMostOnce,
            }],
            range: None,
            timeout_ms: 60_000,
            queue_deadline: after(now, queue_deadline),
            seed: 0,
            parent: None,
            inherited: Vec::new(),
            decision: None,
            instance: "i".into(),
        };
        transact(&*self.store, move |txn| create(txn, created.clone(), now)).await.unwrap();
        self.queue.try_add(1, usize::MAX).unwrap();
        self.wake.notify_one();
        id
    }

    async fn until(&self, id: &ExecutionId, wanted: ExecutionStatus) {
        let reached = async {
            while self.engine.status(id).await.unwrap() != wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let within = tokio::time::timeout(Duration::from_secs(10), reached).await;
        assert!(within.is_ok(), "{id} is {:?}, not {wanted}", self.engine.status(id).await);
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn never_more_run_than_there_are_slots_and_all_come_to_their_turn() {
    let mut bench = Bench::new(3, None).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(bench.add(&format!("t{n}"), LONG).await);
    }
    for id in &ids {
        bench.until(id, ExecutionStatus::Succeeded).await;
    }
    assert_eq!(bench.stage.most.load(Ordering::SeqCst), 3);
    assert_eq!(bench.engine.counts().by_status.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn one_target_is_changed_by_one_execution_at_a_time_in_the_order_of_acceptance() {
    let may_end = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(8, Some(Arc::clone(&may_end))).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.add("same", LONG).await);
    }
    for (turn, id) in ids.iter().enumerate() {
        bench.until(id, ExecutionStatus::Running).await;
        let queued = bench.engine.counts().by_status[&ExecutionStatus::Queued];
        assert_eq!(queued, (ids.len() - turn - 1) as u64, "another one runs beside {id}");
        may_end.add_permits(1);
        bench.until(id, ExecutionStatus::Succeeded).await;
    }
    assert_eq!(*bench.stage.order.lock().unwrap(), ids);
}

#[tokio::test]
async fn a_queued_execution_expires_at_its_deadline_and_never_runs() {
    let may_end = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(1, Some(Arc::clone(&may_end))).await;
    let first = bench.add("a", LONG).await;
    bench.until(&first, ExecutionStatus::Running).await;
    let second = bench.add("b", Duration::from_millis(50)).await;
    bench.until(&second, ExecutionStatus::Expired).await;
    may_end.add_permits(2);
    bench.until(&first, ExecutionStatus::Succeeded).await;
    assert_eq!(*bench.stage.order.lock().unwrap(), [first]);
}

#[tokio::test]
async fn a_stop_ends_queued_and_running_executions_and_is_told_twice_without_harm() {
    let mut bench = Bench::new(1, Some(Arc::new(Semaphore::new(0)))).await;
    let running = bench.add("a", LONG).await;
    let queued = bench.add("b", LONG).await;
    bench.until(&running, ExecutionStatus::Running).await;
    assert_eq!(
        bench.engine.stop(&queued, verb::Actor::default(), "no").await.unwrap().status,
        ExecutionStatus::Stopped
    );
    bench.engine.stop(&running, verb::Actor::default(), "no").await.unwrap();
    bench.until(&running, ExecutionStatus::Stopped).await;
    assert_eq!(
        bench.engine.stop(&running, verb::Actor::default(), "again").await.unwrap().status,
        ExecutionStatus::Stopped
    );
    let next = bench.add("a", LONG).await;
    bench.until(&next, ExecutionStatus::Running).await;
}

#[tokio::test]
async fn a_full_disk_holds_an_execution_and_loses_nothing() {
    let may_end = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(1, Some(Arc::clone(&may_end))).await;
    let id = bench.add("a", LONG).await;
    bench.until(&id, ExecutionStatus::Running).await;
    bench.store.pretend(Some(Fault::Full));
    may_end.add_permits(1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.engine.status(&id).await.unwrap(), ExecutionStatus::Running, "nothing was recorded");
    bench.store.pretend(None);
    bench.until(&id, ExecutionStatus::Succeeded).await;
}

#[tokio::test]
async fn a_store_that_failed_for_good_ends_the_daemon() {
    let may_end = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(1, Some(Arc::clone(&may_end))).await;
    let id = bench.add("a", LONG).await;
    bench.until(&id, ExecutionStatus::Running).await;
    bench.store.pretend(Some(Fault::Failed));
    may_end.add_permits(1);
    let why = tokio::time::timeout(Duration::from_secs(5), bench.engine.fatal()).await.unwrap();
    assert!(why.contains("store failed"), "{why}");
}

#[tokio::test]
async fn a_step_that_takes_no_time_asks_its_breaker_and_tells_it_how_it_ended() {
    let text = "mode = \"auto\"\n[[steps]]\nid = \"s\"\ncheck = { expr = \"false\", must = true }\nbreaker = \"b\"\n";
    let mut bench = Bench::playing(text, 1, None).await;
    let records = Records::new(Arc::clone(&bench.store) as Arc<dyn Store>);
    for (n, reason) in [Reason::StepFailed; 5].into_iter().chain([Reason::BreakerOpen]).enumerate() {
        let id = bench.add(&format!("t{n}"), LONG).await;
        bench.until(&id, ExecutionStatus::Failed).await;
        assert_eq!(records.header(id.ulid()).await.unwrap().unwrap().reason, Some(reason), "after {n}");
    }
    let breaker = records.breaker("b").await.unwrap().unwrap().breaker;
    assert_eq!((breaker.state(), breaker.failures()), (crate::guard::BreakerState::Open, 5));
}

#[tokio::test]
async fn draining_begins_nothing_and_records_what_it_cut_as_unknown() {
    let mut bench = Bench::new(1, Some(Arc::new(Semaphore::new(0)))).await;
    let running = bench.add("a", LONG).await;
    bench.until(&running, ExecutionStatus::Running).await;
    let queued = bench.add("b", LONG).await;
    bench.engine.drain(Duration::from_millis(50)).await;
    assert_eq!(bench.engine.status(&queued).await.unwrap(), ExecutionStatus::Queued);
    // Its one step runs at most once, so an end nobody saw is an unknown outcome, and that is a failure.
    assert_eq!(bench.engine.status(&running).await.unwrap(), ExecutionStatus::Failed);
    assert!(bench.stage.running.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_an_execution_waits_on_is_asked_again_at_once_after_a_restart() {
    let text = "mode = \"auto\"\ntarget = \"{{ labels.t }}\"\n[[steps]]\nid = \"s\"\n\
                wait = { until = { http = { url = \"http://127.0.0.1:1/\" } } }\n";
    let may_answer = Arc::new(Semaphore::new(0));
    let mut bench = Bench::playing(text, 1, Some(Arc::clone(&may_answer))).await;
    let id = bench.add("a", LONG).await;
    let asked = async |times: usize| {
        while bench.stage.order.lock().unwrap().len() < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), asked(1)).await.unwrap();
    bench.restart().await;
    // One answer for whoever asked in the life before, who is no longer heard.
    may_answer.add_permits(2);
    bench.until(&id, ExecutionStatus::Succeeded).await;
    assert_eq!(bench.stage.order.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_crash_left_open_is_dealt_with_only_once_the_scheduler_begins() {
    let may_end = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(1, Some(may_end)).await;
    let (open, queued) = (bench.add("a", LONG).await, bench.add("b", LONG).await);
    bench.until(&open, ExecutionStatus::Running).await;
    let next = bench.next_life(&Arc::new(Stage::default()));
    let (cursor, live) = next.recover().await.unwrap();
    assert_eq!(live, 2);
    let counts = next.counts().by_status;
    assert_eq!((counts[&ExecutionStatus::Running], counts[&ExecutionStatus::Queued]), (1, 1));
    // Not a person's word either.
    let early = {
        let (next, queued) = (next.clone(), queued.clone());
        tokio::spawn(async move { next.stop(&queued, verb::Actor::default(), "no").await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(next.status(&open).await.unwrap(), ExecutionStatus::Running);
    assert_eq!(next.status(&queued).await.unwrap(), ExecutionStatus::Queued);
    tokio::spawn(next.clone().schedule(cursor));
    bench.until(&open, ExecutionStatus::Failed).await;
    early.await.unwrap().unwrap();
    bench.until(&queued, ExecutionStatus::Stopped).await;
}

#[tokio::test]
async fn live_records_of_an_earlier_program_are_taken_in_by_their_headers() {
    let mut bench = Bench::new(0, None).await;
    let ids = [bench.add("a", LONG).await, bench.add("b", LONG).await];
    let records = Records::new(Arc::clone(&bench.store) as Arc<dyn Store>);
    let parked = records.parked(None, 10).await.unwrap();
    assert_eq!(
        parked.iter().map(|parked| parked.lock.as_deref()).collect::<Vec<_>>(),
        [Some("a"), Some("b")]
    );
    assert!(parked.iter().all(|parked| parked.wake.is_some() && parked.status == ExecutionStatus::Queued));
    transact(&*bench.store, move |txn| {
        ids.iter().for_each(|id| txn.put(crate::store::records::key::live(id.ulid()), Vec::new()));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(records.parked(None, 10).await.unwrap(), parked);
}

#[tokio::test]
async fn a_scheduler_that_stands_still_does_not_look_round_and_one_that_may_not_begin_is_not_waited_for() {
    let bench = Bench::new(1, None).await;
    bench.engine.look_round().await;
    let next = bench.next_life(&Arc::new(Stage::default()));
    next.look_round().await;
    let scheduler = tokio::spawn(next.clone().schedule(None));
    let begun = next.shared.begun.subscribe().wait_for(|begun| *begun).await.is_ok();
    assert!(begun);
    next.look_round().await;
    scheduler.abort();
    drop(scheduler.await);
    let asked = tokio::time::timeout(Duration::from_millis(200), next.look_round());
    assert!(asked.await.is_err(), "nobody looks round any more");
}
