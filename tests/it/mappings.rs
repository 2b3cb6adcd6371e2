//! Mappings set while the daemon runs, on the real program: before the config's, through reloads and crashes.
//!
//! May import: `support`. Must never: edit a config to change what people set.

use crate::support::alerts::{body, config};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use crate::support::process::{eventually, free_address};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

const STEP: &str = "mode = \"auto\"\n[[steps]]\nid = \"a\"\nwait = { for = \"1ms\" }\n";
const OF_CONFIG: &str = "[[mappings]]\nname = \"base\"\nmatchers = ['alertname=\"A\"']\nrunbook = \"one\"\n";

fn ask(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = http::send(daemon.address(), method, path, &body.to_string()).unwrap();
    (answer.status, answer.json())
}

fn set(daemon: &Daemon, name: &str, matcher: &str, runbook: &str) {
    let body = json!({ "matchers": [matcher], "runbook": runbook, "reason": "a test" });
    let (status, answer) = ask(daemon, "PUT", &format!("/api/mappings/{name}"), &body);
    assert_eq!(status, 200, "{answer:#}");
}

/// Which runbook an alert for this target selects.
fn selected(daemon: &Daemon, target: &str) -> String {
    let answer = daemon.webhook(&body("A", "firing", &[target])).json();
    answer["decisions"][0]["runbook"].as_str().unwrap_or("none").to_owned()
}

/// Name and origin of each, in order.
fn listed(daemon: &Daemon) -> Vec<(String, String)> {
    let list = daemon.json("/api/mappings");
    let word = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    list["mappings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (word(item, "name"), word(item, "origin")))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, origin)| ((*name).to_owned(), (*origin).to_owned())).collect()
}

#[test]
fn a_mapping_counts_for_the_next_alert_and_survives_a_crash_and_a_reload() {
    let runbooks = [("one", STEP), ("two", STEP), ("three", STEP)];
    let mut daemon = Daemon::start_at(&free_address(), &config(OF_CONFIG), &runbooks, &[]);
    assert_eq!(selected(&daemon, "t1"), "one");
    set(&daemon, "mine", "target=~\"t.*\"", "two");
    assert_eq!(selected(&daemon, "t2"), "two");
    set(&daemon, "second", "alertname=\"A\"", "three");
    assert_eq!(listed(&daemon), pairs(&[("mine", "api"), ("second", "api"), ("base", "config")]));
    assert_eq!((selected(&daemon, "t3").as_str(), selected(&daemon, "u").as_str()), ("two", "three"));
    let status = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!(status["runbook_alert_mappings"]["A"], "three", "{status:#}");

    daemon.kill();
    daemon.start_again();
    assert_eq!(selected(&daemon, "t4"), "two");
    let log = || daemon.log().matches("config reloaded").count();
    let other = OF_CONFIG.replace("base", "other");
    fs::write(daemon.dir().join("runbookd.toml"), config(&other)).unwrap();
    let pid = fs::read_to_string(daemon.dir().join("data/store/lock")).unwrap();
    assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    eventually("the reload", Duration::from_secs(20), || (log() == 1).then_some(()));
    assert_eq!(listed(&daemon), pairs(&[("mine", "api"), ("second", "api"), ("other", "config")]));
    assert_eq!(selected(&daemon, "t5"), "two");

    let why = json!({ "reason": "enough" });
    for name in ["mine", "second"] {
        assert_eq!(ask(&daemon, "DELETE", &format!("/api/mappings/{name}"), &why).0, 200);
    }
    assert_eq!(selected(&daemon, "t6"), "one");
    daemon.kill();
    daemon.start_again();
    assert_eq!(listed(&daemon), pairs(&[("other", "config")]));
    let audit = daemon.json("/api/audit");
    let actions: Vec<&str> =
        audit["audit"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["mapping.delete", "mapping.delete", "mapping.set", "mapping.set"]);
    assert_eq!(daemon.json("/api/audit/verify")["ok"], true);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let daemon = Daemon::start(&config(OF_CONFIG), &[("one", STEP)], &[]);
    let good = || json!({ "matchers": ["a=\"b\""], "runbook": "one", "reason": "why" });
    let with = |key: &str, value: Value| {
        let mut body = good();
        body[key] = value;
        body
    };
    for (body, path) in [
        (with("runbook", json!("gone")), "runbook"),
        (with("runbook", json!("a b")), "runbook"),
        (with("matchers", json!([])), "matchers"),
        (with("matchers", json!(["a=\"b\"", "nonsense"])), "matchers[1]"),
        (with("matchers", json!(["a=~\"(\""])), "matchers[0]"),
        (with("matchers", json!([format!("a=\"{}\"", "x".repeat(4096))])), "matchers"),
        (with("reason", json!(1)), ""),
        (with("priority", json!(1)), ""),
    ] {
        let (status, answer) = ask(&daemon, "PUT", "/api/mappings/x", &body);
        assert_eq!((status, &answer["errors"][0]["path"]), (422, &path.into()), "{body}: {answer:#}");
    }
    let (status, answer) = ask(&daemon, "PUT", "/api/mappings/a%2Fb", &good());
    assert_eq!((status, &answer["errors"][0]["path"]), (422, &"name".into()), "{answer:#}");
    for (name, body, status, code) in [
        ("gone", json!({ "reason": "why" }), 404, "not_found"),
        ("base", json!({ "reason": "why" }), 409, "in_config"),
        ("base", json!({ "why": "x" }), 422, "invalid"),
    ] {
        let (got, answer) = ask(&daemon, "DELETE", &format!("/api/mappings/{name}"), &body);
        assert_eq!((got, &answer["code"]), (status, &code.into()), "{name} {body}: {answer:#}");
    }
    assert_eq!(listed(&daemon), pairs(&[("base", "config")]));
}

#[test]
fn what_is_set_and_deleted_without_a_reason_is_audited_as_such() {
    let daemon = Daemon::start(&config(OF_CONFIG), &[("one", STEP)], &[]);
    let bare = json!({ "matchers": ["a=\"b\""], "runbook": "one" });
    let (status, answer) = ask(&daemon, "PUT", "/api/mappings/mine", &bare);
    assert_eq!((status, &answer["reason"]), (200, &json!("")), "{answer:#}");
    let gone = http::send(daemon.address(), "DELETE", "/api/mappings/mine", "").unwrap();
    assert_eq!(gone.status, 200, "{}", gone.text());
    let audit = daemon.json("/api/audit");
    let told: Vec<(&str, &str)> = audit["audit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["action"].as_str().unwrap(), record["reason"].as_str().unwrap()))
        .collect();
    let none = "no reason was given";
    assert_eq!(told, [("mapping.delete", none), ("mapping.set", none)]);
}

#[test]
fn a_mapping_whose_runbook_is_gone_says_so_in_the_list_and_the_log() {
    let runbooks = [("one", STEP), ("two", STEP)];
    let mut daemon = Daemon::start_at(&free_address(), &config(OF_CONFIG), &runbooks, &[]);
    set(&daemon, "mine", "target=\"t1\"", "two");
    let problems = |daemon: &Daemon| {
        let list = daemon.json("/api/mappings");
        list["mappings"].as_array().unwrap().iter().map(|item| item["problem"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(problems(&daemon), [Value::Null, Value::Null]);
    fs::remove_file(daemon.dir().join("runbooks/two.toml")).unwrap();
    let lost = json!("there is no runbook two");
    eventually("the mapping being marked", Duration::from_secs(60), || {
        (problems(&daemon) == [lost.clone(), Value::Null]).then_some(())
    });
    let list = String::from_utf8(cli(&daemon, &["mappings", "list"]).stdout).unwrap();
    assert!(list.lines().nth(1).unwrap().ends_with("there is no runbook two"), "{list}");
    daemon.kill();
    daemon.start_again();
    daemon.logged("a mapping that was set starts nothing", 1);
    assert_eq!(selected(&daemon, "t1"), "none");
    daemon.hang_up();
    daemon.logged("a mapping that was set starts nothing", 2);
}

fn cli(daemon: &Daemon, line: &[&str]) -> Output {
    let url = format!("http://{}", daemon.address());
    Command::new(BINARY).args(line).args(["--url", &url]).env_remove("RUNBOOKD_TOKEN").output().unwrap()
}

#[test]
fn the_command_line_sets_lists_and_deletes() {
    let daemon = Daemon::start(&config(OF_CONFIG), &[("one", STEP)], &[]);
    let matcher = "--matcher=team=\"db\"";
    let set = cli(&daemon, &["mappings", "set", "my own", matcher, "--runbook=one", "--reason=why"]);
    assert_eq!((set.status.code(), set.stdout.as_slice()), (Some(0), &b"my own set\n"[..]), "{set:?}");
    let list = String::from_utf8(cli(&daemon, &["mappings", "list"]).stdout).unwrap();
    let rows: Vec<&str> = list.lines().skip(1).collect();
    assert!(rows[0].contains("my own") && rows[0].contains("team=\"db\""), "{list}");
    assert!(rows[1].contains("config") && rows[1].contains("base"), "{list}");
    let page =
        String::from_utf8(cli(&daemon, &["mappings", "list", "--limit=1", "--cursor=1"]).stdout).unwrap();
    assert!(page.contains("base") && !page.contains("my own"), "{page}");
    let gone = cli(&daemon, &["mappings", "delete", "my own", "--reason=why"]);
    assert_eq!((gone.status.code(), gone.stdout.as_slice()), (Some(0), &b"my own deleted\n"[..]), "{gone:?}");
    assert_eq!(cli(&daemon, &["mappings", "delete", "my own", "--reason=why"]).status.code(), Some(1));
}
