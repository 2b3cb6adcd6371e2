//! Ends what a step left behind: background children, `setsid` escapees, double forks.
//!
//! Only for when the leader is dead. A process belongs to an attempt when its session, its `HOME`, its
//! `RUNBOOKD_*` variables or its working directory say so, or when its parent does; one that hides all of
//! them is ended as soon as no other attempt could be its origin. May import: `proc`, `reaper`. Blocks: call it on a
//! blocking thread. Must never: signal a process by a number that may have been given anew.

use super::{proc, reaper};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long an attempt's remains are hunted before they are reported.
pub(super) const CLEAR_WITHIN: Duration = Duration::from_secs(2);

/// How the processes of one attempt are known.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The process started for it; its session and group have this number.
    pub(super) leader: i32,
    /// Its private directory.
    pub(super) home: PathBuf,
    /// Variables only this attempt has, with their values.
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Mark {
    fn claims(&self, pid: i32, stat: &proc::Stat, sessions: &BTreeSet<i32>) -> bool {
        if stat.session == self.leader || stat.group == self.leader || sessions.contains(&stat.session) {
            return true;
        }
        let environ = proc::environ(pid);
        environ.home().is_some_and(|home| home.starts_with(&self.home))
            || self.variables.iter().all(|(name, value)| environ.get(name) == Some(value.as_bytes()))
            || proc::cwd(pid).is_some_and(|cwd| cwd.starts_with(&self.home))
    }
}

/// Kills the remains of the attempt until nothing is left, at most for `within`.
/// Returns the survivors, as words for people.
pub(super) fn clear(mark: &Mark, within: Duration) -> Vec<String> {
    let start = Instant::now();
    let mut sessions = BTreeSet::new();
    let mut pause = Duration::from_millis(1);
    loop {
        let strays = find(mark, &mut sessions);
        for (pid, stat) in &strays {
            kill_exactly(*pid, stat);
        }
        reaper::reap_orphans();
        if strays.is_empty() {
            return Vec::new();
        }
        if start.elapsed() >= within {
            return strays.iter().map(|(pid, stat)| format!("process {pid} ({})", stat.name)).collect();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether there may be something to clear. Cheap where the kernel tells us our orphans.
pub(super) fn may_exist() -> bool {
    reaper::orphans().is_none_or(|orphans| !orphans.is_empty())
}

fn find(mark: &Mark, sessions: &mut BTreeSet<i32>) -> BTreeMap<i32, proc::Stat> {
    let mut found = BTreeMap::new();
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let my_session = proc::stat(me).map(|stat| stat.session);
    let orphans = reaper::orphans();
    // An orphan that hides its origin can only be of this attempt when there is no other.
    let all_are_ours = orphans.is_some() && reaper::is_alone(mark.leader);
    let mut open: Vec<(i32, bool)> = match orphans {
        Some(orphans) => orphans.into_iter().map(|pid| (pid, all_are_ours)).collect(),
        None => proc::all().into_iter().map(|pid| (pid, false)).collect(),
    };
    while let Some((pid, claimed)) = open.pop() {
        let Some(stat) = proc::stat(pid) else { continue };
        if pid == me || stat.is_zombie || found.contains_key(&pid) {
            continue;
        }
        if claimed || mark.claims(pid, &stat, sessions) {
            if Some(stat.session) != my_session {
                sessions.insert(stat.session);
            }
            open.extend(proc::children(pid).into_iter().map(|child| (child, true)));
            found.insert(pid, stat);
        }
    }
    found
}

/// Kills `pid` if it is still the process that `seen` describes.
pub(super) fn kill_exactly(pid: i32, seen: &proc::Stat) {
    let Some(raw) = Pid::from_raw(pid) else { return };
    // Once the descriptor is open it means one process only; if that is not the one seen, it is left alone.
    let Ok(descriptor) = pidfd_open(raw, PidfdFlags::empty()) else { return };
    if proc::stat(pid).is_some_and(|now| now.started == seen.started) {
        // Gone already, or not ours to signal: the next look tells.
        pidfd_send_signal(descriptor, Signal::KILL).unwrap_or_default();
    }
}
