//! The exposition as Prometheus sees it: its own linter, a strict parser, and hostile input.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// CONTRACT's names of this milestone.
const FAMILIES: [(&str, &str); 49] = [
    ("runbookd_webhook_requests_total", "counter"),
    ("runbookd_webhook_duration_seconds", "histogram"),
    ("runbookd_alerts_received_total", "counter"),
    ("runbookd_decisions_total", "counter"),
    ("runbookd_executions_total", "counter"),
    ("runbookd_executions_active", "gauge"),
    ("runbookd_execution_duration_seconds", "histogram"),
    ("runbookd_time_to_remediation_seconds", "histogram"),
    ("runbookd_reaction_seconds", "histogram"),
    ("runbookd_steps_total", "counter"),
    ("runbookd_step_retries_total", "counter"),
    ("runbookd_rollbacks_total", "counter"),
    ("runbookd_approvals_pending", "gauge"),
    ("runbookd_escalations_total", "counter"),
    ("runbookd_escalations_waiting", "gauge"),
    ("runbookd_escalation_oldest_waiting_seconds", "gauge"),
    ("runbookd_step_duration_seconds", "histogram"),
    ("runbookd_queue_length", "gauge"),
    ("runbookd_queue_oldest_age_seconds", "gauge"),
    ("runbookd_journal_commit_duration_seconds", "histogram"),
    ("runbookd_journal_commit_batch_size", "histogram"),
    ("runbookd_store_size_bytes", "gauge"),
    ("runbookd_breaker_state", "gauge"),
    ("runbookd_breakers", "gauge"),
    ("runbookd_kill_switch_active", "gauge"),
    ("runbookd_quarantined_targets", "gauge"),
    ("runbookd_storm_active", "gauge"),
    ("runbookd_freeze_active", "gauge"),
    ("runbookd_flapping_alerts", "gauge"),
    ("runbookd_http_requests_total", "counter"),
    ("runbookd_http_request_duration_seconds", "histogram"),
    ("runbookd_auth_failures_total", "counter"),
    ("runbookd_audit_write_failures_total", "counter"),
    ("runbookd_http_rate_limited_total", "counter"),
    ("runbookd_certificate_expiry_timestamp_seconds", "gauge"),
    ("runbookd_backup_last_success_timestamp_seconds", "gauge"),
    ("runbookd_backup_failures_total", "counter"),
    ("runbookd_config_last_reload_successful", "gauge"),
    ("runbookd_config_last_reload_success_timestamp_seconds", "gauge"),
    ("runbookd_last_webhook_timestamp_seconds", "gauge"),
    ("runbookd_build_info", "gauge"),
    ("runbookd_start_time_seconds", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_max_fds", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn fresh() -> Metrics {
    Metrics::new(&Build { version: "0.1.0", revision: "abc" }, at(1_700_000_000))
}

fn id(text: &str) -> RunbookId {
    RunbookId::new(text).unwrap()
}

fn text_of(metrics: &Metrics) -> String {
    let (content_type, text) = metrics.encode(None, &Gauges::default());
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    text
}

/// Every method once, with every value of every enum.
fn traffic() -> Metrics {
    let metrics = fresh();
    let took = Duration::from_millis(7);
    let (loaded, gone) = (id("restart-web"), id("gone"));
    metrics.register_runbook(&loaded);
    metrics.register_route("/api/executions/{id}");
    for kind in StepKind::ALL.iter().copied() {
        metrics.register_step(&loaded, kind);
        for outcome in StepStatus::ALL.iter().copied() {
            metrics.step_finished(&loaded, kind, outcome, Some(took));
            metrics.step_finished(&gone, kind, outcome, None);
        }
    }
    for outcome in ExecutionStatus::ALL.iter().copied() {
        metrics.execution_finished(&loaded, outcome, took);
        metrics.execution_finished(&gone, outcome, Duration::MAX);
    }
    for (verdict, reason) in families::decision_pairs() {
        metrics.decision_made(verdict, reason);
    }
    for reason in AuthFailure::ALL.iter().copied() {
        metrics.auth_failed(reason);
    }
    metrics.alert_received(Some(AlertStatus::Firing));
    metrics.alert_received(Some(AlertStatus::Resolved));
    metrics.alert_received(None);
    metrics.webhook_answered(200, took, at(1_700_000_100));
    metrics.webhook_answered(418, Duration::ZERO, at(1_700_000_101));
    metrics.remediated(&loaded, Duration::from_secs(90));
    metrics.reacted(took);
    metrics.retry_scheduled(&loaded);
    metrics.retry_scheduled(&gone);
    metrics.journal_committed(3, Duration::from_micros(400));
    metrics.http_answered(Some("/api/executions/{id}"), "GET", 200, took);
    metrics.http_answered(None, "BREW", 0, took);
    metrics.config_loaded(at(1_700_000_002));
    metrics.config_refused();
    metrics
}

fn promtool(arguments: &[&str], input: &str) -> std::process::Output {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("promtool does not start ({error}): install the package `prometheus`, which contains it")
    });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn check_metrics(text: &str) {
    let output = promtool(&["check", "metrics"], text);
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn promtool_finds_nothing_right_after_start_and_nothing_after_traffic() {
    check_metrics(&text_of(&fresh()));
    check_metrics(&text_of(&traffic()));
}

#[test]
fn promtool_does_find_a_fault_in_what_the_encoder_writes_by_itself() {
    let (_, openmetrics) = fresh().encode(Some("application/openmetrics-text"), &Gauges::default());
    assert!(!promtool(&["check", "metrics"], &openmetrics).status.success());
}

#[test]
fn the_openmetrics_form_is_read_by_prometheus_own_parser() {
    let (content_type, text) =
        traffic().encode(Some("application/openmetrics-text; version=1.0.0"), &Gauges::default());
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("\n# EOF\n"));
    // promtool reads OpenMetrics only to fill a store, and then every sample needs a time.
    let timed: String = text
        .lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1700000000\n") })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metrics");
    std::fs::write(&file, timed).unwrap();
    let arguments = ["tsdb", "create-blocks-from", "openmetrics", file.to_str().unwrap()];
    let blocks = dir.path().join("blocks");
    let output = promtool(&[&arguments[..], &[blocks.to_str().unwrap()]].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

// The strict parser of format 0.0.4.

#[derive(Debug, Default)]
struct Parsed {
    kind: String,
    help: String,
    /// Sample name and labels, and the value.
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

fn parse(text: &str) -> BTreeMap<String, Parsed> {
    let mut families: BTreeMap<String, Parsed> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'), "lines");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP with a text");
            let family = Parsed { help: help.to_owned(), ..Parsed::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "a second HELP of {name}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE with a type");
            assert_eq!(name, current, "TYPE follows its HELP");
            let family = families.get_mut(name).unwrap();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "one TYPE, before samples: {name}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            family.kind = kind.to_owned();
        } else {
            assert!(!line.starts_with('#'), "unknown comment {line}");
            let (name, labels, value) = parse_sample(line);
            let family = families.get_mut(&current).expect("a sample after its family's head");
            let suffixes: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| name == format!("{current}{suffix}")),
                "{name} within {current}"
            );
            assert!(family.samples.insert((name, labels), value).is_none(), "twice: {line}");
        }
    }
    families.values().for_each(check_family);
    families
}

fn parse_sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect("a name and a value");
    let (name, mut rest) = line.split_at(end);
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("label=\"");
            assert!(label.chars().all(|c| c.is_ascii_lowercase()), "{label}");
            let close = after.find('"').expect("closing quote");
            let (value, after) = after.split_at(close);
            assert!(!value.contains(['\\', '\n']), "no value of ours needs an escape: {value}");
            assert!(labels.insert(label.to_owned(), value.to_owned()).is_none(), "label twice: {line}");
            rest = &after[1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                (other, _) => panic!("{other} after a label in {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("one space before the value");
    assert!(!value.contains(' '), "neither timestamp nor exemplar: {line}");
    (name.to_owned(), labels, value.parse().expect("a number"))
}

fn check_family(family: &Parsed) {
    assert!(!family.kind.is_empty() && family.help.ends_with('.'), "{family:?}");
    if family.kind == "counter" {
        assert!(family.samples.values().all(|value| *value >= 0.0), "{family:?}");
    }
    if family.kind != "histogram" {
        return;
    }
    // Per label set: its buckets by bound, its count.
    type Buckets = Vec<(f64, f64)>;
    let mut sets: BTreeMap<BTreeMap<String, String>, (Buckets, Option<f64>)> = BTreeMap::new();
    let mut sums = BTreeSet::new();
    for ((name, labels), value) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        if name.ends_with("_sum") {
            sums.insert(labels);
            continue;
        }
        let set = sets.entry(labels).or_default();
        match bound {
            Some(bound) => set.0.push((bound.parse().expect("a bound"), *value)),
            None => assert!(set.1.replace(*value).is_none()),
        }
    }
    for (labels, (mut buckets, count)) in sets {
        assert!(sums.contains(&labels), "a sum for {labels:?}");
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
            "{buckets:?}"
        );
        let last = buckets.last().expect("buckets");
        assert_eq!((last.0, Some(last.1)), (f64::INFINITY, count), "{labels:?}");
    }
}

fn value(families: &BTreeMap<String, Parsed>, family: &str, sample: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let key = (sample.to_owned(), labels);
    *families[family]
        .samples
        .get(&key)
        .unwrap_or_else(|| panic!("{key:?} in {:#?}", families[family].samples))
}

#[test]
fn every_family_of_the_contract_is_exposed_from_the_start_and_no_other() {
    let expected: BTreeMap<_, _> =
        FAMILIES.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
    for metrics in [fresh(), traffic()] {
        let found: BTreeMap<_, _> =
            parse(&text_of(&metrics)).into_iter().map(|(name, family)| (name, family.kind)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn known_label_sets_are_zero_before_anything_happened() {
    let metrics = fresh();
    metrics.register_runbook(&id("restart-web"));
    metrics.register_step(&id("restart-web"), StepKind::Command);
    let families = parse(&text_of(&metrics));
    let zero = |family: &str, labels: &[(&str, &str)]| {
        assert_eq!(value(&families, family, family, labels), 0.0, "{family}");
    };
    zero("runbookd_decisions_total", &[("verdict", "execute"), ("reason", "matched")]);
    zero("runbookd_decisions_total", &[("verdict", "skip"), ("reason", "no_runbook")]);
    zero("runbookd_executions_total", &[("runbook", "restart-web"), ("outcome", "rollback_failed")]);
    zero("runbookd_rollbacks_total", &[("runbook", "restart-web"), ("outcome", "rolled_back")]);
    zero("runbookd_step_retries_total", &[("runbook", "restart-web")]);
    zero(
        "runbookd_steps_total",
        &[("runbook", "restart-web"), ("kind", "command"), ("outcome", "timed_out")],
    );
    zero("runbookd_executions_active", &[("status", "awaiting_approval")]);
    zero("runbookd_webhook_requests_total", &[("code", "503")]);
    zero("runbookd_auth_failures_total", &[("reason", "expired")]);
    assert_eq!(families["runbookd_executions_total"].samples.len(), 8);
    assert_eq!(families["runbookd_decisions_total"].samples.len(), Reason::DECISION.len() + 1);
    assert!(families["runbookd_store_size_bytes"].samples.is_empty());
}

#[test]
fn each_method_moves_its_own_metric() {
    let families = parse(&text_of(&traffic()));
    let is = |expected: f64, family: &str, suffix: &str, labels: &[(&str, &str)]| {
        let got = value(&families, family, &format!("{family}{suffix}"), labels);
        assert_eq!(got, expected, "{family}{suffix}");
    };
    is(1.0, "runbookd_webhook_requests_total", "", &[("code", "418")]);
    is(2.0, "runbookd_webhook_duration_seconds", "_count", &[]);
    is(0.007, "runbookd_webhook_duration_seconds", "_sum", &[]);
    is(1.0, "runbookd_webhook_duration_seconds", "_bucket", &[("le", "0.005")]);
    is(1_700_000_100.0, "runbookd_last_webhook_timestamp_seconds", "", &[]);
    is(1.0, "runbookd_alerts_received_total", "", &[("status", "firing")]);
    is(1.0, "runbookd_alerts_received_total", "", &[("status", "invalid")]);
    is(1.0, "runbookd_decisions_total", "", &[("verdict", "skip"), ("reason", "shadow")]);
    is(1.0, "runbookd_executions_total", "", &[("runbook", "restart-web"), ("outcome", "succeeded")]);
    is(1.0, "runbookd_executions_total", "", &[("runbook", "(unloaded)"), ("outcome", "failed")]);
    is(1.0, "runbookd_rollbacks_total", "", &[("runbook", "restart-web"), ("outcome", "rolled_back")]);
    is(1.0, "runbookd_rollbacks_total", "", &[("runbook", "restart-web"), ("outcome", "rollback_failed")]);
    is(1.0, "runbookd_step_retries_total", "", &[("runbook", "restart-web")]);
    is(1.0, "runbookd_step_retries_total", "", &[("runbook", "(unloaded)")]);
    is(8.0, "runbookd_execution_duration_seconds", "_count", &[("runbook", "restart-web")]);
    is(90.0, "runbookd_time_to_remediation_seconds", "_sum", &[("runbook", "restart-web")]);
    is(1.0, "runbookd_reaction_seconds", "_count", &[]);
    let step = [("runbook", "restart-web"), ("kind", "http"), ("outcome", "failed")];
    is(1.0, "runbookd_steps_total", "", &step);
    is(6.0, "runbookd_step_duration_seconds", "_count", &[("kind", "http")]);
    is(3.0, "runbookd_journal_commit_batch_size", "_sum", &[]);
    is(1.0, "runbookd_journal_commit_duration_seconds", "_count", &[]);
    let request = [("route", "/api/executions/{id}"), ("method", "GET"), ("code", "200")];
    is(1.0, "runbookd_http_requests_total", "", &request);
    let strange = [("route", "(unmatched)"), ("method", "other"), ("code", "other")];
    is(1.0, "runbookd_http_requests_total", "", &strange);
    is(1.0, "runbookd_http_request_duration_seconds", "_count", &[("route", "(unmatched)")]);
    is(1.0, "runbookd_auth_failures_total", "", &[("reason", "forbidden")]);
    is(0.0, "runbookd_config_last_reload_successful", "", &[]);
    is(1_700_000_002.0, "runbookd_config_last_reload_success_timestamp_seconds", "", &[]);
    is(1.0, "runbookd_build_info", "", &[("version", "0.1.0"), ("revision", "abc")]);
    is(1_700_000_000.0, "runbookd_start_time_seconds", "", &[]);
}

#[test]
fn gauges_show_what_this_scrape_was_given_and_forget_it_for_the_next() {
    let metrics = fresh();
    metrics.register_runbook(&id("known"));
    let gauges = Gauges {
        executions_active: vec![
            (ExecutionStatus::Running, 3),
            (ExecutionStatus::Queued, u64::MAX),
            (ExecutionStatus::Failed, 9),
        ],
        queue_length: 12,
        queue_oldest_age: Duration::from_millis(1500),
        approvals_pending: 4,
        store_size_bytes: Some(4096),
        breaker_states: vec![("db".to_owned(), 2), ("runbook:backup".to_owned(), 1)],
        breakers: vec![
            (id("known"), "open", 3),
            (id("gone"), "open", 1),
            (id("gone-too"), "open", 1),
            (id("known"), "half_open", 0),
        ],
        kill_switch: vec![("global", 1), ("matchers", 2)],
        quarantined_targets: Some(7),
        storm_active: Some(true),
        freezes: vec![("year end".to_owned(), true), ("nights".to_owned(), false)],
        flapping_alerts: 5,
    };
    let (_, text) = metrics.encode(None, &gauges);
    let families = parse(&text);
    let of = |family: &str, labels: &[(&str, &str)]| value(&families, family, family, labels);
    assert_eq!(of("runbookd_executions_active", &[("status", "running")]), 3.0);
    assert_eq!(of("runbookd_executions_active", &[("status", "paused")]), 0.0);
    assert_eq!(families["runbookd_executions_active"].samples.len(), 6);
    assert_eq!(of("runbookd_queue_length", &[]), 12.0);
    assert_eq!(of("runbookd_queue_oldest_age_seconds", &[]), 1.5);
    assert_eq!(of("runbookd_approvals_pending", &[]), 4.0);
    assert_eq!(of("runbookd_store_size_bytes", &[]), 4096.0);
    assert_eq!(of("runbookd_breaker_state", &[("breaker", "db")]), 2.0);
    assert_eq!(of("runbookd_breaker_state", &[("breaker", "runbook:backup")]), 1.0);
    assert_eq!(of("runbookd_breakers", &[("runbook", "known"), ("state", "open")]), 3.0);
    assert_eq!(of("runbookd_breakers", &[("runbook", "known"), ("state", "half_open")]), 0.0);
    assert_eq!(of("runbookd_breakers", &[("runbook", "(unloaded)"), ("state", "open")]), 2.0);
    assert_eq!(of("runbookd_kill_switch_active", &[("scope", "global")]), 1.0);
    assert_eq!(of("runbookd_kill_switch_active", &[("scope", "runbook")]), 0.0);
    assert_eq!(of("runbookd_kill_switch_active", &[("scope", "matchers")]), 2.0);
    assert_eq!(of("runbookd_quarantined_targets", &[]), 7.0);
    assert_eq!(of("runbookd_storm_active", &[]), 1.0);
    assert_eq!(of("runbookd_freeze_active", &[("freeze", "year end")]), 1.0);
    assert_eq!(of("runbookd_freeze_active", &[("freeze", "nights")]), 0.0);
    assert_eq!(of("runbookd_flapping_alerts", &[]), 5.0);
    let later = parse(&text_of(&metrics));
    assert_eq!(value(&later, "runbookd_queue_length", "runbookd_queue_length", &[]), 0.0);
}

#[test]
fn t39_a_hundred_thousand_hostile_routes_methods_codes_and_runbooks_add_a_handful_of_series() {
    let metrics = traffic();
    let series = |metrics: &Metrics| {
        parse(&text_of(metrics)).values().map(|family| family.samples.len()).sum::<usize>()
    };
    let before = series(&metrics);
    for n in 0..100_000_u32 {
        let text = format!("/x{n}\"}}\n\u{202e}");
        metrics.http_answered(Some(&text), &text, (n % 100) as u16, Duration::ZERO);
        metrics.http_answered(Some("/api/executions/{id}"), &format!("GET{n}"), 200, Duration::ZERO);
        let runbook = id(&format!("r{n}"));
        metrics.execution_finished(&runbook, ExecutionStatus::Failed, Duration::ZERO);
        metrics.remediated(&runbook, Duration::ZERO);
        metrics.step_finished(&runbook, StepKind::Http, StepStatus::Failed, Some(Duration::ZERO));
    }
    let after = text_of(&metrics);
    // One request series (known route, method `other`), and the 14 lines of one histogram and its sum and count.
    let added = series(&metrics) - before;
    assert!(added <= 20, "{added}");
    assert!(!after.contains("r99999") && !after.contains("x99999"));
}

#[test]
fn even_registered_runbooks_and_routes_have_an_end() {
    let metrics = fresh();
    for n in 0..MAX_ROUTES + 50 {
        metrics.register_route(&format!("/r{n}"));
    }
    let families = parse(&text_of(&metrics));
    let counts = families["runbookd_http_request_duration_seconds"]
        .samples
        .keys()
        .filter(|(name, _)| name.ends_with("_count"));
    assert_eq!(counts.count(), MAX_ROUTES);
    let known = labels::Known::new("(unloaded)", 1);
    assert!(known.add("a") && known.add("a") && !known.add("b"));
    assert_eq!((&*known.get("a"), &*known.get("b")), ("a", "(unloaded)"));
}

#[test]
fn a_breakers_key_is_a_label_value_whatever_it_holds() {
    let gauges =
        Gauges { breaker_states: vec![("say \"no\"\\ \u{202e}".to_owned(), 3)], ..Gauges::default() };
    let (_, text) = fresh().encode(None, &gauges);
    check_metrics(&text);
    assert!(text.contains(r#"runbookd_breaker_state{breaker="say \"no\"\\ "#), "{text}");
}
