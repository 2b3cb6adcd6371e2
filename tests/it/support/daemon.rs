//! The program under test: the real binary, on a port of its own choice, with a storage of its own.
//!
//! May import: the standard library, `tempfile`, its neighbours here. Must never: look into the storage.

use super::http::{self, Answer};
use super::process::{Groups, Process};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// The binary of this build.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_runbookd");

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

/// `config`, with the guards off that count, and the limits of requests high, unless it speaks of them: most tests act
/// on one target again and again, or on many at once, and ask how it went until it went.
pub(crate) fn without_guards(config: &str) -> String {
    let high = "\n[limits.http]\nper_minute = 1000000\nexecute_per_minute = 1000000\n";
    let config = &if config.contains("[limits") { config.to_owned() } else { format!("{config}{high}") };
    if config.contains("[automation.guard]") {
        return config.to_owned();
    }
    format!(
        "{config}\n[automation.guard]\ncooldown = false\nmax_runs = false\nmax_concurrent = false\n\
         max_targets = false\nflapping = false\nconfirm = false\n[automation.storm]\nepisodes_per_minute = 1000000\n"
    )
}

/// A running daemon, or a killed one that can be started again.
pub(crate) struct Daemon {
    process: Process,
    address: String,
    env: Vec<(String, String)>,
    _groups: Groups,
    // Last, so that the process is gone before its directory.
    dir: TempDir,
}

impl Daemon {
    /// Starts one with this config file and these runbooks, (id, text) each, and waits until it is ready.
    ///
    /// Its directory has `runbookd.toml`, `runbooks/` and `data/`; in the texts, `@dir@` stands for its path.
    pub(crate) fn start(config: &str, runbooks: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", config, runbooks, env)
    }

    /// As [`Daemon::start`], on this address. One that comes back needs it, from `process::free_address`: while nobody
    /// listens on a port of the system's choice, a client that connects to it may be given that very port.
    pub(crate) fn start_at(
        listen: &str,
        config: &str,
        runbooks: &[(&str, &str)],
        env: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::create_dir(dir.path().join("runbooks")).unwrap();
        fs::write(dir.path().join("runbookd.toml"), without_guards(&config.replace("@dir@", root))).unwrap();
        for (id, text) in runbooks {
            let path = dir.path().join("runbooks").join(format!("{id}.toml"));
            fs::write(path, text.replace("@dir@", root)).unwrap();
        }
        let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut process = launch(dir.path(), listen, &env);
        let address = wait_ready(&mut process, dir.path());
        Self { process, address, env, _groups: Groups(dir.path().join("data")), dir }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged so far, in all its lives.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The same, once `text` stands in it so often.
    pub(crate) fn logged(&self, text: &str, times: usize) -> String {
        self.process.logged(text, times)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(STOP)
    }

    /// SIGHUP: it reads its config again, soon.
    pub(crate) fn hang_up(&self) {
        self.process.hang_up();
    }

    /// SIGUSR1: it halts.
    pub(crate) fn user_signal(&self) {
        self.process.user_signal();
    }

    /// Starts it again on the same storage and address, and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        let address = self.address.clone();
        self.process = launch(self.dir.path(), &address, &self.env);
        wait_ready(&mut self.process, self.dir.path());
    }

    /// `GET path`.
    pub(crate) fn try_get(&self, path: &str) -> io::Result<Answer> {
        http::get(&self.address, path)
    }

    /// `GET path`, which must be answered 200, with JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.try_get(path).unwrap();
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Delivers a webhook body.
    pub(crate) fn webhook(&self, body: &str) -> Answer {
        http::post(&self.address, "/api/sre/alerts/webhook", body).unwrap()
    }

    /// The value of a sample, as it stands in `/metrics`; 0 where there is none.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let text = self.try_get("/metrics").unwrap().text();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// All executions, newest first; panics when they do not fit one page.
    pub(crate) fn executions(&self) -> Vec<Value> {
        let page = self.json("/api/executions?limit=500");
        assert!(page["next_cursor"].is_null(), "more than a page of executions");
        page["executions"].as_array().unwrap().clone()
    }

    /// One execution, whole.
    pub(crate) fn execution(&self, id: &str) -> Value {
        self.json(&format!("/api/executions/{id}"))
    }
}

/// The lines that steps wrote into `ledger` in the daemon's directory.
pub(crate) fn ledger(daemon: &Daemon) -> Vec<String> {
    let text = fs::read_to_string(daemon.dir().join("ledger")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Puts an empty file into the daemon's directory, for which steps wait.
pub(crate) fn touch(daemon: &Daemon, name: &str) {
    fs::write(daemon.dir().join(name), "").unwrap();
}

/// Whether an execution's status is one that nothing follows.
pub(crate) fn is_final(execution: &Value) -> bool {
    let status = execution["status"].as_str().unwrap();
    runbookd::model::ExecutionStatus::parse(status).unwrap().is_final()
}

fn launch(dir: &Path, listen: &str, env: &[(String, String)]) -> Process {
    let data = dir.join("data");
    // So that an address of an earlier life is not taken for the new one.
    drop(fs::remove_file(data.join("listen")));
    let mut command = Command::new(BINARY);
    command
        .arg("serve")
        .arg(format!("--config.file={}", dir.join("runbookd.toml").display()))
        .arg(format!("--web.listen-address={listen}"))
        .arg(format!("--storage.path={}", data.display()))
        .arg(format!("--runbooks.dir={}", dir.join("runbooks").display()))
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        // Tests may run as root, and most steps here do not care.
        .env("RUNBOOKD_STEPS__ALLOW_ROOT", "true")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(dir);
    Process::start("runbookd", command, dir)
}

fn wait_ready(process: &mut Process, dir: &Path) -> String {
    let mut address = String::new();
    process.wait_until(START, || {
        let text = fs::read_to_string(dir.join("data/listen")).unwrap_or_default();
        address = text.trim().trim_start_matches("http://").to_owned();
        !address.is_empty() && http::get(&address, "/-/ready").is_ok_and(|answer| answer.status == 200)
    });
    address
}
