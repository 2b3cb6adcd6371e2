//! What would be decided: `explain` and `simulate` say what really happens, and nothing is left of them.
//!
//! May import: `support`. Must never: judge an explanation by its words alone.

mod candidate;
mod replay;
mod trials;
mod upstream;

use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::{LIMIT, body, config, finished, fire};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};

fn runbook(alert: &str, mode: &str) -> String {
    format!(
        "mode = \"{mode}\"\nalerts = [\"{alert}\"]\ntarget = \"{{{{ labels.target }}}}\"\n[inputs.size]\nfrom = \"labels.size\"\npattern = '[0-9]+'\ndefault = \"1\"\n[[steps]]\nid = \"act\"\ncommand = {{ program = \"true\" }}\n"
    )
}

/// Numbers that look random and are the same each time.
struct Lot(u64);

impl Lot {
    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all[usize::try_from(self.0 >> 33).unwrap() % all.len()]
    }
}

fn simulated(daemon: &Daemon, body: &str) -> Vec<Value> {
    let answer = http::post(daemon.address(), "/api/simulate", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["decisions"].as_array().unwrap().clone()
}

/// What of a decision must be the same.
fn essence(decision: &Value) -> Value {
    json!([decision["verdict"], decision["reason"], decision["runbook"], decision["alertname"]])
}

fn gates(decision: &Value) -> Vec<(String, String)> {
    let text = |gate: &Value, key: &str| gate[key].as_str().unwrap().to_owned();
    let gates = decision["gates"].as_array().unwrap();
    gates.iter().map(|gate| (text(gate, "gate"), text(gate, "verdict"))).collect()
}

#[test]
fn a_thousand_simulated_decisions_are_what_is_then_decided() {
    let guard = "[automation.guard]\ncooldown = false\nmax_runs = [{ count = 2, within = \"1h\" }]\n\
                 max_concurrent = false\nmax_targets = { count = 4, within = \"1h\" }\nflapping = { changes = 2, within = \"1h\" }\n\
                 [[mappings]]\nname = \"m\"\nmatchers = ['team=\"db\"']\nrunbook = \"auto\"\n";
    let modes = ["auto", "shadow", "approve", "disabled"];
    let texts = modes.map(|mode| runbook(mode, mode));
    let runbooks: Vec<(&str, &str)> =
        modes.iter().zip(&texts).map(|(id, text)| (*id, text.as_str())).collect();
    let daemon = Daemon::start(&config(guard), &runbooks, &[]);
    let mut lot = Lot(7);
    let mut reasons = std::collections::BTreeSet::new();
    let mut newest = Value::Null;
    for round in 0..1000 {
        let mut labels = json!({
            "alertname": lot.of(&["auto", "auto", "shadow", "approve", "disabled", "unknown"]),
            "target": lot.of(&["a", "b", "c", "d", "e", "f", "*", ""]),
            "series": lot.of(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        });
        labels["size"] = lot.of(&["1", "1", "1", "big"]).into();
        labels["team"] = lot.of(&["db", "web", "web", "web"]).into();
        let starts = lot.of(&["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
        let status = lot.of(&["firing", "firing", "firing", "resolved"]);
        let mut alert = json!({ "status": status, "labels": labels, "annotations": {}, "startsAt": starts });
        if status == "resolved" {
            alert["endsAt"] = "2026-02-15T00:00:00Z".into();
        }
        if lot.of(&["", "", "", "x"]) == "x" {
            alert["annotations"]["automation_runbook"] = lot.of(&["auto", "nothing", ""]).into();
        }
        let body = json!({ "version": "4", "alerts": [alert] }).to_string();
        let told = simulated(&daemon, &body);
        let answer = daemon.webhook(&body);
        assert_eq!(answer.status, 200);
        let real = answer.json()["decisions"][0].clone();
        assert_eq!(essence(&told[0]), essence(&real), "{round}: {body}");
        reasons.insert(real["reason"].as_str().unwrap().to_owned());
        // Where it was stored anew, every gate said the same.
        let stored = daemon.json("/api/decisions?limit=1")["decisions"][0].clone();
        if stored["id"] != newest {
            newest = stored["id"].clone();
            assert_eq!(gates(&told[0]), gates(&stored), "{round}: {body}");
        }
    }
    for reason in ["matched", "resolved", "stale", "repeat", "no_runbook", "unknown_runbook", "disabled"] {
        assert!(reasons.contains(reason), "no {reason} among {reasons:?}");
    }
    assert!(reasons.len() >= 12, "{reasons:?}");
}

#[test]
fn nothing_is_left_of_a_simulation() {
    let daemon = Daemon::start(&config(""), &[("auto", &runbook("auto", "auto"))], &[]);
    let counted = |daemon: &Daemon| {
        let executions = daemon.executions().len();
        let decisions = daemon.json("/api/decisions")["decisions"].as_array().unwrap().len();
        let queue = daemon.json("/api/sre/runbooks/integration-status")["queued_executions"].clone();
        (executions, decisions, queue)
    };
    let before = counted(&daemon);
    let targets: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let told = simulated(&daemon, &body("auto", "firing", &targets));
    assert!(told.iter().all(|decision| decision["verdict"] == "execute"), "{told:#?}");
    assert!(told.iter().all(|decision| decision["execution_id"].is_null()), "of none that is never made");
    // In one body they see each other.
    let twice = simulated(&daemon, &body("auto", "firing", &["a", "a"]));
    assert_eq!((&twice[0]["reason"], &twice[1]["reason"]), (&"matched".into(), &"repeat".into()));
    assert_eq!(counted(&daemon), before);

    // A past decision, as it would be now.
    let id = fire(&daemon, "auto", "a");
    finished(&daemon, &id);
    let past = daemon.json("/api/decisions?limit=1")["decisions"][0]["id"].clone();
    let again = simulated(&daemon, &json!({ "decision_id": past }).to_string());
    assert_eq!((&again[0]["reason"], &again[0]["execution_id"]), (&"repeat".into(), &id.into()));

    for (path, wrong, status) in [
        ("/api/simulate", "{}", 400),
        ("/api/simulate", "no", 400),
        ("/api/simulate", "{\"decision_id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"}", 404),
        ("/api/simulate?at=soon", "{\"alerts\":[]}", 422),
        ("/api/explain", "{}", 422),
        ("/api/explain", "{\"labels\":{\"a\":\"b\"}}", 422),
    ] {
        let answer = http::post(daemon.address(), path, wrong).unwrap();
        assert_eq!(answer.status, status, "{path} {wrong}: {}", answer.text());
    }
}

#[test]
fn a_config_and_runbooks_can_be_tried_on_the_disk_before_a_reload() {
    let daemon = Daemon::start(&config(""), &[("act", &runbook("Act", "auto"))], &[]);
    let alerts = body("Act", "firing", &["a"]);
    let candidate =
        |body: &str| http::post(daemon.address(), "/api/simulate?config=candidate", body).unwrap();
    let reason = |answer: &http::Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["decisions"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&candidate(&alerts)), "matched", "nothing has changed");
    let file = daemon.dir().join("runbookd.toml");
    let before = fs::read_to_string(&file).unwrap();
    let freeze =
        "[[freezes]]\nname = \"now\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2100-01-01T00:00:00Z\"\n";
    fs::write(&file, format!("{before}\n{freeze}")).unwrap();
    assert_eq!(reason(&candidate(&alerts)), "frozen");
    assert_eq!(simulated(&daemon, &alerts)[0]["reason"], "matched", "nothing of it is in force");
    let path = daemon.dir().join("body.json");
    fs::write(&path, &alerts).unwrap();
    let output = run(&daemon, &["simulate", path.to_str().unwrap(), "--candidate"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("frozen"), "{output:?}");
    fs::write(&file, &before).unwrap();
    let runbooks = daemon.dir().join("runbooks");
    fs::write(runbooks.join("new.toml"), runbook("New", "auto")).unwrap();
    // Whether the watch was quicker or not.
    assert_eq!(reason(&candidate(&body("New", "firing", &["a"]))), "matched");
    fs::write(&file, format!("{before}\n[[freezes]]\n")).unwrap();
    let answer = candidate(&alerts);
    assert_eq!((answer.status, answer.json()["errors"][0]["path"].as_str()), (422, Some("config")));
    assert!(answer.text().contains("runbookd check"), "{}", answer.text());
    let answer = http::post(daemon.address(), "/api/simulate?config=other", &alerts).unwrap();
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(finished(&daemon, &fire(&daemon, "Act", "a"))["status"], "succeeded");
}

fn run(daemon: &Daemon, args: &[&str]) -> Output {
    let url = format!("http://{}", daemon.address());
    Command::new(BINARY).args(args).args(["--url", &url]).output().unwrap()
}

#[test]
fn people_are_told_why_by_the_command_line_and_what_alertmanager_knows() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let urls = format!("[alertmanager]\nurls = [\"http://{}\"]\n", alertmanager.address());
    let texts = [runbook("auto", "auto"), runbook("off", "disabled")];
    let daemon = Daemon::start(&config(&urls), &[("auto", &texts[0]), ("off", &texts[1])], &[]);
    let explain = |labels: &[&str]| {
        let output = run(&daemon, &[&["explain"], labels].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = explain(&["alertname=auto", "target=a"]);
    // Here nobody is asked before the first step, so what Alertmanager knows decides nothing.
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("matched") && text.contains("Alertmanager  does not know it"), "{text}");
    assert!(!text.contains("Decision"), "an id that nobody can ask for: {text}");
    assert!(text.contains("Prometheus    cannot be asked"), "{text}");
    let (code, text) = explain(&["alertname=off", "target=a"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("disabled"), "{text}");

    let labels = json!({ "alertname": "auto", "target": "a" });
    let alert =
        json!([{ "labels": labels, "annotations": {}, "generatorURL": "http://p.example/" }]).to_string();
    assert_eq!(http::post(alertmanager.address(), "/api/v2/alerts", &alert).unwrap().status, 200);
    eventually("Alertmanager knowing it", LIMIT, || {
        explain(&["alertname=auto", "target=a"]).1.contains("knows it; it goes to runbookd").then_some(())
    });

    let file = daemon.dir().join("body.json");
    fs::write(&file, body("auto", "firing", &["a", "*"])).unwrap();
    let output = run(&daemon, &["simulate", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("matched") && text.contains("invalid_target"), "{text}");
    assert!(text.contains("What would have to change\n  invalid_target: give the alert the label"), "{text}");
    assert!(daemon.executions().is_empty());
}
