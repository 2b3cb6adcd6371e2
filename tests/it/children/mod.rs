//! The processes of steps on the real program: what they are given, what they cannot do, and that nothing is left.
//!
//! May import: `support`. Must never: take a sandbox for given that the machine does not have; it says what is missing.

mod escape;
mod privileges;
mod sandbox;
mod service;
mod unit;

use crate::support::alerts::{LIMIT, config};
use crate::support::http;
use crate::support::lives::Lives;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// How what a step starts is held together; each must do.
const BOTH: [&str; 2] = ["processes", "cgroup"];

/// A daemon that may be started in a way of its own.
struct House {
    lives: Lives,
    env: Vec<(String, String)>,
    before: Vec<String>,
}

impl House {
    /// One that is not started yet; others may look into its directory, where the runbooks' users have to go.
    fn new(more: &str, runbooks: &[(&str, &str)]) -> Self {
        let lives = Lives::new(&config(more), runbooks);
        fs::set_permissions(lives.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { lives, env: Vec::new(), before: Vec::new() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it by these words, to which its own command line is added.
    fn by(mut self, words: &[&str]) -> Self {
        self.before = words.iter().map(ToString::to_string).collect();
        self
    }

    fn begin(&mut self) {
        let own = self.lives.command();
        let mut command = match self.before.split_first() {
            None => Command::new(own.get_program()),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(own.get_program());
                command
            }
        };
        command.args(own.get_args()).env_clear().current_dir(self.lives.dir());
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        self.lives.begin(command);
    }

    fn start(mut self) -> Self {
        self.begin();
        self.lives.wait_ready();
        self
    }

    /// Starts a runbook and does not wait for it; its execution.
    fn execute(&self, runbook: &str) -> String {
        let path = format!("/api/runbooks/{runbook}/execute");
        let answer = http::post(self.lives.address(), &path, "{}").unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["execution_id"].as_str().unwrap().to_owned()
    }

    fn execution(&self, id: &str) -> Value {
        self.lives.json(&format!("/api/executions/{id}"))
    }

    /// Runs a runbook to its end; the only attempt of its first step.
    fn attempt(&self, runbook: &str) -> Value {
        let id = self.execute(runbook);
        self.finished(&id)["steps"][0]["attempts"][0].clone()
    }

    fn finished(&self, id: &str) -> Value {
        eventually(&format!("the end of {id}"), LIMIT, || {
            let execution = self.execution(id);
            crate::support::daemon::is_final(&execution).then_some(execution)
        })
    }

    /// What a runbook's first step printed; it must succeed.
    fn output(&self, runbook: &str) -> String {
        let attempt = self.attempt(runbook);
        assert_eq!(attempt["outcome"], "succeeded", "{attempt:#}");
        attempt["stdout"].as_str().unwrap().to_owned()
    }

    /// Why a runbook's first step was not even started.
    fn refusal(&self, runbook: &str) -> String {
        let attempt = self.attempt(runbook);
        assert_eq!(attempt["outcome"], "failed", "{attempt:#}");
        assert_eq!(attempt["exit_code"], Value::Null, "it was started: {attempt:#}");
        attempt["error"].as_str().unwrap().to_owned()
    }

    fn stop(&self, id: &str) {
        let body = json!({ "reason": "enough" }).to_string();
        let answer = http::post(self.lives.address(), &format!("/api/executions/{id}/stop"), &body).unwrap();
        assert!(answer.status < 300, "{}", answer.text());
    }

    fn pid(&self) -> i32 {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let me = stat.split(' ').next().unwrap();
        let children = fs::read_dir("/proc/self/task").unwrap().flatten().flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        });
        let storage = self.lives.storage().display().to_string();
        let ours = children.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&storage)
        });
        let found: Vec<String> = ours.collect();
        assert_eq!(found.len(), 1, "the daemon among the children of {me}: {found:?}");
        found[0].parse().unwrap()
    }
}

/// A runbook of one script, with these keys beside its text.
fn script(keys: &str, text: &str) -> String {
    format!(
        "timeout = \"60s\"\ntarget = \"t\"\n[[steps]]\nid = \"act\"\ntimeout = \"30s\"\n\
         [steps.script]\ntext = '''\n{text}\n'''\n{keys}\n"
    )
}

/// The living processes with `word` for an argument.
fn alive(word: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| arg == word.as_bytes())
    };
    pids.filter(has).collect()
}

/// Ends what a test left on purpose.
fn kill_all(word: &str) {
    for pid in alive(word).into_iter().filter_map(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// The dead children of `pid` that nobody has waited for.
fn zombies(pid: i32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let is_dead = |child: &str| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    children.map(|text| text.split_whitespace().filter(|child| is_dead(child)).count()).sum()
}

/// The directories of control groups that attempts left.
fn groups_left(house: &House) -> usize {
    let base = fs::read_to_string(house.lives.storage().join("cgroup")).unwrap_or_default();
    let entries = fs::read_dir(base.trim_end()).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}
