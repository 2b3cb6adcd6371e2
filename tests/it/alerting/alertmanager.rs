//! The Alertmanager configs that are shipped, in `alerting/` and in the README: the real one takes them, leads every
//! alert to where it belongs, and the heartbeat goes the whole way through them.

use super::{read, run};
use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::config;
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::{eventually, program};
use crate::support::prometheus::Prometheus;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn amtool() -> Command {
    Command::new(program("amtool", "prometheus-alertmanager"))
}

/// Fails unless an alert with these labels goes to these receivers, in this order.
fn check_route(config: &Path, labels: &[&str], receivers: &str) {
    run(amtool()
        .args(["config", "routes", "test", "--verify.receivers", receivers, "--config.file"])
        .arg(config)
        .args(labels));
}

#[test]
fn alertmanager_accepts_its_config_and_tells_people_as_well_as_runbookd() {
    run(amtool().args(["check-config", "alertmanager.yml"]));
    let file = Path::new("alertmanager.yml");
    for labels in [
        &["alertname=ServiceDown", "severity=critical"][..],
        &["alertname=HighErrorRate", "automation_runbook=high_error_rate"],
        &["alertname=Anything"],
    ] {
        check_route(file, labels, "automation,people");
    }
}

#[test]
fn what_is_said_about_runbookd_goes_past_it_but_for_the_heartbeat() {
    let file = Path::new("alertmanager.yml");
    check_route(file, &["alertname=RunbookdHeartbeat", "severity=info"], "automation");
    let rules = read("alerting/rules/runbookd.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut past = 0;
    for alert in alerts.chain(["RunbookdExecutionFailed"]).filter(|alert| *alert != "RunbookdHeartbeat") {
        check_route(file, &[&format!("alertname={alert}")], "people");
        past += 1;
    }
    assert!(past > 20, "{past}");
}

#[test]
fn the_config_that_the_readme_shows_is_accepted_and_tells_people_too() {
    let text = read("README.md");
    let shown = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(shown.contains("webhook_configs"), "{shown}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alertmanager.yml");
    fs::write(&file, shown).unwrap();
    run(amtool().arg("check-config").arg(&file));
    check_route(&file, &["alertname=Anything"], "automation,people");
}

#[test]
fn the_heartbeat_goes_from_the_shipped_rule_through_the_shipped_config_to_runbookd() {
    let daemon = Daemon::start(&config(""), &[], &[]);
    let shipped = read("alerting/alertmanager.yml");
    let config = shipped.replace("127.0.0.1:9796", daemon.address());
    assert_ne!(config, shipped, "the config does not lead to the default address");
    let alertmanager = Alertmanager::start_from(&config);
    let rules = read("alerting/rules/runbookd.yml");
    let address = Prometheus::reserve();
    // It fires before Prometheus has seen its Alertmanager, and what is not sent then is sent again a minute later.
    let sooner = ["--rules.alert.resend-delay=2s"];
    let prometheus =
        Prometheus::start_with(&address, daemon.address(), alertmanager.address(), &rules, &sooner);

    let limit = Duration::from_secs(60);
    let decision = eventually("the decision on the heartbeat", limit, || {
        daemon.json("/api/decisions")["decisions"].as_array().unwrap().first().cloned()
    });
    assert_eq!(decision["alertname"], "RunbookdHeartbeat", "{decision:#}");
    assert_eq!(decision["reason"], "no_runbook", "{decision:#}");
    // What Alertmanager counts, if it were to fail.
    let counted = http::get(alertmanager.address(), "/metrics").unwrap().text();
    let counter = "alertmanager_notifications_failed_total{integration=\"webhook\"";
    assert!(rules.contains(&format!("{counter}}}")) && counted.contains(counter), "{counted}");
    // And back: what the dead man's switch looks at is there, and every rule can be evaluated.
    let age = "time() - runbookd_last_webhook_timestamp_seconds < 900";
    eventually("Prometheus knows of the webhook", limit, || {
        (!prometheus.query(age).is_empty()).then_some(())
    });
    eventually("every rule was evaluated without a complaint", limit, || {
        let groups = prometheus.json("/api/v1/rules")["data"]["groups"].as_array().unwrap().clone();
        let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}
