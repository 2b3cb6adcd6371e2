//! The real redis, on loopback, in a directory of the test.
//!
//! May import: the standard library, its neighbours here. Must never: touch the machine's own redis.

use super::process::{Process, free_address, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// A redis that runs while this is there.
pub(crate) struct Redis {
    port: String,
    _process: Process,
}

impl Redis {
    /// One with its data in `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        let port = free_port();
        let process = launch(dir, &port, "no");
        Self { port, _process: process }
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(&self.port, words).unwrap()
    }
}

/// What the redis at `port` answers to a command; nothing when it refuses, or is not there.
pub(crate) fn ask(port: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(program("redis-cli", "redis-tools"));
    let output = command.args(["-e", "-h", "127.0.0.1", "-p", port]).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// A free port as a text.
pub(crate) fn free_port() -> String {
    free_address().rsplit(':').next().unwrap().to_owned()
}

fn launch(dir: &Path, port: &str, append: &str) -> Process {
    let mut command = Command::new(program("redis-server", "redis-server"));
    command
        .args(["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", append, "--dir"])
        .arg(dir);
    let logs = dir.parent().unwrap();
    let mut process = Process::start(&format!("redis-{port}"), command, logs);
    process.wait_until(START, || ask(port, &["PING"]).as_deref() == Some("PONG"));
    process
}

/// What docker is to a compose project: starts and stops a redis with append-only files when the file `wanted` in
/// `dir` says `up` or `down`, and says in `state` how it is. Steps cannot do that themselves, for what they start ends
/// with them.
pub(crate) struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// One of a redis at `port` with its data in `data`.
    pub(crate) fn start(dir: &Path, data: PathBuf, port: &str) -> Self {
        let (stop, port, dir) = (Arc::new(AtomicBool::new(false)), port.to_owned(), dir.to_owned());
        let ends = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut redis: Option<Process> = None;
            while !ends.load(Ordering::SeqCst) {
                let wanted = fs::read_to_string(dir.join("wanted")).unwrap_or_default();
                match (wanted.trim(), redis.is_some()) {
                    ("up", false) => redis = Some(launch(&data, &port, "yes")),
                    ("down", true) => {
                        let mut process = redis.take().unwrap();
                        process.terminate(START);
                    }
                    _ => {}
                }
                fs::write(dir.join("state"), if redis.is_some() { "up" } else { "down" }).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
