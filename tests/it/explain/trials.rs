//! Trials of other times, and what a trial takes: nothing of it is ever left, not even in the ids that follow.

use super::{run, runbook, simulated};
use crate::support::alerts::{LIMIT, body, config, finished, fire, millis, resolve};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use ulid::Ulid;

fn freeze(year: u16) -> String {
    format!(
        "[[freezes]]\nname = \"far\"\nfrom = \"{year}-01-01T00:00:00Z\"\nuntil = \"{}-01-01T00:00:00Z\"\n",
        year + 1
    )
}

/// How far the time in an id is from the time beside it, in milliseconds.
fn off(id: &str, at: &Value) -> u64 {
    let ulid = Ulid::from_string(id.rsplit('_').next().unwrap()).unwrap();
    ulid.timestamp_ms().abs_diff(u64::try_from(millis(at)).unwrap())
}

#[test]
fn a_trial_of_a_time_that_lies_ahead_leaves_the_ids_of_today_alone() {
    let mut daemon = Daemon::start(&config(&freeze(2098)), &[("auto", &runbook("auto", "auto"))], &[]);
    let alerts = body("auto", "firing", &["a", "b"]);
    let at = |time: &str| http::post(daemon.address(), &format!("/api/simulate?at={time}"), &alerts).unwrap();
    let answer = at("2098-06-01T00:00:00Z");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["at"], &told["decisions"][0]["at"]), (&"2098-06-01T00:00:00Z".into(), &told["at"]));
    assert_eq!(told["decisions"][0]["reason"], "frozen", "{told:#}");
    assert!(told["decisions"][0]["fix"].as_str().unwrap().contains("2099-01-01T00:00:00Z"), "{told:#}");
    assert_eq!(at("2099-06-01T00:00:00Z").json()["decisions"][0]["reason"], "matched");
    let file = daemon.dir().join("body.json");
    fs::write(&file, &alerts).unwrap();
    let shown = run(&daemon, &["simulate", file.to_str().unwrap(), "--at", "2098-06-01T00:00:00Z"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("frozen by \"far\""), "{shown:?}");
    assert!(String::from_utf8_lossy(&shown.stderr).contains("counts, breakers and orders"), "{shown:?}");

    for wrong in ["1969-12-31T23:59:59Z", "-000500-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "soon"] {
        let answer = at(wrong);
        assert_eq!(
            (answer.status, answer.json()["errors"][0]["path"].as_str()),
            (422, Some("at")),
            "{wrong}"
        );
    }
    for right in ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59Z"] {
        assert_eq!(at(right).status, 200, "{right}");
    }

    for life in ["this", "the next"] {
        let id = fire(&daemon, "auto", life);
        let decision = &daemon.json("/api/decisions?limit=1")["decisions"][0];
        assert!(off(&id, &decision["at"]) < 60_000, "{life} life: {id} at {decision}");
        assert!(off(decision["id"].as_str().unwrap(), &decision["at"]) < 60_000, "{life} life: {decision}");
        daemon.kill();
        daemon.start_again();
    }
}

#[test]
fn a_trial_of_the_past_tells_the_true_times_of_what_is_counted_now() {
    let guard = "[automation.guard]\ncooldown = \"1h\"\n";
    let daemon = Daemon::start(&config(guard), &[("auto", &runbook("auto", "auto"))], &[]);
    let id = fire(&daemon, "auto", "a");
    finished(&daemon, &id);
    let ended = daemon.execution(&id)["finished_at"].clone();
    resolve(&daemon, "auto", "a");
    let other = json!({ "alerts": [{
        "status": "firing", "labels": { "alertname": "auto", "target": "a", "series": "2" },
    }]});
    let path = "/api/simulate?at=2026-01-02T00:00:00Z";
    let told = http::post(daemon.address(), path, &other.to_string()).unwrap().json();
    let decision = &told["decisions"][0];
    assert_eq!(decision["reason"], "cooldown", "{told:#}");
    assert!(millis(&told["counted_at"]) >= millis(&ended), "{told:#}");
    let gates = decision["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["gate"] == "cooldown").unwrap();
    assert!(millis(&gate["detail"]["last"]).abs_diff(millis(&ended)) < 60_000, "{gate:#}");
    assert_eq!(millis(&gate["detail"]["until"]) - millis(&gate["detail"]["last"]), 3_600_000);
    // What follows in one body is counted too.
    let [first, second] = ["3", "4"].map(|series| {
        json!({
            "status": "firing", "labels": { "alertname": "auto", "target": "b", "series": series },
        })
    });
    let told = http::post(daemon.address(), path, &json!({ "alerts": [first, second] }).to_string()).unwrap();
    let reasons: Vec<_> =
        told.json()["decisions"].as_array().unwrap().iter().map(|it| it["reason"].clone()).collect();
    assert_eq!(reasons, ["matched", "cooldown"]);
}

#[test]
fn what_no_webhook_takes_is_not_explained_and_a_trial_is_bounded() {
    let daemon = Daemon::start(&config(""), &[("auto", &runbook("auto", "auto"))], &[]);
    let mut labels: serde_json::Map<String, Value> =
        (0..256).map(|number| (format!("l{number}"), "x".into())).collect();
    labels.insert("alertname".into(), "auto".into());
    for labels in [
        Value::Object(labels),
        json!({ "alertname": "auto", "x": "y".repeat((64 << 10) - 5000) + &"y".repeat(5001) }),
    ] {
        let asked = json!({ "labels": labels });
        let answer = http::post(daemon.address(), "/api/explain", &asked.to_string()).unwrap();
        let is_large = answer.status == 413;
        assert!(is_large || answer.status == 422, "{}", answer.text());
        let alert = json!({ "alerts": [{ "status": "firing", "labels": labels }] }).to_string();
        assert_eq!(simulated(&daemon, &alert)[0]["reason"], "invalid_alert");
        assert_eq!(daemon.webhook(&alert).json()["decisions"][0]["reason"], "invalid_alert");
    }
    // A name that no Prometheus has is one for a webhook all the same, so it is here.
    let odd = json!({ "labels": { "alertname": "auto", "target": "a", "": "x" } }).to_string();
    let answer = http::post(daemon.address(), "/api/explain", &odd).unwrap();
    assert_eq!((answer.status, &answer.json()["reason"]), (200, &"matched".into()), "{}", answer.text());
    // What has no value is no label.
    let asked = json!({ "labels": { "alertname": "auto", "target": "a", "gone": "" } }).to_string();
    let answer = http::post(daemon.address(), "/api/explain", &asked).unwrap().json();
    assert_eq!(answer["labels"], json!({ "alertname": "auto", "target": "a" }));

    let targets: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let answer = http::post(daemon.address(), "/api/simulate", &body("auto", "firing", &targets)).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("1001 alerts, and a trial takes 1000"), "{}", answer.text());
    targets.pop();
    assert_eq!(simulated(&daemon, &body("auto", "firing", &targets)).len(), 1000);
}

#[test]
fn a_request_that_could_mean_two_things_is_refused() {
    let daemon = Daemon::start(&config(""), &[("auto", &runbook("auto", "auto"))], &[]);
    fire(&daemon, "auto", "a");
    let past = daemon.json("/api/decisions?limit=1")["decisions"][0]["id"].clone();
    for (wrong, status) in [
        (json!({ "decision_id": past, "x": 1 }), 422),
        (json!({ "decision_id": past, "alerts": [] }), 422),
        (json!({ "decision_id": 7 }), 422),
        (json!({ "decision_id": past }), 200),
    ] {
        let answer = http::post(daemon.address(), "/api/simulate", &wrong.to_string()).unwrap();
        assert_eq!(answer.status, status, "{wrong}: {}", answer.text());
    }
    for path in ["/api/simulate", "/api/explain"] {
        let headers = [("Content-Type", "text/plain")];
        let body = "{\"alerts\":[]}";
        let answer = http::request(daemon.address(), "POST", path, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 415, "{path}: {}", answer.text());
    }
    for twice in ["alertname=a&alertname=b", "reason=repeat&reason=repeat", "limit=1&limit=2"] {
        let answer = daemon.try_get(&format!("/api/decisions?{twice}")).unwrap();
        assert_eq!(answer.status, 422, "{twice}: {}", answer.text());
        assert!(answer.text().contains("given more than once"), "{twice}: {}", answer.text());
    }
}

#[test]
fn shadow_mode_says_who_was_not_asked_and_counts_each_version_for_itself() {
    let prometheus = "[prometheus]\nurl = \"http://127.0.0.1:1\"\n";
    let text = format!(
        "{}[guard]\nconfirm = true\nprecheck = {{ promql = \"up\", expect = \"> 0\" }}\n",
        runbook("auto", "shadow")
    );
    let alertmanager = "[alertmanager]\nurls = [\"http://127.0.0.1:1\"]\n";
    let daemon = Daemon::start(&config(&format!("{prometheus}{alertmanager}")), &[("auto", &text)], &[]);
    assert_eq!(daemon.webhook(&body("auto", "firing", &["a"])).json()["decisions"][0]["reason"], "shadow");
    let shadow = || daemon.json("/api/runbooks/auto/shadow");
    let first = shadow();
    assert_eq!((&first["version"], &first["would_have_run"]), (&json!(1), &json!(1)));
    assert_eq!(first["not_asked"], json!(["unconfirmed", "not_firing", "silenced", "precheck_failed"]));
    let told = String::from_utf8(run(&daemon, &["runbooks", "shadow", "auto"]).stdout).unwrap();
    assert!(told.contains("Not asked") && told.contains("precheck_failed"), "{told}");

    fs::write(daemon.dir().join("runbooks/auto.toml"), format!("# the same\n{text}")).unwrap();
    daemon.hang_up();
    let second = eventually("the version of the new text", LIMIT, || {
        Some(shadow()).filter(|shadow| shadow["version"] == 2)
    });
    assert_eq!((&second["would_have_run"], &second["since"]), (&json!(0), &Value::Null));
    assert_eq!(
        (&second["previous"]["version"], &second["previous"]["would_have_run"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(daemon.webhook(&body("auto", "firing", &["b"])).json()["decisions"][0]["reason"], "shadow");
    let third = shadow();
    assert_eq!((&third["would_have_run"], &third["previous"]), (&json!(1), &second["previous"]));
}
