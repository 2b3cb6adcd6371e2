//! Local users: signing in, up and out, and what a session's cookie may do.

use super::{
    ENV, LIMIT, PASSWORD, With, ask, audit, config, hash_password, login, reads, send, session, token, users,
};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use serde_json::{Value, json};

/// What our own pages send with a change.
const MARK: (&str, &str) = ("X-Requested-With", "runbookd");

struct Site {
    daemon: Daemon,
    dir: tempfile::TempDir,
}

impl Site {
    /// With ada, an operator, and bob, who may read.
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = users(dir.path(), &[("ada", "\"operator\""), ("bob", "\"viewer\"")]);
        let daemon = Daemon::start(&config(&format!("users_file = \"{file}\"\n{more}")), &[], ENV);
        Self { daemon, dir }
    }
}

/// A change that an operator may make.
fn change(daemon: &Daemon, with: &With, more: &[(&str, &str)]) -> Answer {
    send(daemon, "PUT", "/api/automation", with, more, r#"{"state": "running", "reason": "test"}"#)
}

#[test]
fn a_user_signs_in_acts_and_signs_out() {
    let mut site = Site::start("");
    let answer = login(&site.daemon, "ada", PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["subject"], &told["roles"]), (&json!("ada"), &json!(["operator"])));
    let bearer = With::Bearer(told["access_token"].as_str().unwrap().to_owned());
    assert_eq!((reads(&site.daemon, &bearer), change(&site.daemon, &bearer, &[]).status), (200, 200));
    site.daemon.kill();
    site.daemon.start_again();
    assert_eq!(reads(&site.daemon, &bearer), 200, "a session survives a crash");
    let out = ask(&site.daemon, "POST", "/api/users/logout", &bearer, &json!({}));
    assert_eq!(out.status, 200, "{}", out.text());
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(reads(&site.daemon, &bearer), 401);
    for action in ["user.login", "user.logout"] {
        assert_eq!(audit(&site.daemon, action)[0]["user"], "ada", "{action}");
    }
    let jwt = With::Bearer(token("carol", &["viewer"], &[]));
    assert_eq!(ask(&site.daemon, "POST", "/api/users/logout", &jwt, &json!({})).status, 409);
}

#[test]
fn t16_a_cookie_on_loopback_is_hidden_and_strict() {
    let site = Site::start("");
    let answer = login(&site.daemon, "ada", PASSWORD);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("runbookd_session=rbs_"), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=86400"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
}

#[test]
fn t16_over_https_the_cookie_is_bound_to_the_host_and_the_plain_name_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("ada", "\"operator\"")]);
    let proxied = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{}",
        config(&format!("users_file = \"{file}\""))
    );
    let daemon = Daemon::start(&proxied, &[], ENV);
    let https = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.7")];
    let body = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let answer = send(&daemon, "POST", "/api/users/login", &With::Nothing, &https, &body);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-runbookd=rbs_") && cookie.ends_with("; Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let value = pair.split_once('=').unwrap().1;
    let status = |pair: String| send(&daemon, "GET", "/api/runbooks", &With::Cookie(pair), &https, "").status;
    assert_eq!(status(pair.clone()), 200);
    assert_eq!(status(format!("runbookd_session={value}")), 401);
    assert_eq!(status(format!("{pair}; {pair}")), 401, "which of two is ours");
    assert_eq!(audit(&daemon, "user.login")[0]["detail"]["from"], "192.0.2.7");
}

#[test]
fn t16_another_sites_page_can_change_nothing_with_the_cookie() {
    let site = Site::start("");
    let (bearer, cookie) = session(&site.daemon, "ada");
    let own = format!("http://{}", site.daemon.address());
    let origin = ("Origin", own.as_str());
    for more in [
        vec![MARK],
        vec![MARK, origin],
        vec![MARK, origin, ("Sec-Fetch-Site", "same-origin")],
        vec![MARK, ("Sec-Fetch-Site", "none")],
    ] {
        assert_eq!(change(&site.daemon, &cookie, &more).status, 200, "{more:?}");
    }
    let foreign = [
        vec![],
        vec![origin],
        vec![("X-Requested-With", "XMLHttpRequest")],
        vec![MARK, ("Origin", "http://evil.example")],
        vec![MARK, ("Origin", "null")],
        vec![MARK, ("Origin", "http://127.0.0.1")],
        vec![MARK, ("Origin", "https://127.0.0.1:9796")],
        vec![MARK, origin, ("Sec-Fetch-Site", "cross-site")],
        vec![MARK, origin, ("Sec-Fetch-Site", "same-site")],
        vec![MARK, origin, ("Origin", "http://evil.example")],
    ];
    for more in &foreign {
        let answer = change(&site.daemon, &cookie, more);
        assert_eq!(answer.status, 403, "{more:?}: {}", answer.text());
        // Whoever has the token itself is no browser that was led astray.
        assert_eq!(change(&site.daemon, &bearer, more).status, 200, "{more:?}");
    }
    let counted = site.daemon.metric("runbookd_auth_failures_total{reason=\"cross_site\"}");
    assert_eq!(counted, foreign.len() as f64);
    assert_eq!(reads(&site.daemon, &cookie), 200);
    // A form can send neither JSON nor the mark.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let With::Cookie(pair) = &cookie else { unreachable!() };
        let headers = [("Content-Type", kind), ("Cookie", pair.as_str()), ("Origin", "http://evil.example")];
        let path = "/api/automation";
        let answer = http::request(site.daemon.address(), "PUT", path, &headers, b"{}").unwrap();
        assert_eq!(answer.status, 403, "{kind}");
    }
}

#[test]
fn t16_another_sites_page_can_neither_sign_in_nor_use_an_open_server() {
    let site = Site::start("signup = true");
    let evil = [("Origin", "http://evil.example")];
    let body = json!({ "username": "ada", "password": PASSWORD }).to_string();
    for path in ["/api/users/login", "/api/users/signup", "/dev-login"] {
        assert_eq!(send(&site.daemon, "POST", path, &With::Nothing, &evil, &body).status, 403, "{path}");
    }
    let open = Daemon::start("[webhook]\nallow_unauthenticated = true\n", &[], &[]);
    assert_eq!(change(&open, &With::Nothing, &[]).status, 200);
    assert_eq!(change(&open, &With::Nothing, &evil).status, 403);
    let hook = send(&open, "POST", "/api/sre/alerts/webhook", &With::Nothing, &evil, r#"{"alerts":[]}"#);
    assert_eq!(hook.status, 403, "{}", hook.text());
}

#[test]
fn t20_wrong_passwords_are_slowed_down_and_lock_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("ada", "\"viewer\""), ("bob", "\"viewer\"")]);
    let proxied = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{}",
        config(&format!("users_file = \"{file}\""))
    );
    let daemon = Daemon::start(&proxied, &[], ENV);
    let from = |address: &str, name: &str, password: &str| {
        let more = [("X-Forwarded-For", address), ("X-Forwarded-Proto", "https")];
        let body = json!({ "username": name, "password": password }).to_string();
        send(&daemon, "POST", "/api/users/login", &With::Nothing, &more, &body)
    };
    for _ in 0..5 {
        assert_eq!(from("192.0.2.1", "ada", "a wrong password").status, 401);
    }
    let limited = from("192.0.2.1", "ada", "a wrong password");
    assert_eq!(limited.status, 429, "{}", limited.text());
    let after: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(from("192.0.2.1", "ada", PASSWORD).status, 429, "not even the right one, from there");
    assert_eq!(from("192.0.2.2", "ada", PASSWORD).status, 200, "from elsewhere it is");
    assert_eq!(from("192.0.2.1", "bob", PASSWORD).status, 200, "and so is another account");
    assert!(daemon.metric("runbookd_auth_failures_total{reason=\"rate_limited\"}") >= 2.0);
    let failed = audit(&daemon, "user.login_failed");
    assert_eq!((failed.len(), &failed[0]["user"]), (5, &json!("ada")));
}

#[test]
fn t20_a_password_typed_as_a_name_is_written_down_nowhere() {
    let site = Site::start("");
    let answer = login(&site.daemon, "my secret passphrase", "whatever it is");
    assert_eq!(answer.status, 401);
    assert_eq!(audit(&site.daemon, "user.login_failed")[0]["user"], "(unknown)");
    assert!(!site.daemon.log().contains("passphrase"));
    // Name and password wrong in any way: one answer.
    let known = login(&site.daemon, "ada", "whatever it is");
    assert_eq!((known.status, known.text()), (answer.status, answer.text()));
}

#[test]
fn whoever_signs_up_may_read_and_is_nobody_else() {
    let mut site = Site::start("signup = true");
    let signup = |daemon: &Daemon, name: &str, password: &str, more: Value| {
        let mut body = json!({ "username": name, "password": password });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(daemon, "POST", "/api/users/signup", &With::Nothing, &body)
    };
    let made = signup(&site.daemon, "eve", "a password of eve", json!({}));
    assert_eq!(made.status, 201, "{}", made.text());
    let told = made.json();
    assert_eq!((&told["subject"], &told["roles"]), (&json!("signup:eve"), &json!(["viewer"])));
    let eve = With::Bearer(told["access_token"].as_str().unwrap().to_owned());
    assert_eq!((reads(&site.daemon, &eve), change(&site.daemon, &eve, &[]).status), (200, 403));
    for (name, password, more, status) in [
        ("eve", "a password of another", json!({}), 409),
        ("ada", "a password of another", json!({}), 409),
        ("eve2", "a password of another", json!({ "roles": ["sre"] }), 403),
        ("eve2", "too short", json!({}), 422),
        ("Eve", "a password of another", json!({}), 422),
        ("../eve", "a password of another", json!({}), 422),
        ("e", "a password of another", json!({}), 422),
        ("eve2", "a password of another", json!({ "subject": "ada" }), 422),
    ] {
        let answer = signup(&site.daemon, name, password, more);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    assert_eq!(audit(&site.daemon, "user.signup").len(), 1);
    site.daemon.kill();
    site.daemon.start_again();
    assert_eq!(login(&site.daemon, "eve", "a password of eve").status, 200, "an account is durable");
    // Turned off, the accounts are shut, and so are their sessions.
    let file = site.daemon.dir().join("runbookd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("signup = true", "signup = false")).unwrap();
    site.daemon.hang_up();
    eventually("the session being over", LIMIT, || (reads(&site.daemon, &eve) == 401).then_some(()));
    assert_eq!(login(&site.daemon, "eve", "a password of eve").status, 401);
    assert_eq!(signup(&site.daemon, "carol", "a password of carol", json!({})).status, 404);
}

#[test]
fn another_password_or_none_signs_out_at_the_next_reload() {
    let site = Site::start("");
    let (ada, _) = session(&site.daemon, "ada");
    let (bob, _) = session(&site.daemon, "bob");
    let (_, other, _) = hash_password("another password");
    let file = site.dir.path().join("users.toml");
    std::fs::write(&file, format!("ada = {{ password_hash = '{}', roles = [\"viewer\"] }}\n", other.trim()))
        .unwrap();
    site.daemon.hang_up();
    for who in [&ada, &bob] {
        eventually("the session being over", LIMIT, || (reads(&site.daemon, who) == 401).then_some(()));
    }
    assert_eq!(login(&site.daemon, "ada", "another password").status, 200);
    // A file that others may read is refused, and the old people stay.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, mode).unwrap();
    site.daemon.hang_up();
    eventually("the refusal", LIMIT, || site.daemon.log().contains("is open to others").then_some(()));
    assert_eq!(login(&site.daemon, "ada", "another password").status, 200);
}

#[test]
fn passwords_are_hashed_on_the_command_line_and_weak_ones_refused() {
    let (code, out, _) = hash_password("correct horse battery\n");
    assert_eq!(code, Some(0));
    assert!(out.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{out}");
    for bad in ["", "short", "two lines\nof password", &"x".repeat(600)] {
        let (code, out, err) = hash_password(bad);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    }
}

#[test]
fn the_development_sign_in_exists_only_where_it_is_turned_on() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    assert_eq!(ask(&daemon, "POST", "/dev-login", &With::Nothing, &json!({})).status, 404);
    let daemon = Daemon::start(&config("dev_login = true"), &[], ENV);
    let body = json!({ "subject": "grace", "roles": ["operator"] });
    let answer = ask(&daemon, "POST", "/dev-login", &With::Nothing, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["token_type"], &told["subject"]), (&json!("bearer"), &json!("grace")));
    let grace = With::Bearer(told["access_token"].as_str().unwrap().to_owned());
    assert_eq!(change(&daemon, &grace, &[]).status, 200);
    let usual = ask(&daemon, "POST", "/dev-login", &With::Nothing, &json!({})).json();
    assert_eq!((&usual["subject"], &usual["roles"]), (&json!("dev-user-1"), &json!(["developer"])));
}

#[test]
fn the_config_is_shown_without_a_hash() {
    let site = Site::start("");
    let admin = With::Bearer(token("root", &["admin"], &[]));
    let shown = ask(&site.daemon, "GET", "/api/config", &admin, &Value::Null).text();
    assert!(shown.contains("users.toml") && !shown.contains("argon2"), "{shown}");
}
