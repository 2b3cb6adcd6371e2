//! From the outside: the real Prometheus fires, the real Alertmanager posts, the real daemon acts.
//!
//! The runbook appends a line to a ledger outside of the daemon, in a step that must not run twice; what the
//! ledger says is compared with what the API says. A fixed metric is what the verify waits for, so that the
//! tests decide how long an execution lives.

use crate::support::alertmanager::Alertmanager;
use crate::support::daemon::{Daemon, is_final};
use crate::support::exporter::Exporter;
use crate::support::process::{eventually, free_address};
use crate::support::prometheus::Prometheus;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

const REPEATS: &str = "runbookd_decisions_total{verdict=\"skip\",reason=\"repeat\"}";
const RESOLVED: &str = "runbookd_alerts_received_total{status=\"resolved\"}";

/// A missed scrape, on a busy machine, must not look like a repair.
const RULES: &str = "
groups:
- name: test
  rules:
  - alert: Broken
    expr: last_over_time(broken[1m]) == 1
    labels: { severity: page }
    annotations: { summary: '{{ $labels.target }} is broken', automation_runbook: ledger }
";

const LEDGER: &str = r#"
title = "Append a line, then wait for the repair"
mode = "auto"
alerts = ["Broken"]
target = "{{ labels.target }}"

[[steps]]
id = "append"
[steps.script]
text = '''
printf '%s %s\n' "$RUNBOOKD_EXECUTION_ID" "$TARGET" >> "$LEDGER"
'''
env = { TARGET = "{{ labels.target }}", LEDGER = "@dir@/ledger" }

[verify]
promql = "broken{target={{ labels.target | promql }}}"
expect = "== 0"
within = "3m"
"#;

/// Everything between the metric and the ledger.
struct Stack {
    _prometheus: Prometheus,
    alertmanager: Alertmanager,
    daemon: Daemon,
    exporter: Exporter,
}

impl Stack {
    fn start(group_by: &str) -> Self {
        let exporter = Exporter::start();
        exporter.set(&["a", "b", "c"].map(sample).each_ref().map(|name| (name.as_str(), 0.0)));
        let address = Prometheus::reserve();
        let config = format!(
            "[webhook]\nallow_unauthenticated = true\n[prometheus]\nurl = \"http://{address}\"\n[runbooks]\nwatch = false\n"
        );
        let daemon = Daemon::start_at(&free_address(), &config, &[("ledger", LEDGER)], &[]);
        let alertmanager = Alertmanager::start(daemon.address(), group_by);
        let prometheus = Prometheus::start(&address, &exporter.address(), alertmanager.address(), RULES);
        Self { _prometheus: prometheus, alertmanager, daemon, exporter }
    }

    fn set<const N: usize>(&self, targets: [&str; N], broken: bool) {
        let value = f64::from(u8::from(broken));
        self.exporter.set(&targets.map(sample).each_ref().map(|name| (name.as_str(), value)));
    }

    /// The ledger's lines: execution and target.
    fn ledger(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.daemon.dir().join("ledger")).unwrap_or_default();
        let split = |line: &str| line.split_once(' ').map(|(id, target)| (id.to_owned(), target.to_owned()));
        text.lines().map(|line| split(line).unwrap()).collect()
    }

    fn wait_for_lines(&self, count: usize) {
        eventually(&format!("{count} lines in the ledger"), LIMIT, || {
            (self.ledger().len() >= count).then_some(())
        });
    }

    fn wait_for_metric(&self, sample: &str, at_least: f64) {
        eventually(&format!("{sample} >= {at_least}"), LIMIT, || {
            (self.daemon.metric(sample) >= at_least).then_some(())
        });
    }

    /// Waits until `count` executions are over, then compares them with the ledger: each succeeded, and each
    /// has written exactly one line.
    fn settle(&self, count: usize) -> Vec<Value> {
        let executions = eventually(&format!("{count} executions that are over"), LIMIT, || {
            let executions = self.daemon.executions();
            (executions.len() >= count && executions.iter().all(is_final)).then_some(executions)
        });
        assert_eq!(executions.len(), count, "{executions:#?}");
        let written: BTreeSet<_> = self.ledger().into_iter().collect();
        assert_eq!(written.len(), self.ledger().len(), "something ran twice: {:?}", self.ledger());
        let known: BTreeSet<_> = executions.iter().map(|it| (text(it, "id"), text(it, "target"))).collect();
        assert_eq!(written, known, "the ledger and the API disagree");
        for execution in &executions {
            assert_eq!(
                execution["status"],
                "succeeded",
                "{:#}",
                self.daemon.execution(&text(execution, "id"))
            );
        }
        executions
    }
}

fn sample(target: &str) -> String {
    format!("broken{{target=\"{target}\"}}")
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key:?} in {value:#}")).to_owned()
}

#[test]
fn an_alert_runs_once_through_repeats_until_it_resolves_and_once_more_when_it_fires_again() {
    let stack = Stack::start("['...']");

    stack.set(["a"], true);
    stack.wait_for_lines(1);
    stack.wait_for_metric(REPEATS, 2.0);
    assert_eq!(stack.daemon.executions().len(), 1, "a repeat started something");
    assert_eq!(stack.daemon.metric(RESOLVED), 0.0);

    stack.set(["a"], false);
    let first = text(&stack.settle(1)[0], "id");
    stack.wait_for_metric(RESOLVED, 1.0);
    let whole = stack.daemon.execution(&first);
    assert_eq!(whole["trigger"]["kind"], "alert");
    assert_eq!(whole["trigger"]["alertname"], "Broken");
    assert_eq!(whole["trigger"]["annotations"]["summary"], "a is broken");
    assert_eq!(whole["steps"][0]["attempts"].as_array().unwrap().len(), 1, "{whole:#}");
    // The count follows the journal by a moment.
    eventually("no execution counts as active", LIMIT, || {
        let status = stack.daemon.json("/api/sre/runbooks/integration-status");
        (status["active_executions"] == 0).then_some(())
    });

    stack.set(["a"], true);
    stack.wait_for_lines(2);
    stack.set(["a"], false);
    let ids: BTreeSet<_> = stack.settle(2).iter().map(|it| text(it, "id")).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&first), "the first execution is gone");
    stack.wait_for_metric(RESOLVED, 2.0);
}

#[test]
fn a_group_of_three_becomes_three_executions_in_one_commit() {
    let stack = Stack::start("[alertname]");
    stack.set(["a", "b", "c"], true);
    stack.wait_for_lines(3);
    stack.set(["a", "b", "c"], false);
    let executions = stack.settle(3);
    let targets: BTreeSet<_> = executions.iter().map(|it| text(it, "target")).collect();
    assert_eq!(targets.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    let commits: BTreeSet<_> = executions.iter().map(|it| text(it, "created_at")).collect();
    assert_eq!(commits.len(), 1, "one body was split: {commits:?}");
    stack.wait_for_metric(RESOLVED, 3.0);
}

#[test]
fn a_daemon_that_is_killed_and_stopped_and_comes_back_loses_nothing_and_repeats_nothing() {
    let mut stack = Stack::start("['...']");
    stack.set(["a"], true);
    stack.wait_for_lines(1);
    // The line is written a moment before the outcome of its step is durable; killed in between, a step that
    // must not run twice would rightly be unknown.
    eventually("the execution is in its verify", LIMIT, || {
        let executions = stack.daemon.executions();
        (executions.len() == 1 && executions[0]["status"] == "verifying").then_some(())
    });

    // Gone without a word, with an execution in its verify; two more alerts fire meanwhile.
    stack.daemon.kill();
    stack.set(["b", "c"], true);
    eventually("deliveries that fail", LIMIT, || (stack.alertmanager.failed_requests() >= 2.0).then_some(()));
    stack.daemon.start_again();
    stack.wait_for_lines(3);
    assert_eq!(stack.daemon.executions().len(), 3);

    // Gone in order, and back: what Alertmanager repeats is known.
    let status = stack.daemon.terminate();
    assert!(status.success(), "SIGTERM ended it with {status}:\n{}", stack.daemon.log());
    stack.daemon.start_again();
    stack.wait_for_metric(REPEATS, 3.0);
    assert_eq!(stack.ledger().len(), 3);

    stack.set(["a", "b", "c"], false);
    stack.settle(3);
    stack.wait_for_metric(RESOLVED, 3.0);
    assert_eq!(stack.daemon.executions().len(), 3);
}
