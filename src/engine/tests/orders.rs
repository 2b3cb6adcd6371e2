//! Orders of the kill switch against a store that is late, stuck, full, or damaged: what counts is what is durable.

use super::*;
use crate::guard::{KillSwitch, MAX_ORDERS, Order, Scope, SwitchState};
use crate::store::records::audit::AuditFilter;
use crate::store::records::key;
use crate::store::{CommitError, Copying, Health, Pair, Scan, Work};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicUsize as Count;
use tokio::sync::watch;

/// A store that takes works only while it is open, and acknowledges some of them late.
struct Late {
    inner: Arc<MemoryStore>,
    is_open: watch::Sender<bool>,
    commits: Count,
}

impl Late {
    fn new() -> Arc<Self> {
        let (inner, is_open) = (Arc::new(MemoryStore::new()), watch::Sender::new(true));
        Arc::new(Self { inner, is_open, commits: Count::default() })
    }
}

impl Store for Late {
    fn commit(&self, work: Work) -> BoxFuture<'static, Result<(), CommitError>> {
        let late = self.commits.fetch_add(1, Ordering::SeqCst) % 4;
        let (inner, mut is_open) = (Arc::clone(&self.inner), self.is_open.subscribe());
        // The work goes on also when nobody waits for it.
        let done = tokio::spawn(async move {
            is_open.wait_for(|is_open| *is_open).await.unwrap();
            inner.commit(work).await
        });
        async move {
            let done = done.await.unwrap();
            for _ in 0..late {
                tokio::task::yield_now().await;
            }
            done
        }
        .boxed()
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
        self.inner.shut()
    }
}

#[derive(Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct Desk {
    engine: Engine,
    records: Records,
    clock: Arc<SetClock>,
}

fn desk(store: Arc<dyn Store>) -> Desk {
    let (records, set) = (Records::new(store), Arc::<SetClock>::default());
    let clock = Arc::clone(&set) as Arc<dyn Clock>;
    let (stage, wake, queue) = Default::default();
    let engine = Engine::new(parts(records.clone(), &stage, &clock, &wake, &queue, 1));
    Desk { engine, records, clock: set }
}

impl Desk {
    fn order(&self, scope: Scope, state: SwitchState, reason: &str) -> Order {
        let (at, by) = (self.clock.now(), "ann".to_owned());
        Order { scope, state, by, reason: reason.to_owned(), at, expires_at: None }
    }

    fn all(&self, state: SwitchState, reason: &str) -> Order {
        self.order(Scope::Global, state, reason)
    }

    fn state(&self) -> SwitchState {
        self.engine.board().read().global(self.clock.now())
    }

    /// What a start would find.
    async fn stored(&self) -> KillSwitch {
        self.records.kill_switch().await.unwrap().switch
    }

    async fn settled(&self) {
        while !self.engine.unsaved_orders().is_empty() {
            self.engine.tidy_orders();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn one(number: usize) -> Scope {
    Scope::Runbook(RunbookId::new(&format!("r{number}")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_every_race_what_counts_is_what_is_durable_and_last_in_the_audit_log() {
    let desk = desk(Late::new());
    for round in 0..500 {
        let post = |state| {
            let (engine, order) = (desk.engine.clone(), desk.all(state, &round.to_string()));
            tokio::spawn(async move { engine.post(order).await.unwrap() })
        };
        let posts = [SwitchState::Running, SwitchState::Halted, SwitchState::Running, SwitchState::Draining]
            .into_iter()
            .cycle()
            .skip(round % 4)
            .take(3)
            .map(post);
        let mut recorded = 0;
        for posted in posts.collect::<Vec<_>>() {
            recorded += usize::from(posted.await.unwrap() == Posted::Durable);
        }
        let board = KillSwitch::clone(&desk.engine.board().read());
        assert_eq!(board, desk.stored().await, "round {round}");
        if recorded > 0 {
            let filter = AuditFilter { action: Some("automation.set".to_owned()), ..AuditFilter::default() };
            let page = desk.records.audit(&filter, None, 1).await.unwrap();
            assert_eq!(page.items[0].detail["state"], desk.state().as_str(), "round {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_store_stuck_a_halt_counts_and_an_unhalt_that_was_refused_never_does() {
    let store = Late::new();
    let desk = desk(Arc::clone(&store) as Arc<dyn Store>);
    desk.engine.post(desk.all(SwitchState::Draining, "before")).await.unwrap();
    store.is_open.send_replace(false);
    let halting = desk.engine.post(desk.all(SwitchState::Halted, "stuck"));
    tokio::pin!(halting);
    assert!(futures_util::poll!(&mut halting).is_pending());
    assert_eq!(desk.state(), SwitchState::Halted, "before the store answers");
    assert!(matches!(halting.await, Ok(Posted::InForce(_))));
    for state in [SwitchState::Running, SwitchState::Draining] {
        let refused = desk.engine.post(desk.all(state, "too early")).await;
        assert!(matches!(refused, Err(OrderError::NotDurable(_))));
    }
    let aborted = desk.engine.post(desk.order(one(0), SwitchState::Aborted, "one")).await;
    assert!(matches!(aborted, Ok(Posted::InForce(_))), "the others do not stand in its way");
    assert_eq!(desk.engine.unsaved_orders().len(), 2);
    store.is_open.send_replace(true);
    desk.settled().await;
    assert_eq!(desk.state(), SwitchState::Halted);
    assert_eq!(desk.stored().await, *desk.engine.board().read().as_ref());
    assert_eq!(desk.engine.board().read().orders().count(), 2);
    assert_eq!(desk.engine.post(desk.all(SwitchState::Running, "now")).await.unwrap(), Posted::Durable);
    assert_eq!(desk.state(), SwitchState::Running);
}

#[tokio::test]
async fn an_order_that_the_store_refused_is_saved_later_unless_another_took_its_place() {
    let store = Late::new();
    let desk = desk(Arc::clone(&store) as Arc<dyn Store>);
    store.inner.pretend(Some(Fault::Full));
    assert!(matches!(desk.engine.post(desk.all(SwitchState::Halted, "full")).await, Ok(Posted::InForce(_))));
    store.inner.pretend(None);
    assert_eq!(desk.engine.post(desk.all(SwitchState::Running, "over")).await.unwrap(), Posted::Durable);
    desk.settled().await;
    assert_eq!((desk.state(), desk.stored().await), (SwitchState::Running, KillSwitch::default()));
    store.inner.pretend(Some(Fault::Full));
    assert!(matches!(desk.engine.post(desk.all(SwitchState::Halted, "again")).await, Ok(Posted::InForce(_))));
    store.inner.pretend(None);
    desk.settled().await;
    assert_eq!(desk.stored().await, *desk.engine.board().read().as_ref());
    assert_eq!(desk.stored().await.global(desk.clock.now()), SwitchState::Halted);
}

#[tokio::test]
async fn orders_that_have_ended_are_removed_and_never_keep_anybody_from_halting() {
    let desk = desk(Late::new());
    let soon = after(desk.clock.now(), Duration::from_secs(3));
    for number in 0..MAX_ORDERS {
        let mut order = desk.order(one(number), SwitchState::Draining, "for a moment");
        order.expires_at = Some(soon);
        desk.engine.post(order).await.unwrap();
    }
    let one_more = || desk.order(one(MAX_ORDERS), SwitchState::Halted, "one more");
    assert!(matches!(desk.engine.post(one_more()).await, Err(OrderError::TooMany)));
    desk.engine.post(desk.all(SwitchState::Halted, "all of it")).await.unwrap();
    desk.engine.post(desk.order(one(3), SwitchState::Aborted, "tighter")).await.unwrap();
    desk.clock.0.store(3, Ordering::SeqCst);
    desk.engine.post(one_more()).await.unwrap();
    desk.engine.tidy_orders();
    while desk.engine.board().read().orders().count() > 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.stored().await, *desk.engine.board().read().as_ref());
    assert_eq!(desk.state(), SwitchState::Halted);
}

#[tokio::test]
async fn what_was_not_ordered_is_not_taken_back_and_not_recorded() {
    let desk = desk(Late::new());
    desk.engine.post(desk.all(SwitchState::Halted, "all")).await.unwrap();
    let posted = desk.engine.post(desk.order(one(0), SwitchState::Running, "a slip")).await.unwrap();
    assert_eq!((posted, desk.records.audit_head().await.unwrap().seq), (Posted::Nothing, 1));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_and_the_others_are_kept() {
    let store = Late::new();
    let desk = desk(Arc::clone(&store) as Arc<dyn Store>);
    desk.engine.post(desk.order(one(0), SwitchState::Aborted, "kept")).await.unwrap();
    let work = |txn: &mut dyn Txn| {
        txn.put(key::switch("runbook:r1"), b"{\"state\":\"sideways\"}".to_vec());
        Ok(())
    };
    store.inner.commit(Box::new(work)).await.unwrap();
    let found = desk.records.kill_switch().await.unwrap();
    assert!(found.unreadable.is_some());
    assert_eq!(found.switch.get(&one(0)).unwrap().state, SwitchState::Aborted);
}
