//! A store that takes simulated time, runs full, fails, and is where the daemon can die.
//!
//! Works are done one after the other, each behind some milliseconds, as by a thread of its own: a caller that goes
//! away does not stop them. What is done is in a [`MemoryStore`] that outlives the daemon.
//! May import: `store`. Must never: do a work that was answered with an error, or lose one that was done.

use super::random::Random;
use super::time::{Moment, WorldClock};
use crate::store::{CommitError, Copying, Fault, Health, MemoryStore, Pair, ReadError, Scan, Store, Work};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// So many looks at the store without any time passing are a loop that never ends.
const SPINNING: u32 = 20_000;

/// What happens at one commit of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The daemon dies before it is done.
    DieBefore,
    /// The daemon dies when it is done and nobody knows yet.
    DieAfter,
    /// It fails, and nothing of it is there.
    FailBefore,
    /// It fails, and it is there all the same: after a failed sync nobody knows.
    FailAfter,
    /// It is acknowledged and never done. No store may do this; the checks must see it.
    Lie,
}

struct Job {
    work: Work,
    done: oneshot::Sender<Result<(), CommitError>>,
}

/// The disk of one life.
pub(super) struct Disk {
    platter: Arc<MemoryStore>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Set when the daemon is dead: from then on nothing of it has an effect.
    pub(super) dead: Arc<AtomicBool>,
    /// Rings at the same time.
    pub(super) death: Arc<Notify>,
    clock: Arc<WorldClock>,
    /// How many looks there were in this moment.
    looks: Mutex<(Moment, u32)>,
}

/// What one life's disk is to do.
pub(super) struct Habits {
    /// Where its pace comes from.
    pub(super) random: Random,
    /// The commit, counted from 1, at which something happens.
    pub(super) mishap: Option<(u64, Mishap)>,
}

impl Disk {
    /// A disk over what is there already. Must be called within the runtime of the life.
    pub(super) fn spin_up(platter: Arc<MemoryStore>, clock: Arc<WorldClock>, habits: Habits) -> Arc<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (dead, death) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let disk = Self { platter, jobs, dead, death, clock, looks: Mutex::default() };
        tokio::spawn(work(Arc::clone(&disk.platter), queue, habits, disk.pronouncer()));
        Arc::new(disk)
    }

    /// The disk is full from now on, or has room again.
    pub(super) fn fill(&self, full: bool) {
        self.platter.pretend(full.then_some(Fault::Full));
    }

    /// The daemon dies now.
    pub(super) fn die(&self) {
        (self.pronouncer())();
    }

    /// Whether the engine went round in circles without time passing.
    pub(super) fn is_spun(&self) -> bool {
        self.looks.lock().unwrap().1 >= SPINNING
    }

    /// Counts a look; false when the daemon has died of too many.
    fn looked(&self) -> bool {
        let now = self.clock.moment();
        let mut looks = self.looks.lock().unwrap();
        if looks.1 < SPINNING {
            *looks = if looks.0 == now { (now, looks.1 + 1) } else { (now, 1) };
            return true;
        }
        drop(looks);
        self.die();
        false
    }

    fn pronouncer(&self) -> impl Fn() + Send + 'static {
        let (dead, death) = (Arc::clone(&self.dead), Arc::clone(&self.death));
        move || {
            dead.store(true, Ordering::SeqCst);
            death.notify_one();
        }
    }
}

/// The writer: one work after the other, until the life is over.
async fn work(
    platter: Arc<MemoryStore>,
    mut queue: mpsc::UnboundedReceiver<Job>,
    habits: Habits,
    pronounce: impl Fn() + Send + 'static,
) {
    let Habits { mut random, mishap } = habits;
    let count = AtomicU64::new(0);
    let mut failed = false;
    while let Some(Job { work, done }) = queue.recv().await {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let mishap = mishap.filter(|(at, _)| *at == number).map(|(_, mishap)| mishap);
        seek(&mut random).await;
        if mishap == Some(Mishap::DieBefore) {
            pronounce();
            return std::future::pending().await;
        }
        failed |= mishap == Some(Mishap::FailBefore);
        let answer = match failed {
            true => Err(CommitError::Failed("pretended".to_owned())),
            false if mishap == Some(Mishap::Lie) => lie(&platter, work).await,
            false => platter.commit(work).await,
        };
        if mishap == Some(Mishap::DieAfter) {
            pronounce();
            return std::future::pending().await;
        }
        failed |= mishap == Some(Mishap::FailAfter);
        let answer = if failed { Err(CommitError::Failed("pretended".to_owned())) } else { answer };
        seek(&mut random).await;
        // Who asked may be gone.
        drop(done.send(answer));
    }
}

/// Runs `work` for what it says and forgets what it wrote.
async fn lie(platter: &MemoryStore, mut work: Work) -> Result<(), CommitError> {
    let outcome = Arc::new(Mutex::new(Ok(())));
    let seen = Arc::clone(&outcome);
    let undone = platter
        .commit(Box::new(move |txn| {
            *seen.lock().unwrap() = work(txn);
            Err(CommitError::Refused("it never happens".to_owned()))
        }))
        .await;
    let said = outcome.lock().unwrap().clone();
    if matches!(undone, Err(CommitError::Refused(_))) { said } else { undone }
}

/// Most commits take no time to speak of, some take long.
async fn seek(random: &mut Random) {
    let milliseconds = match random.below(100) {
        0..60 => 0,
        60..95 => random.between(1, 8),
        _ => random.between(50, 900),
    };
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

impl Store for Disk {
    fn commit(&self, work: Work) -> BoxFuture<'static, Result<(), CommitError>> {
        if self.dead.load(Ordering::SeqCst) {
            return std::future::pending().boxed();
        }
        let (done, answer) = oneshot::channel();
        // A queue that is gone is a life that is over.
        drop(self.jobs.send(Job { work, done }));
        async {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Vec<u8>>, ReadError>> {
        self.platter.get(key)
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<Pair>, ReadError>> {
        if !self.looked() {
            return std::future::pending().boxed();
        }
        self.platter.scan(scan)
    }

    fn copy(&self) -> Option<Box<dyn Copying>> {
        self.platter.copy()
    }

    fn health(&self) -> Health {
        self.platter.health()
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        // The platter outlives this disk, so only the life may end.
        async {}.boxed()
    }
}
