//! Bodies that are too much: refused or handled as promised, in bounded memory.

use super::*;
use crate::support::daemon::Daemon;
use crate::support::http;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n";

fn alert(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Value {
    json!({"status": "firing", "startsAt": "2026-01-01T00:00:00Z", "labels": labels, "annotations": annotations})
}

fn labels(more: usize, length: usize) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> =
        (0..more).map(|number| (format!("l{number}"), "v".repeat(length))).collect();
    labels.insert("alertname".to_owned(), "Large".to_owned());
    labels
}

/// The reasons of the decisions on one alert.
fn reason(daemon: &Daemon, alert: &Value) -> String {
    let answer = daemon.webhook(&json!({"alerts": [alert]}).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["decisions"][0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn t26_limits_on_alerts_labels_and_annotations_are_where_they_are_promised() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let none = BTreeMap::new();
    assert_eq!(reason(&daemon, &alert(&labels(255, 1), &none)), "no_runbook");
    assert_eq!(reason(&daemon, &alert(&labels(256, 1), &none)), "invalid_alert");
    assert_eq!(reason(&daemon, &alert(&labels(1, 64 << 10), &none)), "no_runbook");
    assert_eq!(reason(&daemon, &alert(&labels(1, (64 << 10) + 1), &none)), "invalid_alert");
    let annotation = |length| BTreeMap::from([("text".to_owned(), "x".repeat(length))]);
    assert_eq!(reason(&daemon, &alert(&labels(0, 1), &annotation(1 << 20))), "no_runbook");
    assert_eq!(reason(&daemon, &alert(&labels(0, 1), &annotation((1 << 20) + 1))), "invalid_alert");

    let many = |count: usize| format!("{{\"alerts\":[{}]}}", vec!["1"; count].join(","));
    assert_eq!(daemon.webhook(&many(10_001)).status, 413);
    let nested = |depth: usize| format!("{{\"alerts\":[],\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(daemon.webhook(&nested(31)).status, 200);
    assert_eq!(daemon.webhook(&nested(32)).status, 400);
}

#[test]
fn t26_hostile_bodies_are_refused_in_bounded_memory() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let resident = || daemon.metric("process_resident_memory_bytes");
    let before = resident();
    let quarter = 8 << 20;
    let bodies = [
        // A million labels, a million alerts, nesting without end, one name again and again, and no JSON at all.
        format!(
            "{{\"alerts\":[{{\"labels\":{{{}\"alertname\":\"x\"}}}}]}}",
            (0..500_000).map(|number| format!("\"l{number}\":\"\",")).collect::<String>()
        ),
        format!("{{\"alerts\":[{}1]}}", "1,".repeat(quarter / 2)),
        "[".repeat(quarter),
        format!("{{{}\"alerts\":[]}}", "\"alerts\":[],".repeat(100_000)),
        format!("{{\"alerts\":[],\"n\":{}}}", "9".repeat(quarter)),
        "\u{1f4a9}".repeat(quarter / 4),
    ];
    for (number, body) in bodies.iter().enumerate() {
        for _ in 0..4 {
            let status = daemon.webhook(body).status;
            assert!([200, 400, 413].contains(&status), "{number}: {status}");
        }
    }
    let gzip = http::request(
        daemon.address(),
        "POST",
        HOOK,
        &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
        b"\x1f\x8b\x08",
    );
    assert_eq!(gzip.unwrap().status, 415);
    let grown = resident() - before;
    assert!(grown < 400e6, "the daemon grew by {grown} bytes");
}
