//! What a runbook asks of those who execute or control it, and what its history says of those who were refused.

use super::{ENV, LIMIT, With, ask, config, make_key, session, token, users};
use crate::support::daemon::Daemon;
use crate::support::process::eventually;
use serde_json::{Value, json};

const GUARDED: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[required_claims]
team = ["payments", "search"]
roles = ["operator", "sre"]
[[steps]]
id = "s"
command = { program = "sleep", args = ["60"] }
"#;

/// By role alone, so that keys and sessions can meet it.
const BY_ROLE: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[required_claims]
roles = ["sre"]
[[steps]]
id = "s"
command = { program = "true" }
"#;

const ASKS: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[[steps]]
id = "ask"
approve = { message = "Go on?" }
[[steps]]
id = "act"
command = { program = "true" }
"#;

const RUNBOOKS: &[(&str, &str)] = &[("guarded", GUARDED), ("by_role", BY_ROLE), ("asks", ASKS)];

fn people(name: &str, roles: &[&str], claims: &[&str]) -> With {
    let claims: Vec<&str> = claims.iter().flat_map(|claim| ["--claim", *claim]).collect();
    With::Bearer(token(name, roles, &claims))
}

fn execute(daemon: &Daemon, runbook: &str, with: &With) -> (u16, Value) {
    let body = json!({ "labels": { "instance": "a" }, "reason": "test" });
    let answer = ask(daemon, "POST", &format!("/api/runbooks/{runbook}/execute"), with, &body);
    (answer.status, answer.json())
}

fn history(daemon: &Daemon, runbook: &str) -> Vec<Value> {
    let with = people("reader", &["viewer"], &[]);
    let answer = ask(daemon, "GET", &format!("/api/runbooks/{runbook}/history"), &with, &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["history"].as_array().unwrap().clone()
}

#[test]
fn t24_every_way_to_execute_and_control_asks_for_the_claims() {
    let daemon = Daemon::start(&config(""), RUNBOOKS, ENV);
    let right = people("ada", &["operator"], &["team=payments"]);
    let (status, begun) = execute(&daemon, "guarded", &right);
    assert_eq!(status, 202, "{begun}");
    let id = begun["execution_id"].as_str().unwrap();
    let strangers = [
        people("eve", &["operator"], &[]),
        people("eve", &["operator"], &["team=billing"]),
        people("eve", &["operator"], &["team=Payments"]),
        people("eve", &["operator"], &["team="]),
        people("eve", &["developer"], &["team=payments"]),
        people("eve", &["admin"], &["team=payments"]),
        people("eve", &["admin"], &[]),
    ];
    let verbs = [
        "stop",
        "rollback",
        "pause",
        "resume",
        "approve",
        "reject",
        "acknowledge",
        "retry",
        "skip",
        "modify",
    ];
    for stranger in &strangers {
        assert_eq!(execute(&daemon, "guarded", stranger).0, 403);
        for verb in verbs {
            let body = json!({ "action": verb, "step": "s", "reason": "test" });
            let answer = ask(&daemon, "POST", &format!("/api/executions/{id}/control"), stranger, &body);
            assert_eq!(answer.status, 403, "{verb}: {}", answer.text());
        }
        let stop = ask(&daemon, "POST", &format!("/api/executions/{id}/stop"), stranger, &json!({}));
        assert_eq!(stop.status, 403, "{}", stop.text());
    }
    let stop = ask(&daemon, "POST", &format!("/api/executions/{id}/stop"), &right, &json!({}));
    assert_eq!(stop.status, 202, "{}", stop.text());
}

#[test]
fn a_refusal_stands_in_the_history_of_the_runbook_with_who_from_where_and_why() {
    let daemon = Daemon::start(&config(""), RUNBOOKS, ENV);
    assert!(history(&daemon, "guarded").is_empty());
    let body = json!({ "labels": { "instance": "a" } }).to_string();
    let viewer = people("watcher", &["viewer"], &[]);
    let more = [("X-Request-Id", "r-17")];
    let path = "/api/runbooks/guarded/execute";
    assert_eq!(super::send(&daemon, "POST", path, &viewer, &more, &body).status, 403);
    let eve = people("eve", &["operator"], &[]);
    assert_eq!(execute(&daemon, "guarded.md", &eve).0, 403);
    let entries = eventually("two refusals", LIMIT, || {
        Some(history(&daemon, "guarded")).filter(|entries| entries.len() == 2)
    });
    assert_eq!(entries[0]["breadcrumb"]["by_user"], "eve");
    assert!(entries[0]["errors"][0].as_str().unwrap().contains("team (not present)"), "{entries:?}");
    let first = &entries[1];
    assert_eq!((&first["return_code"], &first["operation"]), (&json!(403), &json!("execute")));
    let crumb = &first["breadcrumb"];
    assert_eq!((&crumb["by_user"], &crumb["roles"]), (&json!("watcher"), &json!(["viewer"])));
    assert_eq!((&crumb["from_ip"], &crumb["correlation_id"]), (&json!("127.0.0.1"), &json!("r-17")));
    let log = daemon.logged("RBAC failure", 2);
    assert_eq!(log.lines().filter(|line| line.contains("RBAC failure")).count(), 2, "{log}");
    assert_eq!(daemon.metric("runbookd_auth_failures_total{reason=\"forbidden\"}"), 2.0);
    // Of a runbook that does not exist there is no history, and nobody can make one.
    assert_eq!(execute(&daemon, "none", &viewer).0, 403);
    let reader = people("reader", &["viewer"], &[]);
    assert_eq!(ask(&daemon, "GET", "/api/runbooks/none/history", &reader, &Value::Null).status, 404);
}

#[test]
fn the_history_has_executions_and_refusals_in_pages_newest_first() {
    let daemon = Daemon::start(&config(""), RUNBOOKS, ENV);
    let sre = people("ada", &["sre"], &[]);
    for round in 1..=3 {
        assert_eq!(execute(&daemon, "by_role", &sre).0, 202);
        assert_eq!(execute(&daemon, "by_role", &people("eve", &["operator"], &[])).0, 403);
        eventually("both", LIMIT, || (history(&daemon, "by_role").len() == 2 * round).then_some(()));
    }
    let whole = history(&daemon, "by_role");
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/runbooks/by_role/history?limit=2{cursor}");
        let page = ask(&daemon, "GET", &path, &sre, &Value::Null).json();
        pages.extend(page["history"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let key = |entry: &Value| (entry["breadcrumb"]["at_time"].clone(), entry["execution_id"].clone());
    assert_eq!(pages.iter().map(key).collect::<Vec<_>>(), whole.iter().map(key).collect::<Vec<_>>());
    let by: Vec<&str> = whole.iter().map(|entry| entry["breadcrumb"]["by_user"].as_str().unwrap()).collect();
    assert_eq!(by, ["eve", "ada", "eve", "ada", "eve", "ada"]);
}

#[test]
fn t24_nobody_approves_their_own_request_with_another_credential() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("ada", "\"operator\"")]);
    let daemon = Daemon::start(&config(&format!("users_file = \"{file}\"")), RUNBOOKS, ENV);
    let jwt = people("ada", &["operator"], &[]);
    let (_, key) = make_key(&daemon, &jwt, &["operator"], "1h");
    let (bearer, _) = session(&daemon, "ada");
    let all = [&jwt, &key, &bearer];
    for requester in all {
        let (status, begun) = execute(&daemon, "asks", requester);
        assert_eq!(status, 202, "{begun}");
        let id = begun["execution_id"].as_str().unwrap().to_owned();
        let hash = eventually("the question", LIMIT, || {
            let shown = ask(&daemon, "GET", &format!("/api/executions/{id}"), &jwt, &Value::Null).json();
            shown["steps"][0]["approval"]["hash"].as_str().map(str::to_owned)
        });
        let approve = |with: &With| {
            let body = json!({ "action": "approve", "hash": hash, "reason": "test" });
            ask(&daemon, "POST", &format!("/api/executions/{id}/control"), with, &body)
        };
        for approver in all {
            let answer = approve(approver);
            assert_eq!(answer.status, 403, "{requester:?} by {approver:?}: {}", answer.text());
        }
        let other = approve(&people("bob", &["operator"], &[]));
        assert_eq!(other.status, 202, "{}", other.text());
        eventually("the end", LIMIT, || {
            let shown = ask(&daemon, "GET", &format!("/api/executions/{id}"), &jwt, &Value::Null).json();
            (shown["status"] == "succeeded").then_some(())
        });
    }
}
