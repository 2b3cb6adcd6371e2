//! The release program as a child, on a directory and a port of its own, and what the kernel says of it.

use super::client::{Answer, Client};
use super::machine;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program, of the same build.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_runbookd");

/// How long it may take to be ready, and to finish what it was given.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where alerts go.
pub(crate) const WEBHOOK: &str = "/api/sre/alerts/webhook";

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    address: String,
    max_running: usize,
    // Last, so that the process is gone before its directory.
    dir: TempDir,
}

impl Daemon {
    /// Starts one with these runbooks, (id, text) each, and waits until it is ready.
    pub(crate) fn start(max_running: usize, runbooks: &[(&str, &str)]) -> Self {
        let dir = TempDir::new_in(machine::scratch()).unwrap();
        // The log has a place of its own: what lies beside the runbooks is watched with them.
        fs::create_dir(dir.path().join("runbooks")).unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let config = format!(
            "[store]\npath = \"data\"\n[runbooks]\ndir = \"runbooks\"\n\
             [webhook]\nallow_unauthenticated = true\n[automation]\nmax_running = {max_running}\n\
             queue_limit = 1000000\nqueue_deadline = \"1d\"\nstorm = false\n\
             [automation.guard]\ncooldown = false\nmax_runs = false\nmax_targets = false\nflapping = false\n"
        );
        fs::write(dir.path().join("runbookd.toml"), config).unwrap();
        for (id, text) in runbooks {
            fs::write(dir.path().join("runbooks").join(format!("{id}.toml")), text).unwrap();
        }
        let child = launch(&dir);
        let mut daemon = Self { child, address: String::new(), max_running, dir };
        daemon.wait_ready();
        daemon
    }

    /// SIGKILL, then a start on the same storage; gives how long it took from the start to being ready.
    pub(crate) fn kill_and_start(&mut self) -> Duration {
        self.end();
        let began = Instant::now();
        self.child = launch(&self.dir);
        self.wait_ready();
        began.elapsed()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn wait_ready(&mut self) {
        let (file, until) = (self.dir.path().join("data/listen"), Instant::now() + PATIENCE);
        loop {
            assert!(Instant::now() < until, "not ready: {}", self.log());
            assert!(self.child.try_wait().unwrap().is_none(), "ended: {}", self.log());
            self.address = fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
            let ready = || Client::connect(&self.address)?.get("/-/ready");
            if !self.address.is_empty() && ready().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log/runbookd.log")).unwrap_or_default()
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// `automation.max_running`.
    pub(crate) fn max_running(&self) -> usize {
        self.max_running
    }

    /// How many executions are queued, and how many are active.
    pub(crate) fn queued_and_active(&self) -> (u64, u64) {
        let status = self.client().get("/api/sre/runbooks/integration-status").unwrap().json();
        (status["queued_executions"].as_u64().unwrap(), status["active_executions"].as_u64().unwrap())
    }

    /// How many executions have ended.
    pub(crate) fn finished(&self) -> u64 {
        let text = String::from_utf8(self.client().get("/metrics").unwrap().body).unwrap();
        let samples = text.lines().filter(|line| line.starts_with("runbookd_executions_total{"));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Waits until `done` holds, asking every few milliseconds.
    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "in vain waited until {what}: {:?}", self.queued_and_active());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A number of `/proc/PID/status` in KiB, as bytes.
    fn memory(&self, name: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kib: f64 = line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap();
        kib * 1024.0
    }

    /// Resident bytes now.
    pub(crate) fn rss(&self) -> f64 {
        self.memory("VmRSS")
    }

    /// The most it ever had.
    pub(crate) fn peak_rss(&self) -> f64 {
        self.memory("VmHWM")
    }

    /// Resident bytes once they no longer fall or grow: after a second, and at most ten.
    pub(crate) fn settled_rss(&self) -> f64 {
        let mut before = self.rss();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.rss();
            if (now - before).abs() < 256.0 * 1024.0 {
                return now;
            }
            before = now;
        }
        before
    }

    /// How often its threads went to sleep so far, by thread name.
    pub(crate) fn sleeps(&self) -> Vec<(String, u64)> {
        let mut sleeps = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("status")) else { continue };
            let number = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let name = text.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default();
            let id = task.file_name().to_string_lossy().into_owned();
            sleeps.push((
                format!("{}/{id}", name.trim()),
                number.map_or(0, |number| number.trim().parse().unwrap()),
            ));
        }
        sleeps
    }

    /// Its children that are not dead.
    pub(crate) fn children(&self) -> usize {
        let parent = self.child.id().to_string();
        let is_child = |entry: &fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // The name before the last bracket may hold anything.
            let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let state = words.next();
            state.is_some_and(|state| state != "Z" && state != "X") && words.next() == Some(&parent)
        };
        let is_number = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        fs::read_dir("/proc").unwrap().flatten().filter(is_number).filter(is_child).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(dir: &TempDir) -> Child {
    // So that the address of an earlier life is not taken for the new one.
    drop(fs::remove_file(dir.path().join("data/listen")));
    let log = File::options().create(true).append(true).open(dir.path().join("log/runbookd.log")).unwrap();
    Command::new(BINARY)
        .args(["serve", "--config.file=runbookd.toml", "--web.listen-address=127.0.0.1:0"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("RUNBOOKD_STEPS__ALLOW_ROOT", "true")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn()
        .unwrap()
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A body with `count` firing alerts of this name that nobody has sent before.
pub(crate) fn alerts(alertname: &str, count: usize) -> String {
    let mut body = r#"{"version":"4","groupKey":"{}/{}:{}","truncatedAlerts":0,"status":"firing","receiver":"automation","groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":["#.to_owned();
    for position in 0..count {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if position > 0 {
            body.push(',');
        }
        write!(
            body,
            r#"{{"status":"firing","labels":{{"alertname":"{alertname}","instance":"host-{number}.example.net:9100","job":"node","severity":"critical","team":"platform"}},"annotations":{{"summary":"host-{number} does not answer","description":"No scrape of host-{number} has succeeded in five minutes."}},"startsAt":"2026-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph?g0.expr=up+%3D%3D+0","fingerprint":"{number:016x}"}}"#
        )
        .unwrap();
    }
    body.push_str("]}");
    body
}

/// Posts `body`; panics unless it was accepted and started `started` executions.
pub(crate) fn deliver(client: &mut Client, body: &str, started: usize) {
    let answer = client.post(WEBHOOK, body).unwrap();
    assert_accepted(&answer, started);
}

fn assert_accepted(answer: &Answer, started: usize) {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    // Read as text: a parse of every answer would be load of ours, not of the program.
    let expected = format!("\"runbooks_triggered\":{started}");
    let body = String::from_utf8_lossy(&answer.body);
    if !body.contains(&expected) {
        let decisions = answer.json()["decisions"].clone();
        let reasons: BTreeSet<String> = decisions.as_array().unwrap().iter().map(reason).collect();
        panic!("{started} executions were to start; the decisions: {reasons:?}");
    }
}

fn reason(decision: &Value) -> String {
    decision["reason"].as_str().unwrap_or_default().to_owned()
}
