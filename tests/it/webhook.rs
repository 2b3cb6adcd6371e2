//! The webhook and the status from the outside, byte for byte as Alertmanager and scripts meet them.

use crate::support::daemon::Daemon;
use crate::support::http::{get, post, raw, request};
use crate::support::process::{Process, eventually, program};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;

const PATH: &str = "/api/sre/alerts/webhook";

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n[runbooks]\nwatch = false\n";

/// Selected by name; it does nothing that could go wrong.
const RUNBOOK: &str = r#"
mode = "auto"
alerts = ["ServiceDown"]
[[steps]]
id = "look"
check = { expr = "true" }
"#;

fn daemon() -> Daemon {
    Daemon::start(CONFIG, &[("service_unavailable", RUNBOOK)], &[])
}

fn body(alertname: &str, status: &str) -> String {
    let alert = json!({
        "status": status,
        "labels": { "alertname": alertname, "severity": "critical", "instance": "web-1" },
        "annotations": { "summary": "down" },
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
    });
    json!({ "version": "4", "status": status, "receiver": "r", "groupKey": "{}", "alerts": [alert] })
        .to_string()
}

#[test]
fn a_delivery_and_the_status_answer_what_is_documented() {
    let daemon = daemon();
    let answer = daemon.webhook(&body("ServiceDown", "firing"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("content-type").unwrap().starts_with("application/json"));
    let answer = answer.json();
    assert_eq!(answer["status"], "processed");
    assert_eq!((&answer["alerts_processed"], &answer["runbooks_triggered"]), (&json!(1), &json!(1)));
    assert!(answer["webhook_received_at"].as_str().unwrap().parse::<runbookd::model::Timestamp>().is_ok());
    let id = answer["execution_ids"][0].as_str().unwrap();
    assert!(id.starts_with("service_unavailable_"), "{id}");
    let decision = &answer["decisions"][0];
    assert_eq!(decision["alertname"], "ServiceDown");
    assert_eq!(decision["status"], "firing");
    assert_eq!(decision["verdict"], "execute");
    assert_eq!(decision["reason"], "matched");
    assert_eq!(decision["runbook"], "service_unavailable");
    assert_eq!(decision["execution_id"], id);
    assert_eq!(decision["fingerprint"].as_str().unwrap().len(), 16);

    eventually("the execution succeeds", Duration::from_secs(20), || {
        (daemon.execution(id)["status"] == "succeeded").then_some(())
    });
    // The counts follow the journal by a moment.
    let status = eventually("every count is 0 again", Duration::from_secs(20), || {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        let counts = ["active_executions", "queued_executions", "awaiting_approval"];
        counts.iter().all(|count| status[count] == 0).then_some(status)
    });
    assert_eq!(status["status"], "enabled");
    assert_eq!(status["available_runbooks"], 1);
    assert_eq!(status["runbook_alert_mappings"], json!({ "ServiceDown": "service_unavailable" }));
    assert!(status["last_updated"].is_string() && status["last_webhook_at"].is_string(), "{status}");
}

#[test]
fn the_same_bytes_again_change_nothing_and_resolved_starts_nothing() {
    let daemon = daemon();
    let first = daemon.webhook(&body("ServiceDown", "firing")).json();
    let reason = |answer: &Value| answer["decisions"][0]["reason"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let again = daemon.webhook(&body("ServiceDown", "firing")).json();
        assert_eq!(reason(&again), "repeat");
        assert_eq!(again["execution_ids"], json!([]));
        assert_eq!(again["decisions"][0]["execution_id"], first["execution_ids"][0]);
    }
    assert_eq!(reason(&daemon.webhook(&body("ServiceDown", "resolved")).json()), "resolved");
    assert_eq!(reason(&daemon.webhook(&body("ServiceDown", "firing")).json()), "stale");
    // Resolved before it was ever seen to fire: no error, and the firing that comes late is an old delivery.
    assert_eq!(reason(&daemon.webhook(&body("Unheard", "resolved")).json()), "resolved");
    assert_eq!(reason(&daemon.webhook(&body("Unheard", "firing")).json()), "stale");
    assert_eq!(reason(&daemon.webhook(&body("Other", "firing")).json()), "no_runbook");
    assert_eq!(daemon.executions().len(), 1);
}

#[test]
fn no_method_path_or_body_is_answered_with_a_redirect_or_a_false_yes() {
    let daemon = daemon();
    let address = daemon.address();
    for path in [PATH.to_owned(), format!("{PATH}/")] {
        assert_eq!(post(address, &path, r#"{"alerts": []}"#).unwrap().status, 200, "{path}");
        assert_eq!(request(address, "PUT", &path, &[], br#"{"alerts": []}"#).unwrap().status, 200, "{path}");
        for method in ["GET", "HEAD", "DELETE", "PATCH"] {
            let answer = request(address, method, &path, &[], b"").unwrap();
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("POST, PUT"), "{method} {path}");
        }
    }
    let refused = |body: &str| {
        let answer = post(address, PATH, body).unwrap();
        let fields = answer.json();
        assert!(fields["error"].is_string() && fields["code"].is_string(), "{fields}");
        answer.status
    };
    for body in ["", "{", "[]", "null", "{}", r#"{"alerts": null}"#, r#"{"alerts": {}}"#] {
        assert_eq!(refused(body), 400, "{body:?}");
    }
    let text = [("Content-Type", "text/plain")];
    assert_eq!(request(address, "POST", PATH, &text, br#"{"alerts": []}"#).unwrap().status, 415);
    let promised = format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(raw(address, promised.as_bytes()).unwrap().status, 413);
    assert!(daemon.executions().is_empty());
}

#[test]
fn promtool_accepts_the_metrics_after_all_of_it_has_happened() {
    let daemon = daemon();
    daemon.webhook(&body("ServiceDown", "firing"));
    daemon.webhook("nonsense");
    eventually("the execution is counted", Duration::from_secs(20), || {
        let sample = "runbookd_executions_total{runbook=\"service_unavailable\",outcome=\"succeeded\"}";
        (daemon.metric(sample) >= 1.0).then_some(())
    });
    let file = daemon.dir().join("metrics");
    fs::write(&file, get(daemon.address(), "/metrics").unwrap().body).unwrap();
    let mut command = Command::new("sh");
    let promtool = program("promtool", "prometheus");
    command.arg("-c").arg(r#"exec "$0" check metrics < "$1""#).arg(promtool).arg(file);
    let mut process = Process::start("promtool", command, daemon.dir());
    let status = process.wait(Duration::from_secs(20));
    assert!(status.success() && process.log().is_empty(), "{status}: {}", process.log());
}
