//! The kill switch on the real program: by API, command line, file and signal; through restarts and a full disk.
//!
//! `matrix` holds every way to throw it against every phase of an execution, `ways` is about what must not be in its
//! way. May import: `support`. Must never: end a process itself.

mod matrix;
mod ways;

use crate::support::alerts::{LIMIT, body, config, finished, fire, resolve, wait_for_status, wait_for_step};
use crate::support::daemon::{BINARY, Daemon, ledger, touch};
use crate::support::http;
use crate::support::process::{eventually, free_address};
use crate::support::small::Small;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Two steps behind a gate, each with an undo.
const GATED: &str = r#"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[[steps]]
id = "one"
effect = "idempotent"
script = { text = 'echo one >> "$DIR/ledger"; while [ ! -e "$DIR/gate" ]; do sleep 0.02; done', env = { DIR = "@dir@" } }
[steps.undo]
script = { text = 'echo undo >> "$DIR/ledger"; while [ ! -e "$DIR/undone" ]; do sleep 0.02; done', env = { DIR = "@dir@" } }
[[steps]]
id = "two"
script = { text = 'echo two >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

const ASKING: &str = r#"
mode = "auto"
alerts = ["Asking"]
target = "{{ labels.target }}"
[[steps]]
id = "ask"
approve = { message = "may I?", not_requester = false }
[[steps]]
id = "act"
script = { text = 'echo act >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

const CALLING: &str = r#"
mode = "auto"
alerts = ["Calling"]
target = "{{ labels.target }}"
[[steps]]
id = "wait"
effect = "idempotent"
script = { text = 'echo wait >> "$DIR/ledger"; while [ ! -e "$DIR/gate" ]; do sleep 0.02; done', env = { DIR = "@dir@" } }
[[steps]]
id = "call"
runbook = { id = "called", inputs = { target = "{{ labels.target }}" } }
"#;

const CALLED: &str = r#"
mode = "auto"
target = "{{ inputs.target }}"
[inputs.target]
required = true
[[steps]]
id = "act"
script = { text = 'echo called >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

fn start(more: &str) -> Daemon {
    let runbooks = [("gated", GATED), ("asking", ASKING), ("calling", CALLING), ("called", CALLED)];
    Daemon::start_at(&free_address(), &config(more), &runbooks, &[])
}

fn put(daemon: &Daemon, body: &Value) -> http::Answer {
    http::send(daemon.address(), "PUT", "/api/automation", &body.to_string()).unwrap()
}

fn set(daemon: &Daemon, state: &str) -> Value {
    let answer = put(daemon, &json!({ "state": state, "reason": "a test" }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn wait_for_ledger(daemon: &Daemon, lines: &[&str]) {
    eventually(&format!("{lines:?} in the ledger"), LIMIT, || (ledger(daemon) == lines).then_some(()));
}

/// The decision on one more firing alert, which must start nothing.
fn denied(daemon: &Daemon, target: &str) -> String {
    let answer = daemon.webhook(&body("Gated", "firing", &[target])).json();
    assert_eq!(answer["runbooks_triggered"], 0, "{answer:#}");
    answer["decisions"][0]["reason"].as_str().unwrap().to_owned()
}

fn status(daemon: &Daemon) -> String {
    daemon.json("/api/sre/runbooks/integration-status")["status"].as_str().unwrap().to_owned()
}

#[test]
fn halted_the_step_in_progress_ends_and_all_goes_on_later_also_after_a_crash() {
    let mut daemon = start("[automation]\nmax_running = 1");
    let (id, queued) = (fire(&daemon, "Gated", "a"), fire(&daemon, "Gated", "b"));
    wait_for_ledger(&daemon, &["one"]);
    let halted = set(&daemon, "halted");
    assert_eq!((&halted["state"], &halted["orders"][0]["durable"]), (&"halted".into(), &true.into()));
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "c").as_str()), ("halted", "halted"));
    assert_eq!(daemon.metric("runbookd_kill_switch_active{scope=\"global\"}"), 1.0);
    touch(&daemon, "gate");
    wait_for_status(&daemon, &id, "paused");
    let held = daemon.execution(&id);
    assert_eq!((&held["paused"]["code"], &held["paused"]["actor"]), (&"halted".into(), &"anonymous".into()));
    let resume = json!({ "action": "resume", "reason": "now" }).to_string();
    let resume = http::post(daemon.address(), &format!("/api/executions/{id}/control"), &resume).unwrap();
    assert_eq!(resume.status, 409, "{}", resume.text());
    daemon.kill();
    daemon.start_again();
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "c").as_str()), ("halted", "halted"));
    assert_eq!(daemon.execution(&id)["status"], "paused");
    assert_eq!(daemon.execution(&queued)["status"], "queued", "the slot is free, the switch is not");
    assert_eq!(ledger(&daemon), ["one"]);
    assert_eq!(set(&daemon, "running")["orders"], json!([]));
    for id in [&id, &queued] {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    // What was denied is decided anew.
    fire(&daemon, "Gated", "c");
    let audit = daemon.json("/api/audit?action=automation.set");
    assert_eq!(
        audit["audit"].as_array().map(Vec::len).or(audit["records"].as_array().map(Vec::len)),
        Some(2)
    );
}

#[test]
fn draining_lets_what_has_begun_go_on_and_an_order_ends_at_its_time() {
    let daemon = start("[automation]\nmax_running = 1");
    let (id, queued) = (fire(&daemon, "Gated", "a"), fire(&daemon, "Gated", "b"));
    wait_for_ledger(&daemon, &["one"]);
    set(&daemon, "draining");
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "c").as_str()), ("draining", "draining"));
    touch(&daemon, "gate");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    assert_eq!(daemon.execution(&queued)["status"], "queued");
    let now =
        daemon.json("/api/sre/runbooks/integration-status")["last_updated"].as_str().unwrap().to_owned();
    let now: runbookd::model::Timestamp = now.parse().unwrap();
    let soon = runbookd::model::after(now, std::time::Duration::from_secs(1));
    let order = json!({ "state": "draining", "reason": "for a moment", "expires_at": soon.to_string() });
    assert_eq!(put(&daemon, &order).status, 200);
    assert_eq!(finished(&daemon, &queued)["status"], "succeeded");
    assert_eq!(status(&daemon), "enabled");
}

#[test]
fn draining_lets_a_runbook_go_on_that_calls_another_and_halted_holds_what_it_called() {
    let daemon = start("");
    let id = fire(&daemon, "Calling", "a");
    wait_for_ledger(&daemon, &["wait"]);
    set(&daemon, "draining");
    touch(&daemon, "gate");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded", "a child is no new start");
    set(&daemon, "running");
    fs::remove_file(daemon.dir().join("gate")).unwrap();
    let id = fire(&daemon, "Calling", "b");
    wait_for_ledger(&daemon, &["wait", "called", "wait"]);
    set(&daemon, "halted");
    touch(&daemon, "gate");
    wait_for_status(&daemon, &id, "paused");
    assert_eq!(ledger(&daemon), ["wait", "called", "wait"]);
    set(&daemon, "running");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["wait", "called", "wait", "called"]);
}

#[test]
fn aborted_everything_in_progress_dies_and_a_rollback_has_failed() {
    let daemon = start("");
    let running = fire(&daemon, "Gated", "a");
    let rolling = fire(&daemon, "Gated", "b");
    let asking = fire(&daemon, "Asking", "c");
    wait_for_ledger(&daemon, &["one", "one"]);
    let rollback = json!({ "action": "rollback", "reason": "wrong" }).to_string();
    let path = format!("/api/executions/{rolling}/control");
    assert_eq!(http::post(daemon.address(), &path, &rollback).unwrap().status, 202);
    wait_for_ledger(&daemon, &["one", "one", "undo"]);
    wait_for_status(&daemon, &asking, "awaiting_approval");
    set(&daemon, "aborted");
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "d").as_str()), ("halted", "aborted"));
    for (id, status) in [(&running, "stopped"), (&rolling, "rollback_failed"), (&asking, "stopped")] {
        let execution = finished(&daemon, id);
        assert_eq!((&execution["status"], &execution["reason"]), (&status.into(), &"aborted".into()));
    }
    assert_eq!(daemon.json("/api/quarantine")["quarantine"][0]["target"], "b");
    let dead = |entry: fs::DirEntry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        [&running, &rolling].iter().any(|id| environ.windows(id.len()).any(|part| part == id.as_bytes()))
    };
    assert!(!fs::read_dir("/proc").unwrap().flatten().any(dead), "something of it lives");
}

#[test]
fn an_order_covers_its_runbook_or_its_labels_and_nothing_else() {
    let daemon = start("");
    touch(&daemon, "gate");
    let of_runbook = json!({ "state": "halted", "scope": { "runbook": "gated" }, "reason": "this one" });
    assert_eq!(put(&daemon, &of_runbook).json()["state"], "running");
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "a").as_str()), ("enabled", "halted"));
    let asking = fire(&daemon, "Asking", "a");
    wait_for_status(&daemon, &asking, "awaiting_approval");
    let of_labels =
        json!({ "state": "halted", "scope": { "matchers": ["target=\"a\""] }, "reason": "that target" });
    assert_eq!(put(&daemon, &of_labels).json()["orders"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.metric("runbookd_kill_switch_active{scope=\"matchers\"}"), 1.0);
    let approve = json!({ "action": "approve", "reason": "fine" }).to_string();
    let path = format!("/api/executions/{asking}/control");
    assert_eq!(http::post(daemon.address(), &path, &approve).unwrap().status, 202);
    wait_for_status(&daemon, &asking, "paused");
    let queue =
        |state: &str| json!({ "state": state, "scope": { "matchers": ["target=\"a\""] }, "reason": "x" });
    assert_eq!(put(&daemon, &queue("running")).status, 200);
    assert_eq!(finished(&daemon, &asking)["status"], "succeeded");
    for (wrong, path) in [
        (json!({ "state": "off", "reason": "x" }), "state"),
        (json!({ "state": "halted" }), "reason"),
        (json!({ "state": "halted", "reason": "x", "scope": { "matchers": [] } }), "scope.matchers"),
        (json!({ "state": "halted", "reason": "x", "scope": { "matchers": ["a"] } }), "scope.matchers"),
        (json!({ "state": "halted", "reason": "x", "scope": { "runbook": "a b" } }), "scope.runbook"),
        (json!({ "state": "halted", "reason": "x", "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
    ] {
        let answer = put(&daemon, &wrong);
        assert_eq!((answer.status, &answer.json()["errors"][0]["path"]), (422, &path.into()), "{wrong}");
    }
}

#[test]
fn what_is_queued_and_covered_by_labels_stays_queued() {
    let daemon = start("[automation]\nmax_running = 1");
    let (first, covered) = (fire(&daemon, "Gated", "a"), fire(&daemon, "Gated", "b"));
    let other = fire(&daemon, "Gated", "c");
    wait_for_ledger(&daemon, &["one"]);
    let order =
        |state: &str| json!({ "state": state, "scope": { "matchers": ["target=\"b\""] }, "reason": "x" });
    assert_eq!(put(&daemon, &order("draining")).status, 200);
    touch(&daemon, "gate");
    for id in [&first, &other] {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    assert_eq!(daemon.execution(&covered)["status"], "queued");
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["queued_executions"], 1);
    assert_eq!(put(&daemon, &order("running")).status, 200);
    assert_eq!(finished(&daemon, &covered)["status"], "succeeded");
    eventually("nothing being counted", LIMIT, || {
        (daemon.json("/api/sre/runbooks/integration-status")["queued_executions"] == 0).then_some(())
    });
}

#[test]
fn a_file_and_a_signal_halt_without_the_api() {
    let mut daemon = start("");
    let file = daemon.dir().join("data/halt");
    fs::write(&file, "the vault is on fire\n").unwrap();
    eventually("the file being heeded", LIMIT, || (status(&daemon) == "halted").then_some(()));
    let shown = daemon.json("/api/automation");
    assert!(shown["reason"].as_str().unwrap().contains("the vault is on fire"), "{shown:#}");
    let still = unhalt(&daemon);
    assert_eq!(still.status.code(), Some(1), "{still:?}");
    daemon.kill();
    daemon.start_again();
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "a").as_str()), ("halted", "halted"));
    fs::remove_file(&file).unwrap();
    eventually("the file being gone", LIMIT, || (status(&daemon) == "enabled").then_some(()));

    daemon.user_signal();
    eventually("the signal being heeded", LIMIT, || (status(&daemon) == "halted").then_some(()));
    assert_eq!(daemon.json("/api/automation")["orders"][0]["by"], "signal");
    assert_eq!(unhalt(&daemon).status.code(), Some(0));
    assert_eq!(status(&daemon), "enabled");
}

/// The command line, asking this daemon.
fn command(daemon: &Daemon, args: &[&str]) -> std::process::Output {
    let url = format!("http://{}", daemon.address());
    Command::new(BINARY).args(args).args(["--url", &url]).output().unwrap()
}

fn unhalt(daemon: &Daemon) -> std::process::Output {
    command(daemon, &["unhalt", "--reason", "found it"])
}

/// Threads that leave no processor idle, until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn all_processors() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = thread::available_parallelism().map_or(2, usize::from) * 4;
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn with_no_processor_idle_it_holds_from_the_moment_it_is_answered() {
    let steps: String = (0..300)
        .map(|n| {
            format!("[[steps]]\nid = \"s{n}\"\nscript = {{ text = 'echo {n} >> \"$DIR/ledger\"', env = {{ DIR = \"@dir@\" }} }}\n")
        })
        .collect();
    let long = format!("mode = \"auto\"\nalerts = [\"Long\"]\ntarget = \"{{{{ labels.target }}}}\"\n{steps}");
    let daemon = Daemon::start_at(&free_address(), &config(""), &[("long", &long)], &[]);
    let _busy = Busy::all_processors();
    let id = fire(&daemon, "Long", "a");
    eventually("some steps", LIMIT, || (ledger(&daemon).len() >= 3).then_some(()));
    set(&daemon, "halted");
    let at_the_answer = ledger(&daemon).len();
    wait_for_status(&daemon, &id, "paused");
    // The step in progress ends.
    let held_at = ledger(&daemon).len();
    assert!(held_at <= at_the_answer + 1, "{held_at} steps, {at_the_answer} when it was answered");
    set(&daemon, "running");
    eventually("more steps", LIMIT, || (ledger(&daemon).len() > held_at).then_some(()));
    set(&daemon, "aborted");
    let stopped = finished(&daemon, &id);
    assert_eq!((&stopped["status"], &stopped["reason"]), (&"stopped".into(), &"aborted".into()));
    let killed_at = ledger(&daemon).len();
    assert!(killed_at < 300, "it was over before");
    assert_eq!(ledger(&daemon).len(), killed_at);
}

#[test]
fn the_command_line_throws_it() {
    let daemon = start("");
    let url = format!("http://{}", daemon.address());
    let run = |args: &[&str]| {
        let output =
            Command::new(BINARY).args(args).args(["--url", &url, "--reason", "why"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["halt"]).starts_with("automation is halted\n  everything: halted, by anonymous: why"));
    assert!(
        run(&["drain", "--runbook", "gated", "--for", "2h"]).contains("runbook gated: draining until 20")
    );
    assert!(run(&["abort", "--matcher", "team=\"db\""]).contains("team=\"db\": aborted"));
    let status = Command::new(BINARY).args(["status", "--url", &url]).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("halted"), "{status:?}");
    run(&["unhalt"]);
    run(&["unhalt", "--runbook", "gated"]);
    assert_eq!(run(&["unhalt", "--matcher", "team=\"db\""]), "automation is running\n");
}

#[test]
fn with_a_full_disk_it_counts_at_once_and_is_not_lost() {
    let mut daemon = start("");
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = daemon.dir().join("data");
    let _small = Small::over(&data);
    daemon.start_again();
    let id = fire(&daemon, "Gated", "a");
    wait_for_ledger(&daemon, &["one"]);
    let filler = data.join("filler");
    let free = rustix::fs::statvfs(&data).map(|it| it.f_bavail * it.f_frsize).unwrap();
    fs::write(&filler, vec![0; usize::try_from(free).unwrap() - (1 << 20)]).unwrap();
    let halted = set(&daemon, "halted");
    assert_eq!((&halted["state"], &halted["orders"][0]["durable"]), (&"halted".into(), &false.into()));
    assert!(halted["warning"].is_string(), "{halted:#}");
    assert_eq!(put(&daemon, &json!({ "state": "running", "reason": "x" })).status, 503);
    assert_eq!(status(&daemon), "halted", "what lets it go on must be durable first");
    eventually("the order in a file", LIMIT, || data.join("halt").exists().then_some(()));
    daemon.kill();
    fs::remove_file(&filler).unwrap();
    daemon.start_again();
    assert_eq!(status(&daemon), "halted");
    eventually("the order in the store", LIMIT, || {
        (daemon.json("/api/automation")["orders"][0]["durable"] == true && !data.join("halt").exists())
            .then_some(())
    });
    set(&daemon, "running");
    touch(&daemon, "gate");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    resolve(&daemon, "Gated", "a");

    // And an abort kills although its end cannot be recorded yet.
    fs::remove_file(daemon.dir().join("gate")).unwrap();
    let id = fire(&daemon, "Gated", "b");
    wait_for_step(&daemon, &id, 0, "running");
    let free = rustix::fs::statvfs(&data).map(|it| it.f_bavail * it.f_frsize).unwrap();
    fs::write(&filler, vec![0; usize::try_from(free).unwrap() - (1 << 20)]).unwrap();
    set(&daemon, "aborted");
    let its = |entry: fs::DirEntry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        environ.windows(id.len()).any(|part| part == id.as_bytes())
    };
    eventually("the death of what it runs", LIMIT, || {
        (!fs::read_dir("/proc").unwrap().flatten().any(its)).then_some(())
    });
    fs::remove_file(&filler).unwrap();
    assert_eq!(finished(&daemon, &id)["reason"], "aborted");
    daemon.kill();
}
