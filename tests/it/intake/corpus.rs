//! Bodies that Alertmanager 0.25 really sent, one after the other as they came, and what must be decided on them.
//!
//! `NN_name.expected` beside each body has a line for each alert: name, instance, status -> verdict, reason,
//! runbook. A first line `after A B` names the bodies that were delivered before.

use super::bench::{Bench, corpus, files, library, options, read};
use runbookd::intake::{Announcement, Options};
use runbookd::model::{Matcher, RunbookId, Timestamp};
use runbookd::routing::{Mapping, Rules};
use runbookd::store::Pair;
use serde_json::Value;

fn bench() -> Bench {
    let mapping = Mapping {
        name: "group all".to_owned(),
        matchers: vec![Matcher::parse("case=groupall").unwrap()],
        runbook: RunbookId::new("off").unwrap(),
    };
    let Options { rules: Rules { order, .. }, .. } = options();
    let rules = Rules { mappings: vec![mapping], order };
    Bench::new(library(&corpus("payloads/library")), Options { rules, ..options() })
}

/// Delivers the body called `name`, two seconds after the last thing it tells of.
async fn deliver(bench: &Bench, name: &str) -> (Value, Vec<Announcement>) {
    let body = read(&corpus("payloads").join(format!("{name}.json")));
    let value: Value = serde_json::from_str(&body).unwrap();
    let times = value["alerts"].as_array().unwrap().iter().flat_map(|alert| {
        ["startsAt", "endsAt"].map(|key| alert[key].as_str().unwrap().parse::<Timestamp>().unwrap())
    });
    let last = times.max().unwrap().as_millisecond() + 2_000;
    bench.set(Timestamp::from_millisecond(last).unwrap());
    let decisions = bench.post(body.as_bytes()).await.unwrap();
    (value, decisions)
}

fn describe(alert: &Value, decision: &Announcement) -> String {
    let labels = &alert["labels"];
    let instance = ["id", "host", "instance"].iter().find_map(|name| labels[name].as_str()).unwrap_or("-");
    let runbook = decision.runbook.as_ref().map_or("-", RunbookId::as_str);
    let (verdict, reason) = (decision.verdict.as_str(), decision.reason.as_str());
    let status = alert["status"].as_str().unwrap();
    assert_eq!(
        (decision.alertname.as_str(), decision.status),
        (labels["alertname"].as_str().unwrap(), Some(status))
    );
    assert_eq!(decision.fingerprint.as_deref(), alert["fingerprint"].as_str());
    format!("{} {instance} {status} -> {verdict} {reason} {runbook}\n", decision.alertname)
}

/// What stays when how often and when last are taken away.
fn without_counts(pairs: Vec<Pair>) -> Vec<(String, Value)> {
    let shown = pairs.into_iter().map(|(key, bytes)| {
        let mut value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| name != "seen" && name != "last_seen");
        }
        (String::from_utf8(key).unwrap(), value)
    });
    shown.collect()
}

#[tokio::test]
async fn every_body_is_decided_as_written_beside_it() {
    let bodies = files(&corpus("payloads"), "json");
    let expectations = files(&corpus("payloads"), "expected");
    let names = |files: &std::collections::BTreeMap<String, _>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&bodies),
        names(&expectations),
        "each body has an expectation, and each of these a body"
    );
    for (name, path) in expectations {
        let bench = bench();
        let text = read(&path);
        let (before, expected) = match text.strip_prefix("after ").and_then(|rest| rest.split_once('\n')) {
            Some((before, rest)) => (before, rest),
            None => ("", text.as_str()),
        };
        for before in before.split_whitespace() {
            deliver(&bench, before).await;
        }
        let (body, decisions) = deliver(&bench, &name).await;
        let alerts = body["alerts"].as_array().unwrap();
        assert_eq!(alerts.len(), decisions.len(), "{name}");
        let got: String =
            alerts.iter().zip(&decisions).map(|(alert, decision)| describe(alert, decision)).collect();
        assert_eq!(got, expected, "{name}");
    }
}

#[tokio::test]
async fn the_same_body_again_starts_nothing_and_once_more_changes_only_counts() {
    for name in files(&corpus("payloads"), "json").into_keys() {
        let bench = bench();
        deliver(&bench, &name).await;
        let executions = bench.executions().await;
        deliver(&bench, &name).await;
        let second = bench.dump().await;
        bench.clock.advance(1_000);
        let body = read(&corpus("payloads").join(format!("{name}.json")));
        bench.post(body.as_bytes()).await.unwrap();
        let third = bench.dump().await;
        assert_ne!(second, third, "{name}: the third delivery is counted");
        assert_eq!(without_counts(second), without_counts(third), "{name}");
        assert_eq!(bench.executions().await, executions, "{name}");
    }
}

#[tokio::test]
async fn one_after_the_other_all_bodies_leave_one_execution_for_each_episode() {
    let bench = bench();
    let mut started = Vec::new();
    for name in files(&corpus("payloads"), "json").into_keys() {
        let (_, decisions) = deliver(&bench, &name).await;
        started.extend(decisions.iter().filter_map(Announcement::started).cloned());
    }
    let mut stored: Vec<_> = bench.executions().await.into_iter().map(|header| header.id).collect();
    stored.reverse();
    assert_eq!(stored, started);
    let of = |runbook: &str| started.iter().filter(|id| id.runbook() == runbook).count();
    let counts = ["clean-disk", "restart-web", "trim", "cool", "restart-service", "slow"].map(of);
    // The flapping alert has two episodes; of the pair, one of two equal bodies starts.
    assert_eq!(counts, [3, 60, 2, 1, 2, 1]);
    assert_eq!(started.len(), 69);
}
