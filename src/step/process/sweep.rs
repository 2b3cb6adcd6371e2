//! At the start of the daemon: end what an earlier life left running, remove what it left lying.
//!
//! Call it after the store's lock is held, so that no living daemon's steps are taken for leftovers, and before
//! any crash rule is applied. May import: `proc`, `home`. Blocks. Must never: touch this process or its session.

use super::super::Dirs;
use super::cgroup::{self, Cgroups};
use super::{home, proc, reaper, strays};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long leftover processes are hunted.
const WITHIN: Duration = Duration::from_secs(5);

/// What a sweep found, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes of an earlier life that were ended, as `id (name)`.
    pub processes: Vec<String>,
    /// Such processes that could not be ended.
    pub survivors: Vec<String>,
    /// Private directories that were removed, by name: the interrupted attempts.
    pub directories: Vec<String>,
    /// What else went wrong, as sentences.
    pub problems: Vec<String>,
}

/// Where the place of the control groups is written down for the next life, below the storage.
const PLACE: &str = "cgroup";

/// Ends every process of an earlier life whose private directory lies in `dirs` or whose control group lies where that
/// life had them, then removes directories and groups. Takes at most five seconds for the processes. `cgroups` is
/// where this life has its groups.
pub fn sweep_leftovers(dirs: &Dirs, cgroups: Option<&Cgroups>) -> Swept {
    let mut swept = Swept::default();
    sweep_groups(dirs, cgroups, &mut swept);
    let names = names_in(&dirs.work, &mut swept.problems);
    let start = Instant::now();
    let mut sessions = BTreeSet::new();
    let mut seen = BTreeMap::new();
    loop {
        let found = find(&dirs.work, &names, &mut sessions);
        for (pid, stat) in &found {
            strays::kill_exactly(*pid, stat);
        }
        reaper::reap_orphans();
        if found.is_empty() || start.elapsed() >= WITHIN {
            swept.survivors.extend(found.iter().map(|(pid, stat)| format!("{pid} ({})", stat.name)));
            break;
        }
        seen.extend(found.into_iter().map(|(pid, stat)| (pid, stat.name)));
        std::thread::sleep(Duration::from_millis(5));
    }
    swept.processes.extend(seen.into_iter().map(|(pid, name)| format!("{pid} ({name})")));
    swept.processes.retain(|process| !swept.survivors.contains(process));
    for name in names {
        match home::remove(&dirs.work.join(&name)) {
            Ok(()) => swept.directories.push(name),
            Err(cause) => swept.problems.push(format!("the directory {name} could not be removed: {cause}")),
        }
    }
    // Half-written files of outputs that nothing names.
    for name in names_in(&dirs.outputs, &mut swept.problems).iter().filter(|name| name.ends_with(".new")) {
        if let Err(cause) = home::remove(&dirs.outputs.join(name)) {
            swept.problems.push(format!("the file {name} could not be removed: {cause}"));
        }
    }
    swept
}

/// The groups of the earlier life, which may have had them elsewhere; then writes down where this one has them.
fn sweep_groups(dirs: &Dirs, cgroups: Option<&Cgroups>, swept: &mut Swept) {
    let Some(storage) = dirs.work.parent() else { return };
    let place = storage.join(PLACE);
    let earlier = std::fs::read_to_string(&place).unwrap_or_default();
    let bases = [Some(Path::new(earlier.trim_end())), cgroups.map(Cgroups::base)];
    let bases: BTreeSet<&Path> = bases.into_iter().flatten().filter(|base| base.is_absolute()).collect();
    for base in bases {
        let keep = cgroups.is_some_and(|cgroups| cgroups.base() == base);
        let cleared = cgroup::sweep(base, keep, WITHIN);
        swept.processes.extend(cleared.killed);
        swept.survivors.extend(cleared.survivors);
    }
    let written = match cgroups {
        Some(cgroups) => std::fs::write(&place, format!("{}\n", cgroups.base().display())),
        None => home::remove(&place),
    };
    if let Err(cause) = written {
        swept.problems.push(format!("{} could not be written: {cause}", place.display()));
    }
}

fn names_in(directory: &Path, problems: &mut Vec<String>) -> Vec<String> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(cause) => {
            problems.push(format!("{} could not be read: {cause}", directory.display()));
            Vec::new()
        }
    }
}

/// The living processes of earlier attempts: by `HOME`, working directory, `RUNBOOKD_*` variables or session.
fn find(work: &Path, names: &[String], sessions: &mut BTreeSet<i32>) -> BTreeMap<i32, proc::Stat> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let my_session = proc::stat(me).map(|stat| stat.session);
    let mut found = BTreeMap::new();
    for pid in proc::all() {
        let Some(stat) = proc::stat(pid) else { continue };
        if pid == me || stat.is_zombie || Some(stat.session) == my_session {
            continue;
        }
        if sessions.contains(&stat.session) || is_ours(pid, work, names) {
            sessions.insert(stat.session);
            found.insert(pid, stat);
        }
    }
    found
}

fn is_ours(pid: i32, work: &Path, names: &[String]) -> bool {
    let environ = proc::environ(pid);
    let below = |path: &Path| path != work && path.starts_with(work);
    if environ.home().is_some_and(below) || proc::cwd(pid).is_some_and(|cwd| below(&cwd)) {
        return true;
    }
    let word = |name| environ.get(name).map(String::from_utf8_lossy);
    match (word("RUNBOOKD_EXECUTION_ID"), word("RUNBOOKD_STEP"), word("RUNBOOKD_ATTEMPT")) {
        (Some(execution), Some(step), Some(attempt)) => {
            let (start, end) = (format!("{execution}.{step}."), format!(".{attempt}"));
            // Of whichever part: while a sweep runs no attempt does, so every part of that life is a leftover, and
            // there is no other whose processes these could be.
            names.iter().any(|name| is_of(name, &start, &end))
        }
        _ => false,
    }
}

/// Whether the directory `name` is of an attempt: `start` and the number, perhaps with a part's word between them.
pub(super) fn is_of(name: &str, start: &str, end: &str) -> bool {
    let Some(rest) = name.strip_prefix(start) else { return false };
    let word = |part: &str| !part.is_empty() && !part.contains('.');
    rest == &end[1..] || rest.strip_suffix(end).is_some_and(word)
}
