//! Bugs that similar programs have had, so that this one never gets them.
//!
//! Some of their lessons are held elsewhere: a cancel within a millisecond of the start (Rundeck, Kestra) by
//! `stop::a_stop_in_the_moment_of_the_start_holds`; a kill before the worker dies (Keep #3392) also by
//! `crash::a_stop_that_was_answered_holds_after_a_crash`; SIGKILL at any moment by `crash::random`. May import:
//! `support`. Must never: end a process itself.

use crate::support::alerts::{
    LIMIT, config, finished, fire, journal, only, steps, wait_for_status, wait_for_step,
};
use crate::support::daemon::{Daemon, ledger};
use crate::support::http::{self, Answer};
use crate::support::process::{eventually, free_address};
use serde_json::json;
use std::fs;
use std::thread;
use std::time::Duration;

/// One step behind a gate, one of four slots taken while it runs; it says when it finds none of `SLOTS` free.
const GATED: &str = r#"
mode = "auto"
alerts = ["Gated", "Gated1", "Gated2", "Gated3", "Gated4"]
target = "{{ labels.target }}"
[[steps]]
id = "gated"
effect = "idempotent"
[steps.script]
text = '''
slot=
for i in $SLOTS; do
  exec 9>"$DIR/slot.$i"
  if flock -n 9; then slot=$i; break; fi
done
[ -n "$slot" ] || echo overlap >> "$DIR/ledger"
exec 8>"$DIR/lock.$TARGET"
flock -n 8 || echo "overlap $TARGET" >> "$DIR/ledger"
echo "begin $NAME $TARGET" >> "$DIR/ledger"
while [ ! -e "$DIR/gate" ]; do sleep 0.02; done
echo "end $NAME $TARGET" >> "$DIR/ledger"
'''
env = { DIR = "@dir@", SLOTS = "1 2", TARGET = "{{ labels.target }}", NAME = "{{ labels.alertname }}" }
"#;

const WAITING: &str = r#"
mode = "auto"
alerts = ["Waiting"]
target = "{{ labels.target }}"
[[steps]]
id = "hold"
wait = { for = "300ms" }
[[steps]]
id = "after"
script = { text = 'echo "after $TARGET" >> "$DIR/ledger"', env = { DIR = "@dir@", TARGET = "{{ labels.target }}" } }
"#;

const ASKING: &str = r#"
mode = "auto"
alerts = ["Asking"]
target = "{{ labels.target }}"
[[steps]]
id = "ask"
approve = { message = "Go on?" }
[[steps]]
id = "after"
script = { text = 'echo after >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

fn start(config: &str, runbooks: &[(&str, &str)]) -> Daemon {
    Daemon::start_at(&free_address(), config, runbooks, &[])
}

fn act(daemon: &Daemon, id: &str, action: &str) -> Answer {
    let body = json!({ "action": action, "reason": "test" }).to_string();
    let answer = http::post(daemon.address(), &format!("/api/executions/{id}/control"), &body).unwrap();
    assert_eq!(answer.status, 202, "{action}: {}", answer.text());
    answer
}

fn crash(daemon: &mut Daemon) {
    daemon.kill();
    daemon.start_again();
}

fn begun(daemon: &Daemon, count: usize) {
    eventually(&format!("{count} beginnings"), LIMIT, || {
        (ledger(daemon).iter().filter(|line| line.starts_with("begin")).count() >= count).then_some(())
    });
}

fn open_gate(daemon: &Daemon) {
    fs::write(daemon.dir().join("gate"), "").unwrap();
}

fn assert_no_overlap(daemon: &Daemon) {
    let lines = ledger(daemon);
    assert!(!lines.iter().any(|line| line.starts_with("overlap")), "{lines:?}");
}

/// Kestra #12417: killing a paused run resumed it at the next task.
#[test]
fn kill_while_paused() {
    let mut daemon = start(&config(""), &[("waiting", WAITING)]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    act(&daemon, &id, "pause");
    act(&daemon, &id, "stop");
    let execution = finished(&daemon, &id);
    assert_eq!(
        (&execution["status"], steps(&execution)),
        (&"stopped".into(), vec!["stopped".to_owned(), "skipped".into()])
    );
    assert!(execution["paused"].is_null());
    crash(&mut daemon);
    thread::sleep(Duration::from_millis(400));
    assert_eq!(daemon.execution(&id), execution);
    assert_eq!(ledger(&daemon), [""; 0]);
}

/// Kestra #11574: killed runs that were queued were tried again.
#[test]
fn kill_while_queued() {
    let mut daemon = start(&config("[automation]\nmax_running = 1"), &[("gated", GATED)]);
    let first = fire(&daemon, "Gated", "a");
    begun(&daemon, 1);
    let queued = fire(&daemon, "Gated", "b");
    act(&daemon, &queued, "stop");
    assert_eq!(finished(&daemon, &queued)["status"], "stopped");
    crash(&mut daemon);
    open_gate(&daemon);
    assert_eq!(finished(&daemon, &first)["status"], "succeeded");
    let third = fire(&daemon, "Gated", "c");
    finished(&daemon, &third);
    assert_eq!(daemon.execution(&queued)["status"], "stopped");
    assert!(!ledger(&daemon).iter().any(|line| line.ends_with(" b")), "{:?}", ledger(&daemon));
}

/// Keep #3392, Kestra #4260, Rundeck #3993: the worker dies with the kill, and the run is running for ever.
#[test]
fn kill_then_worker_dies() {
    let mut daemon = start(&config(""), &[("gated", GATED), ("waiting", WAITING)]);
    for _ in 0..3 {
        let target = format!("t{}", ledger(&daemon).len());
        let id = fire(&daemon, "Gated", &target);
        eventually("its beginning", LIMIT, || {
            ledger(&daemon).contains(&format!("begin Gated {target}")).then_some(())
        });
        act(&daemon, &id, "stop");
        crash(&mut daemon);
        let execution = finished(&daemon, &id);
        assert_eq!((&execution["status"], &execution["reason"]), (&"stopped".into(), &"stopped".into()));
        only(&journal(&daemon, &id), "stop_requested");
        // Its target is free.
        let next = fire(&daemon, "Waiting", &target);
        assert_eq!(finished(&daemon, &next)["status"], "succeeded");
    }
    assert!(!ledger(&daemon).iter().any(|line| line.starts_with("end")), "{:?}", ledger(&daemon));
}

/// Argo Workflows #17041: stop was silently ignored by a suspended workflow.
#[test]
fn stop_a_suspended_run() {
    let mut daemon = start(&config(""), &[("asking", ASKING)]);
    let id = fire(&daemon, "Asking", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    crash(&mut daemon);
    act(&daemon, &id, "stop");
    let execution = finished(&daemon, &id);
    assert_eq!(
        (&execution["status"], steps(&execution)),
        (&"stopped".into(), vec!["stopped".to_owned(), "skipped".into()])
    );
    assert_eq!(ledger(&daemon), [""; 0]);
}

/// Kestra #13211 and #7880, StackStorm #4779: a kill started two, and a re-run went past the limit.
#[test]
fn limit_held_across_kill_restart_and_re_run() {
    let mut daemon = start(&config("[automation]\nmax_running = 2"), &[("gated", GATED)]);
    let ids: Vec<String> = (0..6).map(|number| fire(&daemon, "Gated", &format!("t{number}"))).collect();
    begun(&daemon, 2);
    act(&daemon, &ids[0], "stop");
    begun(&daemon, 3);
    assert_eq!(finished(&daemon, &ids[0])["status"], "stopped");
    let again = act(&daemon, &ids[0], "retry").json()["id"].as_str().unwrap().to_owned();
    // A paused one gives its slot away, but not while its step is in progress.
    act(&daemon, &ids[1], "pause");
    crash(&mut daemon);
    begun(&daemon, 5);
    open_gate(&daemon);
    for id in ids[2..].iter().chain([&again]) {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    act(&daemon, &ids[1], "resume");
    assert_eq!(finished(&daemon, &ids[1])["status"], "succeeded");
    assert_no_overlap(&daemon);
}

/// StackStorm #5587: what waited for one lock was taken last in, first out.
#[test]
fn fifo_per_lock() {
    let mut daemon = start(&config(""), &[("gated", GATED)]);
    let names = ["Gated", "Gated1", "Gated2", "Gated3", "Gated4"];
    let ids: Vec<String> = names.iter().map(|name| fire(&daemon, name, "a")).collect();
    begun(&daemon, 1);
    // One of another target passes by; a kill does not change the order.
    let other = fire(&daemon, "Gated", "b");
    begun(&daemon, 2);
    crash(&mut daemon);
    open_gate(&daemon);
    for id in ids.iter().chain([&other]) {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    let lines = ledger(&daemon);
    let ended: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("end ")?.strip_suffix(" a")).collect();
    assert_eq!(ended, names);
    assert_no_overlap(&daemon);
}

/// StackStorm #4779: a paused run was not counted, and another one acted on its target meanwhile.
#[test]
fn paused_run_holds_its_lock() {
    let mut daemon = start(&config(""), &[("waiting", WAITING), ("gated", GATED)]);
    open_gate(&daemon);
    let paused = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &paused, 0, "waiting");
    act(&daemon, &paused, "pause");
    let behind = fire(&daemon, "Gated", "a");
    crash(&mut daemon);
    let other = fire(&daemon, "Gated", "b");
    assert_eq!(finished(&daemon, &other)["status"], "succeeded");
    assert_eq!(daemon.execution(&behind)["status"], "queued");
    assert_eq!(daemon.execution(&paused)["status"], "paused");
    act(&daemon, &paused, "resume");
    assert_eq!(finished(&daemon, &behind)["status"], "succeeded");
    let lines = ledger(&daemon);
    let at = |line: &str| lines.iter().position(|known| known == line).unwrap();
    assert!(at("after a") < at("begin Gated a"), "{lines:?}");
}

/// Kestra #10657, StackStorm #5905: hundreds waited for ever behind a limit that was long raised.
#[test]
fn queued_runs_drain_when_the_limit_is_raised() {
    let narrow = config("[automation]\nmax_running = 1");
    let mut daemon = start(&narrow, &[("gated", &GATED.replace("SLOTS = \"1 2\"", "SLOTS = \"1 2 3 4 5\""))]);
    let ids: Vec<String> = (0..5).map(|number| fire(&daemon, "Gated", &format!("t{number}"))).collect();
    begun(&daemon, 1);
    daemon.kill();
    fs::write(daemon.dir().join("runbookd.toml"), narrow.replace("= 1", "= 5")).unwrap();
    daemon.start_again();
    // All at the same time: none waits for the end of another one any more.
    begun(&daemon, 6);
    open_gate(&daemon);
    for id in &ids {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    assert_no_overlap(&daemon);
}

/// Of the peers that react to alerts none binds a run to the version it began with, so a change in mid-run may
/// mix two of them.
#[test]
fn config_change_in_mid_run() {
    let mut daemon = start(&config(""), &[("waiting", WAITING)]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    act(&daemon, &id, "pause");
    let file = daemon.dir().join("runbooks/waiting.toml");
    let changed = fs::read_to_string(&file).unwrap().replace("after $TARGET", "changed $TARGET");
    let whole = daemon.dir().join("waiting.new");
    fs::write(&whole, changed).unwrap();
    fs::rename(whole, &file).unwrap();
    eventually("the new version", LIMIT, || {
        (daemon.json("/api/runbooks/waiting")["version"] == 2).then_some(())
    });
    fs::remove_file(file).unwrap();
    crash(&mut daemon);
    act(&daemon, &id, "resume");
    let execution = finished(&daemon, &id);
    assert_eq!((&execution["status"], &execution["version"]), (&"succeeded".into(), &1.into()));
    assert_eq!(ledger(&daemon), ["after a"]);
    // Also what is done again is done as it was done.
    let again = act(&daemon, &id, "retry").json()["id"].as_str().unwrap().to_owned();
    assert_eq!(finished(&daemon, &again)["version"], 1);
    assert_eq!(ledger(&daemon), ["after a", "after a"]);
}
