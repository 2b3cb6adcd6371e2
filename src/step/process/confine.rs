//! From what a step asks for to what its process is started with, or a sentence why it is not started.
//!
//! Everything that can be known before is decided here, so that the process itself only has to carry it out. May
//! import: `account`, `proc`, `cgroup`. Blocks: accounts are looked up. Must never: leave out what a step asks for
//! and cannot have.

use super::account::{self, Account};
use super::cgroup::Cgroups;
use super::proc;
use crate::model::{Confinement, StepLimits};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How many paths may stay writable.
pub(super) const WRITABLE_MAX: usize = 16;

/// What holds for the processes of all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRules {
    /// Where each attempt has a control group; without one, escaped processes are looked for in `/proc`.
    pub cgroups: Option<Cgroups>,
    /// Whether a step may run as the user with number 0.
    pub allow_root: bool,
    /// Users no step may run as.
    pub denied: Vec<u32>,
    /// The limits of steps that name none.
    pub limits: StepLimits,
}

impl Default for ChildRules {
    /// What holds where nobody says otherwise: processes are looked for, and may be anybody's.
    fn default() -> Self {
        Self { cgroups: None, allow_root: true, denied: Vec::new(), limits: StepLimits::default() }
    }
}

impl ChildRules {
    /// How everything a step starts is found again, as a word.
    pub fn containment(&self) -> &'static str {
        if self.cgroups.is_some() { "cgroup" } else { "processes" }
    }
}

/// How one process is started, ready to be carried out without another thought.
#[derive(Debug, Default)]
pub(crate) struct Confined {
    /// As whom it runs, if not as the daemon.
    pub(super) account: Option<Account>,
    /// Whether it keeps no capability and may gain none.
    pub(super) drops_privileges: bool,
    /// Limits of each single process: a resource and its value.
    pub(super) rlimits: Vec<(u32, u64)>,
    /// Whether it gets a network of its own, with nothing in it.
    pub(super) no_network: bool,
    /// Whether it sees its files read-only.
    pub(super) read_only: bool,
    /// What of them it can still change.
    pub(super) writable: Vec<CString>,
    /// What maps this user into a user namespace, where only that allows the other namespaces.
    pub(super) user_namespace: Option<Maps>,
    /// What its group limits.
    pub(super) group_limits: StepLimits,
}

impl Confined {
    /// Whether the cheapest start does for it.
    pub(super) fn is_plain(&self) -> bool {
        self.account.is_none()
            && !self.drops_privileges
            && self.rlimits.is_empty()
            && !self.no_network
            && !self.read_only
    }

    /// Who its private directory belongs to, where that is not the daemon: user and group.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.account.as_ref().map(|account| (account.uid, account.gid))
    }
}

/// The texts that map this process's user and group to themselves.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) users: Vec<u8>,
    pub(super) groups: Vec<u8>,
}

/// Who this process is, as far as it decides what it can give.
struct Daemon {
    uid: u32,
    gid: u32,
    capabilities: u64,
}

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

impl Daemon {
    fn look() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            capabilities: capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0),
        }
    }

    fn has(&self, capabilities: u64) -> bool {
        self.capabilities & capabilities == capabilities
    }
}

/// What the process of a step with this `wish` is started with; `timeout` is that of its attempt.
///
/// # Errors
/// A sentence: what it asks for and cannot have, or may not be.
pub(crate) fn confine(
    wish: &Confinement,
    rules: &ChildRules,
    timeout: Duration,
    home: &Path,
) -> Result<Confined, String> {
    let daemon = Daemon::look();
    let account = wish.user.as_deref().map(account::find).transpose()?;
    check_user(account.as_ref(), daemon.uid, rules)?;
    let account = match account {
        Some(account) if account.uid == daemon.uid && daemon.uid != 0 => None,
        Some(account) if !daemon.has(CAP_SETUID | CAP_SETGID) => {
            return Err(format!(
                "it is to run as {}, but runbookd may not switch users: start runbookd as root, or as {0}",
                account.name
            ));
        }
        other => other,
    };
    let mut confined = Confined {
        drops_privileges: wish.user.is_some() || wish.sandbox.is_needed(),
        rlimits: rlimits(
            wish.limits,
            account.as_ref().map_or(daemon.uid, |account| account.uid),
            rules,
            timeout,
        )?,
        no_network: wish.sandbox.no_network,
        read_only: wish.sandbox.read_only,
        group_limits: wish.limits.over(rules.limits),
        account,
        ..Confined::default()
    };
    if wish.sandbox.read_only {
        confined.writable = writable(&wish.sandbox.writable, home)?;
    }
    if wish.sandbox.is_needed() && !daemon.has(CAP_SYS_ADMIN) {
        let (uid, gid) = (daemon.uid, daemon.gid);
        confined.user_namespace =
            Some(Maps { users: format!("{uid} {uid} 1").into(), groups: format!("{gid} {gid} 1").into() });
    }
    Ok(confined)
}

fn check_user(account: Option<&Account>, own: u32, rules: &ChildRules) -> Result<(), String> {
    let uid = account.map_or(own, |account| account.uid);
    if uid == 0 && !rules.allow_root {
        let why = if account.is_some() { "" } else { " because runbookd does" };
        return Err(format!(
            "it would run as root{why}, which [steps] allow_root does not allow: give the step a `user`, or run \
             runbookd as a user of its own"
        ));
    }
    if rules.denied.contains(&uid) {
        let name = account.map_or_else(|| uid.to_string(), |account| account.name.clone());
        return Err(format!("it would run as {name}, which [steps] deny_users forbids"));
    }
    Ok(())
}

/// What of the limits is kept process by process. A step's own must be kept; the defaults where that can be.
fn rlimits(
    wish: StepLimits,
    uid: u32,
    rules: &ChildRules,
    timeout: Duration,
) -> Result<Vec<(u32, u64)>, String> {
    let has = |controller: &str| rules.cgroups.as_ref().is_some_and(|cgroups| cgroups.has(controller));
    let limits = wish.over(rules.limits);
    let mut all = Vec::new();
    if let Some(count) = limits.files {
        all.push((libc::RLIMIT_NOFILE, u64::from(count)));
    }
    if let Some(bytes) = limits.memory.filter(|_| !has("memory")) {
        all.push((libc::RLIMIT_AS, bytes));
    }
    if let Some(percent) = limits.cpu.filter(|_| !has("cpu")) {
        // That share of the time it has; rounded up, because the kernel counts whole seconds.
        let share = timeout.as_secs_f64() * f64::from(percent) / 100.0;
        all.push((libc::RLIMIT_CPU, Duration::from_secs_f64(share).as_secs() + 1));
    }
    if let Some(count) = wish.processes.filter(|_| !has("pids")) {
        if uid == 0 {
            return Err(
                "its limit of processes cannot be kept: the kernel counts none of root's, and there is no \
                 controller for it; give the step a `user`"
                    .into(),
            );
        }
        // The kernel counts every process of the user, whoever started it.
        all.push((libc::RLIMIT_NPROC, tasks_of(uid) + u64::from(count)));
    }
    Ok(all)
}

fn tasks_of(uid: u32) -> u64 {
    let tasks = |pid: i32| -> u64 {
        let path = format!("/proc/{pid}");
        if std::fs::metadata(&path).is_ok_and(|found| found.uid() == uid) {
            // Its threads: each is a link of the directory, beside the two every directory has.
            std::fs::metadata(format!("{path}/task")).map_or(0, |found| found.nlink().saturating_sub(2))
        } else {
            0
        }
    };
    proc::all().into_iter().map(tasks).sum()
}

fn writable(wanted: &[String], home: &Path) -> Result<Vec<CString>, String> {
    let mut all = Vec::new();
    for path in wanted.iter().map(Path::new).chain([home]) {
        if path != home && !path.exists() {
            return Err(format!("{} is to stay writable, but it is not there", path.display()));
        }
        let text = CString::new(path.as_os_str().as_bytes());
        all.push(text.map_err(|_| format!("{} has a NUL byte in it", path.display()))?);
    }
    if all.len() > WRITABLE_MAX + 1 {
        return Err(format!("at most {WRITABLE_MAX} paths can stay writable"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(wish: &Confinement, rules: &ChildRules) -> Option<String> {
        confine(wish, rules, Duration::from_secs(10), Path::new("/tmp")).err()
    }

    #[test]
    fn t31_root_and_denied_users_are_refused_whether_named_or_inherited() {
        let strict = ChildRules { allow_root: false, ..ChildRules::default() };
        let root = Confinement { user: Some("root".into()), ..Confinement::default() };
        assert!(
            refusal(&root, &strict).unwrap().starts_with("it would run as root, which [steps] allow_root")
        );
        let nobody = Confinement { user: Some("nobody".into()), ..Confinement::default() };
        let denied = ChildRules { denied: vec![account::find("nobody").unwrap().uid], ..strict.clone() };
        assert_eq!(
            refusal(&nobody, &denied).unwrap(),
            "it would run as nobody, which [steps] deny_users forbids"
        );
        let own = rustix::process::geteuid().as_raw();
        let inherited = refusal(&Confinement::default(), &strict);
        assert_eq!(inherited.is_some(), own == 0, "{inherited:?}");
        let denied = ChildRules { denied: vec![own], ..ChildRules::default() };
        assert!(refusal(&Confinement::default(), &denied).unwrap().contains("deny_users forbids"));
        assert_eq!(refusal(&Confinement::default(), &ChildRules::default()), None);
    }

    #[test]
    fn limits_go_to_each_process_where_no_controller_keeps_them() {
        let limits = StepLimits { processes: Some(5), memory: Some(1 << 20), cpu: Some(50), files: Some(9) };
        let rules = ChildRules::default();
        let found = rlimits(limits, 65_533, &rules, Duration::from_secs(9)).unwrap();
        let value = |resource| found.iter().find(|(other, _)| *other == resource).map(|(_, value)| *value);
        assert_eq!((value(libc::RLIMIT_NOFILE), value(libc::RLIMIT_AS)), (Some(9), Some(1 << 20)));
        assert_eq!((value(libc::RLIMIT_CPU), value(libc::RLIMIT_NPROC)), (Some(5), Some(5)));
        let why = rlimits(limits, 0, &rules, Duration::from_secs(9)).unwrap_err();
        assert!(why.starts_with("its limit of processes cannot be kept"), "{why}");
        // A default that cannot be kept forbids nothing.
        let rules = ChildRules { limits, ..rules };
        assert!(rlimits(StepLimits::default(), 0, &rules, Duration::from_secs(9)).is_ok());
    }

    #[test]
    fn what_is_to_stay_writable_must_be_there() {
        let mut wish = Confinement::default();
        wish.sandbox.read_only = true;
        wish.sandbox.writable = vec!["/no/such/place".into()];
        let why = refusal(&wish, &ChildRules::default());
        assert_eq!(why.as_deref(), Some("/no/such/place is to stay writable, but it is not there"));
    }
}
