//! What the commands of prometheus-am-executor become.

use super::*;
use crate::document::Severity;
use crate::model::{Labels, Matcher};
use crate::runbook::{Context, Kind, Mode, OnResolved, Runbook, parse};

const SAMPLE: &str = r#"---
listen_address: ":23222"
verbose: true
tls_key: "certs/key.pem"
tls_crt: "certs/cert.pem"
commands:
  - cmd: echo
    args: ["banana", "{{ tomato }}", "{% if %}", 7]
    match_labels:
      "env": "testing"
      "owner": 'm"e'
    notify_on_failure: false
    resolved_signal: SIGUSR1
  - cmd: /usr/local/bin/restart.sh
    match_labels:
      alertname: ServiceDown
      env: production
  - cmd: /usr/local/bin/restart.sh
    match_labels: { alertname: DiskFull }
  # This command matches every alert
  - cmd: /bin/true
    max: 3
    ignore_resolved: true
"#;

fn read(imported: &Imported) -> Vec<Runbook> {
    let read = |(id, text): &(RunbookId, String)| {
        let parsed = parse(id, id.as_str(), text);
        assert!(parsed.problems.is_empty(), "{id}: {:#?}\n{text}", parsed.problems);
        parsed.runbook.unwrap()
    };
    imported.runbooks.iter().map(read).collect()
}

fn argument(runbook: &Runbook, index: usize) -> String {
    let Kind::Command(command) = &runbook.steps[0].kind else { panic!("{:?}", runbook.steps[0].kind) };
    command.args[index].render(&Context::builder().build()).unwrap()
}

#[test]
fn every_command_becomes_a_runbook_in_shadow_mode_that_can_be_read() {
    let imported = am_executor("executor.yml", SAMPLE).unwrap();
    let ids: Vec<&str> = imported.runbooks.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["echo", "restart", "restart_2", "true"]);
    let runbooks = read(&imported);
    assert!(runbooks.iter().all(|runbook| runbook.mode == Mode::Shadow));
    assert_eq!(argument(&runbooks[0], 0), "banana");
    assert_eq!(argument(&runbooks[0], 1), "{{ tomato }}");
    assert_eq!(argument(&runbooks[0], 2), "{% if %}");
    assert_eq!(argument(&runbooks[0], 3), "7");
    assert_eq!(runbooks[0].on_resolved, OnResolved::Stop);
    assert_eq!(runbooks[2].alerts, ["DiskFull"]);
    assert!(runbooks[1].alerts.is_empty());
    assert_eq!(runbooks[3].on_resolved, OnResolved::Continue);
    let texts: Vec<&str> = imported.runbooks.iter().map(|(_, text)| text.as_str()).collect();
    assert!(texts[3].contains("max_concurrent = 3\n"), "{}", texts[3]);
    assert!(texts[0].contains("resolved_signal SIGUSR1"), "{}", texts[0]);
    assert!(!texts[0].contains("notify_on_failure") && texts[1].contains("notify_on_failure"));
    assert!(texts.iter().all(|text| text.contains("AMX_")));
}

#[test]
fn labels_become_mappings_with_those_that_match_everything_last() {
    let imported = am_executor("executor.yml", SAMPLE).unwrap();
    let config: toml::Table = imported.config.parse().unwrap();
    let mappings = config["mappings"].as_array().unwrap();
    let runbooks: Vec<&str> = mappings.iter().map(|mapping| mapping["runbook"].as_str().unwrap()).collect();
    assert_eq!(runbooks, ["echo", "restart", "true"]);
    let matches = |index: usize, labels: &[(&str, &str)]| {
        let labels: Labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let matchers = mappings[index]["matchers"].as_array().unwrap();
        matchers.iter().all(|matcher| Matcher::parse(matcher.as_str().unwrap()).unwrap().matches(&labels))
    };
    assert!(matches(0, &[("env", "testing"), ("owner", "m\"e")]));
    assert!(!matches(0, &[("env", "testing"), ("owner", "me")]));
    assert!(matches(2, &[("alertname", "Any")]));
    for said in ["listen_address was \":23222\"", "tls_key", "verbose", "/api/sre/alerts/webhook"] {
        assert!(imported.config.contains(said), "{said}: {}", imported.config);
    }
    let warned: Vec<(usize, &str)> =
        imported.warnings.iter().map(|problem| (problem.line, problem.message.as_str())).collect();
    // The third shares no label with the first that they would disagree on, and the last agrees with all.
    assert_eq!(warned.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [18, 21]);
    assert!(warned[0].1.contains("number 1"), "{warned:?}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("commands: []\n", 1, "there are no commands"),
        ("listen_address: x\n", 1, "there are no commands"),
        ("", 1, ""),
        ("commands:\n  - cmd: x\n    arg: [a]\n", 3, "arg"),
        ("commands:\n  - args: [a]\n", 2, "no cmd"),
        ("commands:\n  - cmd: ./reboot\n", 2, "relative"),
        ("commands:\n  - cmd: \"a b\"\n", 2, "blank"),
        ("commands:\n  - cmd: x\n    match_labels:\n      a: ''\n", 4, "empty"),
        ("commands:\n  - cmd: x\n    resolved_signal: SIGNOT\n", 3, "no signal"),
        ("commands:\n  - cmd: x\n    max: 999999\n", 3, "too large"),
        ("commands:\n  - cmd: x\n    max: many\n", 3, ""),
        ("commands:\n  - cmd: x\n   max: 3\n", 3, ""),
        ("commands:\n  - cmd: x\n    args: [\"a\\0b\"]\n", 2, ""),
    ];
    for (text, line, said) in cases {
        let problems = am_executor("executor.yml", text).map(|imported| imported.config).unwrap_err();
        let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(
            errors.iter().any(|error| error.line == line && error.message.contains(said)),
            "{text:?}: {errors:#?}"
        );
    }
}

#[test]
fn several_wrong_things_are_told_at_once() {
    let text = "commands:\n  - cmd: ./a\n    max: 999999\n  - args: [x]\n";
    let lines: Vec<usize> =
        am_executor("executor.yml", text).unwrap_err().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 4]);
}

#[test]
fn names_that_are_no_ids_become_ids_and_each_only_once() {
    let long = format!("/opt/{}", "x".repeat(200));
    let text = format!(
        "commands:\n  - cmd: /opt/ré start.py\n  - cmd: {long}\n  - cmd: {long}\n  - cmd: /opt/.sh\n"
    );
    let imported = am_executor("executor.yml", &text).unwrap();
    let ids: Vec<&str> = imported.runbooks.iter().map(|(id, _)| id.as_str()).collect();
    let x = "x".repeat(48);
    assert_eq!(ids, ["r__start", &x, &format!("{x}_2"), "command"]);
    read(&imported);
}
