//! Every credential at every route: what opens which door, made from the one list of routes.

use super::{ENV, HOOK, With, ask, config, make_key, session, token, users};
use crate::access::{Door, ROUTES};
use crate::support::daemon::Daemon;
use serde_json::json;

const OPEN: &str =
    "mode = \"auto\"\ntarget = \"a\"\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";
const GUARDED: &str = "mode = \"auto\"\ntarget = \"a\"\n[required_claims]\nteam = [\"payments\"]\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";
const RUNBOOKS: &[(&str, &str)] = &[("open", OPEN), ("guarded", GUARDED)];

/// The permissions of the built-in roles, as the contract has them, and of an own one.
fn allows(role: &str, door: Door) -> bool {
    let words: &[Door] = match role {
        "viewer" => &[Door::Read],
        "operator" | "oncall" => &[Door::Read, Door::Execute],
        "editor" => &[Door::Read, Door::Edit],
        "developer" => &[Door::Read, Door::Execute, Door::Edit],
        "sre" => &[Door::Read, Door::Execute, Door::Edit, Door::Secrets, Door::Audit],
        "admin" => &[Door::Read, Door::Execute, Door::Edit, Door::Secrets, Door::Audit, Door::Admin],
        _ => &[],
    };
    door == Door::SignedIn || words.contains(&door)
}

const ROLES: [&str; 9] =
    ["viewer", "operator", "editor", "developer", "sre", "admin", "oncall", "nobody-knows", "Admin"];

struct Site {
    daemon: Daemon,
    _dir: tempfile::TempDir,
}

fn start() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let people: Vec<(String, String)> =
        ROLES.iter().map(|role| (format!("u-{role}"), format!("{role:?}"))).collect();
    let people: Vec<(&str, &str)> =
        people.iter().map(|(name, role)| (name.as_str(), role.as_str())).collect();
    let file = users(dir.path(), &people);
    let more = format!("users_file = \"{file}\"\n[auth.roles]\noncall = [\"read\", \"execute\"]\n");
    Site { daemon: Daemon::start(&config(&more), RUNBOOKS, ENV), _dir: dir }
}

fn is_open(door: Door) -> bool {
    matches!(door, Door::Open | Door::OwnPages)
}

/// Whether a request would take away what this test needs: these are asked last, or by others.
fn ends_something(path: &str) -> bool {
    path == "/api/users/logout"
}

#[test]
fn t18_what_is_no_credential_of_a_route_does_not_open_it() {
    let site = start();
    let daemon = &site.daemon;
    let admin = token("root", &["admin"], &[]);
    let (revoked, revoked_key) = make_key(daemon, &With::Bearer(admin.clone()), &["admin"], "1h");
    ask(daemon, "DELETE", &format!("/api/keys/{revoked}"), &With::Bearer(admin.clone()), &json!({}));
    let (_, key) = make_key(daemon, &With::Bearer(admin.clone()), &["admin"], "1h");
    let (over, _) = session(daemon, "u-admin");
    ask(daemon, "POST", "/api/users/logout", &over, &json!({}));
    let (With::Key(key), With::Bearer(over)) = (key, over) else { unreachable!() };
    let (live, _) = session(daemon, "u-admin");
    let With::Bearer(live) = live else { unreachable!() };
    let basic = "YW06dGhlLXdlYmhvb2stdG9rZW4=";
    // None of these opens anything but, of the webhook's own, the webhook.
    let nothing = [
        ("none", With::Nothing),
        ("an empty bearer", With::Bearer(String::new())),
        ("a wrong bearer", With::Bearer("wrong".into())),
        ("a forged token", With::Bearer("e30.e30.e30".into())),
        ("a wrong basic", With::Basic("YW06d3Jvbmc=")),
        ("a key as bearer", With::Bearer(key.clone())),
        ("a revoked key", revoked_key),
        ("half a key", With::Key(key[..key.len() - 5].into())),
        ("a token as key", With::Key(admin.clone())),
        ("a session as key", With::Key(live)),
        ("a session that is over", With::Bearer(over)),
        ("the webhook's bearer as key", With::Key(HOOK.into())),
    ];
    let webhooks =
        [("the webhook's bearer", With::Bearer(HOOK.into())), ("the webhook's basic", With::Basic(basic))];
    let people = [("a token", With::Bearer(admin)), ("a key", With::Key(key))];
    let mut checked = 0;
    for (method, path, _, door) in ROUTES {
        let status = |with: &With| ask(daemon, method, path, with, &json!({})).status;
        for (name, with) in &nothing {
            assert_eq!(status(with) == 401, !is_open(*door), "{method} {path} with {name}");
            checked += 1;
        }
        for (name, with) in &webhooks {
            let opens = is_open(*door) || *door == Door::Webhook;
            assert_eq!(status(with) != 401, opens, "{method} {path} with {name}");
            checked += 1;
        }
        for (name, with) in &people {
            assert_eq!(status(with) == 401, *door == Door::Webhook, "{method} {path} with {name}");
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn t24_every_role_opens_exactly_its_routes_with_every_credential() {
    let site = start();
    let daemon = &site.daemon;
    let mut checked = 0;
    for role in ROLES {
        let name = format!("u-{role}");
        let jwt = With::Bearer(token(&name, &[role], &[]));
        let (_, key) = make_key(daemon, &jwt, &[role], "1h");
        let (bearer, _) = session(daemon, &name);
        for (kind, with) in [("token", &jwt), ("key", &key), ("session", &bearer)] {
            let routes = ROUTES.iter().filter(|(_, path, _, _)| !ends_something(path));
            for (method, path, _, door) in
                routes.filter(|(.., door)| !is_open(*door) && *door != Door::Webhook)
            {
                let status = ask(daemon, method, path, with, &json!({})).status;
                let forbidden = !allows(role, *door);
                assert_eq!(status == 403, forbidden, "{method} {path} as {role} by {kind}: {status}");
                assert_ne!(status, 401, "{method} {path} as {role} by {kind}");
                checked += 1;
            }
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn t24_a_runbook_is_open_to_whom_its_claims_admit_whatever_the_credential() {
    let site = start();
    let daemon = &site.daemon;
    for role in ROLES {
        let name = format!("u-{role}");
        let plain = With::Bearer(token(&name, &[role], &[]));
        let claimed = With::Bearer(token(&name, &[role], &["--claim", "team=payments"]));
        let other = With::Bearer(token(&name, &[role], &["--claim", "team=search"]));
        // A key and a session say who somebody is and their roles, and nothing else a runbook could ask for.
        let (_, key) = make_key(daemon, &claimed, &[role], "1h");
        let (bearer, _) = session(daemon, &name);
        let may = allows(role, Door::Execute);
        let all = [(&plain, false), (&claimed, true), (&other, false), (&key, false), (&bearer, false)];
        for (with, has_claim) in all {
            for (runbook, admitted) in [("open", may), ("guarded", may && has_claim)] {
                let path = format!("/api/runbooks/{runbook}/execute");
                let status = ask(daemon, "POST", &path, with, &json!({ "dry_run": true })).status;
                assert_eq!(status, if admitted { 200 } else { 403 }, "{runbook} as {role} with {with:?}");
            }
        }
    }
}
