//! What a step that is a runbook may start: what automation is kept from, it is kept from there too.

use crate::support::alerts::{LIMIT, config, finished, fire, wait_for_status};
use crate::support::daemon::{Daemon, ledger, touch};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};

/// Acts on its input `on`, between two lines of the ledger, for as long as `@dir@/hold` is not there to let it end.
const CHILD: &str = r#"
target = "{{ inputs.on }}"
[inputs.on]
[[steps]]
id = "act"
script = { text = 'echo "begin $T" >> "$DIR/ledger"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done; echo "end $T" >> "$DIR/ledger"', env = { DIR = "@dir@", T = "{{ inputs.on }}" } }
effect = "idempotent"
"#;
const PARENT: &str = r#"
mode = "auto"
alerts = ["Above"]
target = "{{ labels.target }}"
[[steps]]
id = "below"
runbook = { id = "child", inputs = { on = "db" } }
"#;
const SOUR: &str = r#"
mode = "auto"
alerts = ["Sour"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
command = { program = "true" }
undo = { command = { program = "false" } }
[[steps]]
id = "fail"
command = { program = "false" }
"#;

fn start(mode: &str) -> Daemon {
    let child = format!("{mode}\n{CHILD}");
    Daemon::start(&config(""), &[("child", &child), ("parent", PARENT), ("sour", SOUR)], &[])
}

/// An alert's execution failed in its one step, and why.
fn refused(daemon: &Daemon, target: &str, reason: Value) -> String {
    let execution = finished(daemon, &fire(daemon, "Above", target));
    let step = &execution["steps"][0];
    assert_eq!(
        (&execution["status"], &step["status"], &step["reason"]),
        (&"failed".into(), &"failed".into(), &reason),
        "{execution:#}"
    );
    step["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_runbook_that_is_disabled_or_not_promoted_is_no_step_of_automation() {
    for (mode, reason) in [("mode = \"disabled\"", "disabled"), ("mode = \"shadow\"", "shadow")] {
        let daemon = start(mode);
        touch(&daemon, "go");
        let why = refused(&daemon, "a", reason.into());
        assert!(why.contains("runbook child"), "{why}");
        assert_eq!(ledger(&daemon), Vec::<String>::new());
        // A person who starts the one above has decided on what it names, but not on what is turned off.
        let body = json!({ "labels": { "target": "a" } }).to_string();
        let answer = http::post(daemon.address(), "/api/runbooks/parent/execute", &body).unwrap();
        let id = answer.json()["execution_id"].as_str().unwrap().to_owned();
        let by_hand = finished(&daemon, &id);
        let expected = if reason == "shadow" { "succeeded" } else { "failed" };
        assert_eq!(by_hand["status"], expected, "{by_hand:#}");
    }
}

#[test]
fn a_target_in_quarantine_is_left_alone_from_below_too() {
    let daemon = start("mode = \"auto\"");
    touch(&daemon, "go");
    let sour = finished(&daemon, &fire(&daemon, "Sour", "db"));
    assert_eq!(sour["status"], "rollback_failed", "{sour:#}");
    let why = refused(&daemon, "a", "quarantined".into());
    assert!(why.contains("db is quarantined"), "{why}");
    assert_eq!(ledger(&daemon), Vec::<String>::new());
    let clear = http::send(daemon.address(), "DELETE", "/api/quarantine/db", r#"{"reason":"seen to"}"#);
    assert_eq!(clear.unwrap().status, 200);
    assert_eq!(finished(&daemon, &fire(&daemon, "Above", "b"))["status"], "succeeded");
    // What a person opened is open for steps as well.
    let open = http::post(daemon.address(), "/api/breakers/runbook:child:db/open", r#"{"reason":"not now"}"#)
        .unwrap();
    assert_eq!(open.status, 200, "{}", open.text());
    let why = refused(&daemon, "c", "breaker_open".into());
    assert!(why.contains("child:db"), "{why}");
}

#[test]
fn two_parents_never_change_one_target_at_once_nor_after_a_crash() {
    let mut daemon = start("mode = \"auto\"");
    let first = fire(&daemon, "Above", "a");
    eventually("the first one to act", LIMIT, || (ledger(&daemon) == ["begin db"]).then_some(()));
    let why = refused(&daemon, "b", Value::Null);
    assert!(why.contains(&format!("db is held by {first}")), "{why}");
    daemon.kill();
    daemon.start_again();
    eventually("it to act once more", LIMIT, || (ledger(&daemon).len() == 2).then_some(()));
    let why = refused(&daemon, "c", Value::Null);
    assert!(why.contains(&first), "{why}");
    // An alert about the target itself waits for it like for any other lock.
    let body = json!({ "inputs": { "on": "db" } }).to_string();
    let own = http::post(daemon.address(), "/api/runbooks/child/execute", &body).unwrap().json();
    let own = own["execution_id"].as_str().unwrap().to_owned();
    wait_for_status(&daemon, &own, "queued");
    assert_eq!(ledger(&daemon).len(), 2);
    touch(&daemon, "go");
    assert_eq!(finished(&daemon, &first)["status"], "succeeded");
    assert_eq!(finished(&daemon, &own)["status"], "succeeded");
    assert_eq!(ledger(&daemon)[2..], ["end db", "begin db", "end db"]);
    assert_eq!(finished(&daemon, &fire(&daemon, "Above", "d"))["status"], "succeeded");
}
