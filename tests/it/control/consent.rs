//! Asked for consent or an acknowledgement: who may give it, to what, until when.

use crate::support::alerts::{LIMIT, WEBHOOK, body, config, events, finished, fire, millis, wait_for_step};
use crate::support::daemon::{BINARY, Daemon, is_final};
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const SECRET: &str = "a test secret that is at least 32 bytes long";

const ASKS: &str = r#"
mode = "auto"
alerts = ["Asks"]
target = "{{ labels.target }}"
[approval]
count = 2
roles = ["sre"]
[inputs.word]
default = "plain"
pattern = '[a-z]+'
[[steps]]
id = "ask"
approve = { message = "Restart {{ labels.target }}?" }
[[steps]]
id = "act"
command = { program = "/bin/sh", args = ["-c", 'echo "act $2" >> "$1"', "sh", "@dir@/ledger", "{{ inputs.word }}"] }
"#;

/// A daemon that knows people by their tokens.
struct Site {
    daemon: Daemon,
    viewer: String,
}

impl Site {
    fn start(runbooks: &[(&str, &str)]) -> Self {
        let auth = "[auth]\njwt = { secret = { env = \"JWT\" }, issuer = \"test\", audience = \"runbookd\" }";
        let daemon = Daemon::start(&config(auth), runbooks, &[("JWT", SECRET)]);
        Self { daemon, viewer: token("watcher", &["viewer"]) }
    }

    fn fire(&self, alertname: &str, target: &str) -> String {
        let answer =
            http::post(self.daemon.address(), WEBHOOK, &body(alertname, "firing", &[target])).unwrap();
        answer.json()["execution_ids"][0].as_str().unwrap().to_owned()
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
        let body = if method == "GET" { String::new() } else { body.to_string() };
        http::request(self.daemon.address(), method, path, &headers, body.as_bytes()).unwrap()
    }

    fn act(&self, id: &str, token: &str, body: &Value) -> Answer {
        self.ask("POST", &format!("/api/executions/{id}/control"), token, body)
    }

    /// Asserts the answer to a control: its status, and in its text this.
    fn check(&self, id: &str, token: &str, body: &Value, status: u16, text: &str) {
        let answer = self.act(id, token, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(text), "{body}: {}", answer.text());
    }

    fn execution(&self, id: &str) -> Value {
        self.ask("GET", &format!("/api/executions/{id}"), &self.viewer, &Value::Null).json()
    }

    fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} being {status}"), LIMIT, || {
            let execution = self.execution(id);
            assert!(!is_final(&execution) || execution["status"] == status, "{execution:#}");
            (execution["status"] == status).then_some(execution)
        })
    }

    fn journal(&self, id: &str) -> Vec<(String, Value)> {
        events(&self.ask("GET", &format!("/api/executions/{id}/events"), &self.viewer, &Value::Null).text())
    }

    fn ledger(&self) -> String {
        fs::read_to_string(self.daemon.dir().join("ledger")).unwrap_or_default()
    }
}

fn token(subject: &str, roles: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args([
        "token",
        "--subject",
        subject,
        "--issuer",
        "test",
        "--audience",
        "runbookd",
        "--secret-env",
        "JWT",
    ]);
    command.args(roles.iter().flat_map(|role| ["--role", role]));
    let output = command.env("JWT", SECRET).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn approve(hash: &Value) -> Value {
    json!({ "action": "approve", "hash": hash, "reason": "looked at it" })
}

#[test]
fn two_people_with_the_role_must_consent_to_the_plan_that_was_shown() {
    let site = Site::start(&[("asks", ASKS)]);
    let [ada, bob, carol] =
        [("ada", "operator"), ("bob", "sre"), ("carol", "sre")].map(|(who, role)| token(who, &[role]));
    let id = site.fire("Asks", "a");
    let waiting = site.until(&id, "awaiting_approval");
    let asked = &waiting["steps"][0]["approval"];
    let plan = asked["plan"].as_str().unwrap();
    assert!(plan.starts_with("Restart a?\nact: ") && plan.contains("ledger plain"), "{plan}");
    assert_eq!(millis(&asked["until"]) - millis(&asked["asked_at"]), 30 * 60 * 1000);
    // What is durable is counted a moment later.
    eventually("one that waits being counted", LIMIT, || {
        let path = "/api/sre/runbooks/integration-status";
        let status = site.ask("GET", path, &site.viewer, &Value::Null).json();
        (status["awaiting_approval"] == 1 && status["active_executions"] == 0).then_some(())
    });
    assert_eq!(site.daemon.metric("runbookd_approvals_pending"), 1.0);

    let consent = approve(&asked["hash"]);
    site.check(&id, &site.viewer, &consent, 403, "execute");
    let refusals = |daemon: &Daemon| daemon.metric("runbookd_auth_failures_total{reason=\"forbidden\"}");
    let before = refusals(&site.daemon);
    site.check(&id, &ada, &consent, 403, "one of the roles: sre");
    assert_eq!(refusals(&site.daemon), before + 1.0);
    site.daemon.logged("RBAC failure", 1);
    site.check(&id, &bob, &approve(&"0".repeat(64).into()), 409, "plan has changed");
    for _ in 0..3 {
        site.check(&id, &bob, &consent, 202, "awaiting_approval");
    }
    site.check(&id, &bob, &json!({ "action": "approve", "step": "act" }), 422, "asks for no consent");
    // Consent to a step is not a way around it.
    site.check(&id, &bob, &json!({ "action": "pause" }), 202, "paused");
    site.check(&id, &bob, &json!({ "action": "skip", "step": "ask" }), 409, "approve or reject it");
    site.check(&id, &bob, &json!({ "action": "resume" }), 202, "awaiting_approval");
    assert_eq!(site.ledger(), "");
    site.check(&id, &carol, &consent, 202, "");
    site.until(&id, "succeeded");
    site.check(&id, &carol, &consent, 202, "succeeded");
    site.check(&id, &ada, &consent, 409, "final is final");
    assert_eq!(site.ledger(), "act plain\n");
    eventually("nothing waiting", LIMIT, || {
        (site.daemon.metric("runbookd_approvals_pending") == 0.0).then_some(())
    });
    let given: Vec<_> = site.journal(&id).into_iter().filter(|(kind, _)| kind == "approved").collect();
    let who: Vec<_> = given
        .iter()
        .map(|(_, data)| (data["actor"].as_str().unwrap(), data["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(who, [("bob", "looked at it"), ("carol", "looked at it")]);
}

#[test]
fn one_refusal_ends_it_and_whoever_asks_for_a_repetition_may_not_consent_to_it() {
    let once = ASKS.replace("count = 2", "count = 1");
    let site = Site::start(&[("asks", &once)]);
    let [bob, carol] = ["bob", "carol"].map(|who| token(who, &["sre"]));
    let id = site.fire("Asks", "a");
    site.until(&id, "awaiting_approval");
    let refusal = json!({ "action": "reject", "reason": "not tonight" });
    site.check(&id, &token("ada", &["operator"]), &refusal, 403, "one of the roles");
    site.check(&id, &bob, &refusal, 202, "");
    let execution = site.until(&id, "rejected");
    assert_eq!(execution["reason"], "rejected");
    assert_eq!(
        (&execution["steps"][0]["approval"]["refused"]["actor"], &execution["steps"][1]["status"]),
        (&"bob".into(), &"skipped".into())
    );
    site.check(&id, &bob, &refusal, 202, "rejected");
    site.check(&id, &bob, &approve(&Value::Null), 409, "final is final");
    site.check(&id, &bob, &json!({ "action": "rollback" }), 409, "it has done nothing");

    let answer = site.act(&id, &bob, &json!({ "action": "retry", "reason": "now" }));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let new = answer.json()["id"].as_str().unwrap().to_owned();
    let asked = site.until(&new, "awaiting_approval");
    assert_eq!(asked["trigger"]["by"], "bob");
    site.check(&new, &bob, &approve(&Value::Null), 403, "may not consent");
    site.check(&new, &carol, &approve(&Value::Null), 202, "");
    site.until(&new, "succeeded");
}

#[test]
fn a_change_voids_the_consent_that_was_given_to_something_else() {
    let site = Site::start(&[("asks", ASKS)]);
    let [bob, carol] = ["bob", "carol"].map(|who| token(who, &["sre"]));
    let id = site.fire("Asks", "a");
    let old = site.until(&id, "awaiting_approval")["steps"][0]["approval"]["hash"].clone();
    site.check(&id, &bob, &approve(&old), 202, "awaiting_approval");
    site.check(&id, &carol, &json!({ "action": "pause" }), 202, "paused");
    site.check(
        &id,
        &carol,
        &json!({ "action": "modify", "inputs": { "word": "other" }, "reason": "typo" }),
        202,
        "paused",
    );
    site.check(&id, &carol, &json!({ "action": "resume" }), 202, "");
    let asked = site.until(&id, "awaiting_approval")["steps"][0]["approval"].clone();
    assert_eq!(asked["given"], json!([]));
    assert_ne!(asked["hash"], old);
    site.check(&id, &carol, &approve(&old), 409, "plan has changed");
    for person in [&bob, &carol] {
        site.check(&id, person, &approve(&asked["hash"]), 202, "");
    }
    site.until(&id, "succeeded");
    assert_eq!(site.ledger(), "act other\n");
}

#[test]
fn consent_that_nobody_gives_expires_and_claims_hold_for_every_verb() {
    let short = ASKS.replace("count = 2", "expires = \"1s\"");
    let claimed = ASKS
        .replace("\"Asks\"", "\"Claimed\"")
        .replace("[approval]", "[required_claims]\nteam = [\"payments\"]\n[approval]");
    let site = Site::start(&[("asks", &short), ("claimed", &claimed)]);
    let bob = token("bob", &["sre"]);
    let id = site.fire("Asks", "a");
    let execution = site.until(&id, "expired");
    assert_eq!(execution["reason"], "approval_expired");
    assert_eq!(
        (&execution["steps"][0]["status"], &execution["steps"][0]["reason"]),
        (&"timed_out".into(), &"approval_expired".into())
    );
    assert_eq!(site.ledger(), "");
    let id = site.fire("Claimed", "b");
    site.until(&id, "awaiting_approval");
    for action in
        ["stop", "rollback", "pause", "resume", "approve", "reject", "acknowledge", "retry", "skip", "modify"]
    {
        site.check(&id, &bob, &json!({ "action": action }), 403, "team (not present)");
    }
}

#[test]
fn an_open_server_vouches_for_nobodys_role() {
    let anyone = ASKS.replace("\"Asks\"", "\"Anyone\"").replace("count = 2\nroles = [\"sre\"]\n", "");
    let daemon = Daemon::start(&config(""), &[("asks", ASKS), ("anyone", &anyone)], &[]);
    let id = fire(&daemon, "Asks", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    super::refused(&daemon, &id, &json!({ "action": "approve" }), 403, "forbidden");
    assert_eq!(super::simply(&daemon, &id, "stop")["id"], id.as_str());
    assert_eq!(finished(&daemon, &id)["status"], "stopped");
    let id = fire(&daemon, "Anyone", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    super::simply(&daemon, &id, "approve");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
}

const TELLS: &str = r#"
mode = "auto"
alerts = ["Tells"]
target = "{{ labels.target }}"
[[steps]]
id = "tell"
instruct = { text = "Replace the disk of {{ labels.target }}", acknowledge = true }
[[steps]]
id = "hold"
wait = { for = "5m" }
"#;

#[test]
fn an_instruction_waits_until_somebody_says_that_it_is_done() {
    let daemon = Daemon::start(&config(""), &[("tells", TELLS)], &[]);
    let id = fire(&daemon, "Tells", "a");
    let waiting = wait_for_step(&daemon, &id, 0, "waiting");
    assert_eq!(waiting["steps"][0]["attempts"][0]["stdout"], "Replace the disk of a", "{waiting:#}");
    let unfit = json!({ "action": "acknowledge", "step": "hold" });
    super::refused(&daemon, &id, &unfit, 422, "invalid");
    super::refused(&daemon, &id, &json!({ "action": "approve" }), 409, "wrong_state");
    for body in [
        json!({ "action": "acknowledge", "reason": "new disk" }),
        json!({ "action": "acknowledge", "step": "tell" }),
    ] {
        for _ in 0..2 {
            super::done(&daemon, &id, &body);
        }
    }
    let execution = wait_for_step(&daemon, &id, 1, "waiting");
    let said = &execution["steps"][0]["acknowledged"];
    assert_eq!((&said["actor"], &said["reason"]), (&"anonymous".into(), &"new disk".into()));
    super::simply(&daemon, &id, "stop");
    finished(&daemon, &id);
}
