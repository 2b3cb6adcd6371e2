//! Held and changed: pause, resume, retry, skip, modify.

use super::{act, conflict, done, ledger, refused, simply, touch};
use crate::support::alerts::{
    LIMIT, config, finished, fire, journal, millis, only, outcomes, resolve, steps, wait_for_status,
    wait_for_step,
};
use crate::support::daemon::Daemon;
use crate::support::process::{eventually, free_address};
use serde_json::json;
use std::thread;
use std::time::Duration;

const TIMED: &str = r#"
mode = "auto"
alerts = ["Timed"]
target = "{{ labels.target }}"
[[steps]]
id = "wait"
wait = { for = "1500ms" }
[[steps]]
id = "after"
script = { text = 'echo after >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

const GATED: &str = r#"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[[steps]]
id = "gated"
effect = "idempotent"
[steps.script]
text = '''
echo begin >> "$DIR/ledger"
while [ ! -e "$DIR/gate" ]; do sleep 0.02; done
'''
env = { DIR = "@dir@" }
[[steps]]
id = "after"
script = { text = 'echo after >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

/// Fails until there is a file `ok`, and then asks people.
const ASKING: &str = r#"
mode = "auto"
alerts = ["Asking"]
target = "{{ labels.target }}"
[inputs.word]
default = "plain"
pattern = '[a-z]+'
[[steps]]
id = "act"
on_failure = "pause"
script = { text = 'echo "act $WORD" >> "$DIR/ledger"; [ -e "$DIR/ok" ]', env = { DIR = "@dir@", WORD = "{{ inputs.word }}" } }
[[steps]]
id = "say"
command = { program = "echo", args = ["said", "{{ inputs.word }}"] }
"#;

#[test]
fn a_pause_inside_a_timer_keeps_the_time_that_is_left_through_a_crash() {
    let mut daemon = Daemon::start_at(&free_address(), &config(""), &[("timed", TIMED)], &[]);
    let id = fire(&daemon, "Timed", "a");
    let before = wait_for_step(&daemon, &id, 0, "waiting");
    assert_eq!(done(&daemon, &id, &json!({ "action": "pause", "reason": "look first" }))["status"], "paused");
    for _ in 0..2 {
        assert_eq!(simply(&daemon, &id, "pause")["status"], "paused");
    }
    daemon.kill();
    daemon.start_again();
    // By now its time would have passed.
    let until = millis(&before["steps"][0]["until"]);
    let now = || millis(&daemon.json("/api/sre/runbooks/integration-status")["last_updated"]);
    eventually("the time the wait would have ended", LIMIT, || (now() > until + 200).then_some(()));
    let held = daemon.execution(&id);
    assert_eq!((&held["status"], &held["paused"]["reason"]), (&"paused".into(), &"look first".into()));
    assert_eq!(held["paused"]["actor"], "anonymous");
    assert_eq!(steps(&held), ["waiting", "pending"]);
    assert_eq!(simply(&daemon, &id, "resume")["status"], "running");
    simply(&daemon, &id, "resume");
    let resumed = daemon.execution(&id);
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    let told = journal(&daemon, &id);
    let pause = millis(&only(&told, "resumed")["at"]) - millis(&only(&told, "paused")["at"]);
    assert_eq!(millis(&resumed["steps"][0]["until"]), until + pause);
    assert_eq!(millis(&execution["deadline"]), millis(&before["deadline"]) + pause);
    let ended = told.iter().find(|(kind, data)| kind == "step_finished" && data["step"] == "wait").unwrap();
    let late = millis(&ended.1["at"]) - (until + pause);
    assert!((0..1500).contains(&late), "the wait ended {late} ms after its time");
    assert_eq!(conflict(&daemon, &id, "pause"), "the execution is succeeded: it is over, and final is final");
    conflict(&daemon, &id, "resume");
}

#[test]
fn a_pause_lets_what_is_in_progress_end_and_begins_nothing() {
    let config = config("[automation]\nmax_running = 1");
    let daemon = Daemon::start(&config, &[("gated", GATED)], &[]);
    let id = fire(&daemon, "Gated", "a");
    eventually("the first step", LIMIT, || (ledger(&daemon) == ["begin"]).then_some(()));
    let queued = fire(&daemon, "Gated", "b");
    assert!(conflict(&daemon, &queued, "pause").contains("has not begun yet"));
    simply(&daemon, &id, "pause");
    touch(&daemon, "gate");
    // The slot is free for another one while it is held.
    assert_eq!(finished(&daemon, &queued)["status"], "succeeded");
    let held = wait_for_step(&daemon, &id, 0, "succeeded");
    assert_eq!(
        (&held["status"], steps(&held).as_slice()),
        (&"paused".into(), &["succeeded".into(), "pending".to_owned()][..])
    );
    simply(&daemon, &id, "resume");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["begin", "begin", "after", "after"]);
}

#[test]
fn a_failed_step_that_asks_people_is_tried_again_when_they_say_so() {
    let daemon = Daemon::start(&config(""), &[("asking", ASKING)], &[]);
    let id = fire(&daemon, "Asking", "a");
    wait_for_status(&daemon, &id, "paused");
    let held = daemon.execution(&id);
    assert_eq!(
        (&held["paused"]["code"], &held["paused"]["actor"]),
        (&"step_failed".into(), &serde_json::Value::Null)
    );
    assert!(conflict(&daemon, &id, "resume").contains("retry or skip it"));
    let retry = |step: &str| json!({ "action": "retry", "step": step, "reason": "the disk is back" });
    assert_eq!(refused(&daemon, &id, &json!({ "action": "retry" }), 422, "invalid"), "name the step");
    refused(&daemon, &id, &retry("nowhere"), 422, "invalid");
    refused(&daemon, &id, &retry("say"), 409, "wrong_state");
    // In vain once, and then not.
    done(&daemon, &id, &retry("act"));
    eventually("a second failure", LIMIT, || {
        let execution = daemon.execution(&id);
        (execution["status"] == "paused" && outcomes(&execution, 0).len() == 2).then_some(())
    });
    touch(&daemon, "ok");
    done(&daemon, &id, &retry("act"));
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    assert_eq!(outcomes(&execution, 0), ["failed", "failed", "succeeded"]);
    let numbers: Vec<u64> = execution["steps"][0]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["attempt"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    let asked: Vec<_> =
        journal(&daemon, &id).into_iter().filter(|(kind, _)| kind == "retry_requested").collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (&asked[0].1["actor"], &asked[0].1["reason"]),
        (&"anonymous".into(), &"the disk is back".into())
    );
}

#[test]
fn a_failed_step_is_left_out_when_people_say_so() {
    let daemon = Daemon::start(&config(""), &[("asking", ASKING)], &[]);
    let id = fire(&daemon, "Asking", "a");
    wait_for_status(&daemon, &id, "paused");
    assert_eq!(refused(&daemon, &id, &json!({ "action": "skip" }), 422, "invalid"), "name the step");
    done(&daemon, &id, &json!({ "action": "skip", "step": "act", "reason": "did it by hand" }));
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    assert_eq!(steps(&execution), ["skipped", "succeeded"]);
    let skipped = &execution["steps"][0];
    assert_eq!(
        (&skipped["reason"], &skipped["skipped_by"]["reason"]),
        (&"person".into(), &"did it by hand".into())
    );
    for action in ["skip", "modify"] {
        let body = json!({ "action": action, "step": "say" });
        let body =
            if action == "modify" { json!({ "action": action, "inputs": { "word": "x" } }) } else { body };
        refused(&daemon, &id, &body, 409, "wrong_state");
    }
}

#[test]
fn changed_inputs_and_arguments_are_what_is_done_and_a_change_is_told() {
    let daemon = Daemon::start(&config(""), &[("asking", ASKING)], &[]);
    let id = fire(&daemon, "Asking", "a");
    wait_for_status(&daemon, &id, "paused");
    let invalid = |body: serde_json::Value| refused(&daemon, &id, &body, 422, "invalid");
    invalid(json!({ "action": "modify" }));
    assert!(
        invalid(json!({ "action": "modify", "inputs": { "word": "No!" } }))
            .contains("does not fit its pattern")
    );
    invalid(json!({ "action": "modify", "inputs": { "other": "x" } }));
    invalid(json!({ "action": "modify", "step": "act", "args": ["x"] }));
    invalid(json!({ "action": "modify", "args": ["x"] }));
    invalid(json!({ "action": "modify", "inputs": { "word": 7 } }));
    let hostile = ["-n", "{{ inputs.word }}", "$(id)"];
    for _ in 0..2 {
        let body = json!({ "action": "modify", "reason": "typo", "step": "say", "args": hostile, "inputs": { "word": "better" } });
        assert_eq!(done(&daemon, &id, &body)["status"], "paused");
    }
    assert_eq!(daemon.execution(&id)["steps"][1]["args"], json!(hostile));
    touch(&daemon, "ok");
    done(&daemon, &id, &json!({ "action": "retry", "step": "act" }));
    let execution = finished(&daemon, &id);
    assert_eq!(execution["inputs"]["word"], "better");
    assert_eq!(ledger(&daemon), ["act plain", "act better"]);
    // Arguments of a person are data like any other.
    assert_eq!(execution["steps"][1]["attempts"][0]["stdout"], "{{ inputs.word }} $(id)", "{execution:#}");
    let told = journal(&daemon, &id);
    let change = only(&told, "modified");
    assert_eq!(change["inputs"]["word"], json!({ "from": "plain", "to": "better" }));
    assert_eq!((&change["actor"], &change["reason"]), (&"anonymous".into(), &"typo".into()));
}

#[test]
fn verbs_whose_state_holds_already_are_no_errors() {
    let runbook = TIMED.replace("1500ms", "5m");
    let daemon = Daemon::start(&config(""), &[("timed", &runbook)], &[]);
    let id = fire(&daemon, "Timed", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    simply(&daemon, &id, "resume");
    for (action, step) in [("retry", "wait"), ("skip", "wait"), ("modify", "")] {
        let body = if step.is_empty() {
            json!({ "action": action, "inputs": { "x": "y" } })
        } else {
            json!({ "action": action, "step": step })
        };
        assert!(refused(&daemon, &id, &body, 409, "wrong_state").contains("while it is paused"));
    }
    simply(&daemon, &id, "pause");
    for _ in 0..3 {
        for step in ["wait", "after"] {
            done(&daemon, &id, &json!({ "action": "skip", "step": step, "reason": "both" }));
        }
    }
    // Nobody but a person held it, so nobody but a person lets it go on.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(daemon.execution(&id)["status"], "paused");
    simply(&daemon, &id, "resume");
    let execution = finished(&daemon, &id);
    assert_eq!(steps(&execution), ["skipped", "skipped"]);
    assert_eq!(journal(&daemon, &id).iter().filter(|(kind, _)| kind == "step_skipped").count(), 2);
    assert_eq!(ledger(&daemon), [""; 0]);
}

#[test]
fn what_resolves_while_it_is_held_is_heard_when_it_goes_on() {
    let daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    let id = fire(&daemon, "Gated", "a");
    eventually("the first step", LIMIT, || (ledger(&daemon) == ["begin"]).then_some(()));
    simply(&daemon, &id, "pause");
    resolve(&daemon, "Gated", "a");
    touch(&daemon, "gate");
    wait_for_step(&daemon, &id, 0, "succeeded");
    assert_eq!(act(&daemon, &id, &json!({ "action": "resume" })).status, 202);
    let execution = finished(&daemon, &id);
    assert_eq!(steps(&execution), ["succeeded", "skipped"]);
    assert_eq!(execution["steps"][1]["reason"], "resolved");
}
