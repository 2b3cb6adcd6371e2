//! What people do to an execution, each when it stands like this; said again until it was heard, and then no more.
//!
//! A word that was answered with 202 holds: whoever is asked for it once more was forgotten in a crash.
//! May import: `support`. Must never: say a thing that was answered twice.

use crate::support::alerts::{WEBHOOK, body};
use crate::support::daemon::BINARY;
use crate::support::http;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// People at one daemon.
pub(super) struct People {
    address: String,
    /// (execution, verb) of what was answered with yes.
    heard: Mutex<BTreeSet<(String, &'static str)>>,
}

impl People {
    /// At the daemon at `address`, also after a crash.
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), heard: Mutex::default() }
    }

    /// The verbs that were answered with yes for this execution.
    pub(super) fn heard(&self, id: &str) -> Vec<&'static str> {
        self.heard.lock().unwrap().iter().filter(|(known, _)| known == id).map(|(_, verb)| *verb).collect()
    }

    fn was_heard(&self, execution: &Value, verb: &'static str) -> bool {
        let id = execution["id"].as_str().unwrap().to_owned();
        self.heard.lock().unwrap().contains(&(id, verb))
    }

    fn note(&self, execution: &Value, verb: &'static str) {
        self.heard.lock().unwrap().insert((execution["id"].as_str().unwrap().to_owned(), verb));
    }

    /// Says it, unless nobody is there; a refusal means that it was too late. Panics when it was heard before.
    fn say(&self, execution: &Value, verb: &'static str, step: Option<&str>) {
        assert!(
            !self.was_heard(execution, verb),
            "{verb} was answered with 202 and forgotten: {execution:#}"
        );
        let path = format!("/api/executions/{}/control", execution["id"].as_str().unwrap());
        let mut body = json!({ "action": verb, "reason": "the test wants it" });
        if let Some(step) = step {
            body["step"] = step.into();
        }
        if http::post(&self.address, &path, &body.to_string()).is_ok_and(|answer| answer.status == 202) {
            self.note(execution, verb);
        }
    }

    /// The same with the program of people.
    fn say_by_command(&self, execution: &Value, verb: &'static str) {
        assert!(
            !self.was_heard(execution, verb),
            "{verb} was answered with yes and forgotten: {execution:#}"
        );
        let mut command = Command::new(BINARY);
        command.args([
            "executions",
            verb,
            execution["id"].as_str().unwrap(),
            "--reason",
            "the test wants it",
        ]);
        command.arg("--url").arg(format!("http://{}", self.address));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().unwrap().success() {
            self.note(execution, verb);
        }
    }
}

/// Consents by the command line, and acknowledges by the API.
pub(super) fn consent(people: &People, execution: &Value) {
    let [ask, told] = [0, 1].map(|index| &execution["steps"][index]);
    if ask["status"] == "waiting" {
        people.say_by_command(execution, "approve");
    } else if told["status"] == "waiting" {
        people.say(execution, "acknowledge", None);
    }
}

/// Holds it during its first step, lets it go on when nothing of it runs, and has the step tried again that failed.
pub(super) fn hold_and_retry(people: &People, execution: &Value) {
    let [slow, balky] = [0, 2].map(|index| &execution["steps"][index]);
    let is_busy = slow["attempts"].as_array().unwrap().iter().any(|attempt| attempt["outcome"].is_null());
    match execution["status"].as_str().unwrap() {
        // That it was held once it was answered, its journal says.
        "running" if is_busy && !["pause", "resume"].iter().any(|verb| people.was_heard(execution, verb)) => {
            people.say(execution, "pause", None);
        }
        "paused" if balky["status"] == "failed" => people.say(execution, "retry", Some("balky")),
        "paused" if !is_busy => people.say(execution, "resume", None),
        _ => {}
    }
}

/// Has it taken back while its second step runs.
pub(super) fn take_back(people: &People, execution: &Value) {
    if execution["status"] == "running"
        && execution["steps"][1]["status"] == "running"
        && !stopping(execution)
    {
        people.say(execution, "rollback", None);
    }
}

/// Resolves its alert while it is being proved.
pub(super) fn resolve_when_proving(people: &People, execution: &Value) {
    if execution["status"] == "verifying" {
        let target = execution["target"].as_str().unwrap();
        // The daemon may die of it, and then the alert is told resolved once more.
        drop(http::post(&people.address, WEBHOOK, &body("proven", "resolved", &[target])));
    }
}

/// Stops it while its second step runs.
pub(super) fn stop_when_held(people: &People, execution: &Value) {
    if execution["steps"][1]["status"] == "running" && !stopping(execution) {
        people.say(execution, "stop", None);
    }
}

/// Whether the wish to end it is in its journal: the step in progress is still dying.
fn stopping(execution: &Value) -> bool {
    execution["stop"].is_object()
}
