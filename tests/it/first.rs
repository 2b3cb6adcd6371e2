//! The first stage of an execution: Alertmanager and Prometheus are asked before anything begins; and how many may be
//! going at once, and who must consent first.
//!
//! May import: `support`. Must never: end a process itself.

use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::{LIMIT, body, config, finished, fire, wait_for_status};
use crate::support::daemon::{Daemon, is_final, ledger, touch};
use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::process::{eventually, free_address};
use crate::support::prometheus::Prometheus;
use crate::support::receiver::Receiver;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// How long a real Prometheus may take to see a fleet: it begins to look seconds after its start.
const SCRAPED: Duration = Duration::from_secs(60);

const ACT: &str = r#"
mode = "auto"
alerts = ["Act"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
script = { text = 'echo "act $T" >> "$DIR/ledger"', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
"#;

/// Tells Alertmanager of a firing alert, and waits until it knows it.
fn tell(alertmanager: &Alertmanager, labels: &Value) {
    let address = alertmanager.address();
    let alert = json!([{ "labels": labels, "annotations": {}, "generatorURL": "http://p.example/" }]);
    assert_eq!(http::post(address, "/api/v2/alerts", &alert.to_string()).unwrap().status, 200);
    eventually("the alert in Alertmanager", LIMIT, || {
        let known: Value =
            serde_json::from_str(&http::get(address, "/api/v2/alerts").unwrap().text()).unwrap();
        let known = known.as_array().unwrap();
        known
            .iter()
            .any(|alert| alert["labels"] == *labels && alert["status"]["state"] != "unprocessed")
            .then_some(())
    });
}

fn act(target: &str) -> Value {
    json!({ "alertname": "Act", "target": target })
}

/// Fires one alert whose execution must end as rejected for this reason; its decision.
fn rejected(daemon: &Daemon, alertname: &str, target: &str, reason: &str) -> Value {
    let id = fire(daemon, alertname, target);
    let execution = finished(daemon, &id);
    assert_eq!(
        (&execution["status"], &execution["reason"]),
        (&"rejected".into(), &reason.into()),
        "{execution:#}"
    );
    assert_eq!(execution["started_at"], Value::Null);
    let decisions = daemon.json(&format!("/api/decisions?reason={reason}"));
    let decision = &decisions["decisions"][0];
    assert_eq!(
        (&decision["execution_id"], &decision["verdict"]),
        (&id.into(), &"skip".into()),
        "{decisions:#}"
    );
    let gates = decision["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["gate"] == reason).unwrap();
    assert_eq!((&gate["verdict"], &gate["message"]), (&"deny".into(), &decision["message"]));
    decision.clone()
}

fn start(more: &str, runbooks: &[(&str, &str)]) -> Daemon {
    let guard = "[automation.guard]\ncooldown = false\nmax_runs = false\nmax_concurrent = false\nmax_targets = false\nflapping = false\n";
    Daemon::start(&config(&format!("{more}\n{guard}")), runbooks, &[])
}

fn with_alertmanager(urls: &[&str]) -> String {
    let urls: Vec<String> = urls.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!("[alertmanager]\nurls = [{}]\n", urls.join(", "))
}

#[test]
fn alertmanager_must_know_the_alert_and_not_mute_it() {
    let inhibit = "inhibit_rules:\n- source_matchers: [ 'alertname=\"Master\"' ]\n  target_matchers: [ 'alertname=\"Act\"' ]\n  equal: [ target ]\n";
    let alertmanager = Alertmanager::start_with("127.0.0.1:1", "['...']", inhibit);
    // One member of the cluster does not answer: the others know as much.
    let daemon = start(&with_alertmanager(&["127.0.0.1:1", alertmanager.address()]), &[("act", ACT)]);
    let decision = rejected(&daemon, "Act", "a", "not_firing");
    let gates = decision["gates"].as_array().unwrap();
    let asked = gates.iter().find(|gate| gate["gate"] == "unconfirmed").unwrap();
    assert_eq!(asked["detail"]["unanswered"], 1, "{decision:#}");
    // The early decision says that this is asked later.
    let matched = daemon.json("/api/decisions?reason=matched");
    let gates = matched["decisions"][0]["gates"].as_array().unwrap().clone();
    assert_eq!(gates.iter().find(|gate| gate["gate"] == "not_firing").unwrap()["verdict"], "later");

    // What was denied is decided anew at the next delivery.
    tell(&alertmanager, &act("a"));
    let id = fire(&daemon, "Act", "a");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");

    tell(&alertmanager, &act("b"));
    let silence = json!({
        "matchers": [{ "name": "target", "value": "b", "isRegex": false, "isEqual": true }],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z", "createdBy": "me", "comment": "hush",
    });
    let made = http::post(alertmanager.address(), "/api/v2/silences", &silence.to_string()).unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let id = made.json()["silenceID"].as_str().unwrap().to_owned();
    let muted = |target: &str| {
        eventually("the alert being muted", LIMIT, || {
            let text = http::get(alertmanager.address(), "/api/v2/alerts").unwrap().text();
            let known: Value = serde_json::from_str(&text).unwrap();
            let mut known = known.as_array().unwrap().iter();
            known
                .any(|alert| alert["labels"] == act(target) && alert["status"]["state"] == "suppressed")
                .then_some(())
        });
    };
    muted("b");
    let decision = rejected(&daemon, "Act", "b", "silenced");
    assert!(decision["message"].as_str().unwrap().contains(&id), "{decision:#}");

    tell(&alertmanager, &act("c"));
    tell(&alertmanager, &json!({ "alertname": "Master", "target": "c" }));
    muted("c");
    let decision = rejected(&daemon, "Act", "c", "silenced");
    assert!(decision["message"].as_str().unwrap().contains("inhibited by"), "{decision:#}");
    assert_eq!(ledger(&daemon), ["act a"]);
}

#[test]
fn an_alertmanager_that_cannot_be_asked_denies() {
    let only_looks = ACT
        .replace("alerts = [\"Act\"]", "alerts = [\"Look\"]")
        .replace("id = \"act\"", "id = \"act\"\neffect = \"read_only\"");
    let daemon = start(&with_alertmanager(&["127.0.0.1:1"]), &[("act", ACT), ("look", &only_looks)]);
    rejected(&daemon, "Act", "a", "unconfirmed");
    assert!(ledger(&daemon).is_empty());
    // What changes nothing need not be confirmed.
    let id = fire(&daemon, "Look", "b");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
}

#[test]
fn too_much_unhealthy_and_a_failed_precheck_deny_and_so_does_what_is_not_known() {
    let address = Prometheus::reserve();
    let runbook = |alert: &str, guard: &str| {
        ACT.replace("alerts = [\"Act\"]", &format!("alerts = [\"{alert}\"]"))
            .replace("[[steps]]", &format!("[guard]\n{guard}\n[[steps]]"))
    };
    let unhealthy =
        |query: &str, limit: &str| format!("max_unhealthy = {{ promql = \"{query}\", limit = {limit} }}");
    let part = |query: &str, of: &str| {
        format!("max_unhealthy = {{ promql = \"{query}\", limit = \"30%\", of = {{ promql = \"{of}\" }} }}")
    };
    let precheck = |query: &str| format!("precheck = {{ promql = \"{query}\", expect = \"> 0\" }}");
    let cases = [
        ("two", unhealthy("vector(2)", "2"), None),
        ("three", unhealthy("vector(3)", "2"), Some("systemic")),
        ("nodata", unhealthy("vector(3) > 4", "2"), Some("systemic")),
        ("part", part("vector(3)", "vector(10)"), None),
        ("floor", part("vector(3)", "vector(9)"), Some("systemic")),
        ("nofleet", part("vector(0)", "absent(vector(1))"), Some("systemic")),
        ("ready", precheck("vector(1)"), None),
        ("unready", precheck("vector(0)"), Some("precheck_failed")),
        ("unknown", precheck("vector(1) > 2"), Some("precheck_failed")),
        ("wrong", precheck("sum("), Some("precheck_failed")),
    ];
    let texts: Vec<String> = cases.iter().map(|(alert, guard, _)| runbook(alert, guard)).collect();
    let runbooks: Vec<(&str, &str)> =
        cases.iter().zip(&texts).map(|((id, ..), text)| (*id, text.as_str())).collect();
    let daemon = start(&format!("[prometheus]\nurl = \"http://{address}\"\n"), &runbooks);
    rejected(&daemon, "three", "down", "systemic");
    rejected(&daemon, "ready", "down", "precheck_failed");
    let _prometheus = Prometheus::start(&address, "127.0.0.1:1", "127.0.0.1:1", "");
    for (alert, _, reason) in &cases {
        match reason {
            Some(reason) => drop(rejected(&daemon, alert, "up", reason)),
            None => {
                let id = fire(&daemon, alert, "up");
                let execution = finished(&daemon, &id);
                assert_eq!(execution["status"], "succeeded", "{alert}: {execution:#}");
            }
        }
    }
}

/// `ACT` for another alert, where at most 30% of the `metric` of a fleet may be 0.
fn of_a_fleet(alert: &str, metric: &str) -> String {
    let guard = format!(
        "[guard]\nmax_unhealthy = {{ promql = \"sum({metric} == bool 0)\", limit = \"30%\", of = {{ promql = \"count({metric})\" }} }}\n[[steps]]"
    );
    ACT.replace("alerts = [\"Act\"]", &format!("alerts = [\"{alert}\"]")).replace("[[steps]]", &guard)
}

#[test]
fn a_fleet_that_nobody_knows_denies_and_one_that_is_well_does_not() {
    let (exporter, address) = (Exporter::start(), Prometheus::reserve());
    exporter.set(&[("host_up{host=\"a\"}", 1.0), ("host_up{host=\"b\"}", 1.0)]);
    let (known, unknown) = (of_a_fleet("Known", "host_up"), of_a_fleet("Unknown", "no_such_metric"));
    let runbooks = [("known", known.as_str()), ("unknown", unknown.as_str())];
    let daemon = start(&format!("[prometheus]\nurl = \"http://{address}\"\n"), &runbooks);
    let prometheus = Prometheus::start(&address, &exporter.address(), "127.0.0.1:1", "");
    let ill = |count: &str| {
        eventually(&format!("{count} ill hosts"), SCRAPED, || {
            let seen = prometheus.query("sum(host_up == bool 0)");
            (seen.first()?["value"][1] == count).then_some(())
        });
    };
    ill("0");
    let decision = rejected(&daemon, "Unknown", "a", "systemic");
    let message = decision["message"].as_str().unwrap();
    assert!(message.starts_with("how many are unhealthy is not known: no data"), "{message}");
    let id = fire(&daemon, "Known", "a");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    exporter.set(&[("host_up{host=\"a\"}", 0.0)]);
    ill("1");
    let decision = rejected(&daemon, "Known", "b", "systemic");
    let message = decision["message"].as_str().unwrap();
    assert!(message.starts_with("1 are unhealthy and only 30% of 2 may be"), "{message}");
    assert_eq!(ledger(&daemon), ["act a"]);
}

#[test]
fn of_two_hundred_ill_hosts_none_is_acted_on_and_people_are_told_once_with_the_totals() {
    let (exporter, address, receiver) = (Exporter::start(), Prometheus::reserve(), Receiver::start(&[]));
    let hosts: Vec<String> = (0..200).map(|number| format!("host-{number}")).collect();
    let samples: Vec<String> = hosts.iter().map(|host| format!("host_up{{host=\"{host}\"}}")).collect();
    let ill: Vec<(&str, f64)> = samples.iter().map(|sample| (sample.as_str(), 0.0)).collect();
    exporter.set(&ill);
    let more = format!(
        "[prometheus]\nurl = \"http://{address}\"\n[automation]\nescalate_to = [\"hook\"]\n\
         [notifiers.hook]\nkind = \"webhook\"\nurl = \"{}\"\n",
        receiver.url("/")
    );
    let daemon = start(&more, &[("fleet", &of_a_fleet("Down", "host_up"))]);
    let prometheus = Prometheus::start(&address, &exporter.address(), "127.0.0.1:1", "");
    eventually("the fleet", SCRAPED, || (prometheus.query("host_up").len() == 200).then_some(()));
    let targets: Vec<&str> = hosts.iter().map(String::as_str).collect();
    assert_eq!(daemon.webhook(&body("Down", "firing", &targets)).json()["runbooks_triggered"], 200);
    let executions = eventually("the end of all", SCRAPED, || {
        let executions = daemon.executions();
        executions.iter().all(is_final).then_some(executions)
    });
    assert_eq!(executions.len(), 200);
    for execution in &executions {
        assert_eq!((&execution["status"], &execution["reason"]), (&json!("rejected"), &json!("systemic")));
        assert_eq!(execution["started_at"], Value::Null);
    }
    assert!(ledger(&daemon).is_empty());
    receiver.wait_for(1);
    let told = eventually("the message being sent", LIMIT, || {
        let all = daemon.json("/api/escalations")["escalations"].as_array().unwrap().clone();
        (all.first()?["deliveries"][0]["state"] == "sent").then_some(all)
    });
    assert_eq!(told.len(), 1, "{told:#?}");
    let totals = &told[0]["totals"];
    assert_eq!((&totals["count"], &totals["more_targets"]), (&json!(200), &json!(true)), "{totals:#}");
    let messages = receiver.told();
    assert_eq!(messages.len(), 1);
    let subject = messages[0].json()["subject"].as_str().unwrap().to_owned();
    assert!(subject.starts_with("fleet: not run ") && subject.ends_with("(systemic)"), "{subject}");
}

#[test]
fn what_is_denied_late_takes_no_place_among_the_runs_that_are_counted() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let text = ACT.replace("alerts = [\"Act\"]", "alerts = [\"Act\", \"Again\"]").replace(
        "[[steps]]",
        "[guard]\nmax_runs = [{ count = 1, within = \"1h\" }]\nmax_targets = { count = 1, within = \"1h\" }\ncooldown = \"1h\"\n[[steps]]",
    );
    let daemon = start(&with_alertmanager(&[alertmanager.address()]), &[("act", &text)]);
    // Kept, the place of the first would deny the second, and a target of its own the third.
    for target in ["a", "a", "b"] {
        rejected(&daemon, "Act", target, "not_firing");
    }
    tell(&alertmanager, &act("a"));
    let id = fire(&daemon, "Act", "a");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    for (alertname, target, reason) in [("Again", "a", "cooldown"), ("Act", "b", "too_many_targets")] {
        let answer = daemon.webhook(&body(alertname, "firing", &[target])).json();
        assert_eq!(answer["decisions"][0]["reason"], reason, "{answer:#}");
    }
    assert_eq!(ledger(&daemon), ["act a"]);
}

#[test]
fn a_crash_while_it_is_asked_asks_again() {
    // A Prometheus that takes the question and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let text = ACT
        .replace("[[steps]]", "[guard]\nprecheck = { promql = \"vector(1)\", expect = \"> 0\" }\n[[steps]]");
    let config = config(&format!("[prometheus]\nurl = \"http://{address}\"\n"));
    let mut daemon = Daemon::start_at(&free_address(), &config, &[("act", &text)], &[]);
    let id = fire(&daemon, "Act", "a");
    let asked = silent.accept().unwrap();
    assert_eq!(daemon.execution(&id)["status"], "queued");
    daemon.kill();
    drop(asked);
    daemon.start_again();
    let _asked_again = silent.accept().unwrap();
    drop(silent);
    let stop =
        http::post(daemon.address(), &format!("/api/executions/{id}/stop"), "{\"reason\":\"x\"}").unwrap();
    assert_eq!(stop.status, 202, "{}", stop.text());
    assert_eq!(finished(&daemon, &id)["status"], "stopped");
    assert!(ledger(&daemon).is_empty());
}

/// At most two at once, each until a file named as its target is there.
const GATED: &str = r#"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[guard]
max_concurrent = 2
[[steps]]
id = "wait"
effect = "idempotent"
script = { text = 'echo begin >> "$DIR/ledger"; while [ ! -e "$DIR/$T" ]; do sleep 0.02; done', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
"#;

#[test]
fn no_more_of_a_runbook_than_allowed_are_going_at_once() {
    let daemon = start("", &[("gated", GATED), ("act", ACT)]);
    let ids = ["a", "b", "c"].map(|target| fire(&daemon, "Gated", target));
    eventually("two going", LIMIT, || (ledger(&daemon).len() == 2).then_some(()));
    // Others are not held up by it.
    assert_eq!(finished(&daemon, &fire(&daemon, "Act", "x"))["status"], "succeeded");
    assert_eq!(daemon.execution(&ids[2])["status"], "queued");
    fs::write(daemon.dir().join("b"), "").unwrap();
    assert_eq!(finished(&daemon, &ids[1])["status"], "succeeded");
    eventually("the third going", LIMIT, || (ledger(&daemon).len() == 4).then_some(()));
    for target in ["a", "c"] {
        fs::write(daemon.dir().join(target), "").unwrap();
    }
    for id in &ids {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
}

#[test]
fn no_more_of_a_runbook_than_allowed_are_going_at_once_also_after_a_crash() {
    let mut daemon = start("", &[("gated", GATED), ("act", ACT)]);
    let ids = ["a", "b", "c", "d"].map(|target| fire(&daemon, "Gated", target));
    eventually("two going", LIMIT, || (ledger(&daemon).len() == 2).then_some(()));
    daemon.kill();
    daemon.start_again();
    // The two that had begun go on, and hold both places.
    eventually("the two going again", LIMIT, || (ledger(&daemon).len() == 4).then_some(()));
    assert_eq!(finished(&daemon, &fire(&daemon, "Act", "x"))["status"], "succeeded");
    assert_eq!(ledger(&daemon), ["begin", "begin", "begin", "begin", "act x"]);
    let status = |at: usize| daemon.execution(&ids[at])["status"].clone();
    assert_eq!([0, 1, 2, 3].map(status), ["running", "running", "queued", "queued"]);
    touch(&daemon, "b");
    assert_eq!(finished(&daemon, &ids[1])["status"], "succeeded");
    eventually("the third going", LIMIT, || (ledger(&daemon).len() == 6).then_some(()));
    assert_eq!(finished(&daemon, &fire(&daemon, "Act", "y"))["status"], "succeeded");
    assert_eq!([0, 2, 3].map(status), ["running", "running", "queued"]);
    for target in ["a", "c", "d"] {
        touch(&daemon, target);
    }
    for id in &ids {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    assert_eq!(ledger(&daemon).iter().filter(|line| *line == "begin").count(), 6, "each of the others once");
}

#[test]
fn in_mode_approve_nothing_begins_before_people_consent() {
    let text = ACT.replace("mode = \"auto\"", "mode = \"approve\"").replace(
        "[[steps]]\nid",
        "[approval]\ncount = 1\nexpires = \"5m\"\nnot_requester = false\n[[steps]]\nid",
    );
    let daemon = start("", &[("act", &text)]);
    let answer = daemon.webhook(&body("Act", "firing", &["a"])).json();
    assert_eq!(answer["decisions"][0]["verdict"], "approve", "{answer:#}");
    assert_eq!(answer["runbooks_triggered"], 1);
    let id = answer["execution_ids"][0].as_str().unwrap().to_owned();
    wait_for_status(&daemon, &id, "awaiting_approval");
    let waiting = daemon.execution(&id);
    assert_eq!(
        (&waiting["steps"][0]["id"], &waiting["steps"][0]["kind"]),
        (&"approval".into(), &"approve".into())
    );
    assert!(ledger(&daemon).is_empty());
    let approve = json!({ "action": "approve", "reason": "fine" }).to_string();
    let path = format!("/api/executions/{id}/control");
    assert_eq!(http::post(daemon.address(), &path, &approve).unwrap().status, 202);
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    let id = fire(&daemon, "Act", "b");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let reject = json!({ "action": "reject", "reason": "no" }).to_string();
    let path = format!("/api/executions/{id}/control");
    assert_eq!(http::post(daemon.address(), &path, &reject).unwrap().status, 202);
    assert_eq!(finished(&daemon, &id)["status"], "rejected");
    assert_eq!(ledger(&daemon), ["act a"]);
}
