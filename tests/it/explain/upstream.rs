//! What must be asked of others before the first step is asked when it is explained, of the real ones.

use super::{run, runbook};
use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::{LIMIT, body, config, finished, fire};
use crate::support::daemon::Daemon;
use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::process::{eventually, free_address};
use crate::support::prometheus::Prometheus;
use serde_json::{Value, json};
use std::time::Duration;

fn explained(daemon: &Daemon, labels: &Value) -> Value {
    let asked = json!({ "labels": labels }).to_string();
    let answer = http::post(daemon.address(), "/api/explain", &asked).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What the command line says, without its layout, and its exit code.
fn told(daemon: &Daemon, labels: &Value) -> (Option<i32>, String) {
    let pairs = labels.as_object().unwrap().iter();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
    let words: Vec<&str> = std::iter::once("explain").chain(pairs.iter().map(String::as_str)).collect();
    let output = run(daemon, &words);
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn gate<'d>(decision: &'d Value, name: &str) -> &'d Value {
    let gates = decision["gates"].as_array().unwrap();
    gates.iter().find(|gate| gate["gate"] == name).unwrap()
}

fn tell(alertmanager: &Alertmanager, labels: &Value) {
    let alert = json!([{ "labels": labels, "generatorURL": "http://p.example/" }]).to_string();
    assert_eq!(http::post(alertmanager.address(), "/api/v2/alerts", &alert).unwrap().status, 200);
}

/// One runbook that Alertmanager is asked about, and two that Prometheus is, which is not there.
fn daemon(alertmanager: &str) -> Daemon {
    let more = format!(
        "[alertmanager]\nurls = [\"http://{alertmanager}\"]\n[prometheus]\nurl = \"http://127.0.0.1:1\"\n\
         [automation.guard]\nconfirm = true\ncooldown = false\n"
    );
    let asks =
        |name: &str, line: &str| format!("{}[guard]\nconfirm = false\n{line}\n", runbook(name, "auto"));
    let precheck = asks("pre", "precheck = { promql = \"up\", expect = \"> 0\" }");
    let share = asks("share", "max_unhealthy = { promql = \"count(up == 0)\", limit = 1 }");
    let texts = [("auto", runbook("auto", "auto")), ("pre", precheck), ("share", share)];
    let texts: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
    Daemon::start(&config(&more), &texts, &[])
}

fn silence(alertmanager: &Alertmanager, name: &str) -> String {
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": name, "isRegex": false }],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "t", "comment": "c",
    });
    let made = http::post(alertmanager.address(), "/api/v2/silences", &silence.to_string()).unwrap().json();
    made["silenceID"].as_str().unwrap().to_owned()
}

#[test]
fn what_alertmanager_would_be_asked_before_the_first_step_is_asked_and_decides() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let daemon = daemon(alertmanager.address());
    let labels = json!({ "alertname": "auto", "target": "a" });

    let unknown = explained(&daemon, &labels);
    assert_eq!((&unknown["verdict"], &unknown["reason"]), (&"skip".into(), &"not_firing".into()));
    assert_eq!(gate(&unknown, "unconfirmed")["verdict"], "pass");
    assert_eq!(gate(&unknown, "precheck_failed")["verdict"], "off");
    assert!(gate(&unknown, "not_firing")["fix"].as_str().unwrap().contains("exactly these labels"));
    assert_eq!(told(&daemon, &labels).0, Some(1));

    tell(&alertmanager, &labels);
    let known = eventually("Alertmanager knowing it", LIMIT, || {
        Some(explained(&daemon, &labels)).filter(|answer| answer["verdict"] == "execute")
    });
    assert_eq!(gate(&known, "silenced")["verdict"], "pass", "{known:#}");
    assert!(known["fix"].is_null() && !known["gates"].to_string().contains("later"), "{known:#}");
    assert_eq!(told(&daemon, &labels).0, Some(0));

    let id = silence(&alertmanager, "auto");
    let silenced = eventually("the silence", LIMIT, || {
        Some(explained(&daemon, &labels)).filter(|answer| answer["reason"] == "silenced")
    });
    let fix = gate(&silenced, "silenced")["fix"].as_str().unwrap();
    assert!(fix.contains(&id), "{fix}");
    let (code, text) = told(&daemon, &labels);
    assert!(code == Some(1) && text.contains("(silenced: the alert is silenced by"), "{text}");

    // And so it is when it comes; then every gate is in the decision, those asked before and those asked last.
    let id = fire(&daemon, "auto", "a");
    assert_eq!(finished(&daemon, &id)["reason"], "silenced");
    let late = daemon.json("/api/decisions?reason=silenced")["decisions"][0].clone();
    let first = daemon.json("/api/decisions?reason=matched")["decisions"][0].clone();
    let names = |decision: &Value| -> Vec<Value> {
        decision["gates"].as_array().unwrap().iter().map(|gate| gate["gate"].clone()).collect()
    };
    assert_eq!((names(&late), &late["first"]), (names(&first), &first["id"]));
    assert_eq!(gate(&late, "frozen"), gate(&first, "frozen"));
    assert_eq!(gate(&first, "silenced")["verdict"], "later");
    assert_eq!((&gate(&late, "silenced")["verdict"], &late["alert"]), (&"deny".into(), &first["alert"]));
}

#[test]
fn who_cannot_be_asked_denies_when_it_is_explained_as_when_it_begins() {
    let daemon = daemon("127.0.0.1:1");
    for (name, reason) in [("pre", "precheck_failed"), ("share", "systemic"), ("auto", "unconfirmed")] {
        let answer = explained(&daemon, &json!({ "alertname": name, "target": "a" }));
        assert_eq!((&answer["verdict"], &answer["reason"]), (&"skip".into(), &reason.into()), "{answer:#}");
        let id = fire(&daemon, name, "a");
        assert_eq!(finished(&daemon, &id)["reason"], reason, "as was told");
    }
    // What would not even be made asks nothing.
    let invalid = explained(&daemon, &json!({ "alertname": "pre", "target": "*" }));
    assert_eq!(invalid["reason"], "invalid_target");
    assert_eq!(gate(&invalid, "precheck_failed")["verdict"], "off");
    let told = http::post(daemon.address(), "/api/simulate", &body("auto", "firing", &["b"])).unwrap().json();
    assert_eq!(gate(&told["decisions"][0], "unconfirmed")["verdict"], "later", "a simulation asks nobody");
}

/// Prometheus sees its targets in its own time.
const PATIENCE: Duration = Duration::from_secs(90);

const RULES: &str = "
groups:
- name: test
  rules:
  - { alert: Firing, expr: broken == 1 }
  - { alert: Elsewhere, expr: broken == 1 }
  - { alert: Muted, expr: broken == 1 }
  - { alert: Waiting, expr: broken == 1, for: 1h }
";

fn route(receiver: &str) -> String {
    format!(
        "route:\n  receiver: runbookd\n  group_by: ['...']\n  group_wait: 1s\n  group_interval: 1s\n  repeat_interval: 4s\n  \
         routes: [ {{ receiver: pager, matchers: [ 'alertname=\"Elsewhere\"' ] }} ]\n\
         inhibit_rules: [ {{ source_matchers: [ 'alertname=\"Firing\"' ], target_matchers: [ 'alertname=\"Muted\"' ] }} ]\n\
         receivers:\n- name: pager\n- name: runbookd\n  webhook_configs:\n  - url: http://{receiver}/api/sre/alerts/webhook\n"
    )
}

/// All of them, real, over one metric.
struct Stack {
    exporter: Exporter,
    daemon: Daemon,
    _alertmanager: Alertmanager,
    _prometheus: Prometheus,
}

impl Stack {
    fn start() -> Self {
        let exporter = Exporter::start();
        exporter.set(&[("broken{target=\"a\"}", 1.0)]);
        let (at, receiver) = (Prometheus::reserve(), free_address());
        let alertmanager = Alertmanager::start_from(&route(&receiver));
        let more = format!(
            "[prometheus]\nurl = \"http://{at}\"\n[alertmanager]\nurls = [\"http://{}\"]\n\
             [automation.guard]\nconfirm = true\n",
            alertmanager.address()
        );
        let texts = ["Firing", "Elsewhere", "Muted", "Waiting"].map(|name| runbook(name, "auto"));
        let ids = ["one", "two", "three", "four"];
        let texts: Vec<_> = ids.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let daemon = Daemon::start_at(&receiver, &config(&more), &texts, &[]);
        let (from, to) = (exporter.address(), alertmanager.address());
        let prometheus = Prometheus::start_labelled(&at, &from, to, RULES, &[], "{ cluster: eu }");
        Self { exporter, daemon, _alertmanager: alertmanager, _prometheus: prometheus }
    }

    /// All labels of an alert, as Alertmanager gets them.
    fn full(&self, name: &str) -> Value {
        json!({
            "alertname": name, "target": "a", "job": "test", "instance": self.exporter.address(),
            "cluster": "eu",
        })
    }

    fn when(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let labels = self.full(name);
        eventually(name, PATIENCE, || Some(explained(&self.daemon, &labels)).filter(|answer| holds(answer)))
    }
}

#[test]
fn the_real_ones_are_understood_with_labels_that_are_added_on_the_way() {
    let stack = Stack::start();
    let daemon = &stack.daemon;
    let heard = stack.when("Firing", |answer| answer["upstream"]["webhook"]["firing"] == true);
    assert_eq!(
        heard["upstream"]["prometheus"],
        json!({ "states": ["firing"], "beyond": ["cluster"], "near": [] })
    );
    assert_eq!(heard["upstream"]["alertmanager"]["receivers"], json!(["runbookd"]));
    let waiting =
        stack.when("Waiting", |answer| answer["upstream"]["prometheus"]["states"] == json!(["pending"]));
    assert_eq!(waiting["reason"], "not_firing", "{waiting:#}");
    let (code, text) = told(daemon, &stack.full("Waiting"));
    assert!(
        code == Some(1) && text.contains("Prometheus a rule is pending; it does not have: cluster"),
        "{text}"
    );

    stack.when("Elsewhere", |answer| answer["upstream"]["alertmanager"]["known"] == true);
    let (_, text) = told(daemon, &stack.full("Elsewhere"));
    assert!(
        text.contains("Webhooks none has come for these labels: Alertmanager sends them to pager"),
        "{text}"
    );
    let muted = stack.when("Muted", |answer| answer["reason"] == "silenced");
    assert!(gate(&muted, "silenced")["fix"].as_str().unwrap().contains("have to resolve"), "{muted:#}");
    assert!(!muted["upstream"]["alertmanager"]["inhibited_by"].as_array().unwrap().is_empty());

    // Too few labels, and one that is another.
    let few = explained(daemon, &json!({ "alertname": "Firing", "target": "a" }));
    assert_eq!(gate(&few, "not_firing")["verdict"], "deny", "{few:#}");
    assert_eq!(few["upstream"]["alertmanager"]["containing"], json!([stack.full("Firing")]));
    let (_, text) = told(daemon, &json!({ "alertname": "Firing", "target": "a" }));
    assert!(text.contains("give all labels of one of these") && text.contains("cluster=\"eu\""), "{text}");
    let mut other = stack.full("Firing");
    other["job"] = "node".into();
    let near = explained(daemon, &other)["upstream"]["prometheus"]["near"].clone();
    assert_eq!(
        near[0],
        json!({ "state": "firing", "differs": [{ "label": "job", "rule": "test", "given": "node" }] })
    );
    assert!(told(daemon, &other).1.contains("one is firing where job is \"test\" (given \"node\")"));
}
