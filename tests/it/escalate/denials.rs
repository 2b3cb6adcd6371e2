//! Denials that mean that too much is broken: each code is one escalation, however often it denies; shadow mode tells
//! nobody; an outage of all channels shows.

use super::{BAD, hook, start, told};
use crate::support::alerts::{config, finished, fire};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::eventually;
use crate::support::receiver::{Receiver, Reply};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Delivers one alert that began in this minute; the reason of the decision.
fn deliver(daemon: &Daemon, name: &str, target: &str, state: &str, minute: u32) -> String {
    let mut alert = json!({
        "status": state,
        "labels": { "alertname": name, "target": target },
        "startsAt": format!("2026-01-01T00:{minute:02}:00Z"),
    });
    if state == "resolved" {
        alert["endsAt"] = json!(format!("2026-01-01T00:{:02}:00Z", minute + 5));
    }
    let answer = daemon.webhook(&json!({ "alerts": [alert] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["decisions"][0]["reason"].as_str().unwrap().to_owned()
}

/// A runbook that ends well, with this guard.
fn guarded(name: &str, guard: &str) -> String {
    format!(
        "mode = \"auto\"\nalerts = [\"{name}\"]\ntarget = \"{{{{ labels.target }}}}\"\n[guard]\n{guard}\n[[steps]]\nid = \"act\"\ncommand = {{ program = \"true\" }}\n"
    )
}

/// The escalations of denials: how often each code, and how many alerts of it fire.
fn denied(daemon: &Daemon) -> Vec<(String, String, u64, u64)> {
    let all = daemon.json("/api/escalations");
    let mut denied: Vec<_> = all["escalations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["cause"] == "denied")
        .map(|one| {
            let word = |key: &str| one[key].as_str().unwrap().to_owned();
            let number = |key: &str| one["totals"][key].as_u64().unwrap();
            (word("runbook"), word("reason"), number("count"), number("firing"))
        })
        .collect();
    denied.sort();
    denied
}

#[test]
fn each_code_is_one_escalation_with_totals() {
    let receiver = Receiver::start(&[]);
    let more = "[automation.storm]\nepisodes_per_minute = 40\ncooldown = \"10m\"\n[prometheus]\nurl = \"http://127.0.0.1:1\"\n[automation.guard]\ncooldown = false\nmax_runs = false\nmax_targets = false\nflapping = false\nconfirm = false\n";
    let runbooks: Vec<(&str, String)> = [
        ("attempts", "Attempts", "max_runs = [{ count = 1, within = \"1h\" }]"),
        ("flaps", "Flaps", "flapping = { changes = 3, within = \"1h\" }"),
        ("stormy", "Stormy", ""),
        ("systemic", "Systemic", "max_unhealthy = { promql = \"up\", limit = 1 }"),
        ("targets", "Targets", "max_targets = { count = 1, within = \"1h\" }"),
    ]
    .map(|(id, name, guard)| (id, guarded(name, guard)))
    .into();
    let runbooks: Vec<(&str, &str)> = runbooks.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let daemon = start(&hook(&receiver.url("/"), more), &runbooks);
    for target in ["a", "b"] {
        // Only what has begun is an attempt.
        finished(&daemon, &fire(&daemon, "Attempts", target));
        for (state, minute) in [("resolved", 0), ("firing", 10)] {
            deliver(&daemon, "Attempts", target, state, minute);
        }
        for (state, minute) in
            [("firing", 0), ("resolved", 0), ("firing", 10), ("resolved", 10), ("firing", 20)]
        {
            deliver(&daemon, "Flaps", target, state, minute);
        }
    }
    for target in ["a", "b", "c"] {
        deliver(&daemon, "Targets", target, "firing", 0);
        deliver(&daemon, "Systemic", target, "firing", 0);
    }
    let all: Vec<Value> = (0..40)
        .map(
            |n| json!({ "status": "firing", "labels": { "alertname": "Stormy", "target": format!("t{n}") } }),
        )
        .collect();
    assert_eq!(daemon.webhook(&json!({ "alerts": all }).to_string()).status, 200);
    let expected =
        [("attempts", "attempts_exhausted", 2), ("flaps", "flapping", 2), ("systemic", "systemic", 3)];
    let found = eventually("the denials", Duration::from_secs(60), || {
        let found = denied(&daemon);
        let has = |(runbook, reason, count): &(&str, &str, u64)| {
            found.iter().any(|one| (one.0.as_str(), one.1.as_str(), one.2) == (runbook, reason, *count))
        };
        (found.len() == 5 && expected.iter().all(has)).then_some(found)
    });
    let by_code: BTreeMap<&str, u64> = found.iter().map(|one| (one.1.as_str(), one.2)).collect();
    assert_eq!((by_code.len(), by_code["too_many_targets"]), (5, 2), "{found:?}");
    assert!(by_code["storm"] > 1, "{found:?}");
    assert!(found.iter().all(|one| one.2 == one.3), "all of it fires: {found:?}");
    receiver.wait_for(5);
    let subjects: Vec<String> =
        receiver.told().iter().map(|told| told.json()["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!(subjects.len(), 5, "{subjects:?}");
    let link = receiver.told()[0].json()["link"].as_str().unwrap().to_owned();
    let path = link.split_once("/api/").unwrap().1;
    assert_eq!(daemon.json(&format!("/api/{path}"))["cause"], "denied", "its link leads to it");
    deliver(&daemon, "Targets", "b", "resolved", 0);
    let left = denied(&daemon).into_iter().find(|one| one.0 == "targets").unwrap();
    assert_eq!((left.2, left.3), (2, 1), "one of two still fires");
}

#[test]
fn shadow_mode_tells_nobody_that_it_would_not_have_run() {
    let receiver = Receiver::start(&[]);
    let watched =
        guarded("Watched", "max_targets = { count = 1, within = \"1h\" }").replace("\"auto\"", "\"shadow\"");
    let daemon = start(&hook(&receiver.url("/"), ""), &[("watched", &watched), ("bad", BAD)]);
    assert_eq!(deliver(&daemon, "Watched", "a", "firing", 0), "shadow");
    let open = http::post(daemon.address(), "/api/breakers/runbook:watched:b/open", "{}").unwrap();
    assert_eq!(open.status, 200);
    for target in ["b", "c"] {
        let reason = deliver(&daemon, "Watched", target, "firing", 0);
        assert_ne!(reason, "matched");
    }
    let loud = fire(&daemon, "Down", "x");
    told(&daemon, &loud, |lines| lines.first().is_some_and(|line| line["state"] == "sent"));
    assert_eq!(receiver.told().len(), 1);
    assert_eq!(denied(&daemon), []);
}

#[test]
fn that_nobody_can_be_told_shows_in_the_status_the_list_and_the_metrics() {
    let receiver = Receiver::start(&[]);
    receiver.then(Reply::Status(503));
    let daemon = start(&hook(&receiver.url("/"), ""), &[("bad", BAD)]);
    let id = fire(&daemon, "Down", "db-1");
    eventually("the gauges", Duration::from_secs(60), || {
        let count = daemon.metric("runbookd_escalations_waiting");
        (count == 1.0 && daemon.metric("runbookd_escalation_oldest_waiting_seconds") > 0.0).then_some(())
    });
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["waiting_escalations"], 1);
    let status = String::from_utf8(super::cli(&daemon, &["status"]).stdout).unwrap();
    assert!(status.contains("Not told yet     1"), "{status}");
    receiver.wait_for(2);
    let listed = eventually("its tries in the list", Duration::from_secs(60), || {
        let listed = String::from_utf8(super::cli(&daemon, &["escalations", "list"]).stdout).unwrap();
        listed.contains("hook wait").then_some(listed)
    });
    assert!(listed.contains("open"), "{listed}");
    receiver.then(Reply::Status(200));
    told(&daemon, &id, |lines| lines.first().is_some_and(|line| line["state"] == "sent"));
    eventually("the gauges to fall", Duration::from_secs(60), || {
        (daemon.metric("runbookd_escalations_waiting") == 0.0).then_some(())
    });
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["waiting_escalations"], 0);
}

#[test]
fn check_says_who_is_told_twice_too_much_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("runbooks")).unwrap();
    std::fs::write(dir.path().join("runbooks/loud.toml"), BAD).unwrap();
    let silent = BAD.replace("\"Down\"", "\"Quiet\"") + "[escalate]\nto = []\n";
    std::fs::write(dir.path().join("runbooks/hushed.toml"), silent).unwrap();
    let notifiers = "[notifiers.a]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\n";
    let level = "{ to = [\"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\"], after = \"@m\" }";
    let levels: Vec<String> = (0..8).map(|at| level.replace("@m", &format!("{at}m"))).collect();
    let policy = format!("[policies.all]\nlevels = [{}]\n", levels.join(", "));
    let check = |escalate: &str, code: i32| {
        let more = format!("[automation]\n{escalate}\n{notifiers}{policy}[runbooks]\ndir = \"runbooks\"\n");
        std::fs::write(dir.path().join("c.toml"), config(&more)).unwrap();
        let mut command = std::process::Command::new(crate::support::daemon::BINARY);
        let output =
            command.args(["check", "--config.file=c.toml"]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    let said = check("", 0);
    assert!(said.contains("warning: nobody is told when these runbooks end badly: loud (help"), "{said}");
    assert!(!check("escalate_to = [\"a\"]", 0).contains("nobody is told"));
    assert!(check("escalate_to = [\"a\", \"a\"]", 1).contains("\"a\" stands here twice"));
    let said = check("escalate_to = [\"all\", \"a\"]", 1);
    assert!(said.contains("one escalation would be 65 messages, and 64 is the most"), "{said}");
    check("escalate_to = [\"all\"]", 0);
}
