//! Runbooks that give orders to services over HTTP, and prove by Prometheus what came of it.

use super::{Bench, Desk, Ran, shipped, shortened};
use crate::support::process::{Process, eventually};
use crate::support::service::{Service, sample};
use serde_json::json;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A service whose errors end with its orders, if `helps`; and what Prometheus says of it.
fn failing(helps: bool) -> (Service, Service) {
    let cured = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cured);
    let service = Service::start(move |method, _, _| {
        match method {
            "PUT" => cured.store(helps, Ordering::SeqCst),
            "DELETE" => cured.store(false, Ordering::SeqCst),
            _ => {}
        }
        (200, "{}".to_owned())
    });
    let prometheus =
        Service::start(move |_, _, _| sample(if seen.load(Ordering::SeqCst) { 0.01 } else { 0.3 }));
    (service, prometheus)
}

fn high_error_rate(helps: bool) -> (Service, Ran) {
    let (service, prometheus) = failing(helps);
    let bench = Bench::new(Some(&prometheus.address()));
    bench.put("high_error_rate", &shortened("high_error_rate", &[("10m", "4s"), ("1m", "0s")]));
    let address = service.address();
    let ran = bench.execute("high_error_rate", &[("instance", &address)], &[]);
    (service, ran)
}

#[test]
fn errors_that_stop_behind_open_breakers_are_cured() {
    let (service, ran) = high_error_rate(true);
    ran.ended("succeeded");
    let orders = service.asked("PUT");
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].0, "/admin/circuit-breakers");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&orders[0].1).unwrap(),
        json!({ "state": "open", "seconds": 900 })
    );
    assert!(service.asked("DELETE").is_empty());
}

#[test]
fn breakers_that_do_not_help_against_errors_are_closed_again() {
    let (service, ran) = high_error_rate(false);
    ran.ended("rolled_back");
    assert_eq!(service.asked("DELETE").len(), 1);
}

/// Under attack from two sources, of which blocking helps or not.
fn attacked(helps: bool, answer: &str, ends: &str) -> Service {
    let blocked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&blocked);
    let service = Service::start(move |method, path, _| {
        if method == "PUT" && path.starts_with("/admin/blocks/") {
            blocked.store(helps, Ordering::SeqCst);
        }
        (200, r#"{"sources": ["192.0.2.7", "2001:db8::1"]}"#.to_owned())
    });
    let prometheus =
        Service::start(move |_, _, _| sample(if seen.load(Ordering::SeqCst) { 2.0 } else { 90.0 }));
    let text = shortened("security_incident", &[("10m", "4s"), ("1m", "0s")]);
    let config = format!("[prometheus]\nurl = \"http://{}\"\n", prometheus.address());
    let desk = Desk::open(&config, &[("security_incident", &text)]);
    let id = desk.execute("security_incident", json!({ "instance": service.address() }), json!({}));
    desk.answer(&id, answer);
    desk.ended(&id, ends);
    service
}

#[test]
fn an_attack_is_slowed_down_and_nobody_is_signed_out_against_a_persons_will() {
    let service = attacked(true, "reject", "succeeded");
    let mut put: Vec<String> = service.asked("PUT").into_iter().map(|(path, _)| path).collect();
    put.sort();
    assert_eq!(
        put,
        ["/admin/blocks/192.0.2.7", "/admin/blocks/2001%3Adb8%3A%3A1", "/admin/rate-limits/sign-in"]
    );
    assert!(service.asked("POST").is_empty() && service.asked("DELETE").is_empty());
}

#[test]
fn blocks_that_do_not_help_are_taken_back_but_a_revocation_stays() {
    let service = attacked(false, "approve", "not_verified");
    assert_eq!(service.asked("POST")[0].0, "/admin/sessions/revoke");
}

#[test]
fn blocks_that_do_not_help_are_taken_back() {
    let service = attacked(false, "reject", "rolled_back");
    let mut gone: Vec<String> = service.asked("DELETE").into_iter().map(|(path, _)| path).collect();
    gone.sort();
    assert_eq!(
        gone,
        ["/admin/blocks/192.0.2.7", "/admin/blocks/2001%3Adb8%3A%3A1", "/admin/rate-limits/sign-in"]
    );
}

/// A research system whose scheduler is stuck, and gets well by a restart or not.
fn research(helps: bool, ends: &str) -> Vec<(String, String)> {
    let well = Arc::new(AtomicBool::new(false));
    let service = Service::start(move |method, path, _| {
        if method == "POST" && path == "/admin/scheduler/restart" {
            well.store(helps, Ordering::SeqCst);
        }
        let score = if well.load(Ordering::SeqCst) { 90 } else { 20 };
        (200, format!("{{\"score\": {score}}}"))
    });
    let bench = Bench::new(None);
    bench.put("research_system_recovery", &shipped("research_system_recovery"));
    bench.execute("research_system_recovery", &[("instance", &service.address())], &[]).ended(ends);
    service.asked("PUT")
}

#[test]
fn a_research_system_is_started_again_and_takes_work_again() {
    for (helps, ends) in [(true, "succeeded"), (false, "rolled_back")] {
        let told = research(helps, ends);
        let paused: Vec<bool> = told.iter().map(|(_, body)| body.contains("true")).collect();
        assert_eq!(paused, [true, false], "{told:?}");
    }
}

/// A service under a supervisor that takes SIGHUP as "start it again", and does, or not.
fn service_unavailable(helps: bool) -> Ran {
    let prometheus_of = |file: std::path::PathBuf| {
        Service::start(move |_, _, _| sample(if file.exists() { 1.0 } else { 0.0 }))
    };
    let bench = Bench::new(None);
    let up = bench.path("up");
    let prometheus = prometheus_of(up.clone());
    let config = fs::read_to_string(bench.path("runbookd.toml")).unwrap();
    let config = format!("{config}[prometheus]\nurl = \"http://{}\"\n", prometheus.address());
    fs::write(bench.path("runbookd.toml"), config).unwrap();
    bench.put("service_unavailable", &shortened("service_unavailable", &[("2m", "5s"), ("2s", "1s")]));
    let service = Service::start(move |_, _, _| (if up.exists() { 200 } else { 503 }, String::new()));
    let trap = if helps { format!("touch {}", bench.text("up")) } else { "true".to_owned() };
    let script = format!(
        "trap '{trap}' HUP; echo $$ > {}; while :; do sleep 0.05; done",
        bench.text("supervisor.pid")
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]);
    let _supervisor = Process::start("supervisor", command, bench.dir.path());
    eventually("the supervisor", Duration::from_secs(10), || {
        fs::read_to_string(bench.path("supervisor.pid")).ok().filter(|pid| pid.ends_with('\n'))
    });
    let (address, pid_file) = (service.address(), bench.text("supervisor.pid"));
    bench.execute("service_unavailable", &[("instance", &address), ("pid_file", &pid_file)], &[])
}

#[test]
fn a_service_that_is_down_is_started_again_and_proved_or_not() {
    service_unavailable(true).ended("succeeded");
    service_unavailable(false).ended("not_verified");
}

/// A vector store that gets quick by merging, or not.
fn vector_store(helps: bool, ends: &str) -> Service {
    let quick = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&quick);
    let store = Service::start(move |method, _, _| {
        if method == "PATCH" {
            quick.store(helps, Ordering::SeqCst);
        }
        (200, r#"{"status": "ok", "result": {"status": "green", "name": "papers-1.snapshot"}}"#.to_owned())
    });
    let prometheus =
        Service::start(move |_, _, _| sample(if seen.load(Ordering::SeqCst) { 0.2 } else { 4.0 }));
    let bench = Bench::new(Some(&prometheus.address()));
    let id = "vector_store_optimization";
    bench.put(id, &shortened(id, &[("15m", "4s"), ("2m", "0s")]));
    bench.execute(id, &[("instance", &store.address()), ("collection", "papers")], &[]).ended(ends);
    store
}

#[test]
fn a_slow_collection_is_merged_or_put_back_from_its_snapshot() {
    let store = vector_store(true, "succeeded");
    assert_eq!(store.asked("PATCH").len(), 1);
    assert!(store.asked("PUT").is_empty());
    let store = vector_store(false, "rolled_back");
    let (path, body) = store.asked("PUT").remove(0);
    assert_eq!(path, "/collections/papers/snapshots/recover");
    assert!(body.contains("/collections/papers/snapshots/papers-1.snapshot"), "{body}");
}
