//! Breakers, quarantine and the audit log on the real program: what people open and clear counts for the next alert,
//! is there after a crash, and stands in a log that shows when it was touched.

use crate::support::alerts::{config, finished};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use runbookd::guard::Quarantine;
use runbookd::model::{ExecutionId, RunbookId, Target, Timestamp};
use runbookd::store::records::{Records, key, quarantine, transact};
use runbookd::store::{SledOptions, SledStore, Store};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

const ACT: &str = r#"
mode = "auto"
alerts = ["Down"]
target = "{{ labels.instance }}"
[[steps]]
id = "act"
command = { program = "true" }
"#;
const LOOK: &str = r#"
mode = "auto"
alerts = ["Look"]
[[steps]]
id = "look"
wait = { for = "1ms" }
"#;

fn daemon() -> Daemon {
    Daemon::start(&config(""), &[("act", ACT), ("look", LOOK)], &[])
}

fn ask(daemon: &Daemon, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = http::send(daemon.address(), method, path, body).unwrap();
    (answer.status, answer.json())
}

/// What is decided on an alert that fires for this target.
fn decided(daemon: &Daemon, alertname: &str, target: &str) -> Value {
    let body = json!({ "alerts": [{ "status": "firing", "labels": { "alertname": alertname, "instance": target } }] });
    let answer = daemon.webhook(&body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["decisions"][0].clone()
}

fn cli(daemon: &Daemon, line: &[&str]) -> Output {
    let url = format!("http://{}", daemon.address());
    Command::new(BINARY).args(line).args(["--url", &url]).env_remove("RUNBOOKD_TOKEN").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn verify_here(storage: &Path) -> Output {
    Command::new(BINARY).args(["audit", "verify", "--storage.path"]).arg(storage).output().unwrap()
}

#[test]
fn a_breaker_that_a_person_opened_denies_until_it_is_reset_also_after_a_crash() {
    let mut daemon = daemon();
    assert_eq!(daemon.json("/api/breakers"), json!({ "breakers": [], "next_cursor": null }));
    assert_eq!(daemon.metric(r#"runbookd_breaker_state{breaker="runbook:look"}"#), 1.0);
    let target = "mount:/var/lib 1";
    let path = "/api/breakers/runbook:act:mount%3A%2Fvar%2Flib%201";
    let (status, opened) = ask(&daemon, "POST", &format!("{path}/open"), r#"{"reason":"hands off"}"#);
    assert_eq!(status, 200, "{opened}");
    assert_eq!(
        (&opened["key"], &opened["state"], &opened["forced"], &opened["profile"], &opened["retry_at"]),
        (
            &json!("runbook:act:mount:/var/lib 1"),
            &json!("open"),
            &json!(true),
            &json!("default"),
            &json!(null)
        )
    );
    ask(&daemon, "POST", "/api/breakers/runbook%3Alook/open", "");
    daemon.kill();
    daemon.start_again();
    let denied = decided(&daemon, "Down", target);
    assert_eq!((&denied["verdict"], &denied["reason"]), (&json!("skip"), &json!("breaker_open")));
    let decision = &daemon.json("/api/decisions?reason=breaker_open")["decisions"][0];
    let gates = decision["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["gate"] == "breaker_open").unwrap();
    assert_eq!(gate["detail"]["key"], opened["key"], "{gate}");
    assert_eq!(decided(&daemon, "Down", "elsewhere")["reason"], "matched");
    assert_eq!(decided(&daemon, "Look", "x")["reason"], "breaker_open");

    assert_eq!(daemon.json("/api/breakers?state=closed")["breakers"], json!([]));
    assert_eq!(daemon.json("/api/breakers?state=open")["breakers"].as_array().unwrap().len(), 2);
    let shown = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!((shown["open_breakers"].as_array().unwrap().len(), &shown["quarantined"]), (2, &json!([])));
    assert_eq!(daemon.metric(r#"runbookd_breaker_state{breaker="runbook:look"}"#), 2.0);
    assert_eq!(daemon.metric(r#"runbookd_breakers{runbook="act",state="open"}"#), 1.0);
    assert!(!daemon.try_get("/metrics").unwrap().text().contains("mount:"));
    let listed = said(&cli(&daemon, &["breakers", "list"]));
    assert!(
        listed.contains("when it is reset") && listed.contains("runbook:act:mount:/var/lib 1"),
        "{listed}"
    );

    let reset =
        cli(&daemon, &["breakers", "reset", "runbook:act:mount:/var/lib 1", "--reason", "it is mended"]);
    assert_eq!(reset.status.code(), Some(0), "{}", said(&reset));
    assert_eq!(said(&reset), "runbook:act:mount:/var/lib 1 closed\n");
    let started = decided(&daemon, "Down", target);
    assert_eq!(started["reason"], "matched");
    assert_eq!(finished(&daemon, started["execution_id"].as_str().unwrap())["status"], "succeeded");
    check_log(&daemon);
}

/// Three changes, newest first, whole.
fn check_log(daemon: &Daemon) {
    let log = daemon.json("/api/audit");
    let seen: Vec<_> = log["audit"].as_array().unwrap().iter().collect();
    let is = |at: usize, action: &str, target: &str, reason: &str| {
        let record = seen[at];
        assert_eq!(
            (&record["user"], &record["action"], &record["target"], &record["reason"]),
            (&json!("anonymous"), &json!(action), &json!(target), &json!(reason))
        );
    };
    is(0, "breaker.reset", "runbook:act:mount:/var/lib 1", "it is mended");
    is(1, "breaker.open", "runbook:look", "");
    is(2, "breaker.open", "runbook:act:mount:/var/lib 1", "hands off");
    assert_eq!(daemon.json("/api/audit?action=breaker.open&limit=1")["audit"][0]["target"], "runbook:look");
    let check = daemon.json("/api/audit/verify");
    assert_eq!(
        (&check["ok"], &check["records"], &check["head"]),
        (&json!(true), &json!(3), &seen[0]["hash"])
    );
}

#[test]
fn a_healthy_breaker_is_known_where_a_runbook_uses_it_and_nowhere_else() {
    let daemon = daemon();
    let status = |path: &str, body: &str| ask(&daemon, "POST", path, body).0;
    for unknown in
        ["x", "runbook:act", "runbook:act:*", "runbook:none:a", "runbook:look:a", "runbook:", "%20"]
    {
        for verb in ["reset", "open"] {
            assert_eq!(status(&format!("/api/breakers/{unknown}/{verb}"), "{}"), 404, "{unknown} {verb}");
        }
    }
    let (healthy, breaker) = ask(&daemon, "POST", "/api/breakers/runbook:act:a/reset", "{}");
    assert_eq!((healthy, &breaker["state"], &breaker["failures"]), (200, &json!("closed"), &json!(0)));
    assert_eq!(status("/api/breakers/runbook:act:a/open", r#"{"why":"x"}"#), 422);
    assert_eq!(status("/api/breakers/runbook:act:a/open", "{"), 400);
    assert_eq!(daemon.json("/api/audit")["audit"], json!([]));
    for bad in [
        "/api/breakers?state=ajar",
        "/api/breakers?cursor=x",
        "/api/breakers?key=a",
        "/api/quarantine?limit=0",
        "/api/quarantine?cursor=../../x",
        "/api/audit?since=yesterday",
        "/api/audit?cursor=1",
        "/api/audit?who=ada",
    ] {
        assert_eq!(ask(&daemon, "GET", bad, "").0, 422, "{bad}");
    }
}

/// Does something to the store of a daemon that is not running.
fn in_store<F>(daemon: &Daemon, work: F)
where
    F: FnMut(&mut dyn runbookd::store::Txn) -> Result<(), runbookd::store::CommitError> + Send + 'static,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = daemon.dir().join("data/store");
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&path, SledOptions::default()).unwrap());
    runtime.block_on(async {
        let records = Records::new(Arc::clone(&store));
        transact(&**records.store(), work).await.unwrap();
        store.shut().await;
    });
}

#[test]
fn a_quarantined_target_is_left_alone_until_a_person_clears_it_and_says_why() {
    let mut daemon = daemon();
    assert_eq!(daemon.terminate().code(), Some(0));
    let runbook = RunbookId::new("act").unwrap();
    let put = Quarantine {
        target: Target::new("db/1").unwrap(),
        execution: ExecutionId::new("act_01J9ZQ5K3M8N7P6R5S4T3V2W1X").unwrap(),
        runbook,
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        reason: "the undo of stop failed".to_owned(),
    };
    in_store(&daemon, move |txn| quarantine::put(txn, &put));
    daemon.start_again();
    assert_eq!(decided(&daemon, "Down", "db/1")["reason"], "quarantined");
    assert_eq!(decided(&daemon, "Down", "db/2")["reason"], "matched");
    assert_eq!(daemon.metric("runbookd_quarantined_targets"), 1.0);
    let listed = daemon.json("/api/quarantine");
    assert_eq!(
        listed["quarantine"],
        json!([{ "target": "db/1", "runbook": "act", "execution_id": "act_01J9ZQ5K3M8N7P6R5S4T3V2W1X",
                 "at": "2023-11-14T22:13:20Z", "reason": "the undo of stop failed" }])
    );
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["quarantined"], listed["quarantine"]);
    let shown = said(&cli(&daemon, &["status"]));
    assert!(shown.contains("Quarantined      db/1"), "{shown}");

    for body in ["", "{}", r#"{"reason":"  "}"#] {
        assert_eq!(ask(&daemon, "DELETE", "/api/quarantine/db%2F1", body).0, 422, "{body}");
    }
    let reason = r#"{"reason":"mended by hand"}"#;
    for unknown in ["db%2F2", "%20", "*"] {
        assert_eq!(ask(&daemon, "DELETE", &format!("/api/quarantine/{unknown}"), reason).0, 404, "{unknown}");
    }
    assert_eq!(ask(&daemon, "DELETE", "/api/quarantine/db%2F1", reason).0, 200);
    assert_eq!(ask(&daemon, "DELETE", "/api/quarantine/db%2F1", reason).0, 404, "once only");
    assert_eq!(daemon.metric("runbookd_quarantined_targets"), 0.0);
    assert_eq!(decided(&daemon, "Down", "db/1")["reason"], "matched");
    let log = daemon.json("/api/audit?target=db/1");
    let seen: Vec<_> =
        log["audit"].as_array().unwrap().iter().map(|r| (r["user"].clone(), r["action"].clone())).collect();
    assert_eq!(
        seen,
        [(json!("anonymous"), json!("quarantine.clear")), (json!("runbookd"), json!("quarantine.put"))]
    );
}

#[test]
fn the_log_is_verified_by_a_server_and_without_one_and_a_touched_one_is_found() {
    let mut daemon = daemon();
    let storage = daemon.dir().join("data");
    for verb in ["open", "reset", "open"] {
        ask(&daemon, "POST", &format!("/api/breakers/runbook:look/{verb}"), r#"{"reason":"drill"}"#);
    }
    let good = cli(&daemon, &["audit", "verify"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(said(&good).starts_with("whole: 3 records"), "{}", said(&good));
    let held = verify_here(&storage);
    assert_eq!(held.status.code(), Some(1));
    assert!(said(&held).contains("in use by another process"), "{}", said(&held));
    daemon.terminate();
    let here = verify_here(&storage);
    assert_eq!((here.status.code(), said(&here)), (Some(0), said(&good)));
    let nowhere = verify_here(&storage.join("nowhere"));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(!storage.join("nowhere").exists(), "looking creates nothing");

    in_store(&daemon, |txn| {
        let bytes = txn.get(&key::audit(2))?.unwrap();
        let text = String::from_utf8(bytes).unwrap().replace("anonymous", "nobody");
        txn.put(key::audit(2), text.into_bytes());
        Ok(())
    });
    let touched = verify_here(&storage);
    assert_eq!(touched.status.code(), Some(1));
    let expected = "broken: record 2 is not what was written; 1 records before it are good\n";
    assert_eq!(said(&touched), expected);
    daemon.start_again();
    assert_eq!(said(&cli(&daemon, &["audit", "verify"])), expected);
    assert_eq!(daemon.json("/api/audit/verify")["ok"], false);
}
