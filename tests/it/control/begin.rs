//! What may begin although it was accepted, or consented to: not in a freeze, not in a drain, and not what an hour ago
//! was true and is so no longer.

use super::{act, conflict, simply};
use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::{LIMIT, config, finished, fire, wait_for_status};
use crate::support::daemon::{Daemon, ledger, touch};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;

const ACT: &str = r#"
mode = "@mode@"
alerts = ["Act"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
script = { text = 'echo "act $T" >> "$DIR/ledger"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
undo = { command = { program = "true" } }
"#;
const FREEZE: &str =
    "[[freezes]]\nname = \"year end\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2100-01-01T00:00:00Z\"\n";

fn start(mode: &str, more: &str) -> Daemon {
    Daemon::start(&config(more), &[("act", &ACT.replace("@mode@", mode))], &[])
}

/// Puts `more` in force, without ending anything.
fn reload(daemon: &Daemon, more: &str, times: usize) {
    let file = daemon.dir().join("runbookd.toml");
    fs::write(file, crate::support::daemon::without_guards(&config(more))).unwrap();
    daemon.hang_up();
    daemon.logged("config reloaded", times);
}

fn execute(daemon: &Daemon, target: &str) -> String {
    let body = json!({ "labels": { "target": target } }).to_string();
    let answer = http::post(daemon.address(), "/api/runbooks/act/execute", &body).unwrap().json();
    answer["execution_id"].as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned()
}

#[test]
fn what_people_queued_waits_for_the_end_of_a_freeze_that_holds_them_too() {
    let one = "[automation]\nmax_running = 1\n";
    let daemon = start("auto", one);
    let first = execute(&daemon, "a");
    eventually("the first one to act", LIMIT, || (ledger(&daemon) == ["act a"]).then_some(()));
    let second = execute(&daemon, "b");
    wait_for_status(&daemon, &second, "queued");
    reload(&daemon, &format!("{one}{FREEZE}"), 1);
    touch(&daemon, "go");
    assert_eq!(finished(&daemon, &first)["status"], "succeeded");
    // Its slot is free now, and it has been looked at: a rollback begins before it.
    let back = http::post(
        daemon.address(),
        &format!("/api/executions/{first}/control"),
        r#"{"action":"rollback","reason":"take it back"}"#,
    );
    let back = back.unwrap().json()["id"].as_str().unwrap().to_owned();
    finished(&daemon, &back);
    assert_eq!(daemon.execution(&second)["status"], "queued");
    reload(&daemon, one, 2);
    assert_eq!(finished(&daemon, &second)["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["act a", "act b"]);
}

#[test]
fn consent_begins_nothing_in_a_freeze_or_a_drain() {
    let daemon = start("approve", "");
    touch(&daemon, "go");
    let id = fire(&daemon, "Act", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    reload(&daemon, FREEZE, 1);
    let why = conflict(&daemon, &id, "approve");
    assert!(why.contains("frozen by \"year end\" until 2100-01-01T00:00:00Z"), "{why}");
    reload(&daemon, "", 2);
    let order = |state: &str| {
        let body = json!({ "state": state, "reason": "a test" }).to_string();
        assert_eq!(http::send(daemon.address(), "PUT", "/api/automation", &body).unwrap().status, 200);
    };
    order("draining");
    let why = conflict(&daemon, &id, "approve");
    assert!(why.contains("draining"), "{why}");
    assert_eq!(daemon.execution(&id)["status"], "awaiting_approval");
    order("running");
    simply(&daemon, &id, "approve");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["act a"]);
}

#[test]
fn what_was_silenced_while_people_took_their_time_is_not_begun_and_takes_no_place() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let more = format!(
        "[alertmanager]\nurls = [\"http://{}\"]\n[automation.guard]\nmax_runs = [{{ count = 1, within = \"1h\" }}]\ncooldown = false\n",
        alertmanager.address()
    );
    let daemon = start("approve", &more);
    touch(&daemon, "go");
    let labels = json!({ "alertname": "Act", "target": "a" });
    let tell = |path: &str, body: &Value| {
        let answer = http::post(alertmanager.address(), path, &body.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    tell(
        "/api/v2/alerts",
        &json!([{ "labels": labels, "annotations": {}, "generatorURL": "http://p.example/" }]),
    );
    let state = |wanted: &str| {
        eventually("Alertmanager to see the alert so", LIMIT, || {
            let known: Value =
                serde_json::from_str(&http::get(alertmanager.address(), "/api/v2/alerts").unwrap().text())
                    .unwrap();
            (known[0]["status"]["state"] == wanted).then_some(())
        });
    };
    state("active");
    let id = fire(&daemon, "Act", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let silence = tell(
        "/api/v2/silences",
        &json!({
            "matchers": [{ "name": "target", "value": "a", "isRegex": false, "isEqual": true }],
            "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z", "createdBy": "me", "comment": "hush",
        }),
    );
    state("suppressed");
    let answer = act(&daemon, &id, &json!({ "action": "approve", "reason": "do it" }));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let execution = finished(&daemon, &id);
    assert_eq!(
        (&execution["status"], &execution["reason"]),
        (&"rejected".into(), &"silenced".into()),
        "{execution:#}"
    );
    assert_eq!(ledger(&daemon), Vec::<String>::new());
    let decisions = daemon.json("/api/decisions?reason=silenced");
    assert_eq!(decisions["decisions"][0]["execution_id"], id.as_str(), "{decisions:#}");

    // It was the one run of the hour, and was given back.
    let name = silence.json()["silenceID"].as_str().unwrap().to_owned();
    let path = format!("/api/v2/silence/{name}");
    assert_eq!(http::send(alertmanager.address(), "DELETE", &path, "").unwrap().status, 200);
    state("active");
    let id = fire(&daemon, "Act", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    simply(&daemon, &id, "approve");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["act a"]);
}
