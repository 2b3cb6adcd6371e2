//! Who may do what on the real program: every route, every kind of credential.
//!
//! The list of routes is held against the source, so that a new one cannot be forgotten here.

use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const SECRET: &str = "a test secret that is at least 32 bytes long";
const HOOK: &str = "the-webhook-token";

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Door {
    Open,
    OwnPages,
    SignedIn,
    Webhook,
    Read,
    Execute,
    Edit,
    Audit,
    Secrets,
    Admin,
}

/// Method, path with its parameters filled in, the path as the source has it, door.
pub(crate) const ROUTES: &[(&str, &str, &str, Door)] = &[
    ("POST", "/api/sre/alerts/webhook", "/api/sre/alerts/webhook", Door::Webhook),
    ("GET", "/api/sre/runbooks/integration-status", "/api/sre/runbooks/integration-status", Door::Read),
    ("GET", "/api/runbooks", "/api/runbooks", Door::Read),
    ("GET", "/api/runbooks/guarded", "/api/runbooks/{id}", Door::Read),
    ("POST", "/api/runbooks/none", "/api/runbooks/{id}", Door::Execute),
    ("POST", "/api/runbooks/none/execute", "/api/runbooks/{id}/execute", Door::Execute),
    ("GET", "/api/runbooks/guarded/versions", "/api/runbooks/{id}/versions", Door::Read),
    ("GET", "/api/runbooks/guarded/shadow", "/api/runbooks/{id}/shadow", Door::Read),
    ("GET", "/api/runbooks/guarded/history", "/api/runbooks/{id}/history", Door::Read),
    ("GET", "/api/executions", "/api/executions", Door::Read),
    ("GET", "/api/executions/x_1", "/api/executions/{id}", Door::Read),
    ("GET", "/api/executions/x_1/events", "/api/executions/{id}/events", Door::Read),
    (
        "GET",
        "/api/executions/x_1/output/s/1/stdout",
        "/api/executions/{id}/output/{step}/{attempt}/{stream}",
        Door::Read,
    ),
    ("POST", "/api/executions/x_1/control", "/api/executions/{id}/control", Door::Execute),
    ("POST", "/api/executions/x_1/stop", "/api/executions/{id}/stop", Door::Execute),
    ("GET", "/api/decisions", "/api/decisions", Door::Read),
    ("GET", "/api/decisions/x", "/api/decisions/{id}", Door::Read),
    ("GET", "/api/automation", "/api/automation", Door::Read),
    ("PUT", "/api/automation", "/api/automation", Door::Execute),
    ("GET", "/api/mappings", "/api/mappings", Door::Read),
    ("PUT", "/api/mappings/a", "/api/mappings/{name}", Door::Edit),
    ("DELETE", "/api/mappings/a", "/api/mappings/{name}", Door::Edit),
    ("GET", "/api/schedules", "/api/schedules", Door::Read),
    ("POST", "/api/explain", "/api/explain", Door::Read),
    ("POST", "/api/simulate", "/api/simulate", Door::Read),
    ("GET", "/api/escalations", "/api/escalations", Door::Read),
    ("GET", "/api/escalations/x", "/api/escalations/{id}", Door::Read),
    ("POST", "/api/notifiers/x/test", "/api/notifiers/{name}/test", Door::Execute),
    ("POST", "/api/escalations/x/acknowledge", "/api/escalations/{id}/acknowledge", Door::Execute),
    ("GET", "/api/breakers", "/api/breakers", Door::Read),
    ("POST", "/api/breakers/a%2Fb/reset", "/api/breakers/{key}/reset", Door::Execute),
    ("POST", "/api/breakers/a%2Fb/open", "/api/breakers/{key}/open", Door::Execute),
    ("GET", "/api/quarantine", "/api/quarantine", Door::Read),
    ("DELETE", "/api/quarantine/a", "/api/quarantine/{target}", Door::Execute),
    ("GET", "/api/credentials", "/api/credentials", Door::Secrets),
    ("POST", "/api/credentials", "/api/credentials", Door::Secrets),
    ("DELETE", "/api/credentials/x", "/api/credentials/{id}", Door::Secrets),
    ("GET", "/api/audit", "/api/audit", Door::Audit),
    ("GET", "/api/audit/verify", "/api/audit/verify", Door::Audit),
    ("POST", "/api/users/signup", "/api/users/signup", Door::OwnPages),
    ("POST", "/api/users/login", "/api/users/login", Door::OwnPages),
    ("POST", "/api/users/logout", "/api/users/logout", Door::SignedIn),
    ("GET", "/api/keys", "/api/keys", Door::SignedIn),
    ("POST", "/api/keys", "/api/keys", Door::SignedIn),
    ("DELETE", "/api/keys/x", "/api/keys/{id}", Door::SignedIn),
    ("POST", "/dev-login", "/dev-login", Door::OwnPages),
    ("POST", "/api/backup", "/api/backup", Door::Admin),
    ("GET", "/api/config", "/api/config", Door::Admin),
    ("GET", "/health", "/health", Door::Open),
    ("GET", "/-/healthy", "/-/healthy", Door::Open),
    ("GET", "/-/ready", "/-/ready", Door::Open),
    ("GET", "/metrics", "/metrics", Door::Open),
    ("POST", "/-/reload", "/-/reload", Door::Open),
    ("GET", "/docs/explorer.html", "/docs/explorer.html", Door::Open),
    ("GET", "/docs/openapi.json", "/docs/openapi.json", Door::Open),
    ("GET", "/docs/openapi.yaml", "/docs/openapi.yaml", Door::Open),
];

const RUNBOOK: &str = r#"
mode = "auto"
alerts = ["Guarded"]
target = "{{ labels.instance }}"
[required_claims]
team = ["payments"]
[[steps]]
id = "s"
command = { program = "sleep", args = ["60"] }
"#;

fn daemon() -> Daemon {
    let config = format!(
        "[webhook]\nbearer = {{ env = \"HOOK\" }}\n[auth]\njwt = {{ secret = {{ env = \"JWT\" }}, issuer = \"test\", audience = \"runbookd\" }}\n{}",
        "[prometheus]\nurl = \"http://127.0.0.1:1\"\n"
    );
    Daemon::start(&config, &[("guarded", RUNBOOK)], &[("JWT", SECRET), ("HOOK", HOOK)])
}

/// A token as `runbookd token` makes it.
fn token(role: &str, more: &[&str]) -> String {
    let output = Command::new(BINARY)
        .args(["token", "--subject", "tester", "--role", role, "--issuer", "test", "--audience", "runbookd"])
        .args(["--secret-env", "JWT"])
        .args(more)
        .env("JWT", SECRET)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn ask(
    daemon: &Daemon,
    method: &str,
    path: &str,
    credential: Option<&str>,
    body: Option<&str>,
) -> http::Answer {
    let bearer = credential.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(bearer.as_deref().map(|value| ("Authorization", value)));
    http::request(daemon.address(), method, path, &headers, body.unwrap_or("").as_bytes()).unwrap()
}

#[test]
fn every_route_opens_to_its_own_credentials_and_to_no_other() {
    let daemon = daemon();
    let roles =
        ["viewer", "operator", "editor", "sre", "admin", "nobody-knows"].map(|role| (role, token(role, &[])));
    for (method, path, _, door) in ROUTES {
        let status = |credential: Option<&str>| ask(&daemon, method, path, credential, Some("{}")).status;
        let open = matches!(door, Door::Open | Door::OwnPages);
        assert_eq!(status(None) == 401, !open, "{method} {path} without a credential");
        assert_eq!(status(Some("forged.token.here")) == 401, !open, "{method} {path} with a forged token");
        let hook = status(Some(HOOK));
        assert_eq!(
            hook == 401,
            !open && *door != Door::Webhook,
            "{method} {path} with the webhook's: {hook}"
        );
        for (role, token) in &roles {
            let expected = match (door, *role) {
                (Door::Open | Door::OwnPages | Door::SignedIn, _) => None,
                (Door::Webhook, _) => Some(401),
                (_, "admin")
                | (Door::Read, "viewer" | "operator" | "editor" | "sre")
                | (Door::Execute, "operator" | "sre")
                | (Door::Edit, "editor" | "sre")
                | (Door::Audit | Door::Secrets, "sre") => None,
                _ => Some(403),
            };
            let got = status(Some(token));
            match expected {
                Some(expected) => assert_eq!(got, expected, "{method} {path} as {role}"),
                None => assert!(
                    ![401, 403].contains(&got) || path.ends_with("reload"),
                    "{method} {path} as {role}: {got}"
                ),
            }
        }
    }
}

#[test]
fn no_route_of_the_source_is_missing_in_this_test() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/handler/mod.rs")).unwrap();
    let table = source.split("pub fn routes").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut paths: Vec<&str> =
        table.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).collect();
    let mut known: Vec<&str> = ROUTES.iter().map(|(_, _, path, _)| *path).collect();
    paths.sort_unstable();
    known.sort_unstable();
    assert_eq!(paths, known);
}

#[test]
fn an_execution_is_stopped_only_with_the_claims_its_runbook_requires() {
    let daemon = daemon();
    let alert =
        json!({"alerts": [{"status": "firing", "labels": {"alertname": "Guarded", "instance": "a"}}]});
    let answer = ask(&daemon, "POST", "/api/sre/alerts/webhook", Some(HOOK), Some(&alert.to_string()));
    let id = answer.json()["execution_ids"][0].as_str().unwrap().to_owned();
    let path = format!("/api/executions/{id}/stop");
    let body = Some(r#"{"reason":"test"}"#);
    let without = ask(&daemon, "POST", &path, Some(&token("operator", &[])), body);
    assert_eq!(without.status, 403, "{}", without.text());
    assert!(without.text().contains("team (not present)"), "{}", without.text());
    let other = ask(&daemon, "POST", &path, Some(&token("admin", &["--claim", "team=search"])), body);
    assert_eq!(other.status, 403, "{}", other.text());
    daemon.logged("RBAC failure", 1);
    let with = ask(&daemon, "POST", &path, Some(&token("operator", &["--claim", "team=payments"])), body);
    assert_eq!(with.status, 202, "{}", with.text());
    let viewer = token("viewer", &[]);
    let stop = ask(&daemon, "GET", &format!("/api/executions/{id}"), Some(&viewer), None).json();
    assert_eq!(stop["stop"]["actor"], "tester");
    assert_eq!(stop["stop"]["reason"], "test");
}

#[test]
fn a_runbook_is_executed_by_hand_only_with_the_claims_it_requires() {
    let daemon = daemon();
    let body = Some(r#"{"labels":{"instance":"a"},"reason":"test"}"#);
    for path in [
        "/api/runbooks/guarded/execute",
        "/api/runbooks/guarded",
        "/api/runbooks/guarded.md/execute?wait=true",
    ] {
        let without = ask(&daemon, "POST", path, Some(&token("operator", &[])), body);
        assert_eq!(without.status, 403, "{path}: {}", without.text());
        // That something is wrong with the request is nobody's business who may not send it.
        let other = token("admin", &["--claim", "team=search"]);
        assert_eq!(ask(&daemon, "POST", path, Some(&other), Some("nonsense")).status, 403, "{path}");
    }
    let with = token("operator", &["--claim", "team=payments"]);
    let begun = ask(&daemon, "POST", "/api/runbooks/guarded/execute", Some(&with), body);
    assert_eq!(begun.status, 202, "{}", begun.text());
    let id = begun.json()["execution_id"].as_str().unwrap().to_owned();
    let shown =
        ask(&daemon, "GET", &format!("/api/executions/{id}"), Some(&token("viewer", &[])), None).json();
    assert_eq!((&shown["trigger"]["by"], &shown["trigger"]["reason"]), (&"tester".into(), &"test".into()));
    ask(&daemon, "POST", &format!("/api/executions/{id}/stop"), Some(&with), Some("{}"));
}

#[test]
fn the_config_is_shown_with_its_sources_and_without_a_secret() {
    let daemon = daemon();
    let answer = ask(&daemon, "GET", "/api/config", Some(&token("admin", &[])), None);
    let text = answer.text();
    assert!(!text.contains(SECRET) && !text.contains(HOOK), "{text}");
    let config = answer.json();
    let of =
        |name: &str| config["config"].as_array().unwrap().iter().find(|item| item["name"] == name).cloned();
    assert_eq!(of("server.listen").unwrap()["from"], "flag");
    assert_eq!(of("auth.jwt.secret").unwrap()["value"], Value::from("secret"));
}

#[test]
fn a_secret_file_others_can_read_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("token");
    fs::write(&secret, HOOK).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    let config = "[webhook]\nbearer = { file = \"token\" }\n[runbooks]\ndir = \"runbooks\"\n[store]\npath = \"data\"\n";
    fs::write(dir.path().join("c.toml"), config).unwrap();
    let output = Command::new(BINARY)
        .arg("serve")
        .arg("--config.file=c.toml")
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("c.toml:2") && said.contains("0644"), "{said}");
}
