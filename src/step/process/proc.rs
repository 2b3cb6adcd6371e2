//! Reads what the kernel says about processes, from `/proc`.
//!
//! May import: nothing of this crate. Must never: signal or reap.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An environment is at most as large as the kernel lets exec take.
const ENVIRON_MAX: u64 = 8 * 1024 * 1024;

/// The part of `/proc/<pid>/stat` that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// The name of its program, cut to 15 bytes by the kernel.
    pub(super) name: String,
    /// Whether it has ended and only waits to be reaped.
    pub(super) is_zombie: bool,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
    /// When it started, in clock ticks since boot: with the id it names one process for ever.
    pub(super) started: i64,
}

/// The stat of `pid`; `None` when there is no such process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    // The name may itself hold spaces and parentheses, so it ends at the last one.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let numbers: Vec<i64> = fields.take(19).map_while(|field| field.parse().ok()).collect();
    let number = |index: usize| numbers.get(index).and_then(|n| i32::try_from(*n).ok());
    Some(Stat { name, is_zombie, group: number(1)?, session: number(2)?, started: *numbers.get(18)? })
}

/// Every process id there is.
pub(super) fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of one thread; `None` when the kernel does not tell.
pub(super) fn children_of_thread(pid: i32, thread: i32) -> Option<Vec<i32>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// The children of all threads of `pid`.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| thread.file_name().to_str()?.parse().ok())
        .filter_map(|thread| children_of_thread(pid, thread))
        .flatten()
        .collect()
}

/// The environment `pid` was started with; empty when it is gone or not ours to read.
pub(super) fn environ(pid: i32) -> Environ {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) {
        // A process that ends meanwhile gives an error or less; what was read still counts.
        drop(file.take(ENVIRON_MAX).read_to_end(&mut bytes));
    }
    Environ(bytes)
}

/// An environment as the kernel shows it.
pub(super) struct Environ(Vec<u8>);

impl Environ {
    /// The value of the variable `name`.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The variable `HOME`, as a path.
    pub(super) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(|value| Path::new(OsStr::from_bytes(value)))
    }
}

/// The working directory of `pid`, also when it was removed meanwhile.
pub(super) fn cwd(pid: i32) -> Option<PathBuf> {
    let link = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let bytes = link.as_os_str().as_bytes();
    Some(bytes.strip_suffix(b" (deleted)").map_or(link.clone(), |path| OsStr::from_bytes(path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let rest = "7 34 56 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1000";
        let stat = parse_stat(format!("12 (a) Z 1 (b) S {rest}").as_bytes()).unwrap();
        let name = "a) Z 1 (b".to_owned();
        assert_eq!(stat, Stat { name, is_zombie: false, group: 34, session: 56, started: 987 });
        assert!(parse_stat(format!("12 (x) Z {rest}").as_bytes()).unwrap().is_zombie);
        assert_eq!(parse_stat(b"12 x"), None);
    }

    #[test]
    fn this_process_is_found_with_its_environment() {
        let me = std::process::id() as i32;
        assert!(all().contains(&me));
        assert!(environ(me).get("PATH").is_some());
        assert_eq!(cwd(me), std::env::current_dir().ok());
    }
}
