//! Every change that people make is in the audit log, or is not made.
//!
//! The list of changes is held against the routes, so that a new one cannot be forgotten here. May import: `support`,
//! `access` (the routes). Must never: look into the storage.

use crate::access::ROUTES;
use crate::support::alerts::{LIMIT, config, finished, fire, wait_for_status};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use crate::support::receiver::Receiver;
use crate::support::small::Small;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// What changes nothing that people decide, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("POST", "/api/sre/alerts/webhook", "what alerts start is in the decisions"),
    ("POST", "/api/explain", "asks"),
    ("POST", "/api/simulate", "asks"),
    ("POST", "/-/reload", "is off unless a flag says so; see below"),
    ("POST", "/dev-login", "gives a token to whoever sits here; off unless the config says so"),
    // This server knows nobody; `identity::keys` asks the same of one that does.
    ("POST", "/api/users/signup", "needs people"),
    ("POST", "/api/users/login", "needs people"),
    ("POST", "/api/users/logout", "needs people"),
    ("POST", "/api/keys", "needs people"),
    ("DELETE", "/api/keys/{id}", "needs people"),
];

const SLOW: &str = "mode = \"auto\"\nalerts = [\"Slow\"]\ntarget = \"{{ labels.target }}\"\n[[steps]]\nid = \"a\"\nwait = { for = \"10m\" }\n";
const BAD: &str = "mode = \"auto\"\nalerts = [\"Bad\"]\ntarget = \"{{ labels.target }}\"\n[[steps]]\nid = \"a\"\ncommand = { program = \"false\" }\n";
const SOUR: &str = r#"
mode = "auto"
alerts = ["Sour"]
target = "{{ labels.target }}"
[[steps]]
id = "a"
command = { program = "true" }
undo = { command = { program = "false" } }
[[steps]]
id = "b"
command = { program = "false" }
"#;

fn ask(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Answer {
    http::send(daemon.address(), method, path, &body.to_string()).unwrap()
}

/// How many records there ever were; the log must be whole.
fn records(daemon: &Daemon) -> u64 {
    let check = daemon.json("/api/audit/verify");
    assert_eq!(check["ok"], true, "{check:#}");
    check["seq"].as_u64().unwrap()
}

/// Makes the change behind the route `method source`.
fn change(daemon: &Daemon, method: &str, source: &str) -> Answer {
    let why = json!({ "reason": "a test" });
    let running = || {
        let id = fire(daemon, "Slow", &format!("t-{}", records(daemon)));
        wait_for_status(daemon, &id, "running");
        id
    };
    match (method, source) {
        ("POST", "/api/runbooks/{id}" | "/api/runbooks/{id}/execute") => {
            let path = source.replace("{id}", "slow");
            let target = format!("by-hand-{}", records(daemon));
            ask(daemon, method, &path, &json!({ "labels": { "target": target }, "reason": "a test" }))
        }
        ("POST", "/api/executions/{id}/control") => {
            let path = format!("/api/executions/{}/control", running());
            ask(daemon, method, &path, &json!({ "action": "pause", "reason": "a test" }))
        }
        ("POST", "/api/executions/{id}/stop") => {
            ask(daemon, method, &format!("/api/executions/{}/stop", running()), &why)
        }
        ("PUT", "/api/automation") => {
            let scope = json!({ "matchers": ["nobody=\"has this\""] });
            ask(daemon, method, source, &json!({ "state": "draining", "scope": scope, "reason": "a test" }))
        }
        ("PUT", "/api/mappings/{name}") => {
            let body = json!({ "matchers": ["a=\"b\""], "runbook": "slow", "reason": "a test" });
            ask(daemon, method, "/api/mappings/mine", &body)
        }
        ("DELETE", "/api/mappings/{name}") => ask(daemon, method, "/api/mappings/mine", &why),
        ("POST", "/api/escalations/{id}/acknowledge") => {
            finished(daemon, &fire(daemon, "Bad", "t"));
            let id = eventually("an escalation", LIMIT, || {
                Some(daemon.json("/api/escalations")["escalations"][0]["id"].as_str()?.to_owned())
            });
            ask(daemon, method, &format!("/api/escalations/{id}/acknowledge"), &why)
        }
        ("POST", "/api/notifiers/{name}/test") => ask(daemon, method, "/api/notifiers/hook/test", &why),
        ("POST", "/api/breakers/{key}/open") => {
            ask(daemon, method, "/api/breakers/runbook%3Aslow%3Ax/open", &why)
        }
        ("POST", "/api/breakers/{key}/reset") => {
            assert_eq!(ask(daemon, method, "/api/breakers/runbook%3Aslow%3Ay/open", &why).status, 200);
            ask(daemon, method, "/api/breakers/runbook%3Aslow%3Ay/reset", &why)
        }
        ("DELETE", "/api/quarantine/{target}") => {
            let ended = finished(daemon, &fire(daemon, "Sour", "sour"));
            assert_eq!(ended["status"], "rollback_failed", "{ended:#}");
            ask(daemon, method, "/api/quarantine/sour", &why)
        }
        ("POST", "/api/credentials") => {
            ask(daemon, method, source, &json!({ "name": "c", "type": "api", "secret": "a secret" }))
        }
        ("DELETE", "/api/credentials/{id}") => {
            let id = daemon.json("/api/credentials")["credentials"][0]["id"].as_str().unwrap().to_owned();
            ask(daemon, method, &format!("/api/credentials/{id}"), &why)
        }
        ("POST", "/api/backup") => ask(daemon, method, source, &why),
        _ => panic!("{method} {source} is neither an exception nor tried here"),
    }
}

fn start(receiver: &Receiver) -> Daemon {
    let text = format!(
        "[vault]\nkey = {{ env = \"KEY\" }}\n[automation]\nescalate_to = [\"hook\"]\n\
         [notifiers.hook]\nkind = \"webhook\"\nurl = \"{}\"\n",
        receiver.url("/")
    );
    let key = ("KEY", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=");
    Daemon::start(&config(&text), &[("slow", SLOW), ("bad", BAD), ("sour", SOUR)], &[key])
}

#[test]
fn t38_every_route_that_changes_something_leaves_a_record() {
    let receiver = Receiver::start(&[]);
    let mut daemon = start(&receiver);
    let changes = ROUTES.iter().filter(|(method, ..)| *method != "GET");
    for (method, _, source, _) in changes {
        if EXCEPTIONS.iter().any(|(known, path, _)| known == method && path == source) {
            continue;
        }
        let before = records(&daemon);
        let answer = change(&daemon, method, source);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {source}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(records(&daemon) > before, "{method} {source} left no record");
    }
    for (method, path, _) in EXCEPTIONS {
        assert!(ROUTES.iter().any(|(known, _, source, _)| known == method && source == path), "{path}");
    }
    // The verbs of one route differ.
    let verbs = daemon.json("/api/audit?limit=500")["audit"].as_array().unwrap().clone();
    for action in
        ["execution.pause", "execution.stop", "runbook.execute", "quarantine.clear", "credential.set"]
    {
        assert!(verbs.iter().any(|record| record["action"] == action), "{action}");
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    let head = "the head of the audit log at the end";
    assert!(daemon.log().contains(head) && daemon.log().contains("the head of the audit log at the start"));
    let verified = Command::new(BINARY)
        .args(["audit", "verify", "--storage.path"])
        .arg(daemon.dir().join("data"))
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    let hash = said.trim().rsplit(' ').next().unwrap();
    let line = daemon.log().lines().rev().find(|line| line.contains(head)).unwrap().to_owned();
    assert!(line.contains(hash), "what was noted at the end is what the log ends with");
}

#[test]
fn t38_with_a_full_disk_changes_are_refused_and_counted() {
    let receiver = Receiver::start(&[]);
    let mut daemon = start(&receiver);
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = daemon.dir().join("data");
    let _small = Small::over(&data);
    daemon.start_again();
    let before = records(&daemon);
    let filler = data.join("filler");
    let free = rustix::fs::statvfs(&data).map(|it| it.f_bavail * it.f_frsize).unwrap();
    fs::write(&filler, vec![0; usize::try_from(free).unwrap() - (1 << 20)]).unwrap();
    let refused = change(&daemon, "PUT", "/api/mappings/{name}");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"store_unavailable".into()));
    assert_eq!(change(&daemon, "POST", "/api/credentials").status, 503);
    assert!(daemon.metric("runbookd_audit_write_failures_total") >= 2.0);
    assert_eq!(daemon.json("/api/mappings")["mappings"], json!([]));
    assert_eq!(daemon.json("/api/credentials")["credentials"], json!([]));
    // The kill switch alone does not wait for its record.
    let halt = json!({ "state": "halted", "reason": "a test" });
    assert_eq!(ask(&daemon, "PUT", "/api/automation", &halt).status, 200);
    assert_eq!(records(&daemon), before);
    fs::remove_file(&filler).unwrap();
    eventually("the record of the order", LIMIT, || (records(&daemon) > before).then_some(()));
    assert_eq!(change(&daemon, "PUT", "/api/mappings/{name}").status, 200);
    daemon.kill();
}
