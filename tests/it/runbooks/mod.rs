//! The shipped runbooks against real services and stand-ins: cured, not cured, rolled back.
//!
//! Each is the file as it is shipped; where its patience is longer than a test's, only durations are shortened.
//! `rehearsal` holds their unit tests and `runbookd test` itself. May import: `support`. Must never: change what a
//! runbook does.

mod backups;
mod database;
mod gateway;
mod maintenance;
mod rehearsal;
mod services;

use crate::support::daemon::{BINARY, Daemon, is_final};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "a test secret that is at least 32 bytes long";
const LIMIT: Duration = Duration::from_secs(120);

fn shipped(id: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks").join(format!("{id}.toml"));
    fs::read_to_string(path).unwrap()
}

/// The shipped text with other durations: each must be there.
fn shortened(id: &str, durations: &[(&str, &str)]) -> String {
    durations.iter().fold(shipped(id), |text, (from, to)| {
        let (from, to) = (format!("\"{from}\""), format!("\"{to}\""));
        assert!(text.contains(&from), "{id} has no {from}");
        text.replace(&from, &to)
    })
}

/// A place with runbooks, where they are executed without a server.
struct Bench {
    dir: TempDir,
}

/// What came of an execution.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// Asserts how it ended.
    fn ended(&self, status: &str) -> &Self {
        let end = format!("==> {status}");
        assert!(self.err.lines().any(|line| line.starts_with(&end)), "{}\n{}", self.out, self.err);
        assert_eq!(self.code == 0, status == "succeeded", "{}", self.err);
        self
    }
}

impl Bench {
    /// One that asks the Prometheus at `prometheus`, where there is one.
    fn new(prometheus: Option<&str>) -> Self {
        // No name that begins with a dot: the patterns of inputs take none.
        let dir = tempfile::Builder::new().prefix("bench").tempdir().unwrap();
        fs::create_dir(dir.path().join("runbooks")).unwrap();
        let prometheus =
            prometheus.map(|at| format!("[prometheus]\nurl = \"http://{at}\"\n")).unwrap_or_default();
        let config = "[webhook]\nallow_unauthenticated = true\n[runbooks]\ndir = \"runbooks\"\n[store]\npath = \"data\"\n\
                      [outgoing]\nallow = [\"127.0.0.0/8\"]\n";
        fs::write(dir.path().join("runbookd.toml"), format!("{config}{prometheus}")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Puts a runbook there.
    fn put(&self, id: &str, text: &str) -> &Self {
        fs::write(self.path("runbooks").join(format!("{id}.toml")), text).unwrap();
        self
    }

    /// A stand-in for docker: notes what it is told in `compose.log`, and does what `cases` say, patterns of a shell's
    /// `case` over all its words. `@dir@` stands for the bench.
    fn compose(&self, cases: &str) -> String {
        let path = self.path("compose");
        let script = format!("#!/bin/sh\necho \"$*\" >> @dir@/compose.log\ncase \"$*\" in\n{cases}\nesac\n");
        fs::write(&path, script.replace("@dir@", &self.dir.path().display().to_string())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// What that stand-in was told.
    fn told(&self) -> String {
        fs::read_to_string(self.path("compose.log")).unwrap_or_default()
    }

    /// Executes the runbook `id`.
    fn execute(&self, id: &str, labels: &[(&str, &str)], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(BINARY);
        command.args(["execute", id, "--config.file=runbookd.toml"]).current_dir(self.dir.path());
        for (flag, pairs) in [("--label", labels), ("--env", env)] {
            for (name, value) in pairs {
                command.args([flag, &format!("{name}={value}")]);
            }
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A daemon, for runbooks that ask people: ada asks for executions, bob consents or refuses.
struct Desk {
    daemon: Daemon,
    ada: String,
    bob: String,
}

impl Desk {
    fn open(more: &str, runbooks: &[(&str, &str)]) -> Self {
        let config = format!(
            "[webhook]\nallow_unauthenticated = true\n[outgoing]\nallow = [\"127.0.0.0/8\"]\n\
             [auth]\njwt = {{ secret = {{ env = \"JWT\" }}, issuer = \"test\", audience = \"runbookd\" }}\n{more}"
        );
        let daemon = Daemon::start(&config, runbooks, &[("JWT", SECRET)]);
        Self { daemon, ada: token("ada"), bob: token("bob") }
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let bearer = format!("Bearer {token}");
        let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let answer = http::request(self.daemon.address(), method, path, &headers, body.as_bytes()).unwrap();
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// Has ada execute a runbook; its id.
    fn execute(&self, id: &str, labels: Value, env: Value) -> String {
        let body = json!({ "labels": labels, "env_vars": env, "reason": "as tested" });
        let answer = self.ask(&self.ada, "POST", &format!("/api/runbooks/{id}/execute"), &body);
        answer["execution_id"].as_str().unwrap().to_owned()
    }

    fn seen(&self, id: &str) -> Value {
        self.ask(&self.bob, "GET", &format!("/api/executions/{id}"), &Value::Null)
    }

    /// Waits until consent is asked for, and has bob answer.
    fn answer(&self, id: &str, action: &str) {
        eventually("being asked for consent", LIMIT, || {
            let seen = self.seen(id);
            assert!(!is_final(&seen), "{seen:#}");
            (seen["status"] == "awaiting_approval").then_some(())
        });
        let body = json!({ "action": action, "reason": "as tested" });
        self.ask(&self.bob, "POST", &format!("/api/executions/{id}/control"), &body);
    }

    /// Waits for the end, which must be this.
    fn ended(&self, id: &str, status: &str) -> Value {
        let seen = eventually("the end of the execution", LIMIT, || {
            let seen = self.seen(id);
            is_final(&seen).then_some(seen)
        });
        assert_eq!(seen["status"], status, "{seen:#}");
        seen
    }
}

fn token(subject: &str) -> String {
    let mut command = Command::new(BINARY);
    command.args(["token", "--subject", subject, "--role", "sre", "--secret-env", "JWT"]);
    command.args(["--issuer", "test", "--audience", "runbookd"]).env("JWT", SECRET);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
