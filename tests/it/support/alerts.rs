//! Webhook bodies as Alertmanager sends them, and what the daemon says of the executions they became.
//!
//! May import: its neighbours here. Must never: retry or judge an answer, except where a name says so.

use super::daemon::{Daemon, is_final};
use super::http;
use super::process::eventually;
use serde_json::{Value, json};
use std::time::Duration;

/// Where bodies go.
pub(crate) const WEBHOOK: &str = "/api/sre/alerts/webhook";

/// How long anything a test waits for may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A config for a loopback daemon without credentials; `more` is appended.
pub(crate) fn config(more: &str) -> String {
    format!("[webhook]\nallow_unauthenticated = true\n{more}\n")
}

/// A body with one alert per target.
pub(crate) fn body(alertname: &str, status: &str, targets: &[&str]) -> String {
    let alerts: Vec<Value> = targets
        .iter()
        .map(|target| {
            json!({
                "status": status,
                "labels": { "alertname": alertname, "target": target },
                "annotations": { "summary": "it is broken" },
                "startsAt": "2026-01-01T00:00:00Z",
                "endsAt": if status == "firing" { "0001-01-01T00:00:00Z" } else { "2026-01-01T00:05:00Z" },
                "generatorURL": "http://prometheus.example/graph",
            })
        })
        .collect();
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": status, "receiver": "runbookd",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example", "alerts": alerts,
    })
    .to_string()
}

/// Fires one alert, which must become an execution; its id.
pub(crate) fn fire(daemon: &Daemon, alertname: &str, target: &str) -> String {
    let answer = daemon.webhook(&body(alertname, "firing", &[target]));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    answer["execution_ids"][0]
        .as_str()
        .unwrap_or_else(|| panic!("nothing was started: {answer:#}"))
        .to_owned()
}

/// Resolves one alert; 200 is a must.
pub(crate) fn resolve(daemon: &Daemon, alertname: &str, target: &str) {
    let answer = daemon.webhook(&body(alertname, "resolved", &[target]));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until the execution is over; as it is then.
pub(crate) fn finished(daemon: &Daemon, id: &str) -> Value {
    eventually(&format!("the end of {id}"), LIMIT, || {
        let execution = daemon.execution(id);
        is_final(&execution).then_some(execution)
    })
}

/// Waits until the execution has this status.
pub(crate) fn wait_for_status(daemon: &Daemon, id: &str, status: &str) {
    eventually(&format!("{id} being {status}"), LIMIT, || {
        (daemon.execution(id)["status"] == status).then_some(())
    });
}

/// Waits until the step at `index` has this status; the execution then.
pub(crate) fn wait_for_step(daemon: &Daemon, id: &str, index: usize, status: &str) -> Value {
    eventually(&format!("step {index} of {id} being {status}"), LIMIT, || {
        let execution = daemon.execution(id);
        (execution["steps"][index]["status"] == status).then_some(execution)
    })
}

/// The outcomes of the attempts of the step at `index`.
pub(crate) fn outcomes(execution: &Value, index: usize) -> Vec<String> {
    let attempts = execution["steps"][index]["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or("open").to_owned()).collect()
}

/// The status of each step.
pub(crate) fn steps(execution: &Value) -> Vec<String> {
    let steps = execution["steps"].as_array().unwrap();
    steps.iter().map(|step| step["status"].as_str().unwrap().to_owned()).collect()
}

/// The journal of an execution that is over, as its watchers see it: (kind, data) of each event.
pub(crate) fn journal(daemon: &Daemon, id: &str) -> Vec<(String, Value)> {
    let answer = http::get(daemon.address(), &format!("/api/executions/{id}/events")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    events(&answer.text())
}

/// The events in a whole event stream.
pub(crate) fn events(stream: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|text| text.trim().to_owned()))
    };
    stream
        .split("\n\n")
        .filter_map(|block| {
            let kind = field(block, "event")?;
            Some((kind, serde_json::from_str(&field(block, "data")?).unwrap()))
        })
        .collect()
}

/// The data of the only event of this kind.
pub(crate) fn only<'e>(events: &'e [(String, Value)], kind: &str) -> &'e Value {
    let found: Vec<&Value> = events.iter().filter(|(known, _)| known == kind).map(|(_, data)| data).collect();
    assert_eq!(found.len(), 1, "{kind} in {events:#?}");
    found[0]
}

/// A time in an answer, in milliseconds since 1970.
pub(crate) fn millis(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    text.parse::<runbookd::model::Timestamp>().unwrap().as_millisecond()
}
