//! The thread that owns all writes: it makes one batch, one flush and one sync of everything that waits.
//!
//! May import: `store`'s own types. Must never: acknowledge before the sync, wait for more work to arrive, or go
//! on after a write failed. A refusal is answered after the sync too: the work may have read what was not durable.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{Shared, watermark};
#[cfg(debug_assertions)]
use crate::store::failpoint;
use crate::store::overlay::{self, Writes};
use crate::store::{CommitError, Work};

/// Works that share one sync, at most.
const GROUP_WORKS: usize = 256;
/// Bytes after which a group takes no further work.
const GROUP_BYTES: usize = 4 << 20;

/// Writes after which a pause is quiet after much.
const MUCH: usize = 1000;
/// A pause that is quiet.
const PAUSE: Duration = Duration::from_millis(500);

/// A work and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) done: oneshot::Sender<Answer>,
    /// Given back when the writer takes the job.
    pub(super) place: OwnedSemaphorePermit,
}

/// Works that wait for the writer, at most as many as there are places.
pub(super) struct Queue {
    pub(super) places: Arc<Semaphore>,
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

struct Jobs {
    waiting: VecDeque<Job>,
    open: bool,
}

impl Queue {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            jobs: Mutex::new(Jobs { waiting: VecDeque::new(), open: true }),
            arrived: Condvar::new(),
        }
    }

    /// Adds a job, or answers it when the store is shut.
    pub(super) fn push(&self, job: Job) {
        let mut jobs = self.lock();
        if jobs.open {
            jobs.waiting.push_back(job);
            self.arrived.notify_one();
        } else {
            job.done.send(Err(CommitError::Shut)).ok();
        }
    }

    /// Lets nobody in any more. What waits inside is still done.
    pub(super) fn close(&self) {
        self.places.close();
        self.lock().open = false;
        self.arrived.notify_all();
    }

    /// The next job, when there is one within `pause`; no answer is no job yet, `None` that there will be none.
    fn next_within(&self, pause: Duration) -> Option<Option<Job>> {
        let jobs = self.lock();
        let none = |jobs: &mut Jobs| jobs.waiting.is_empty() && jobs.open;
        let waited = self.arrived.wait_timeout_while(jobs, pause, none);
        let (mut jobs, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match jobs.waiting.pop_front() {
            Some(job) => Some(Some(job)),
            None if jobs.open => None,
            None => Some(None),
        }
    }

    /// The next job; waits for it, `None` when there will be none.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if !jobs.open {
                return None;
            }
            jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn try_next(&self) -> Option<Job> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// Our own handle of sled's file: a sync of any handle covers the file.
    pub(super) log: File,
    pub(super) watermark: File,
    pub(super) ended: watch::Sender<bool>,
}

type Answer = Result<(), CommitError>;

/// The answers a group will get.
#[derive(Default)]
struct Answers(Vec<(oneshot::Sender<Answer>, Answer)>);

impl Answers {
    fn send(self) {
        for (done, answer) in self.0 {
            // Who does not wait any more need not be told.
            done.send(answer).ok();
        }
    }

    fn fail(self, why: &str) {
        for (done, _) in self.0 {
            done.send(Err(CommitError::Failed(why.to_owned()))).ok();
        }
    }
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(self) {
        let ending = Ending { shared: &self.shared, ended: &self.ended };
        let mut since_quiet = 0;
        while let Some(first) = self.next(&mut since_quiet) {
            self.shared.pulse.begin();
            since_quiet += self.group(first);
            self.shared.pulse.end();
        }
        drop(ending);
    }

    /// The next job; after much, a pause is told of, once.
    fn next(&self, since_quiet: &mut usize) -> Option<Job> {
        if let Some(hook) = self.shared.options.on_quiet.as_ref().filter(|_| *since_quiet >= MUCH) {
            if let Some(next) = self.shared.queue.next_within(PAUSE) {
                return next;
            }
            *since_quiet = 0;
            // The hook is not ours; a panic of its must not end the store.
            catch_unwind(AssertUnwindSafe(|| hook())).ok();
        }
        self.shared.queue.next()
    }

    /// Does a group; how many writes there were.
    fn group(&self, first: Job) -> usize {
        let started = Instant::now();
        let (writes, answers) = self.run_works(first);
        let count = writes.len();
        if answers.0.iter().all(|(_, answer)| answer.is_err()) || writes.is_empty() {
            answers.send();
            return count;
        }
        let yes = answers.0.iter().filter(|(_, answer)| answer.is_ok()).count();
        #[cfg(debug_assertions)]
        failpoint::pass(&writes, failpoint::Side::Before);
        if let Err(why) = self.make_durable(&writes) {
            self.shared.fail(&why);
            answers.fail(&why);
            return count;
        }
        #[cfg(debug_assertions)]
        failpoint::pass(&writes, failpoint::Side::After);
        answers.send();
        if let Some(hook) = &self.shared.options.on_commit {
            let took = started.elapsed();
            // The hook is not ours; a panic of its must not end the store.
            catch_unwind(AssertUnwindSafe(|| hook(took, yes))).ok();
        }
        count
    }

    /// Runs what waits, up to the bounds of a group.
    fn run_works(&self, first: Job) -> (Writes, Answers) {
        let free = self.shared.free_now();
        let mut writes = Writes::new();
        let mut bytes = 0;
        let mut answers = Answers::default();
        let mut next = Some(first);
        while let Some(Job { work, done, place }) = next {
            drop(place);
            let answer = self.run_work(work, &writes, bytes, free).map(|own| {
                bytes += overlay::bytes_of(&own);
                writes.extend(own);
            });
            answers.0.push((done, answer));
            let room = answers.0.len() < GROUP_WORKS && bytes < GROUP_BYTES;
            next = if room { self.shared.queue.try_next() } else { None };
        }
        (writes, answers)
    }

    fn run_work(&self, work: Work, earlier: &Writes, bytes: usize, free: u64) -> Result<Writes, CommitError> {
        if let Some(why) = self.shared.failure() {
            return Err(CommitError::Failed(why));
        }
        let reserve = self.shared.options.reserve;
        let full = Err(CommitError::Full { free, reserve });
        if free < reserve {
            return full;
        }
        let own = overlay::run(work, earlier, &|key| self.shared.table.value(key))?;
        // sled writes a value about twice: once as a change and once with its whole page.
        let needed = 2 * (bytes + overlay::bytes_of(&own)) as u64;
        if !own.is_empty() && free < reserve.saturating_add(needed) { full } else { Ok(own) }
    }

    fn make_durable(&self, writes: &Writes) -> Result<(), String> {
        self.shared.table.apply(writes)?;
        self.shared.table.flush()?;
        if self.shared.options.skip_sync {
            return Ok(());
        }
        self.log.sync_data().map_err(|error| format!("the sync of the log failed: {error}"))?;
        // Not synced: whatever of it survives a power cut was true before the cut, and a kill loses nothing of it.
        let mark = watermark(self.shared.table.totals().groups);
        if let Err(error) = self.watermark.write_all_at(&mark, 0) {
            tracing::warn!(%error, "the count of acknowledged groups was not noted; a loss may go unnoticed");
        }
        Ok(())
    }
}

/// However the thread ends, nobody waits for it any more.
struct Ending<'a> {
    shared: &'a Shared,
    ended: &'a watch::Sender<bool>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail("the writer ended by a panic");
        }
        self.shared.queue.close();
        while let Some(Job { done, .. }) = self.shared.queue.try_next() {
            let why = self.shared.failure().unwrap_or_default();
            done.send(Err(CommitError::Failed(why))).ok();
        }
        self.shared.pulse.ended.store(true, Ordering::Release);
        self.ended.send_replace(true);
    }
}
