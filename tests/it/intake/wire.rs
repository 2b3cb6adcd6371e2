//! The webhook over HTTP, on the real binary: every status code, every key of the answer, every kind of sender.

use super::bench::{corpus, files, firing, read};
use crate::support::alerts::millis;
use crate::support::daemon::Daemon;
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PATH: &str = "/api/sre/alerts/webhook";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const OPEN: &str = "[webhook]\nallow_unauthenticated = true\n[runbooks]\nwatch = false\n";
const ANSWER_KEYS: [&str; 6] =
    ["alerts_processed", "decisions", "execution_ids", "runbooks_triggered", "status", "webhook_received_at"];
const DECISION_KEYS: [&str; 7] =
    ["alertname", "execution_id", "fingerprint", "reason", "runbook", "status", "verdict"];

const SERVICE_UNAVAILABLE: &str = r#"
title = "Service unavailable"
mode = "auto"
alerts = ["ServiceDown"]
target = "{{ labels.instance }}"
[allow]
matchers = ['severity="critical"']
[[steps]]
id = "check"
command = { program = "true", args = ["{{ labels.instance }}"] }
"#;

const WATCHED: &str = r#"
title = "Only shown"
mode = "shadow"
alerts = ["Watched"]
target = "{{ labels.instance }}"
[[steps]]
id = "act"
command = { program = "true" }
"#;

/// Method, headers, body; status, code.
type Refused<'r> = (&'r str, &'r [(&'r str, &'r str)], &'r str, u16, &'r str);

fn send(daemon: &Daemon, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    http::request(daemon.address(), method, PATH, headers, body).unwrap()
}

fn post(daemon: &Daemon, body: &Value) -> Value {
    let answer = daemon.webhook(&body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The answer to one alert: verdict, reason.
fn ruling(answer: &Value) -> (&str, &str) {
    let decision = &answer["decisions"][0];
    (decision["verdict"].as_str().unwrap(), decision["reason"].as_str().unwrap())
}

#[test]
fn every_refusal_has_its_status_a_sentence_and_a_code() {
    let config = format!("{OPEN}[server]\nmax_body = \"1MiB\"\n");
    let daemon = Daemon::start(&config, &[], &[]);
    let deep = format!(r#"{{"alerts":[],"x":{}{}}}"#, "[".repeat(33), "]".repeat(33));
    let bottomless = "[".repeat(1_000_000);
    let many = format!(r#"{{"alerts":[{}]}}"#, vec!["0"; 10_001].join(","));
    let long = format!(r#"{{"alerts":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    let text = ("Content-Type", "text/plain");
    let cases: &[Refused<'_>] = &[
        ("POST", &[JSON], "", 400, "malformed"),
        ("POST", &[JSON], "{", 400, "malformed"),
        ("POST", &[JSON], "{\"alerts\":[]} x", 400, "malformed"),
        ("POST", &[JSON], "null", 400, "malformed"),
        ("POST", &[JSON], "[]", 400, "malformed"),
        ("POST", &[JSON], "[[]]", 400, "malformed"),
        ("POST", &[JSON], "\"alerts\"", 400, "malformed"),
        ("POST", &[JSON], "{}", 400, "malformed"),
        ("POST", &[JSON], r#"{"alerts":null}"#, 400, "malformed"),
        ("POST", &[JSON], r#"{"alerts":{}}"#, 400, "malformed"),
        ("POST", &[JSON], r#"{"alerts":"all"}"#, 400, "malformed"),
        ("POST", &[JSON], r#"{"Alerts":[]}"#, 400, "malformed"),
        ("POST", &[JSON], r#"{"alerts":[],"alerts":[]}"#, 400, "malformed"),
        ("POST", &[JSON], &deep, 400, "malformed"),
        ("POST", &[JSON], &bottomless, 400, "malformed"),
        ("GET", &[], "", 405, "method_not_allowed"),
        ("DELETE", &[], "", 405, "method_not_allowed"),
        ("PATCH", &[JSON], r#"{"alerts":[]}"#, 405, "method_not_allowed"),
        ("OPTIONS", &[], "", 405, "method_not_allowed"),
        ("POST", &[JSON], &many, 413, "too_large"),
        ("POST", &[JSON], &long, 413, "too_large"),
        ("POST", &[text], r#"{"alerts":[]}"#, 415, "unsupported_media_type"),
        (
            "POST",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            "a=b",
            415,
            "unsupported_media_type",
        ),
        ("POST", &[JSON, text], r#"{"alerts":[]}"#, 415, "unsupported_media_type"),
        ("POST", &[JSON, ("Content-Encoding", "gzip")], "x", 415, "unsupported_media_type"),
    ];
    for (method, headers, body, status, code) in cases {
        let answer = send(&daemon, method, headers, body.as_bytes());
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status, *status, "{method} {headers:?} {shown}: {}", answer.text());
        let error = answer.json();
        assert_eq!(
            (error["code"].as_str(), keys(&error)),
            (Some(*code), vec!["code", "error"]),
            "{method} {shown}"
        );
        // Alertmanager writes the whole answer into its log.
        assert!(answer.body.len() < 400, "{}", answer.text());
        if *status == 405 {
            assert_eq!(answer.header("allow"), Some("POST, PUT"), "{method}");
        }
    }
    let head = send(&daemon, "HEAD", &[], b"");
    assert_eq!((head.status, head.body.len()), (405, 0));
    assert_eq!(daemon.json("/api/decisions")["decisions"], json!([]));
}

#[test]
fn a_body_announced_too_long_is_refused_before_it_is_sent() {
    let daemon = Daemon::start(&format!("{OPEN}[server]\nmax_body = \"1MiB\"\n"), &[], &[]);
    for length in ["1048577", "99999999999999"] {
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = http::raw(daemon.address(), head.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("too_large")), "{length}");
    }
}

#[test]
fn post_and_put_with_and_without_a_slash_are_taken_and_nothing_redirects() {
    let daemon = Daemon::start(OPEN, &[], &[]);
    let slash = format!("{PATH}/");
    for (method, path) in [("POST", PATH), ("PUT", PATH), ("POST", &slash), ("PUT", &slash)] {
        for headers in [&[JSON][..], &[("Content-Type", "application/json; charset=utf-8")], &[]] {
            let answer = http::request(daemon.address(), method, path, headers, br#"{"alerts":[]}"#).unwrap();
            assert_eq!(answer.status, 200, "{method} {path} {headers:?}: {}", answer.text());
            let body = answer.json();
            assert_eq!(keys(&body), ANSWER_KEYS);
            assert_eq!(
                (&body["status"], &body["alerts_processed"], &body["decisions"]),
                (&json!("processed"), &json!(0), &json!([]))
            );
        }
    }
    for path in [
        "/api/sre/alerts/webhook//",
        "//api/sre/alerts/webhook",
        "/api/sre/alerts",
        "/api/sre/alerts/Webhook",
    ] {
        let answer = http::request(daemon.address(), "POST", path, &[JSON], br#"{"alerts":[]}"#).unwrap();
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn a_webhook_credential_opens_the_webhook_and_nothing_else() {
    let config = r#"
        [webhook]
        bearer = [{ env = "OLD_TOKEN" }, { env = "NEW_TOKEN" }]
        basic = { user = "alertmanager", password = { env = "PASSWORD" } }
        [auth]
        jwt = { secret = { env = "JWT" }, issuer = "i", audience = "a" }
        [runbooks]
        watch = false
    "#;
    let env = [
        ("OLD_TOKEN", "the-old-token-the-old-token-the-old"),
        ("NEW_TOKEN", "the-new-token-the-new-token-the-new"),
        ("PASSWORD", "colon:in the password, 16 or more"),
        ("JWT", "a secret of more than thirty-two bytes"),
    ];
    let daemon = Daemon::start(config, &[], &env);
    // printf 'alertmanager:colon:in the password, 16 or more' | base64
    let basic = "Basic YWxlcnRtYW5hZ2VyOmNvbG9uOmluIHRoZSBwYXNzd29yZCwgMTYgb3IgbW9yZQ==";
    let right =
        ["Bearer the-old-token-the-old-token-the-old", "Bearer the-new-token-the-new-token-the-new", basic];
    for credential in right {
        let answer = send(&daemon, "POST", &[JSON, ("Authorization", credential)], br#"{"alerts":[]}"#);
        assert_eq!(answer.status, 200, "{credential}: {}", answer.text());
        for path in
            ["/api/decisions", "/api/executions", "/api/sre/runbooks/integration-status", "/api/config"]
        {
            let answer =
                http::request(daemon.address(), "GET", path, &[("Authorization", credential)], b"").unwrap();
            assert_eq!(answer.status, 401, "{path} with {credential}");
        }
    }
    let wrong = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer the-old-token-the-old-token-the-ol"),
        Some("Bearer the-old-token-the-old-token-the-oldd"),
        Some("Token the-old-token-the-old-token-the-old"),
        Some("the-old-token-the-old-token-the-old"),
        Some("Basic the-old-token-the-old-token-the-old"),
        // alertmanager:, alertmanager:colon, :colon:in the password, 16 or more
        Some("Basic YWxlcnRtYW5hZ2VyOg=="),
        Some("Basic YWxlcnRtYW5hZ2VyOmNvbG9u"),
        Some("Basic OmNvbG9uOmluIHRoZSBwYXNzd29yZCwgMTYgb3IgbW9yZQ=="),
        Some("Basic !"),
    ];
    for credential in wrong {
        let authorization = credential.map(|credential| ("Authorization", credential));
        let headers: Vec<_> = [JSON].into_iter().chain(authorization).collect();
        // Who may not send is told so before what is sent is looked at.
        for body in ["{\"alerts\":[]}", "no json"] {
            let answer = send(&daemon, "POST", &headers, body.as_bytes());
            assert_eq!(
                (answer.status, answer.json()["code"].as_str()),
                (401, Some("unauthorized")),
                "{credential:?}"
            );
            assert!(answer.header("www-authenticate").is_some());
            assert!(!answer.text().contains("token"), "{}", answer.text());
        }
    }
    assert!(!daemon.log().contains("the-old-token"), "a credential is in the log");
}

#[test]
fn a_body_of_grafana_and_one_of_the_newest_alertmanager_are_understood() {
    let daemon = Daemon::start(OPEN, &[("service_unavailable", SERVICE_UNAVAILABLE)], &[]);
    let grafana = json!({
        "receiver": "runbookd", "status": "firing", "orgId": 1, "version": "1", "groupKey": "{}:{alertname=\"x\"}",
        "title": "[FIRING:1] ServiceDown", "state": "alerting", "message": "**Firing**\n\nValue: B=22.0",
        "truncatedAlerts": 0, "externalURL": "http://grafana.example/", "groupLabels": null, "commonLabels": {},
        "commonAnnotations": null,
        "alerts": [{
            "status": "firing",
            "labels": { "alertname": "ServiceDown", "instance": "web-1", "severity": "critical", "grafana_folder": "Ops" },
            "annotations": { "summary": "web-1 is down" },
            "startsAt": "2026-11-21T10:00:00.123456789+01:00", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://grafana.example/alerting/1/edit", "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "http://grafana.example/s", "dashboardURL": "", "panelURL": null, "imageURL": null,
            "values": { "A": 1e300, "B": null }, "valueString": "[ var='B' value=22 ]", "orgId": 1
        }]
    });
    let answer = send(&daemon, "PUT", &[JSON, ("User-Agent", "Grafana")], grafana.to_string().as_bytes());
    let answer = answer.json();
    assert_eq!(ruling(&answer), ("execute", "matched"));
    // Grafana hashes labels it does not show: its fingerprint is passed on, not judged.
    assert_eq!(answer["decisions"][0]["fingerprint"], "c6eadffa33fcdf37");
    let execution = daemon.execution(answer["execution_ids"][0].as_str().unwrap());
    assert_eq!(execution["trigger"]["starts_at"], "2026-11-21T09:00:00.123456789Z");

    let newest = json!({
        "version": "4", "notification_reason": "first notification", "routeLabels": {}, "truncatedAlerts": 0,
        "alerts": [firing("ServiceDown", "web-2", "2026-11-21T10:00:00Z")]
    });
    assert_eq!(ruling(&post(&daemon, &newest)), ("execute", "matched"));
}

#[test]
fn what_is_odd_in_a_body_is_no_reason_to_lose_its_alerts() {
    let daemon = Daemon::start(OPEN, &[("watched", WATCHED)], &[]);
    let alert = |rest: &str| {
        format!(
            r#"{{"alerts":[{{"status":"firing","labels":{{"alertname":"Watched","instance":"a"}}{rest}}}]}}"#
        )
    };
    for body in [
        alert(""),
        alert(r#","startsAt":null,"endsAt":null,"annotations":null,"fingerprint":null,"generatorURL":null"#),
        alert(r#","new":{"deep":[[[]]]},"values":{"A":1e999,"B":-0.0,"C":123456789012345678901234567890}"#),
        alert(r#","endsAt":"never","fingerprint":"x","generatorURL":5,"annotations":[]"#),
        alert(r#","startsAt":"0001-01-01T00:00:00Z""#),
        // Of a name that stands twice the last one counts, as in Go.
        alert(r#","status":"gone","status":"firing""#),
        alert(r#","valueString":"\ud800","x":"\u0000""#),
        alert("").replacen('{', r#"{"version":4,"truncatedAlerts":1e999,"status":7,"commonLabels":[],"#, 1),
        alert("").replacen('{', r#"{"truncatedAlerts":-1,"groupKey":"\ud800","#, 1),
        alert("").replacen('{', r#"{"truncatedAlerts":18446744073709551616,"#, 1),
        format!("\r\n\t {}\n", alert("")),
    ] {
        let answer = daemon.webhook(&body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        assert_eq!(ruling(&answer.json()), ("skip", "shadow"), "{body}");
    }
}

#[test]
fn one_bad_element_does_not_hide_the_others_and_each_is_answered() {
    let daemon = Daemon::start(OPEN, &[("service_unavailable", SERVICE_UNAVAILABLE)], &[]);
    let mut elements = vec![
        json!(null),
        json!("alert"),
        json!([]),
        json!({}),
        json!({ "status": "firing", "labels": null }),
        json!({ "status": "firing", "labels": { "alertname": 5 } }),
        json!({ "status": "firing", "labels": { "severity": "critical" } }),
        json!({ "status": "suppressed", "labels": { "alertname": "ServiceDown" } }),
        json!({ "status": "firing", "labels": { "alertname": "ServiceDown" }, "startsAt": "yesterday" }),
        json!({ "status": "firing", "labels": { "alertname": "ServiceDown" }, "startsAt": 1 }),
    ];
    let bad = elements.len();
    elements.push(firing("ServiceDown", "web-1", "2026-11-21T10:00:00Z"));
    let answer = post(&daemon, &json!({ "alerts": elements }));
    assert_eq!((&answer["alerts_processed"], &answer["runbooks_triggered"]), (&json!(11), &json!(1)));
    let decisions = answer["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), bad + 1);
    for decision in decisions {
        assert_eq!(keys(decision), DECISION_KEYS);
    }
    for decision in &decisions[..bad] {
        let told = (&decision["reason"], &decision["verdict"], &decision["status"], &decision["fingerprint"]);
        assert_eq!(told, (&json!("invalid_alert"), &json!("skip"), &Value::Null, &Value::Null));
    }
    assert_eq!(decisions[bad]["verdict"], "execute");
    assert_eq!(decisions[bad]["execution_id"], answer["execution_ids"][0]);
}

/// The two requests that the original integration documents: a delivery, and the question how it stands.
#[test]
fn the_documented_requests_get_the_documented_answers() {
    let daemon = Daemon::start(OPEN, &[("service_unavailable", SERVICE_UNAVAILABLE)], &[]);
    let before = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!(before["last_webhook_at"], Value::Null);
    let body = json!({
        "version": "4", "status": "firing", "receiver": "automation",
        "alerts": [{
            "status": "firing",
            "labels": { "alertname": "ServiceDown", "severity": "critical", "instance": "web-1:9100" },
            "annotations": { "summary": "Service is down", "automation_runbook": "service_unavailable" },
            "startsAt": "2026-11-21T10:00:00Z"
        }]
    });
    let answer = post(&daemon, &body);
    assert_eq!(keys(&answer), ANSWER_KEYS);
    let counts = (&answer["status"], &answer["alerts_processed"], &answer["runbooks_triggered"]);
    assert_eq!(counts, (&json!("processed"), &json!(1), &json!(1)));
    let id = answer["execution_ids"][0].as_str().unwrap();
    let ulid = id.strip_prefix("service_unavailable_").expect("the id begins with the runbook's");
    assert_eq!(ulid.len(), 26);
    eventually("the execution succeeds", Duration::from_secs(20), || {
        (daemon.execution(id)["status"] == "succeeded").then_some(())
    });

    // What is durable is counted a moment later.
    let status = eventually("nothing being active", Duration::from_secs(20), || {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        (status["active_executions"] == 0).then_some(status)
    });
    assert_eq!((&status["status"], &status["available_runbooks"]), (&json!("enabled"), &json!(1)));
    assert_eq!(status["runbook_alert_mappings"], json!({ "ServiceDown": "service_unavailable" }));
    assert!(millis(&status["last_updated"]) >= millis(&answer["webhook_received_at"]));
    assert_eq!(status["last_webhook_at"], answer["webhook_received_at"]);
    assert_eq!(status.get("reason"), None);
}

#[test]
fn a_full_queue_is_503_with_a_time_to_come_back_and_nothing_of_the_request_remains() {
    let config = format!("{OPEN}[automation]\nqueue_limit = 1\n");
    let daemon = Daemon::start(&config, &[("service_unavailable", SERVICE_UNAVAILABLE)], &[]);
    let alert = |instance| firing("ServiceDown", instance, "2026-11-21T10:00:00Z");
    for _ in 0..3 {
        let answer = daemon.webhook(&json!({ "alerts": [alert("a"), alert("b")] }).to_string());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("queue_full")));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(daemon.json("/api/decisions")["decisions"], json!([]));
    assert_eq!(daemon.executions(), Vec::<Value>::new());
    assert_eq!(ruling(&post(&daemon, &json!({ "alerts": [alert("a")] }))), ("execute", "matched"));
}

#[test]
fn every_captured_body_is_taken_over_http() {
    let daemon = Daemon::start(OPEN, &[], &[]);
    for (name, path) in files(&corpus("payloads"), "json") {
        let body = read(&path);
        let answer = daemon.webhook(&body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let sent: Value = serde_json::from_str(&body).unwrap();
        let sent = sent["alerts"].as_array().unwrap().len();
        assert_eq!(answer.json()["alerts_processed"], sent, "{name}");
    }
    let log = daemon.logged("the sender left alerts out", 2);
    assert_eq!(log.matches("the sender left alerts out").count(), 2);
}

/// How many units of work became durable so far.
fn works(daemon: &Daemon) -> f64 {
    daemon.metric("runbookd_journal_commit_batch_size_sum")
}

#[test]
fn a_thousand_alerts_are_one_commit_and_a_thousand_decisions() {
    let runbooks = [("watched", WATCHED), ("service_unavailable", SERVICE_UNAVAILABLE)];
    let daemon = Daemon::start(OPEN, &runbooks, &[]);
    let body = |alertname: &str, count: usize| {
        let alerts: Vec<_> =
            (0..count).map(|n| firing(alertname, &format!("web-{n}"), "2026-11-21T10:00:00Z")).collect();
        json!({ "alerts": alerts })
    };
    let before = works(&daemon);
    let begun = Instant::now();
    assert_eq!(post(&daemon, &body("Watched", 1_000))["alerts_processed"], 1_000);
    println!("1,000 alerts that start nothing: {:?}", begun.elapsed());
    // A commit is counted just after it is acknowledged; behind a second one, the first must be.
    post(&daemon, &body("Watched", 1));
    eventually("two commits", Duration::from_secs(20), || (works(&daemon) >= before + 2.0).then_some(()));
    assert!((works(&daemon) - before - 2.0).abs() < 0.5, "more than one commit for a request");

    let mut ids = BTreeSet::new();
    let mut path = "/api/decisions?reason=shadow&limit=300".to_owned();
    loop {
        let page = daemon.json(&path);
        ids.extend(
            page["decisions"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/decisions?reason=shadow&limit=300&cursor={cursor}");
    }
    assert_eq!(ids.len(), 1_000);

    let begun = Instant::now();
    let answer = post(&daemon, &body("ServiceDown", 1_000));
    println!("1,000 alerts that start as many executions: {:?}", begun.elapsed());
    let ids: BTreeSet<&str> =
        answer["execution_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), &answer["runbooks_triggered"]), (1_000, &json!(1_000)));
}
