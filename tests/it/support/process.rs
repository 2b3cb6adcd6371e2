//! Programs in the background: their output in a file, shown when the test fails, and an end in every case.
//!
//! May import: the standard library, `rustix`. Must never: leave a process behind, or wait without a limit.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many lines of a log a failing test shows.
const SHOWN: usize = 60;

/// One program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its output is appended to `<dir>/<name>.log`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = open(&log);
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Asks `ready` until it says yes; panics when the program ends before, or after `limit`.
    pub(crate) fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended by itself, {status}:\n{}", self.name, self.log());
            }
            assert!(Instant::now() < end, "{} is not ready after {limit:?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its exit status, where it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it wrote, once `text` stands in it so often.
    pub(crate) fn logged(&self, text: &str, times: usize) -> String {
        logged(|| self.log(), text, times)
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit status within `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        // It may be gone already; then its status is what it ended with.
        kill_process(pid, Signal::TERM).ok();
        self.wait(limit)
    }

    /// SIGINT, and its exit status within `limit`.
    pub(crate) fn interrupt(&mut self, limit: Duration) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
        self.wait(limit)
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// SIGUSR1.
    pub(crate) fn user_signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::USR1).unwrap();
    }

    /// Its exit status, within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{} does not end within {limit:?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it started itself, too; a program that was waited for has no group any more.
        if let Ok(None) = self.child.try_wait() {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
            drop(self.child.wait());
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN);
            eprintln!("---- {} ----\n{}", self.name, lines[from..].join("\n"));
        }
    }
}

/// The control groups of a daemon over this storage; when it is dropped, what a killed one left in them ends.
pub(crate) struct Groups(pub(crate) PathBuf);

impl Drop for Groups {
    fn drop(&mut self) {
        let Ok(base) = fs::read_to_string(self.0.join("cgroup")) else { return };
        let base = Path::new(base.trim_end());
        drop(fs::write(base.join("cgroup.kill"), "1"));
        let end = Instant::now() + Duration::from_secs(2);
        while base.exists() && Instant::now() < end {
            for group in fs::read_dir(base).into_iter().flatten().flatten() {
                drop(fs::remove_dir(group.path()));
            }
            drop(fs::remove_dir(base));
        }
    }
}

/// The log, once `text` stands in it so often: a line is written a moment after what it tells of.
pub(crate) fn logged(log: impl Fn() -> String, text: &str, times: usize) -> String {
    eventually(&format!("{text:?} in the log"), Duration::from_secs(20), || {
        let log = log();
        (log.matches(text).count() >= times).then_some(log)
    })
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// The path of a program from a Debian package.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers lie where only root's PATH leads.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&path).chain(system);
    let found = all.find_map(|dir| Some(dir.join(name)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| {
        panic!("{name} is not installed: it is in the Debian package {package}, which `make test` installs")
    })
}

/// An address for a program that cannot report the one it chose: a port below those which the system gives to
/// outgoing connections, another one at each call.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 15_000 + (std::process::id().wrapping_mul(67) + step) % 15_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Asks `question` until it has an answer; panics with `what` after `limit`.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
