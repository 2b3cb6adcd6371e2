//! The embedded store: sled, under the discipline that makes it durable.
//!
//! One thread owns all writes (`writer`); everything is in one tree (`table`); a directory is opened, checked and
//! synced by `open`. sled is named nowhere else in the program. May import: `store`'s own types, `tracing`.
//! Must never: call `flush_async`, a transaction or `subscribe` of sled, or acknowledge without a sync of our own.

mod check;
mod copy;
mod open;
mod table;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, TryAcquireError, oneshot, watch};

use self::open::{Opened, watermark};
use self::table::Table;
use self::writer::{Job, Queue, Writer};
use super::{CommitError, Copying, Health, Pair, ReadError, Scan, Store, Work};

pub use self::open::OpenError;

/// Called by the writer after each group: how long it took from its first work to the sync, and how many works
/// it made durable. It must not block.
pub type OnCommit = Arc<dyn Fn(Duration, usize) + Send + Sync>;

/// Called by the writer when nothing has come for half a second after much has; what comes meanwhile waits for it.
pub type OnQuiet = Arc<dyn Fn() + Send + Sync>;

/// How a store is run. The default suits a daemon.
#[derive(Clone)]
pub struct SledOptions {
    /// Bytes that must stay free on the disk; below, commits get [`CommitError::Full`]. 16 MiB.
    pub reserve: u64,
    /// Bytes of pages that sled keeps in memory, as it counts them, in 256 parts: less makes its index pages come and go. 32 MiB.
    pub cache: u64,
    /// Works that may wait for the writer; further ones wait outside, in their futures. 1024.
    pub queue: usize,
    /// After so long inside one group the writer counts as stuck. 10 s.
    pub stuck_after: Duration,
    /// Told of every group.
    pub on_commit: Option<OnCommit>,
    /// Told of quiet after a burst.
    pub on_quiet: Option<OnQuiet>,
    /// Reads everything once beside the work, not before the store can be used; see [`SledStore::checked`].
    pub check_later: bool,
    /// Acknowledge without a sync: not durable. Only for the test that proves that the power-cut test can fail.
    #[doc(hidden)]
    pub skip_sync: bool,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            reserve: 16 << 20,
            cache: 32 << 20,
            queue: 1024,
            stuck_after: Duration::from_secs(10),
            on_commit: None,
            on_quiet: None,
            check_later: false,
            skip_sync: false,
        }
    }
}

/// Pairs that a scan reads in one go; readers and the writer wait for each other that long.
const PORTION: usize = 128;
/// Long scans that run at a time.
const LONG_SCANS: usize = 4;
/// How old the sizes in [`Health`] may be.
const SIZES_AGE: Duration = Duration::from_secs(1);

/// A store in a directory of its own.
///
/// Dropping it finishes what was submitted, blocking; [`Store::shut`] does so without blocking.
pub struct SledStore {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    writer: Option<JoinHandle<()>>,
    checker: Option<(JoinHandle<()>, check::Ended)>,
}

struct Shared {
    table: Table,
    queue: Queue,
    options: SledOptions,
    dir: PathBuf,
    failure: OnceLock<String>,
    pulse: Pulse,
    sizes: Mutex<Option<Sizes>>,
    long_scans: Semaphore,
    /// Held as long as the table is open; the last field, so that it is let go last.
    _lock: File,
}

/// Since when the writer is inside a group.
struct Pulse {
    epoch: Instant,
    /// Milliseconds since `epoch`, plus one; 0 between groups.
    since: AtomicU64,
    ended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Sizes {
    at: Instant,
    size: u64,
    free: u64,
}

impl SledStore {
    /// Opens the store in `dir`, and creates it there when there is none. Blocks: it reads everything once, to
    /// find damage now and not when the record is needed, unless [`SledOptions::check_later`] puts that off.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(dir: &Path, options: SledOptions) -> Result<Self, OpenError> {
        Self::start(dir, open::open(dir, &options)?, options)
    }

    fn start(dir: &Path, opened: Opened, options: SledOptions) -> Result<Self, OpenError> {
        let Opened { table, log, watermark, lock } = opened;
        let (ended_sender, ended) = watch::channel(false);
        let shared = Arc::new(Shared {
            table,
            queue: Queue::new(options.queue.max(1)),
            options,
            dir: dir.to_owned(),
            failure: OnceLock::new(),
            pulse: Pulse { epoch: Instant::now(), since: AtomicU64::new(0), ended: AtomicBool::new(false) },
            sizes: Mutex::new(None),
            long_scans: Semaphore::new(LONG_SCANS),
            _lock: lock,
        });
        let writer = Writer { shared: shared.clone(), log, watermark, ended: ended_sender };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|cause| OpenError::Io { path: dir.to_owned(), cause })?;
        let check =
            || check::begin(dir, &shared).map_err(|cause| OpenError::Io { path: dir.to_owned(), cause });
        let mut store = Self { shared: shared.clone(), ended, writer: Some(writer), checker: None };
        if store.shared.options.check_later {
            store.checker = Some(check()?);
        }
        Ok(store)
    }

    /// Resolves when everything was read once: at once, unless that was put off. Then it is also the word that the
    /// store failed, as damaged; until then nothing should be done that cannot be taken back.
    ///
    /// # Errors
    /// What is wrong and what to do, or that the store was shut before the end.
    pub fn checked(&self) -> BoxFuture<'static, Result<(), String>> {
        let Some(mut ended) = self.checker.as_ref().map(|(_, ended)| ended.clone()) else {
            return async { Ok(()) }.boxed();
        };
        async move {
            let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
            ended.unwrap_or_else(|| Err("the store was shut before everything in it was read".to_owned()))
        }
        .boxed()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        // A work may own the store; then the last drop is on the writer's own thread, which ends by itself.
        let writer = self.writer.take().filter(|writer| writer.thread().id() != thread::current().id());
        if let Some(writer) = writer {
            // A panic of the writer is already noted as the store's failure.
            writer.join().ok();
        }
        if let Some((checker, _)) = self.checker.take() {
            // It sees that the queue is closed; a panic of its was caught and noted.
            checker.join().ok();
        }
    }
}

impl Store for SledStore {
    fn commit(&self, work: Work) -> BoxFuture<'static, Result<(), CommitError>> {
        let (done, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let places = shared.queue.places.clone();
        let waiting = match places.clone().try_acquire_owned() {
            Ok(place) => {
                shared.queue.push(Job { work, done, place });
                None
            }
            Err(TryAcquireError::NoPermits) => Some((work, done)),
            Err(TryAcquireError::Closed) => return async { Err(CommitError::Shut) }.boxed(),
        };
        async move {
            if let Some((work, done)) = waiting {
                let place = places.acquire_owned().await.map_err(|_| CommitError::Shut)?;
                shared.queue.push(Job { work, done, place });
            }
            drop(shared);
            answer.await.unwrap_or_else(|_| Err(CommitError::Failed("the writer ended".to_owned())))
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Vec<u8>>, ReadError>> {
        // Inline: it is a walk in memory, at worst a read of one page, and waits at most for one batch to be
        // applied, never for a sync.
        let found = self.shared.table.get(key);
        async move { found }.boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<Pair>, ReadError>> {
        if scan.limit <= PORTION {
            let found = self.shared.table.scan(&scan);
            return async move { found }.boxed();
        }
        let shared = self.shared.clone();
        async move {
            // The semaphore is never closed, and the task is neither aborted nor does it panic.
            let place = self.shared.long_scans.acquire().await;
            let found = tokio::task::spawn_blocking(move || shared.scan_all(scan)).await;
            drop(place);
            found.unwrap_or_else(|error| Err(ReadError::Failed(error.to_string())))
        }
        .boxed()
    }

    fn copy(&self) -> Option<Box<dyn Copying>> {
        Some(Box::new(copy::Copy::begin(Arc::clone(&self.shared))?))
    }

    fn health(&self) -> Health {
        let Sizes { size, free, .. } = self.shared.sizes();
        Health {
            size_bytes: size,
            free_bytes: free,
            writer_alive: self.shared.pulse.beats(self.shared.options.stuck_after),
            failed: self.shared.failure().is_some(),
        }
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        self.shared.queue.close();
        let mut ended = self.ended.clone();
        async move {
            // An error means that the writer is gone, which is what is waited for.
            ended.wait_for(|ended| *ended).await.ok();
        }
        .boxed()
    }
}

impl Shared {
    fn scan_all(&self, mut scan: Scan) -> Result<Vec<Pair>, ReadError> {
        let limit = scan.limit;
        let mut pairs = Vec::new();
        loop {
            scan.limit = PORTION.min(limit - pairs.len());
            let portion = self.table.scan(&scan)?;
            let last = portion.len() < scan.limit;
            scan.after = portion.last().map(|(key, _)| key.clone());
            pairs.extend(portion);
            if last || pairs.len() == limit {
                return Ok(pairs);
            }
        }
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn fail(&self, why: &str) {
        if self.failure.set(why.to_owned()).is_ok() {
            tracing::error!(dir = %self.dir.display(), why, "the store failed and must be reopened");
        }
    }

    /// Bytes free now. A disk that cannot be asked counts as empty of everything: writing will tell.
    fn free_now(&self) -> u64 {
        match rustix::fs::statvfs(&self.dir) {
            Ok(answer) => answer.f_bavail.saturating_mul(answer.f_frsize),
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "cannot ask how much room the disk has");
                u64::MAX
            }
        }
    }

    fn sizes(&self) -> Sizes {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        match *sizes {
            Some(known) if known.at.elapsed() < SIZES_AGE => known,
            _ => {
                let size = size_of(&self.dir) + size_of(&self.dir.join("blobs"));
                let now = Sizes { at: Instant::now(), size, free: self.free_now() };
                *sizes = Some(now);
                now
            }
        }
    }
}

impl Pulse {
    fn begin(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(now + 1, Ordering::Release);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Release);
    }

    fn beats(&self, stuck_after: Duration) -> bool {
        let inside = match self.since.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => self.epoch.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        };
        !self.ended.load(Ordering::Acquire) && inside < stuck_after
    }
}

/// Bytes of the files right in `dir`; one that cannot be asked counts nothing.
fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}
