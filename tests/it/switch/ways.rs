//! What must not be in the way of a halt: reloads, limits, orders that have ended, and everything else that is down.

use super::*;
use crate::identity::{ENV, token};
use runbookd::app::SystemClock;
use runbookd::model::{Clock, Timestamp, after};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A program that is asked for a secret, and says it when there is a gate.
fn slow_secret(dir: &std::path::Path) -> String {
    let program = dir.join("slow");
    let text = format!(
        "#!/bin/sh\necho asked >> {0}/asked\nwhile [ ! -e {0}/open ]; do sleep 0.02; done\necho word\n",
        dir.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    format!("[secrets.slow]\ncommand = [\"{}\"]\ntimeout = \"1m\"\n", program.display())
}

/// A daemon in the middle of a reload that does not end before there is a gate.
fn in_a_reload() -> Daemon {
    let daemon = start("");
    let path = daemon.dir().join("runbookd.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{}", slow_secret(daemon.dir()))).unwrap();
    daemon.hang_up();
    eventually("the program being asked", LIMIT, || daemon.dir().join("asked").exists().then_some(()));
    daemon
}

fn reloads_ended(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.matches("config reloaded").count() + log.matches("the new config is refused").count()
}

#[test]
fn a_signal_halts_in_the_middle_of_a_reload() {
    let daemon = in_a_reload();
    daemon.user_signal();
    eventually("the signal being heeded", LIMIT, || (status(&daemon) == "halted").then_some(()));
    assert_eq!((denied(&daemon, "a").as_str(), reloads_ended(&daemon)), ("halted", 0));
    touch(&daemon, "open");
    eventually("the end of the reload", LIMIT, || (reloads_ended(&daemon) == 1).then_some(()));
    assert_eq!(status(&daemon), "halted");
}

#[test]
fn sigterm_drains_in_the_middle_of_a_reload() {
    let mut daemon = in_a_reload();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(reloads_ended(&daemon), 0);
    touch(&daemon, "open");
}

#[test]
fn two_hundred_orders_keep_nobody_from_halting_and_are_gone_when_they_have_ended() {
    let mut daemon = start("");
    let of = |number: usize, until: Timestamp| {
        let scope = json!({ "matchers": [format!("n=\"{number}\"")] });
        json!({ "state": "draining", "scope": scope, "reason": "many", "expires_at": until.to_string() })
    };
    let later = after(Clock::now(&SystemClock), Duration::from_secs(3600));
    for number in 0..200 {
        assert_eq!(put(&daemon, &of(number, later)).status, 200);
    }
    let runbook = json!({ "state": "halted", "scope": { "runbook": "gated" }, "reason": "one more" });
    let refused = put(&daemon, &runbook);
    assert_eq!((refused.status, &refused.json()["code"]), (409, &"too_many_orders".into()));
    assert_eq!(command(&daemon, &["halt", "--reason", "all of it"]).status.code(), Some(0));
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "a").as_str()), ("halted", "halted"));
    assert_eq!(unhalt(&daemon).status.code(), Some(0));
    daemon.user_signal();
    eventually("the signal being heeded", LIMIT, || (status(&daemon) == "halted").then_some(()));
    assert_eq!(unhalt(&daemon).status.code(), Some(0));
    // Each is given a moment more, and no longer.
    for number in 0..200 {
        eventually("an order that ends soon", LIMIT, || {
            let soon = after(Clock::now(&SystemClock), Duration::from_secs(1));
            (put(&daemon, &of(number, soon)).status == 200).then_some(())
        });
    }
    eventually("the end of all orders", LIMIT, || {
        (daemon.json("/api/automation")["orders"] == json!([])).then_some(())
    });
    daemon.kill();
    daemon.start_again();
    assert_eq!(put(&daemon, &runbook).status, 200);
}

#[test]
fn what_was_ordered_of_one_runbook_is_on_the_status_with_who_why_and_how_long() {
    let frozen = "[[freezes]]\nname = \"always\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2100-01-01T00:00:00Z\"\n\
                  [[freezes]]\nname = \"never\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2020-01-02T00:00:00Z\"\n";
    let daemon = start(frozen);
    let output = command(&daemon, &["halt", "--runbook", "gated", "--for", "2h", "--reason", "it is slow"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let shown = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!(shown["status"], "enabled", "of everything, nothing was ordered");
    let order = &shown["orders"][0];
    assert_eq!(
        (&order["scope"], &order["state"], &order["by"], &order["reason"]),
        (&json!({ "runbook": "gated" }), &"halted".into(), &"anonymous".into(), &"it is slow".into())
    );
    assert!(order["at"].is_string() && order["expires_at"].is_string(), "{order:#}");
    assert_eq!((&shown["freezes"][0]["name"], &shown["flapping_alerts"]), (&"always".into(), &0.into()));
    let page = command(&daemon, &["status"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("Kill switch      runbook gated: halted until 20"), "{page}");
    assert!(page.contains("by anonymous: it is slow (since 20"), "{page}");
    assert!(page.contains("Frozen           always, until 2100"), "{page}");
    assert_eq!(daemon.metric("runbookd_freeze_active{freeze=\"always\"}"), 1.0);
    let text = daemon.try_get("/metrics").unwrap().text();
    assert!(text.contains("runbookd_freeze_active{freeze=\"never\"} 0"), "{text}");
    assert!(text.contains("runbookd_flapping_alerts 0"), "{text}");
}

#[test]
fn alerts_that_flap_are_counted_on_the_status() {
    let guard = "[automation.guard]\ncooldown = false\nmax_runs = false\nmax_concurrent = false\n\
                 max_targets = false\nconfirm = false\nflapping = { changes = 2, within = \"1h\" }\n";
    let daemon = start(guard);
    touch(&daemon, "gate");
    let count = || daemon.json("/api/sre/runbooks/integration-status")["flapping_alerts"].clone();
    let deliver = |status: &str, hour: usize| {
        let alert = body("Gated", status, &["a"]).replace("2026-01-01T00:", &format!("2026-01-01T0{hour}:"));
        assert_eq!(daemon.webhook(&alert).status, 200);
    };
    for hour in [1, 2] {
        deliver("firing", hour);
        assert_eq!(count(), 0);
        deliver("resolved", hour);
    }
    deliver("firing", 3);
    assert_eq!(count(), 1);
    assert_eq!(daemon.metric("runbookd_flapping_alerts"), 1.0);
    let page = String::from_utf8(command(&daemon, &["status"]).stdout).unwrap();
    assert!(page.contains("Flapping         1 alert"), "{page}");
    deliver("resolved", 3);
    assert_eq!(count(), 0);
}

#[test]
fn a_slip_in_a_scope_is_told() {
    let daemon = start("");
    let said = |args: &[&str]| {
        let output = command(&daemon, args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let slip = said(&["halt", "--runbook", "gatde", "--reason", "x"]);
    assert!(slip.contains("there is no runbook gatde now"), "{slip}");
    assert_eq!(daemon.json("/api/automation")["orders"][0]["scope"]["runbook"], "gatde");
    let nothing = said(&["unhalt", "--runbook", "gated", "--reason", "x"]);
    assert!(nothing.contains("nothing was taken back: no order of runbook:gated stands"), "{nothing}");
    let nothing = said(&["unhalt", "--matcher", "a=\"b\"", "--reason", "x"]);
    assert!(nothing.contains("nothing was taken back: no order of matchers:a=\"b\" stands"), "{nothing}");
    assert_eq!(said(&["unhalt", "--runbook", "gatde", "--reason", "x"]), "");
    let audit = daemon.json("/api/audit?action=automation.set");
    assert_eq!(
        audit["audit"].as_array().unwrap().len(),
        2,
        "the order, and that it was taken back: {audit:#}"
    );
}

#[test]
fn with_everything_else_down_a_key_a_file_and_a_signal_halt() {
    let jwt = "[auth]\njwt = { secret = { env = \"JWT\" }, issuer = \"test\", audience = \"runbookd\" }\n";
    let runbooks = [("gated", GATED)];
    let mut daemon = Daemon::start_at(&free_address(), &config(jwt), &runbooks, ENV);
    let token = token("ada", &["admin"], &[]);
    let bearer = format!("Bearer {token}");
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    let wish = json!({ "name": "brake", "roles": ["admin"], "expires_in": "1h" }).to_string();
    let made = http::request(daemon.address(), "POST", "/api/keys", &headers, wish.as_bytes()).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(daemon.terminate().code(), Some(0));
    let (issuer, prometheus, alertmanager) = (free_address(), free_address(), free_address());
    let down = format!(
        "[auth]\njwt = {{ jwks_url = \"http://{issuer}/keys\", issuer = \"test\", audience = \"runbookd\" }}\n\
         [prometheus]\nurl = \"http://{prometheus}\"\n[alertmanager]\nurls = [\"http://{alertmanager}\"]\n"
    );
    let path = daemon.dir().join("runbookd.toml");
    fs::write(&path, crate::support::daemon::without_guards(&config(&down))).unwrap();
    daemon.start_again();
    let url = format!("http://{}", daemon.address());
    let with_key = |args: &[&str]| {
        Command::new(BINARY).args(args).args(["--url", &url, "--token", &key]).output().unwrap()
    };
    let shown = || {
        let output = with_key(&["status", "--output", "json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["status"].clone()
    };
    assert_eq!(with_key(&["halt", "--reason", "x"]).status.code(), Some(0));
    assert_eq!((shown(), denied(&daemon, "a").as_str()), ("halted".into(), "halted"));
    assert_eq!(with_key(&["unhalt", "--reason", "x"]).status.code(), Some(0));
    let file = daemon.dir().join("data/halt");
    fs::write(&file, "").unwrap();
    eventually("the file being heeded", LIMIT, || (shown() == "halted").then_some(()));
    fs::remove_file(&file).unwrap();
    eventually("the file being gone", LIMIT, || (shown() == "enabled").then_some(()));
    daemon.user_signal();
    eventually("the signal being heeded", LIMIT, || (shown() == "halted").then_some(()));
}

#[test]
fn halted_it_stays_through_a_new_config_a_reload_and_a_restart_and_ends_at_its_time_also_while_it_is_down() {
    let mut daemon = start("");
    let soon = after(Clock::now(&SystemClock), Duration::from_secs(3));
    let order = json!({ "state": "halted", "reason": "for a moment", "scope": { "runbook": "asking" },
        "expires_at": soon.to_string() });
    assert_eq!(put(&daemon, &order).status, 200);
    set(&daemon, "halted");
    let path = daemon.dir().join("runbookd.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!(
            "{text}\n[[mappings]]\nname = \"m\"\nmatchers = ['alertname=\"New\"']\nrunbook = \"gated\"\n"
        ),
    )
    .unwrap();
    daemon.hang_up();
    eventually("the reload", LIMIT, || (reloads_ended(&daemon) == 1).then_some(()));
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "a").as_str()), ("halted", "halted"));
    daemon.kill();
    eventually("the end of the order", LIMIT, || (Clock::now(&SystemClock) >= soon).then_some(()));
    daemon.start_again();
    assert_eq!((status(&daemon).as_str(), denied(&daemon, "a").as_str()), ("halted", "halted"));
    set(&daemon, "running");
    assert_eq!(daemon.json("/api/automation")["orders"], json!([]));
    let asking = fire(&daemon, "Asking", "b");
    wait_for_status(&daemon, &asking, "awaiting_approval");
}
