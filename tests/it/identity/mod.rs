//! Who people and programs are, on the real program: tokens, keys, users, sessions, and what each of them opens.

mod claims;
mod keys;
mod matrix;
mod served;
mod sessions;
mod streams;
mod tokens;

use crate::support::daemon::{BINARY, Daemon};
use crate::support::http::{self, Answer};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

const SECRET: &str = "a test secret that is at least 32 bytes long";
pub(crate) const HOOK: &str = "the-webhook-token";
const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The hash of [`PASSWORD`], as the command makes it; once, because it is slow on purpose.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let (code, out, err) = hash_password(PASSWORD);
    assert_eq!(code, Some(0), "{err}");
    out.trim().to_owned()
});

fn hash_password(password: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A config that knows tokens, and `more` lines of `[auth]`.
pub(crate) fn config(more: &str) -> String {
    format!(
        "[webhook]\nbearer = {{ env = \"HOOK\" }}\nbasic = {{ user = \"am\", password = {{ env = \"HOOK\" }} }}\n\
         [auth]\njwt = {{ secret = {{ env = \"JWT\" }}, issuer = \"test\", audience = \"runbookd\" }}\n{more}\n"
    )
}

pub(crate) const ENV: &[(&str, &str)] = &[("JWT", SECRET), ("HOOK", HOOK)];

pub(crate) fn users(dir: &Path, people: &[(&str, &str)]) -> String {
    let lines = people
        .iter()
        .map(|(name, roles)| format!("{name} = {{ password_hash = '{}', roles = [{roles}] }}\n", *HASH));
    let file = dir.join("users.toml");
    fs::write(&file, lines.collect::<String>()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

/// A token with these claims beside the usual ones.
pub(crate) fn token(subject: &str, roles: &[&str], more: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(["token", "--subject", subject, "--issuer", "test", "--audience", "runbookd"]);
    command.args(["--secret-env", "JWT"]).args(roles.iter().flat_map(|role| ["--role", role])).args(more);
    let output = command.env("JWT", SECRET).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How a request proves who sent it.
#[derive(Debug, Clone, PartialEq)]
enum With {
    Nothing,
    Bearer(String),
    Key(String),
    Basic(&'static str),
    Cookie(String),
}

fn send(daemon: &Daemon, method: &str, path: &str, with: &With, more: &[(&str, &str)], body: &str) -> Answer {
    let pair = match with {
        With::Nothing => None,
        With::Bearer(token) => Some(("Authorization", format!("Bearer {token}"))),
        With::Key(key) => Some(("X-API-KEY", key.clone())),
        With::Basic(pair) => Some(("Authorization", format!("Basic {pair}"))),
        With::Cookie(pair) => Some(("Cookie", pair.clone())),
    };
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(pair.as_ref().map(|(name, value)| (*name, value.as_str())));
    headers.extend(more);
    http::request(daemon.address(), method, path, &headers, body.as_bytes()).unwrap()
}

fn ask(daemon: &Daemon, method: &str, path: &str, with: &With, body: &Value) -> Answer {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    send(daemon, method, path, with, &[], &body)
}

/// The status of a read.
fn reads(daemon: &Daemon, with: &With) -> u16 {
    ask(daemon, "GET", "/api/runbooks", with, &Value::Null).status
}

fn make_key(daemon: &Daemon, with: &With, roles: &[&str], expires_in: &str) -> (String, With) {
    let wish = json!({ "name": "a program", "roles": roles, "expires_in": expires_in });
    let answer = ask(daemon, "POST", "/api/keys", with, &wish);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let key = made["key"].as_str().unwrap().to_owned();
    (made["id"].as_str().unwrap().to_owned(), With::Key(key))
}

fn login(daemon: &Daemon, name: &str, password: &str) -> Answer {
    let body = json!({ "username": name, "password": password });
    ask(daemon, "POST", "/api/users/login", &With::Nothing, &body)
}

/// The bearer token and the cookie of a session.
fn session(daemon: &Daemon, name: &str) -> (With, With) {
    let answer = login(daemon, name, PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let cookie = answer.header("set-cookie").unwrap();
    (With::Bearer(token), With::Cookie(cookie.split(';').next().unwrap().to_owned()))
}

/// The audit records of an action, newest first.
fn audit(daemon: &Daemon, action: &str) -> Vec<Value> {
    let sre = With::Bearer(token("auditor", &["sre"], &[]));
    let answer = ask(daemon, "GET", &format!("/api/audit?action={action}"), &sre, &Value::Null);
    answer.json()["audit"].as_array().unwrap().clone()
}
