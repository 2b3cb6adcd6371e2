//! A control group (cgroup v2) for each attempt: nothing that is started in one gets out of it by `setsid`, forks or
//! a changed environment, and all of it dies by one write.
//!
//! [`Cgroups`] is the place for them, below the group this process was started in; [`Cgroup`] is one attempt's. The
//! files are the kernel's interface, so there is nothing here but paths and words. May import: `proc`, `reaper`.
//! Must never: touch a group that it did not make.

use super::{proc, reaper};
use crate::model::{StepLimits, hex};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Every group of ours is called so; a name without it is never touched.
const PREFIX: &str = "runbookd-";

/// The controllers that steps' limits are kept by.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];

/// How deep groups within groups are removed.
const DEPTH: u32 = 16;

/// Where the attempts of one daemon have their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    base: PathBuf,
    controllers: Vec<&'static str>,
}

impl Cgroups {
    /// Makes the place for the daemon whose data lie in `storage`.
    ///
    /// # Errors
    /// A sentence: why there can be no groups here.
    pub fn prepare(storage: &Path) -> Result<Self, String> {
        let own = own_group(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        Self::below(&own, storage)
    }

    fn below(own: &Path, storage: &Path) -> Result<Self, String> {
        let base = own.join(format!("{PREFIX}{}", short_hash(storage)));
        match fs::create_dir(&base) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("no group can be made in {}: {cause}", own.display()));
            }
            _ => {}
        }
        if !base.join("cgroup.kill").exists() {
            drop(fs::remove_dir(&base));
            return Err("the kernel's groups cannot be killed as a whole (that came with Linux 5.14)".into());
        }
        let controllers = enable_controllers(own, &base);
        Ok(Self { base, controllers })
    }

    /// The directory of all groups.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Takes the place away at the end, if nothing is left in it.
    pub fn leave(&self) {
        // What stays is swept at the next start.
        let _left = fs::remove_dir(&self.base);
    }

    /// The controllers that limits are kept by.
    pub fn controllers(&self) -> &[&'static str] {
        &self.controllers
    }

    /// Whether `controller` is one of them.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    /// Makes the group of one attempt. What an earlier life left there goes first.
    pub(super) fn create(&self, name: &str, limits: StepLimits) -> io::Result<Cgroup> {
        let path = self.base.join(name);
        match fs::create_dir(&path) {
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
                kill(&path)?;
                wait_until_empty(&path, Duration::from_secs(1));
                remove(&path, DEPTH)?;
                fs::create_dir(&path)?;
            }
            other => other?,
        }
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let group = Cgroup {
            handle: rustix::fs::open(&path, directory, Mode::empty())?,
            procs: rustix::fs::open(
                path.join("cgroup.procs"),
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
            path,
            gone: false,
        };
        group.limit(self, limits)?;
        Ok(group)
    }
}

/// The group of one attempt; it goes with this value, and what is in it too.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    handle: OwnedFd,
    procs: OwnedFd,
    gone: bool,
}

impl Cgroup {
    /// The directory, for the kernel to start a process in.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The file a process enters by.
    pub(super) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    fn limit(&self, of: &Cgroups, limits: StepLimits) -> io::Result<()> {
        let write = |file: &str, text: String| fs::write(self.path.join(file), text);
        if let Some(count) = limits.processes.filter(|_| of.has("pids")) {
            write("pids.max", count.to_string())?;
        }
        if let Some(bytes) = limits.memory.filter(|_| of.has("memory")) {
            write("memory.max", bytes.to_string())?;
            // Without these a kernel that has no swap, or is old, still keeps the limit.
            drop(write("memory.swap.max", "0".into()));
            drop(write("memory.oom.group", "1".into()));
        }
        if let Some(percent) = limits.cpu.filter(|_| of.has("cpu")) {
            write("cpu.max", format!("{} 100000", u64::from(percent) * 1000))?;
        }
        Ok(())
    }

    /// Removes it if nothing lives in it: one cheap call. Says whether it is gone.
    pub(super) fn remove_if_empty(&mut self) -> bool {
        self.gone = self.gone || fs::remove_dir(&self.path).is_ok();
        self.gone
    }

    /// Kills all that is in it, waits until that is dead, at most for `within`, and removes it. Returns the
    /// survivors, as words for people. Blocks.
    pub(super) fn clear(mut self, within: Duration) -> Vec<String> {
        self.gone = true;
        clear(&self.path, within).survivors
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.remove_if_empty() {
            // Nobody is left to tell; the sweep at the next start finds what remains.
            drop(kill(&self.path));
            drop(remove(&self.path, DEPTH));
        }
    }
}

/// What came of clearing groups.
#[derive(Debug, Default)]
pub(super) struct Cleared {
    /// What lived in them, as `id (name)`.
    pub(super) killed: Vec<String>,
    /// What lives on, in words.
    pub(super) survivors: Vec<String>,
}

/// Clears what an earlier life left below `base`, the place it had for its groups; all of it, `base` included,
/// unless `keep`.
pub(super) fn sweep(base: &Path, keep: bool, within: Duration) -> Cleared {
    let is_ours = base.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    if !is_ours || !base.join("cgroup.procs").exists() {
        return Cleared::default();
    }
    let mut all = Cleared::default();
    for group in children(base) {
        let cleared = clear(&group, within);
        all.killed.extend(cleared.killed);
        all.survivors.extend(cleared.survivors);
    }
    if !keep {
        // One with survivors stays, and they have been named.
        drop(fs::remove_dir(base));
    }
    all
}

fn clear(path: &Path, within: Duration) -> Cleared {
    let killed = members(path, DEPTH).iter().filter_map(|pid| described(*pid)).collect();
    let problem = kill(path).err();
    wait_until_empty(path, within);
    reaper::reap_orphans();
    let mut survivors: Vec<String> = members(path, DEPTH)
        .iter()
        .filter_map(|pid| described(*pid))
        .map(|who| format!("process {who}"))
        .collect();
    match remove(path, DEPTH) {
        Ok(()) => survivors.clear(),
        Err(cause) if survivors.is_empty() => {
            let why = problem.map(|problem| format!(" and not be killed: {problem}")).unwrap_or_default();
            survivors.push(format!("the cgroup {} (it could not be removed: {cause}{why})", path.display()));
        }
        Err(_) => {}
    }
    Cleared { killed, survivors }
}

fn kill(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")
}

fn wait_until_empty(path: &Path, within: Duration) {
    let start = Instant::now();
    // The kernel counts a process until it has given up its processor for the last time: a moment after its end.
    let mut pause = Duration::from_micros(50);
    while is_populated(path) && start.elapsed() < within {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn is_populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Removes a group and the groups within it, which a step may have made.
fn remove(path: &Path, depth: u32) -> io::Result<()> {
    if depth > 0 {
        for child in children(path) {
            remove(&child, depth - 1)?;
        }
    }
    match fs::remove_dir(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

/// The living processes of a group and of those within it.
fn members(path: &Path, depth: u32) -> Vec<i32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if depth > 0 {
        found.extend(children(path).iter().flat_map(|child| members(child, depth - 1)));
    }
    found
}

fn described(pid: i32) -> Option<String> {
    let stat = proc::stat(pid).filter(|stat| !stat.is_zombie)?;
    Some(format!("{pid} ({})", stat.name))
}

/// Puts the controllers to use in `base`, as far as `own` has them and lets us: processes may not lie in a group that
/// gives controllers on, so this one moves into a group of its own where it is in the way.
fn enable_controllers(own: &Path, base: &Path) -> Vec<&'static str> {
    let words = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let there = words(&own.join("cgroup.controllers"));
    let there: Vec<&str> = there.split_whitespace().filter(|word| CONTROLLERS.contains(word)).collect();
    if there.is_empty() {
        return Vec::new();
    }
    let wish = there.iter().map(|word| format!("+{word}")).collect::<Vec<_>>().join(" ");
    let enable = |group: &Path| fs::write(group.join("cgroup.subtree_control"), &wish);
    if enable(own).is_err_and(|cause| cause.kind() == ErrorKind::ResourceBusy) {
        let (leaf, me) = (own.join(format!("{PREFIX}self")), std::process::id().to_string());
        let moved = match fs::create_dir(&leaf) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(cause),
            _ => fs::write(leaf.join("cgroup.procs"), &me),
        };
        if moved.and_then(|()| enable(own)).is_err() {
            // Others are in the way too. Then limits are kept process by process.
            drop(fs::write(own.join("cgroup.procs"), &me));
            drop(fs::remove_dir(&leaf));
        }
    }
    drop(enable(base));
    let enabled = words(&base.join("cgroup.subtree_control"));
    CONTROLLERS.into_iter().filter(|word| enabled.split_whitespace().any(|other| other == *word)).collect()
}

/// The directory of the group this process is in.
fn own_group(mountinfo: &str, cgroup: &str) -> Result<PathBuf, String> {
    let own = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this process is in no cgroup of version 2")?;
    if own.contains("/..") {
        return Err("the cgroup of this process lies outside of what it can see".into());
    }
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        if after.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = before.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let rest = own
            .strip_prefix(root.trim_end_matches('/'))
            .filter(|rest| rest.starts_with('/') || rest.is_empty());
        let Some(rest) = rest else { continue };
        return Ok(Path::new(&point.replace("\\040", " ")).join(rest.trim_start_matches('/')));
    }
    Err("no file system of cgroup version 2 is mounted".into())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|cause| format!("{path} cannot be read: {cause}"))
}

/// Enough of a hash to tell the daemons of one machine apart.
fn short_hash(storage: &Path) -> String {
    hex(&Sha256::digest(storage.as_os_str().as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let found = |info: &str, own: &str| own_group(info, own).map(|path| path.display().to_string());
        assert_eq!(found(hybrid, "3:cpu:/a\n0::/\n").as_deref(), Ok("/sys/fs/cgroup/unified/"));
        let unit = "0::/system.slice/runbookd.service\n";
        let path = "/sys/fs/cgroup/unified/system.slice/runbookd.service";
        assert_eq!(found(hybrid, unit).as_deref(), Ok(path));
        let container = "41 31 0:38 /docker/7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(container, "0::/docker/7/x\n").as_deref(), Ok("/sys/fs/cgroup/x"));
        assert!(found(container, "0::/docker/77\n").is_err());
        assert!(found(hybrid, "0::/../..\n").is_err());
        assert!(found("", "0::/\n").is_err());
        assert!(found(hybrid, "3:cpu:/a\n").is_err());
    }

    #[test]
    fn limits_become_the_words_of_the_controllers_that_are_there() {
        // A directory instead of the kernel's: what is written into it can be read back.
        let own = tempfile::tempdir().unwrap();
        let group = own.path().join("a");
        fs::create_dir(&group).unwrap();
        let open = |name: &str| fs::File::create(group.join(name)).unwrap().into();
        let group =
            Cgroup { handle: open("handle"), procs: open("cgroup.procs"), path: group.clone(), gone: false };
        let limits = StepLimits { processes: Some(7), memory: Some(4096), cpu: Some(150), files: Some(3) };
        let of = |controllers: &[&'static str]| Cgroups {
            base: own.path().into(),
            controllers: controllers.into(),
        };
        group.limit(&of(&["pids", "cpu"]), limits).unwrap();
        let text = |name: &str| fs::read_to_string(own.path().join("a").join(name)).ok();
        assert_eq!(
            (text("pids.max").as_deref(), text("cpu.max").as_deref()),
            (Some("7"), Some("150000 100000"))
        );
        assert_eq!(text("memory.max"), None);
        group.limit(&of(&["memory"]), limits).unwrap();
        assert_eq!(
            (text("memory.max").as_deref(), text("memory.swap.max").as_deref()),
            (Some("4096"), Some("0"))
        );
    }

    #[test]
    fn controllers_are_given_on_where_the_own_group_has_them() {
        let own = tempfile::tempdir().unwrap();
        let base = own.path().join("base");
        fs::create_dir(&base).unwrap();
        assert_eq!(enable_controllers(own.path(), &base), [] as [&str; 0]);
        fs::write(own.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids\n").unwrap();
        // The kernel would show them without the signs; here the words stay as they were written.
        assert_eq!(enable_controllers(own.path(), &base), [] as [&str; 0]);
        let written = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+cpu +memory +pids");
        assert_eq!(fs::read_to_string(own.path().join("cgroup.subtree_control")).unwrap(), written);
    }

    #[test]
    fn a_directory_that_is_no_group_of_ours_is_never_swept() {
        let own = tempfile::tempdir().unwrap();
        for name in ["runbookd-1", "user.slice"] {
            fs::create_dir_all(own.path().join(name).join("kept")).unwrap();
        }
        fs::write(own.path().join("user.slice/cgroup.procs"), "").unwrap();
        for name in ["runbookd-1", "user.slice"] {
            sweep(&own.path().join(name), false, Duration::ZERO);
            assert!(own.path().join(name).join("kept").exists(), "{name}");
        }
    }
}
