//! A past decision, decided again: on the alert as it was, as far as it is kept, and on nothing that it never said.

use super::{runbook, simulated};
use crate::support::alerts::config;
use crate::support::daemon::Daemon;
use crate::support::http;
use serde_json::{Value, json};

const STARTED: &str = "2026-02-03T04:05:06Z";

/// Delivers one alert, and gives the decision on it as it is kept.
fn delivered(daemon: &Daemon, alert: &Value) -> Value {
    let answer = daemon.webhook(&json!({ "version": "4", "alerts": [alert] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    daemon.json("/api/decisions?limit=1")["decisions"][0].clone()
}

fn replay(daemon: &Daemon, decision: &Value) -> Value {
    let body = json!({ "decision_id": decision["id"] }).to_string();
    let answer = http::post(daemon.address(), "/api/simulate", &body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn alert(name: &str, target: &str) -> Value {
    json!({
        "status": "firing", "startsAt": STARTED,
        "labels": { "alertname": name, "target": target }, "annotations": { "summary": "full" },
    })
}

#[test]
fn a_past_decision_is_made_again_on_the_alert_as_it_was() {
    let named = format!("{}[allow]\nmatchers = ['target=\"a\"']\n", runbook("Other", "disabled"));
    let daemon = Daemon::start(&config(""), &[("off", &runbook("Off", "disabled")), ("named", &named)], &[]);

    let first = delivered(&daemon, &alert("Off", "a"));
    assert_eq!(
        first["alert"],
        json!({ "status": "firing", "starts_at": STARTED, "annotations": { "summary": "full" } })
    );
    let again = replay(&daemon, &first);
    assert_eq!(again["replayed"]["complete"], true, "{again:#}");
    assert_eq!(again["decisions"][0]["reason"], "disabled", "{again:#}");
    // It is `alerts` that selects it, as it was, and no annotation that was never there.
    let by = &again["decisions"][0]["gates"].as_array().unwrap()[3];
    assert!(by["message"].as_str().unwrap().contains("the runbook's `alerts`"), "{by:#}");

    let ended = json!({ "status": "resolved", "startsAt": STARTED, "endsAt": "2026-02-03T05:00:00Z",
        "labels": first["labels"], "annotations": {} });
    let resolved = delivered(&daemon, &ended);
    assert_eq!(replay(&daemon, &resolved)["decisions"][0]["reason"], "resolved");

    let mut by_name = alert("Unknown", "a");
    by_name["annotations"] = json!({ "automation_runbook": "named", "summary": "x".repeat(3000) });
    let long = delivered(&daemon, &by_name);
    assert_eq!(long["alert"]["annotations"], json!({ "automation_runbook": "named" }));
    let again = replay(&daemon, &long);
    assert_eq!(
        (&again["decisions"][0]["reason"], &again["decisions"][0]["runbook"]),
        (&"disabled".into(), &"named".into())
    );
    assert_eq!(again["replayed"]["complete"], false);
    assert!(again["replayed"]["missing"].as_str().unwrap().contains("too long"), "{again:#}");

    let none = delivered(&daemon, &alert("Nothing", "a"));
    assert_eq!(replay(&daemon, &none)["decisions"][0]["reason"], "no_runbook");
    let invalid = delivered(&daemon, &json!(5));
    assert_eq!((&invalid["reason"], invalid["fix"].is_string()), (&"invalid_alert".into(), true));
    let body = json!({ "decision_id": invalid["id"] }).to_string();
    let answer = http::post(daemon.address(), "/api/simulate", &body).unwrap();
    assert_eq!((answer.status, answer.json()["errors"][0]["path"].as_str()), (422, Some("decision_id")));
    assert!(simulated(&daemon, "{\"alerts\":[]}").is_empty());
}
