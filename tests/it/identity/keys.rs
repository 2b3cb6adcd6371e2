//! API keys: shown once, kept hashed, never worth more than who made them, and over the moment they are revoked.

use super::{ENV, LIMIT, PASSWORD, With, ask, audit, config, make_key, reads, session, token, users};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn people(name: &str, roles: &[&str]) -> With {
    With::Bearer(token(name, roles, &[]))
}

fn keys(daemon: &Daemon, with: &With) -> Vec<Value> {
    ask(daemon, "GET", "/api/keys", with, &Value::Null).json()["keys"].as_array().unwrap().clone()
}

/// Every byte below a directory.
fn contains(dir: &Path, needle: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return contains(&path, needle);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[test]
fn t20_a_key_is_shown_once_kept_hashed_and_used_as_its_owner() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let ada = people("ada", &["operator", "oncall"]);
    let wish = json!({ "name": "deploy", "roles": ["operator"], "expires_in": "30days" });
    let answer = ask(&daemon, "POST", "/api/keys", &ada, &wish);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with(&format!("rbk_{}_", made["id"].as_str().unwrap())), "{key}");
    let with = With::Key(key.clone());
    assert_eq!(reads(&daemon, &with), 200);
    assert_eq!(reads(&daemon, &With::Bearer(key.clone())), 401, "a key has a header of its own");
    let listed = keys(&daemon, &ada);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["owner"], &listed[0]["roles"]), (&json!("ada"), &json!(["operator"])));
    assert!(listed[0]["last_used"].is_string() && listed[0]["key"].is_null(), "{listed:?}");
    assert_eq!(audit(&daemon, "key.create")[0]["user"], "ada");
    let secret = key.rsplit('_').next().unwrap();
    assert!(!contains(&daemon.dir().join("data"), secret), "not in the store");
    assert!(!daemon.log().contains(secret), "not in the log");
}

#[test]
fn t20_a_revoked_key_is_refused_within_a_second_and_stays_so() {
    let mut daemon = Daemon::start(&config(""), &[], ENV);
    let (ada, eve, root) = (people("ada", &["viewer"]), people("eve", &["sre"]), people("root", &["admin"]));
    let (id, key) = make_key(&daemon, &ada, &["viewer"], "1h");
    let (other, others) = make_key(&daemon, &ada, &["viewer"], "1h");
    let path = format!("/api/keys/{id}");
    assert_eq!(ask(&daemon, "DELETE", &path, &eve, &json!({})).status, 404, "of somebody else");
    assert!(keys(&daemon, &eve).is_empty());
    assert_eq!(keys(&daemon, &root).len(), 2, "an administrator sees all");
    assert_eq!(ask(&daemon, "DELETE", &path, &ada, &json!({})).status, 200);
    let revoked = Instant::now();
    eventually("the key being refused", LIMIT, || (reads(&daemon, &key) == 401).then_some(()));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert_eq!(ask(&daemon, "DELETE", &path, &ada, &json!({})).status, 404);
    assert_eq!(audit(&daemon, "key.revoke")[0]["target"], json!(id));
    daemon.kill();
    daemon.start_again();
    assert_eq!((reads(&daemon, &key), reads(&daemon, &others)), (401, 200), "after a crash too");
    assert_eq!(ask(&daemon, "DELETE", &format!("/api/keys/{other}"), &root, &json!({})).status, 200);
    assert_eq!(reads(&daemon, &others), 401);
}

#[test]
fn t20_an_expired_key_is_refused() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let (_, key) = make_key(&daemon, &people("ada", &["viewer"]), &["viewer"], "1s");
    eventually("the key being over", LIMIT, || (reads(&daemon, &key) == 401).then_some(()));
    let expired = "runbookd_auth_failures_total{reason=\"expired\"}";
    assert!(daemon.metric(expired) >= 1.0);
}

#[test]
fn t24_a_key_never_has_a_role_that_its_maker_has_not() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let operator = people("ada", &["operator"]);
    for (roles, status) in [
        (json!(["operator"]), 201),
        (json!(["admin"]), 403),
        (json!(["operator", "sre"]), 403),
        (json!(["viewer"]), 403),
        (json!(["Operator"]), 403),
        (json!([]), 422),
        (json!("operator"), 422),
    ] {
        let answer = ask(&daemon, "POST", "/api/keys", &operator, &json!({ "name": "k", "roles": roles }));
        assert_eq!(answer.status, status, "{roles}: {}", answer.text());
    }
    for (field, value) in [
        ("owner", json!("root")),
        ("name", json!("")),
        ("name", json!("a\nb")),
        ("expires_in", json!("0s")),
        ("expires_in", json!("400days")),
        ("expires_in", json!("soon")),
        ("permissions", json!(["admin"])),
    ] {
        let mut wish = json!({ "name": "k", "roles": ["operator"] });
        wish[field] = value;
        let answer = ask(&daemon, "POST", "/api/keys", &operator, &wish);
        assert_eq!(answer.status, 422, "{wish}: {}", answer.text());
    }
    let (_, key) = make_key(&daemon, &operator, &["operator"], "1h");
    let answer = ask(&daemon, "POST", "/api/keys", &key, &json!({ "name": "k", "roles": ["operator"] }));
    assert_eq!(answer.status, 403, "a key cannot make keys: {}", answer.text());
    daemon.logged("RBAC failure", 1);
}

#[test]
fn t24_what_the_owner_loses_the_key_loses() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("ada", "\"operator\", \"viewer\""), ("bob", "\"viewer\"")]);
    let daemon = Daemon::start(&config(&format!("users_file = \"{file}\"")), &[], ENV);
    let (ada, _) = session(&daemon, "ada");
    let (_, key) = make_key(&daemon, &ada, &["operator", "viewer"], "1h");
    let stops = |with: &With| {
        let body = json!({ "state": "running", "reason": "test" });
        ask(&daemon, "PUT", "/api/automation", with, &body).status
    };
    assert_eq!((reads(&daemon, &key), stops(&key)), (200, 200));
    users(dir.path(), &[("ada", "\"viewer\""), ("bob", "\"viewer\"")]);
    daemon.hang_up();
    eventually("the role being gone", LIMIT, || (stops(&key) == 403).then_some(()));
    assert_eq!(reads(&daemon, &key), 200);
    users(dir.path(), &[("bob", "\"viewer\"")]);
    daemon.hang_up();
    eventually("the person being gone", LIMIT, || (reads(&daemon, &key) == 401).then_some(()));
    assert_eq!(reads(&daemon, &ada), 401, "the session, too");
}

#[test]
fn the_command_line_takes_a_key_where_it_takes_a_token() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let (_, key) = make_key(&daemon, &people("ada", &["viewer"]), &["viewer"], "1h");
    let With::Key(key) = key else { unreachable!() };
    let run = |credential: &str| {
        Command::new(BINARY)
            .args(["runbooks", "list", "--url", &format!("http://{}", daemon.address())])
            .env("RUNBOOKD_TOKEN", credential)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(run(&key), Some(0));
    assert_eq!(run(&token("ada", &["viewer"], &[])), Some(0));
    // Not its last character, in which some bits may count for nothing.
    let (before, after) = key.split_at(key.len() - 10);
    let other = if after.starts_with('A') { 'B' } else { 'A' };
    assert_eq!(run(&format!("{before}{other}{}", &after[1..])), Some(4));
}

#[test]
fn a_server_without_authentication_makes_no_keys() {
    let daemon = Daemon::start("[webhook]\nallow_unauthenticated = true\n", &[], &[]);
    let wish = json!({ "name": "k", "roles": ["admin"] });
    let answer = ask(&daemon, "POST", "/api/keys", &With::Nothing, &wish);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("open_server")));
}

#[test]
fn t38_what_people_do_about_who_they_are_leaves_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("ada", "\"operator\"")]);
    let daemon = Daemon::start(&config(&format!("users_file = {file:?}\nsignup = true")), &[], ENV);
    let body = json!({ "username": "bob", "password": PASSWORD });
    let signed_up = ask(&daemon, "POST", "/api/users/signup", &With::Nothing, &body);
    assert!((200..300).contains(&signed_up.status), "{}", signed_up.text());
    let (ada, _) = session(&daemon, "ada");
    let (id, _) = make_key(&daemon, &ada, &["operator"], "1h");
    let gone = ask(&daemon, "DELETE", &format!("/api/keys/{id}"), &ada, &json!({}));
    assert!((200..300).contains(&gone.status), "{}", gone.text());
    let out = ask(&daemon, "POST", "/api/users/logout", &ada, &json!({}));
    assert!((200..300).contains(&out.status), "{}", out.text());
    for action in ["user.signup", "user.login", "key.create", "key.revoke", "user.logout"] {
        assert!(!audit(&daemon, action).is_empty(), "{action}");
    }
}
