//! Many lives over one storage: a daemon that may be killed at any moment, also before it is ready.
//!
//! May import: its neighbours here. Must never: look into the storage.

use super::daemon::{BINARY, without_guards};
use super::http;
use super::process::{Groups, Process, free_address, logged};
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(30);

/// A place with a config, runbooks, a storage and an address, and the life there now, if there is one.
pub(crate) struct Lives {
    process: Option<Process>,
    address: String,
    _groups: Groups,
    // Last, so that the process is gone before its directory.
    dir: TempDir,
}

impl Lives {
    /// A place without a life yet. In the runbooks, `@dir@` stands for its path.
    pub(crate) fn new(config: &str, runbooks: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::create_dir(dir.path().join("runbooks")).unwrap();
        fs::write(dir.path().join("runbookd.toml"), without_guards(config)).unwrap();
        for (id, text) in runbooks {
            let path = dir.path().join("runbooks").join(format!("{id}.toml"));
            fs::write(path, text.replace("@dir@", root)).unwrap();
        }
        Self { process: None, address: free_address(), _groups: Groups(dir.path().join("data")), dir }
    }

    /// `host:port`, the same in every life.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The directory of everything.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The storage.
    pub(crate) fn storage(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What a life is started with; it may be changed first.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("serve")
            .arg(format!("--config.file={}", self.dir.path().join("runbookd.toml").display()))
            .arg(format!("--web.listen-address={}", self.address))
            .arg(format!("--storage.path={}", self.storage().display()))
            .arg(format!("--runbooks.dir={}", self.dir.path().join("runbooks").display()))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // Tests may run as root, and most steps here do not care.
            .env("RUNBOOKD_STEPS__ALLOW_ROOT", "true")
            .current_dir(self.dir.path());
        command
    }

    /// Begins a life, without waiting for anything.
    pub(crate) fn begin(&mut self, command: Command) {
        self.process = Some(Process::start("runbookd", command, self.dir.path()));
    }

    /// Waits until the life is ready; panics when it ends instead.
    pub(crate) fn wait_ready(&mut self) {
        let address = self.address.clone();
        let process = self.process.as_mut().expect("no life has begun");
        process
            .wait_until(START, || http::get(&address, "/-/ready").is_ok_and(|answer| answer.status == 200));
    }

    /// Waits until the life is ready, or has killed itself before: whether it is ready.
    pub(crate) fn wait_ready_or_killed(&mut self) -> bool {
        let end = Instant::now() + START;
        loop {
            let process = self.process.as_mut().expect("no life has begun");
            if let Some(status) = process.ended() {
                assert_eq!(status.signal(), Some(9), "it ended in another way:\n{}", self.log());
                self.process = None;
                return false;
            }
            if http::get(&self.address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
                return true;
            }
            assert!(Instant::now() < end, "it is not ready after {START:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("no life has begun").kill();
    }

    /// Waits for the end of a life that kills itself; whether it was SIGKILL.
    pub(crate) fn ended_by_a_kill(&mut self) -> bool {
        let mut process = self.process.take().expect("no life has begun");
        process.wait(START).signal() == Some(9)
    }

    /// SIGKILL, where that has not happened yet.
    pub(crate) fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// What all lives logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("runbookd.log")).unwrap_or_default()
    }

    /// The same, once `text` stands in it so often.
    pub(crate) fn logged(&self, text: &str, times: usize) -> String {
        logged(|| self.log(), text, times)
    }

    /// `GET path`, which must be answered 200, with JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = http::get(&self.address, path).unwrap();
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// All executions, page by page.
    pub(crate) fn executions(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.json(&format!("/api/executions?limit=500{cursor}"));
            all.extend(page["executions"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

/// Enough of a random number to choose moments by (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

/// A seed: `RUNBOOKD_TEST_SEED`, to repeat what a run printed, else a new one. Printed.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let given = std::env::var("RUNBOOKD_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("RUNBOOKD_TEST_SEED={seed}");
    seed
}
