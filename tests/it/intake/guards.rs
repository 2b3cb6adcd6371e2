//! Guards within a request and between requests: alerts of one body see each other, what never began gives its place
//! back, and shadow mode counts for itself.

use super::bench::{Bench, acting_on, at, firing, listed, options};
use runbookd::guard::{Limit, Settings, StormLimit};
use runbookd::intake::Options;
use runbookd::journal::{Created, Event};
use runbookd::model::{ExecutionId, Reason, Verdict};
use runbookd::routing::Library;
use runbookd::store::records::{guards, transact};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

fn with(guard: Settings) -> Options {
    Options { guard, ..options() }
}

fn alert(instance: &str, device: &str) -> Value {
    let mut alert = firing("Down", instance, "2026-11-21T10:00:00Z");
    alert["labels"]["device"] = device.into();
    alert
}

async fn created(bench: &Bench, id: &ExecutionId) -> Created {
    let journal = bench.records.journal(id, 0, 1).await.unwrap();
    let Event::Created(created) = journal.into_iter().next().unwrap().event else { panic!("{id}") };
    *created
}

#[tokio::test]
async fn two_hundred_targets_in_one_body_start_exactly_as_many_executions_as_there_may_be_targets() {
    let bench = Bench::new(acting_on(&["Down"]), with(Settings::default()));
    let alerts: Vec<Value> = (0..200).map(|number| alert(&format!("web-{number}"), "")).collect();
    let body = json!({ "alerts": alerts }).to_string();
    let told = bench.post(body.as_bytes()).await.unwrap();
    let count = |reason| told.iter().filter(|told| told.reason == reason).count();
    assert_eq!((count(Reason::Matched), count(Reason::TooManyTargets)), (10, 190));
    assert_eq!(bench.executions().await.len(), 10);
    // The same bytes again are repeats and the same denials: nothing new is stored.
    let stored = bench.decisions(500).await.len();
    let again = bench.post(body.as_bytes()).await.unwrap();
    assert!(again.iter().all(|told| told.verdict == Verdict::Skip));
    assert_eq!(bench.decisions(500).await.len(), stored + 10, "one `repeat` for each that was started");
    bench.clock.advance(60_000);
    bench.post(body.as_bytes()).await.unwrap();
    assert_eq!(bench.decisions(500).await.len(), stored + 10);
    let denied = bench.decisions(500).await.into_iter().find(|d| d.reason == Reason::TooManyTargets).unwrap();
    assert_eq!(denied.seen, 3);
    // An hour after the first there is room for ten others.
    bench.clock.advance(3_600_000);
    let later = bench.post(body.as_bytes()).await.unwrap();
    assert_eq!(later.iter().filter(|told| told.reason == Reason::Matched).count(), 10);
}

#[tokio::test]
async fn what_never_began_gives_its_place_back_and_what_ended_cools() {
    let hour = Duration::from_secs(3600);
    let guard = Settings {
        cooldown: Some(Duration::from_secs(300)),
        max_runs: vec![Limit { count: 2, within: hour }],
        max_targets: Some(Limit { count: 1, within: hour }),
        ..Settings::off()
    };
    let bench = Bench::new(acting_on(&["Down"]), with(guard));
    let first = bench.one(&alert("web-1", "a")).await.execution_id.unwrap();
    assert_eq!(bench.one(&alert("web-1", "b")).await.reason, Reason::Cooldown);
    assert_eq!(bench.one(&alert("web-2", "a")).await.reason, Reason::TooManyTargets);
    let counted = bench.dump().await.iter().filter(|(key, _)| key.starts_with(b"g")).count();
    assert_eq!(counted, 2);

    let never = created(&bench, &first).await;
    transact(&**bench.records.store(), move |txn| guards::release(txn, &never)).await.unwrap();
    assert!(bench.dump().await.iter().all(|(key, _)| !key.starts_with(b"g")), "nothing is left of it");
    let second = bench.one(&alert("web-2", "a")).await;
    assert_eq!(second.reason, Reason::Matched);
    assert_eq!(bench.one(&alert("web-1", "b")).await.reason, Reason::TooManyTargets);

    let over = created(&bench, &second.execution_id.unwrap()).await;
    bench.clock.advance(60_000);
    let now = runbookd::model::Clock::now(&*bench.clock);
    transact(&**bench.records.store(), move |txn| guards::ended(txn, &over, now)).await.unwrap();
    bench.clock.advance(299_999);
    assert_eq!(bench.one(&alert("web-2", "b")).await.reason, Reason::Cooldown);
    bench.clock.advance(1);
    assert_eq!(bench.one(&alert("web-2", "b")).await.reason, Reason::Matched);
}

#[tokio::test]
async fn a_clock_that_was_set_back_starts_nothing_more() {
    let limit = Limit { count: 1, within: Duration::from_secs(3600) };
    let guard = Settings { max_runs: vec![limit], max_targets: Some(limit), ..Settings::off() };
    let bench = Bench::new(acting_on(&["Down"]), with(guard));
    assert_eq!(bench.one(&alert("web-1", "a")).await.reason, Reason::Matched);
    bench.clock.advance(-86_400_000);
    assert_eq!(bench.one(&alert("web-1", "b")).await.reason, Reason::AttemptsExhausted);
    assert_eq!(bench.one(&alert("web-2", "a")).await.reason, Reason::TooManyTargets);
    // Nor does it deny for a day: an hour after it was set, an hour is over.
    bench.clock.advance(3_600_000);
    assert_eq!(bench.one(&alert("web-1", "b")).await.reason, Reason::Matched);
}

#[tokio::test]
async fn a_storm_is_entered_within_a_body_and_left_after_its_cooldown() {
    let storm = Some(StormLimit { episodes_per_minute: 5, cooldown: Duration::from_secs(120) });
    let bench = Bench::new(acting_on(&["Down"]), Options { storm, ..options() });
    let alerts = |from: u32, to: u32| -> String {
        let alerts: Vec<Value> = (from..to).map(|number| alert(&format!("web-{number}"), "")).collect();
        json!({ "alerts": alerts }).to_string()
    };
    let told = bench.post(alerts(0, 8).as_bytes()).await.unwrap();
    let reasons: Vec<Reason> = told.iter().map(|told| told.reason).collect();
    assert_eq!(reasons, [[Reason::Matched; 5].as_slice(), &[Reason::Storm; 3]].concat());
    // 61 seconds until the rate falls, then the cooldown; repeats do not keep it up.
    bench.clock.advance(180_000);
    assert_eq!(bench.one(&alert("web-7", "")).await.reason, Reason::Storm);
    bench.clock.advance(1_000);
    assert_eq!(bench.one(&alert("web-7", "")).await.reason, Reason::Matched);
}

const SHADOW: &str = "mode = \"shadow\"\nalerts = [\"Down\"]\ntarget = \"{{ labels.instance }}\"\n\
    [inputs.instance]\nfrom = \"labels.instance\"\npattern = '[a-z0-9-]+'\n\
    [[steps]]\nid = \"look\"\nhttp = { url = \"http://{{ inputs.instance }}/health\" }\n\
    [[steps]]\nid = \"act\"\ncommand = { program = \"systemctl\", args = [\"restart\", \"on {{ inputs.instance }}\"] }\n\
    [[steps]]\nid = \"tell\"\ninstruct = { text = \"{{ steps.look.http_status }}\" }\n";

fn shadow_library(mode: &str) -> Library {
    Library::new([listed("watched", &SHADOW.replace("shadow", mode))].into())
}

#[tokio::test]
async fn shadow_mode_counts_for_itself_once_an_episode_and_keeps_what_it_would_have_done() {
    let bench = Bench::new(shadow_library("shadow"), with(Settings::default()));
    let since = at("2026-11-21T12:00:00Z");
    assert_eq!(bench.one(&alert("web-1", "a")).await.reason, Reason::Shadow);
    let decision = bench.decisions(9).await.remove(0);
    let plan: Vec<(&str, &str)> =
        decision.plan.iter().map(|step| (step.step.as_str(), step.plan.as_str())).collect();
    assert_eq!(plan[0], ("look", "GET http://web-1/health"));
    assert_eq!(plan[1], ("act", "systemctl restart \"on web-1\""));
    assert!(plan[2].1.starts_with("known only when its turn comes"), "{plan:?}");

    // Delivered again it would be a repeat, and is not counted again; nor is a denial.
    for _ in 0..3 {
        bench.clock.advance(1_000);
        assert_eq!(bench.one(&alert("web-1", "a")).await.reason, Reason::Shadow);
        assert_eq!(bench.one(&alert("web-1", "b")).await.reason, Reason::Cooldown);
    }
    assert_eq!(bench.one(&alert("WEB", "a")).await.reason, Reason::InvalidInput);
    assert_eq!(bench.decisions(99).await.len(), 3);
    let tally = bench.records.shadow(&"watched".parse().unwrap()).await.unwrap().unwrap();
    let denied: BTreeMap<_, _> = [(Reason::Cooldown, 1), (Reason::InvalidInput, 1)].into();
    assert_eq!((tally.since, tally.version, tally.would_have_run), (since, 1, 1));
    assert_eq!(tally.denied, denied);

    // Eleven targets: the cap would have denied the last.
    for number in 2..=11 {
        bench.one(&alert(&format!("web-{number}"), "a")).await;
    }
    let tally = bench.records.shadow(&"watched".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((tally.would_have_run, tally.denied[&Reason::TooManyTargets]), (10, 1));

    // Promoted, it begins afresh: the open episode acts, and no cap is used up.
    let promoted = Bench::over(
        std::sync::Arc::clone(bench.records.store()),
        shadow_library("auto"),
        with(Settings::default()),
    );
    assert_eq!(promoted.one(&alert("web-1", "a")).await.reason, Reason::Matched);
    assert_eq!(promoted.one(&alert("web-11", "a")).await.reason, Reason::Matched);
}
