//! Crashes: SIGKILL at moments chosen with care here, at every append in `points`, at random in `random`.
//!
//! Steps write lines to a ledger outside of the daemon; what it says is compared with what the API says.
//! May import: `support`. Must never: look into the storage.

mod far_side;
mod journal;
mod ledger;
mod people;
mod points;
mod random;
mod stories;
mod texts;
mod verdict;

use crate::support::alerts::{
    LIMIT, body, config, finished, fire, journal, millis, only, outcomes, resolve, steps, wait_for_status,
    wait_for_step,
};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::eventually;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Begins, waits for the file `gate`, ends; says so when another one of its target is still there. The child in
/// a session of its own holds the lock too, so it must be gone as well.
const GATED: &str = r#"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[[steps]]
id = "gated"
effect = "idempotent"
[steps.script]
text = '''
exec 9>"$DIR/lock.$TARGET"
flock -n 9 || echo "overlap $TARGET" >> "$DIR/ledger"
setsid sleep 300 &
echo "begin $TARGET $RUNBOOKD_ATTEMPT $RUNBOOKD_IDEMPOTENCY_KEY" >> "$DIR/ledger"
while [ ! -e "$DIR/gate" ]; do sleep 0.02; done
echo "end $TARGET" >> "$DIR/ledger"
'''
env = { DIR = "@dir@", TARGET = "{{ labels.target }}" }
[[steps]]
id = "after"
effect = "idempotent"
[steps.script]
text = 'echo "after $TARGET" >> "$DIR/ledger"'
env = { DIR = "@dir@", TARGET = "{{ labels.target }}" }
"#;

fn ledger(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("ledger")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_for_lines(dir: &Path, prefix: &str, count: usize) {
    eventually(&format!("{count} lines {prefix:?} in the ledger"), LIMIT, || {
        (ledger(dir).iter().filter(|line| line.starts_with(prefix)).count() >= count).then_some(())
    });
}

fn open_gate(daemon: &Daemon) {
    fs::write(daemon.dir().join("gate"), "").unwrap();
}

/// What people are told of it goes on after its end.
fn but_for_people(mut execution: serde_json::Value) -> serde_json::Value {
    execution.as_object_mut().unwrap().remove("escalations");
    execution
}

fn crash(daemon: &mut Daemon) {
    daemon.kill();
    daemon.start_again();
}

#[test]
fn an_idempotent_step_that_a_crash_cut_runs_again_as_the_same_attempt_when_the_old_one_is_dead() {
    let mut daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    let id = fire(&daemon, "Gated", "a");
    wait_for_lines(daemon.dir(), "begin", 1);
    for life in 2..=3 {
        crash(&mut daemon);
        wait_for_lines(daemon.dir(), "begin", life);
    }
    open_gate(&daemon);
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    assert_eq!(outcomes(&execution, 0), ["interrupted", "interrupted", "succeeded"]);
    let attempts = execution["steps"][0]["attempts"].as_array().unwrap();
    assert!(attempts.iter().all(|attempt| attempt["attempt"] == 1), "{execution:#}");
    let begin = format!("begin a 1 {id}.gated");
    assert_eq!(ledger(daemon.dir()), [&begin, &begin, &begin, "end a", "after a"]);
}

#[test]
fn an_at_most_once_step_that_a_crash_cut_is_unknown_and_never_runs_again() {
    let runbook =
        GATED.replace("id = \"gated\"\neffect = \"idempotent\"", "id = \"gated\"\neffect = \"at_most_once\"");
    let mut daemon = Daemon::start(&config(""), &[("gated", &runbook)], &[]);
    let id = fire(&daemon, "Gated", "a");
    wait_for_lines(daemon.dir(), "begin", 1);
    crash(&mut daemon);
    open_gate(&daemon);
    let execution = finished(&daemon, &id);
    assert_eq!((&execution["status"], &execution["reason"]), (&"failed".into(), &"unknown_outcome".into()));
    assert_eq!(outcomes(&execution, 0), ["unknown"]);
    assert_eq!(steps(&execution), ["unknown", "skipped"]);
    // Once more, so that a second start does not change its mind; and the target is free again.
    crash(&mut daemon);
    assert_eq!(but_for_people(finished(&daemon, &id)), but_for_people(execution));
    resolve(&daemon, "Gated", "a");
    let starts_anew = body("Gated", "firing", &["a"]).replace("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let again = daemon.webhook(&starts_anew).json()["execution_ids"][0].as_str().unwrap().to_owned();
    assert_eq!(finished(&daemon, &again)["status"], "succeeded");
    let written: Vec<String> = ledger(daemon.dir());
    assert_eq!(written.iter().filter(|line| line.contains(&id)).count(), 1, "{written:?}");
    assert!(!written.iter().any(|line| line.starts_with("overlap")), "{written:?}");
}

const WAITING: &str = r#"
mode = "auto"
alerts = ["Waiting"]
target = "{{ labels.target }}"
[[steps]]
id = "pause"
wait = { for = "4s" }
[[steps]]
id = "after"
effect = "idempotent"
[steps.script]
text = 'echo "after" >> "$DIR/ledger"'
env = { DIR = "@dir@" }
"#;

#[test]
fn a_wait_ends_when_it_would_have_ended_without_the_crash() {
    let mut daemon = Daemon::start(&config(""), &[("waiting", WAITING)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    let waiting = wait_for_step(&daemon, &id, 0, "waiting");
    let until = millis(&waiting["steps"][0]["until"]);
    // Some of its time passes before the crash and some while nobody is there: both must count.
    thread::sleep(Duration::from_secs(1));
    daemon.kill();
    thread::sleep(Duration::from_secs(1));
    daemon.start_again();
    let waiting = daemon.execution(&id);
    assert_eq!(millis(&waiting["steps"][0]["until"]), until, "the timer was started anew");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    let events = journal(&daemon, &id);
    only(&events, "timer_started");
    let ended = events.iter().find(|(kind, data)| kind == "step_finished" && data["step"] == "pause");
    let late = millis(&ended.unwrap().1["at"]) - until;
    assert!((0..1500).contains(&late), "the wait ended {late} ms after its time");
}

#[test]
fn a_wait_whose_time_passed_while_nobody_was_there_ends_at_once() {
    let runbook = WAITING.replace("4s", "1s");
    let mut daemon = Daemon::start(&config(""), &[("waiting", &runbook)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    let waiting = wait_for_step(&daemon, &id, 0, "waiting");
    daemon.kill();
    thread::sleep(Duration::from_millis(1500));
    daemon.start_again();
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded");
    assert!(millis(&execution["finished_at"]) > millis(&waiting["steps"][0]["until"]));
    assert_eq!(ledger(daemon.dir()), ["after"]);
}

#[test]
fn queued_executions_survive_a_crash_in_their_order() {
    let mut daemon = Daemon::start(&config("[automation]\nmax_running = 1"), &[("gated", GATED)], &[]);
    let targets = ["a", "b", "c", "d", "e", "f"];
    let ids = targets.map(|target| fire(&daemon, "Gated", target));
    wait_for_lines(daemon.dir(), "begin a", 1);
    let status = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!((&status["active_executions"], &status["queued_executions"]), (&1.into(), &5.into()));
    crash(&mut daemon);
    wait_for_lines(daemon.dir(), "begin a", 2);
    let status = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!((&status["active_executions"], &status["queued_executions"]), (&1.into(), &5.into()));
    open_gate(&daemon);
    for id in &ids {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    let lines = ledger(daemon.dir());
    let begun: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("begin ")?.get(..1)).collect();
    assert_eq!(begun, ["a", "a", "b", "c", "d", "e", "f"]);
    assert!(!lines.iter().any(|line| line.starts_with("overlap")), "{lines:?}");
    // The end is durable a moment before it is counted.
    eventually("nothing being counted any more", LIMIT, || {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        (status["active_executions"] == 0 && status["queued_executions"] == 0).then_some(())
    });
}

#[test]
fn a_crash_keeps_the_lock_of_a_target_whose_execution_is_parked() {
    let mut daemon = Daemon::start(&config(""), &[("waiting", WAITING), ("gated", GATED)], &[]);
    open_gate(&daemon);
    let first = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &first, 0, "waiting");
    let second = fire(&daemon, "Gated", "a");
    crash(&mut daemon);
    assert_eq!(daemon.execution(&second)["status"], "queued");
    assert_eq!(finished(&daemon, &second)["status"], "succeeded");
    let lines = ledger(daemon.dir());
    assert_eq!(lines.first().map(String::as_str), Some("after"), "two acted on one target: {lines:?}");
}

const PROVEN: &str = r#"
mode = "auto"
alerts = ["Proven"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
effect = "at_most_once"
[steps.script]
text = 'echo "act" >> "$DIR/ledger"'
env = { DIR = "@dir@" }
[verify]
alert_resolved = true
within = "1m"
"#;

#[test]
fn a_proof_goes_on_after_a_crash_and_its_steps_do_not_run_again() {
    let mut daemon = Daemon::start(&config(""), &[("proven", PROVEN)], &[]);
    let id = fire(&daemon, "Proven", "a");
    wait_for_status(&daemon, &id, "verifying");
    crash(&mut daemon);
    assert_eq!(daemon.execution(&id)["status"], "verifying");
    resolve(&daemon, "Proven", "a");
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    assert_eq!(ledger(daemon.dir()), ["act"]);
}

#[test]
fn a_proof_whose_time_passed_while_nobody_was_there_is_given_up() {
    let runbook = PROVEN.replace("1m", "1s");
    let mut daemon = Daemon::start(&config(""), &[("proven", &runbook)], &[]);
    let id = fire(&daemon, "Proven", "a");
    wait_for_status(&daemon, &id, "verifying");
    daemon.kill();
    thread::sleep(Duration::from_millis(1200));
    daemon.start_again();
    let execution = finished(&daemon, &id);
    assert_eq!(
        (&execution["status"], &execution["reason"]),
        (&"not_verified".into(), &"not_verified".into())
    );
}

#[test]
fn a_resolved_alert_is_heard_whether_it_was_delivered_before_or_after_the_crash() {
    for before in [true, false] {
        let mut daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
        let id = fire(&daemon, "Gated", "a");
        wait_for_lines(daemon.dir(), "begin", 1);
        if before {
            resolve(&daemon, "Gated", "a");
            daemon.kill();
            daemon.start_again();
        } else {
            daemon.kill();
            assert!(http::get(daemon.address(), "/-/ready").is_err());
            daemon.start_again();
            resolve(&daemon, "Gated", "a");
        }
        eventually("the word that it resolved", LIMIT, || {
            let stream = daemon.execution(&id);
            stream["resolved_at"].is_string().then_some(())
        });
        open_gate(&daemon);
        let execution = finished(&daemon, &id);
        let [first, second] = &steps(&execution)[..] else { panic!("{execution:#}") };
        // Heard before the crash, it is not begun once more; heard after, it has been.
        assert!(
            first == "succeeded" || (before && first == "stopped"),
            "delivered before: {before}: {execution:#}"
        );
        assert_eq!(second, "skipped");
        assert_eq!(execution["steps"][1]["reason"], "resolved");
        only(&journal(&daemon, &id), "alert_resolved");
    }
}

#[test]
fn a_stop_that_was_answered_holds_after_a_crash() {
    let mut daemon = Daemon::start(&config(""), &[("gated", GATED), ("waiting", WAITING)], &[]);
    for (alertname, step) in [("Gated", "running"), ("Waiting", "waiting")] {
        let id = fire(&daemon, alertname, "a");
        wait_for_step(&daemon, &id, 0, step);
        let stopped = http::post(daemon.address(), &format!("/api/executions/{id}/stop"), "").unwrap();
        daemon.kill();
        assert_eq!(stopped.status, 202, "{}", stopped.text());
        daemon.start_again();
        let execution = finished(&daemon, &id);
        assert_eq!((&execution["status"], &execution["reason"]), (&"stopped".into(), &"stopped".into()));
        assert_eq!(steps(&execution)[1], "skipped");
    }
    assert!(!ledger(daemon.dir()).iter().any(|line| line.starts_with("after")));
}
