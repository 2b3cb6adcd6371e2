//! Owns every child process: its start, its end, and everything it leaves behind.
//!
//! [`Child`] is one started process with its private directory; [`Child::supervise`] sees it through to its end,
//! and dropping it ends it all the same. May import: `model`. Must never: let a process, a zombie or a private
//! directory outlive its attempt without saying so.

mod account;
mod cgroup;
mod confine;
mod fork;
mod home;
mod memory;
mod proc;
mod reaper;
mod spawn;
mod strays;
mod sweep;

pub use account::account_number;
pub use cgroup::Cgroups;
pub use confine::ChildRules;
pub(super) use confine::{Confined, confine};
pub(super) use home::PrivateDir;
pub use memory::release_memory;
pub use sweep::{Swept, sweep_leftovers};

use super::kill::KillSignal;
use cgroup::Cgroup;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use strays::Mark;
use tokio::io::unix::AsyncFd;

/// How long a command may still run after the SIGTERM of its timeout.
pub const TIMEOUT_GRACE: Duration = Duration::from_secs(5);

/// How long a process may take to die of SIGKILL before it is reported as a survivor.
const DIE_WITHIN: Duration = Duration::from_secs(2);

/// How ready the kernel is to kill a step when memory runs out, of -1000 to 1000.
const OOM_SCORE: i32 = 500;

/// How often dead orphans are reaped while something runs.
const REAP_EVERY: Duration = Duration::from_secs(2);

/// Prepares this process to own children: a frugal allocator, umask 077, orphans come to it, no core dumps and no tracing by others.
/// Call it first in `main`; calls after the first do nothing and give the first one's answer.
///
/// # Errors
/// What the kernel says; then escaped children of steps are looked for in all of `/proc` instead.
pub fn prepare_daemon() -> io::Result<()> {
    static ONCE: OnceLock<Result<(), Errno>> = OnceLock::new();
    let prepared = *ONCE.get_or_init(|| {
        memory::keep_small();
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        reaper::declare_subreaper();
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
    });
    Ok(prepared?)
}

/// From now on nothing this process starts can gain privileges. Call it before any thread is started that starts
/// children: each thread hands on its own answer.
///
/// # Errors
/// What the kernel says.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// What a child is given.
#[derive(Debug)]
pub(super) struct Start {
    /// The program's path.
    pub(super) program: CString,
    /// Its arguments, the program's own name first.
    pub(super) argv: Vec<CString>,
    /// Its whole environment.
    pub(super) env: Vec<CString>,
    /// Its working directory.
    pub(super) cwd: CString,
    /// Its standard input; `/dev/null` when absent.
    pub(super) stdin: Option<OwnedFd>,
    /// The variables among `env` that no other attempt has.
    pub(super) variables: Vec<(&'static str, String)>,
    /// How it is held.
    pub(super) confined: Confined,
    /// The name of its control group.
    pub(super) name: String,
}

/// A started process, the leader of its own session.
#[derive(Debug)]
pub(super) struct Child {
    mark: Mark,
    handle: AsyncFd<OwnedFd>,
    /// Present until the end is complete, where there are groups.
    group: Option<Cgroup>,
    /// Present until the end is complete.
    home: Option<PrivateDir>,
}

/// Why a run was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The process ended by itself.
    Itself,
    /// Its time ran out.
    Timeout,
    /// It was killed on request.
    Kill,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why.
    pub(super) cause: Cause,
    /// Its exit code, if it exited.
    pub(super) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(super) signal: Option<i32>,
    /// What could not be killed, in words.
    pub(super) survivors: Vec<String>,
    /// The private directory, still to be removed.
    pub(super) home: Option<PrivateDir>,
}

impl Child {
    /// Starts a process whose private directory is `home`, writing to the given pipes.
    ///
    /// # Errors
    /// What the kernel says; then nothing runs.
    pub(super) fn start(
        start: &Start,
        groups: Option<&Cgroups>,
        home: PrivateDir,
        out: &OwnedFd,
        err: &OwnedFd,
    ) -> io::Result<Self> {
        let group = groups.map(|groups| groups.create(&start.name, start.confined.group_limits)).transpose();
        let group =
            group.map_err(|cause| io::Error::other(format!("its cgroup could not be made: {cause}")))?;
        let pid = reaper::register(|| {
            let spawn = spawn::Spawn {
                program: &start.program,
                argv: &start.argv,
                env: &start.env,
                cwd: &start.cwd,
                stdin: start.stdin.as_ref().map(AsFd::as_fd),
                stdout: out.as_fd(),
                stderr: err.as_fd(),
            };
            if group.is_none() && start.confined.is_plain() {
                return spawn::posix_spawn(&spawn);
            }
            fork::start(&fork::Fork { spawn: &spawn, confined: &start.confined, group: group.as_ref() })
        })?;
        prefer_for_killing(pid);
        let mark = Mark { leader: pid, home: home.path().to_owned(), variables: start.variables.clone() };
        // The child is not reaped by anyone but us, so the number means it until then.
        let handle = Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(|pid| {
            let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
            spawn::watch(descriptor)
        });
        match handle {
            Ok(handle) => Ok(Self { mark, handle, group, home: Some(home) }),
            Err(cause) => {
                bury(mark, group, home);
                Err(cause)
            }
        }
    }

    /// Sees the process through to its end, and everything it started.
    ///
    /// # Cancel safety
    /// Dropped half-way, the group is killed at once and the rest is cleared by a thread of its own.
    pub(super) async fn supervise(mut self, timeout: Duration, mut kill: KillSignal) -> Ended {
        let (cause, grace) = self.until_over(timeout, &mut kill).await;
        let mut survivors = Vec::new();
        if let Some(grace) = grace {
            self.end_group(grace, &mut kill).await;
        }
        let dead = tokio::time::timeout(DIE_WITHIN, self.exited()).await.is_ok();
        if !dead {
            survivors.push(format!("process {}", self.mark.leader));
        }
        // While the leader is not reaped its group's number cannot be given to others.
        signal_group(self.mark.leader, Signal::KILL);
        if let Some(mut group) = self.group.take()
            && !group.remove_if_empty()
        {
            match tokio::task::spawn_blocking(move || group.clear(strays::CLEAR_WITHIN)).await {
                Ok(left) => survivors.extend(left),
                Err(_) => survivors.push("an unknown number of processes: the search for them failed".into()),
            }
        }
        // Also beside a group: who may write to the groups' files can leave its own.
        if strays::may_exist() {
            let mark = self.mark.clone();
            match tokio::task::spawn_blocking(move || strays::clear(&mark, strays::CLEAR_WITHIN)).await {
                Ok(left) => survivors.extend(left),
                Err(_) => survivors.push("an unknown number of processes: the search for them failed".into()),
            }
        }
        let status = reaper::reap(self.mark.leader);
        if status.is_none() {
            reaper::abandon(self.mark.leader);
        }
        Ended {
            cause,
            code: status.as_ref().and_then(|status| status.exit_status()),
            signal: status.as_ref().and_then(|status| status.terminating_signal()),
            survivors,
            home: self.home.take(),
        }
    }

    /// Waits for the first of: its end, its timeout, a kill. The grace is there when it must be ended.
    async fn until_over(&self, timeout: Duration, kill: &mut KillSignal) -> (Cause, Option<Duration>) {
        let mut reaping = tokio::time::interval_at(tokio::time::Instant::now() + REAP_EVERY, REAP_EVERY);
        let time_is_up = tokio::time::sleep(timeout);
        tokio::pin!(time_is_up);
        loop {
            tokio::select! {
                biased;
                () = self.exited() => return (Cause::Itself, None),
                grace = kill.asked() => return (Cause::Kill, Some(grace)),
                () = &mut time_is_up => return (Cause::Timeout, Some(TIMEOUT_GRACE)),
                _ = reaping.tick() => reaper::reap_orphans(),
            }
        }
    }

    /// SIGTERM to the group, at most `grace`, then SIGKILL. A shorter grace may be asked for meanwhile.
    async fn end_group(&self, grace: Duration, kill: &mut KillSignal) {
        let start = tokio::time::Instant::now();
        let mut until = start + grace;
        if !grace.is_zero() {
            signal_group(self.mark.leader, Signal::TERM);
            // A stopped process cannot act on the signal before it goes on.
            signal_group(self.mark.leader, Signal::CONT);
        }
        loop {
            tokio::select! {
                biased;
                () = self.exited() => return,
                () = tokio::time::sleep_until(until) => break,
                shorter = kill.asked() => until = until.min(tokio::time::Instant::now() + shorter),
            }
        }
        signal_group(self.mark.leader, Signal::KILL);
    }

    async fn exited(&self) {
        // Readable means dead. An error means the runtime is going down, and then nothing is awaited for long.
        if self.handle.readable().await.is_err() {
            tokio::time::sleep(DIE_WITHIN).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            bury(self.mark.clone(), self.group.take(), home);
        }
    }
}

/// When memory runs out, the kernel kills a step before it kills the daemon.
fn prefer_for_killing(pid: i32) {
    static SCORE: OnceLock<String> = OnceLock::new();
    let score = SCORE.get_or_init(|| {
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        own.trim().parse().map_or(OOM_SCORE, |own: i32| own.max(OOM_SCORE)).to_string()
    });
    // It may be over already. What it has started by now has the daemon's score; a later child has its own.
    drop(std::fs::write(format!("/proc/{pid}/oom_score_adj"), score));
}

fn signal_group(leader: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(leader) {
        // The only errors are "no such group" and "not allowed"; what survives is found by looking.
        rustix::process::kill_process_group(group, signal).unwrap_or_default();
    }
}

/// Ends an attempt nobody waits for any more: its group now, the rest on a thread of its own.
fn bury(mark: Mark, group: Option<Cgroup>, home: PrivateDir) {
    let leader = mark.leader;
    signal_group(leader, Signal::KILL);
    let rest = move || {
        let start = Instant::now();
        while proc::stat(mark.leader).is_some_and(|stat| !stat.is_zombie) && start.elapsed() < DIE_WITHIN {
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(group.map(|group| group.clear(strays::CLEAR_WITHIN)));
        strays::clear(&mark, strays::CLEAR_WITHIN);
        if reaper::reap(leader).is_none() {
            reaper::abandon(leader);
        }
        drop(home);
    };
    if std::thread::Builder::new().name("bury".into()).spawn(rest).is_err() {
        // The group is dead all the same, the directory went with the closure, and the next attempt reaps.
        reaper::abandon(leader);
    }
}

#[cfg(test)]
mod tests;
