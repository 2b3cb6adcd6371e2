//! Which processes are ours to wait for, and the reaping of orphans that came to us.
//!
//! The daemon is a subreaper: when a process of a step dies, its children become the daemon's, and the kernel gives
//! them to its main thread. So the orphans are the children of the main thread that were not started here: one
//! small file to read. Everything that starts children elsewhere must do so
//! on a thread that outlives them and is not the main one: a dead thread's children go to the main thread as well.
//! May import: `proc`. Must never: reap a child that was started here, or elsewhere by another thread.

use super::proc;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

static IS_SUBREAPER: AtomicBool = AtomicBool::new(false);
/// Read-locked while a child comes or goes: from before a start until it is in [`STARTED`], and while one is reaped.
/// Write-locked while they are listed, so that no child is taken for an orphan, and because the kernel may skip
/// entries of the list when others leave it meanwhile.
static CHANGING: RwLock<()> = RwLock::new(());
static STARTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
/// Children started here that did not die in time; reaped whenever they do.
static ABANDONED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn lock(set: &'static Mutex<BTreeSet<i32>>) -> MutexGuard<'static, BTreeSet<i32>> {
    // A set of numbers is whole after any panic.
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that orphans come to this process from now on.
pub(super) fn declare_subreaper() {
    IS_SUBREAPER.store(true, Ordering::Release);
}

/// Starts a child with `start` and remembers it as ours.
pub(super) fn register(start: impl FnOnce() -> io::Result<i32>) -> io::Result<i32> {
    let _changing = CHANGING.read().unwrap_or_else(PoisonError::into_inner);
    let pid = start()?;
    lock(&STARTED).insert(pid);
    Ok(pid)
}

/// Whether `pid` is the only child started here that still lives.
pub(super) fn is_alone(pid: i32) -> bool {
    let started = lock(&STARTED);
    started.len() == 1 && started.contains(&pid)
}

/// Reaps `pid`, started here, if it is dead.
pub(super) fn reap(pid: i32) -> Option<WaitIdStatus> {
    let status = wait_now(pid);
    if status.is_some() {
        lock(&STARTED).remove(&pid);
        lock(&ABANDONED).remove(&pid);
    }
    status
}

/// Leaves `pid`, started here, to be reaped whenever it dies.
pub(super) fn abandon(pid: i32) {
    lock(&ABANDONED).insert(pid);
}

/// The orphans that came to us, dead or alive; `None` when this cannot be known.
pub(super) fn orphans() -> Option<Vec<i32>> {
    if !IS_SUBREAPER.load(Ordering::Acquire) {
        return None;
    }
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let _still = CHANGING.write().unwrap_or_else(PoisonError::into_inner);
    let mut children = proc::children_of_thread(me, me)?;
    let started = lock(&STARTED);
    children.retain(|pid| !started.contains(pid));
    Some(children)
}

/// Reaps every dead orphan, and every abandoned child that died after all.
pub(super) fn reap_orphans() {
    let abandoned: Vec<i32> = lock(&ABANDONED).iter().copied().collect();
    for pid in abandoned {
        reap(pid);
    }
    for pid in orphans().unwrap_or_default() {
        if proc::stat(pid).is_some_and(|stat| stat.is_zombie) {
            wait_now(pid);
        }
    }
}

fn wait_now(pid: i32) -> Option<WaitIdStatus> {
    let pid = Pid::from_raw(pid)?;
    let _changing = CHANGING.read().unwrap_or_else(PoisonError::into_inner);
    // An error means that it is no child of ours any more, which is as good as reaped for every caller.
    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten()
}
