//! Many deliveries at the same time, over the durable store; and what is left of one that is refused: nothing.

use super::bench::{Bench, acting_on, firing, options};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use runbookd::intake::{Announcement, IntakeError, Options};
use runbookd::model::{Reason, Verdict};
use runbookd::store::{
    CommitError, Copying, Health, MemoryStore, Pair, ReadError, Scan, SledOptions, SledStore, Store, Work,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn on_disk(dir: &tempfile::TempDir) -> Bench {
    let store = SledStore::open(&dir.path().join("store"), SledOptions::default()).unwrap();
    Bench::over(Arc::new(store), acting_on(&["Down"]), options())
}

fn body(instances: std::ops::Range<usize>) -> String {
    let alerts: Vec<_> =
        instances.map(|number| firing("Down", &format!("web-{number}"), "2026-11-21T11:00:00Z")).collect();
    json!({ "alerts": alerts }).to_string()
}

async fn post_at_once(bench: &Bench, bodies: Vec<String>) -> Vec<Vec<Announcement>> {
    let posts = bodies.into_iter().map(|body| {
        let intake = Arc::clone(&bench.intake);
        tokio::spawn(async move { intake.accept(body.as_bytes()).await.unwrap().decisions })
    });
    join_all(posts).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_body_fifty_times_at_once_starts_one_execution_for_each_alert() {
    let dir = tempfile::tempdir().unwrap();
    let bench = on_disk(&dir);
    let answers = post_at_once(&bench, vec![body(0..5); 50]).await;
    let all: Vec<&Announcement> = answers.iter().flatten().collect();
    assert_eq!(all.len(), 250);
    let started: BTreeSet<_> = all.iter().filter_map(|told| told.started()).collect();
    assert_eq!((started.len(), bench.executions().await.len(), bench.queue.get()), (5, 5, 5));
    // Whoever came second was told of the execution the first one started.
    assert!(all.iter().all(|told| told.execution_id.as_ref().is_some_and(|id| started.contains(id))));
    let decisions = bench.decisions(500).await;
    let seen =
        |reason| decisions.iter().filter(move |d| d.reason == reason).map(|d| d.seen).collect::<Vec<_>>();
    assert_eq!((seen(Reason::Matched), seen(Reason::Repeat)), (vec![1; 5], vec![49; 5]));
    bench.records.store().shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn different_bodies_at_once_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let bench = on_disk(&dir);
    let answers = post_at_once(&bench, (0..64).map(|number| body(number..number + 1)).collect()).await;
    let started: BTreeSet<_> = answers.iter().flatten().filter_map(Announcement::started).cloned().collect();
    let stored: BTreeSet<_> = bench.executions().await.into_iter().map(|header| header.id).collect();
    let decided: BTreeSet<_> =
        bench.decisions(10).await.into_iter().filter_map(|decision| decision.execution_id).collect();
    assert_eq!(started.len(), 64);
    assert_eq!((&stored, &decided), (&started, &started));
    bench.records.store().shut().await;
}

#[tokio::test]
async fn a_request_over_the_queue_limit_leaves_nothing_and_is_taken_once_there_is_room() {
    let bench = Bench::new(acting_on(&["Down"]), Options { queue_limit: 4, ..options() });
    bench.post(body(0..3).as_bytes()).await.unwrap();
    let before = bench.dump().await;
    match bench.post(body(2..5).as_bytes()).await {
        Err(IntakeError::QueueFull { queued: 3, wanted: 2, limit: 4 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.dump().await, before);
    assert_eq!(bench.queue.get(), 3);
    // What starts nothing needs no room.
    let repeats = bench.post(body(0..3).as_bytes()).await.unwrap();
    assert!(repeats.iter().all(|told| told.reason == Reason::Repeat));
    bench.queue.remove(1);
    let taken = bench.post(body(2..5).as_bytes()).await.unwrap();
    let verdicts: Vec<Verdict> = taken.iter().map(|told| told.verdict).collect();
    assert_eq!(verdicts, [Verdict::Skip, Verdict::Execute, Verdict::Execute]);
    assert_eq!((bench.queue.get(), bench.executions().await.len()), (4, 5));
}

#[tokio::test]
async fn what_starts_nothing_is_taken_even_when_the_limit_was_lowered_below_what_is_queued() {
    let bench = Bench::new(acting_on(&["Down"]), options());
    bench.post(body(0..3).as_bytes()).await.unwrap();
    bench.intake.reconfigure(Options { queue_limit: 1, ..options() });
    assert_eq!(bench.post(body(0..3).as_bytes()).await.unwrap().len(), 3);
    assert!(matches!(bench.post(body(3..4).as_bytes()).await, Err(IntakeError::QueueFull { .. })));
}

/// A store that runs works and then has no room for what they wrote, as a full disk makes it.
#[derive(Default)]
struct NoRoom {
    inner: MemoryStore,
    full: AtomicBool,
}

impl Store for NoRoom {
    fn commit(&self, mut work: Work) -> BoxFuture<'static, Result<(), CommitError>> {
        let full = self.full.load(Ordering::SeqCst);
        self.inner.commit(Box::new(move |txn| {
            work(txn)?;
            if full { Err(CommitError::Full { free: 0, reserve: 1 }) } else { Ok(()) }
        }))
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Vec<u8>>, ReadError>> {
        self.inner.get(key)
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<Pair>, ReadError>> {
        self.inner.scan(scan)
    }

    fn copy(&self) -> Option<Box<dyn Copying>> {
        self.inner.copy()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

#[tokio::test]
async fn a_request_the_disk_has_no_room_for_gives_its_place_in_the_queue_back() {
    let store = Arc::new(NoRoom::default());
    let bench = Bench::over(
        Arc::clone(&store) as Arc<dyn Store>,
        acting_on(&["Down"]),
        Options { queue_limit: 3, ..options() },
    );
    store.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        match bench.post(body(0..3).as_bytes()).await {
            Err(IntakeError::Store(CommitError::Full { .. })) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!((bench.queue.get(), bench.dump().await.len()), (0, 0));
    }
    store.full.store(false, Ordering::SeqCst);
    assert_eq!(bench.post(body(0..3).as_bytes()).await.unwrap().len(), 3);
    assert_eq!(bench.queue.get(), 3);
}
