//! A fixture for each reason code of a decision, and what the stored decision says of every gate.
//!
//! `tests/corpus/gates/<code>.toml`, or `<code>.<what>.toml` for one more of it: what stands against the target, the
//! deliveries before, the alert, which gates deny, which do not apply, and their numbers. A gate that is not named passes.
//! `queued_for` is how long what was started waits in the queue, and the code then is what ends it there.

use super::bench::{Bench, at, corpus, files, firing, library, options, read};
use runbookd::admit::GATES;
use runbookd::admit::late::{Answers, Confirmation, LATE, Questions};
use runbookd::config::{Overrides, load};
use runbookd::engine::transition::{Next, next};
use runbookd::guard::{
    Admission, BreakerKey, BreakerRecord, BreakerState, Order, Outcome, Profiles, Quarantine, Scope,
    SwitchState,
};
use runbookd::intake::Options;
use runbookd::journal::{Event, State};
use runbookd::model::{
    Clock as _, Decision, ExecutionStatus, GateReport, GateVerdict, Matcher, Reason, RunbookId, Target,
    Timestamp, Verdict,
};
use runbookd::plan::view::context_of;
use runbookd::routing::{Mapping, Rules, Source};
use runbookd::runbook::{self, Runbook};
use runbookd::store::records::{Person, breaker, quarantine, transact};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    about: String,
    #[serde(default)]
    given: Given,
    #[serde(default)]
    before: Vec<Value>,
    alert: Value,
    /// What the first stage of its execution is answered, for the gates that are asked later.
    answers: Option<Told>,
    /// How long its execution waits in the queue, in milliseconds.
    queued_for: Option<i64>,
    expect: Expect,
}

/// What Alertmanager and Prometheus answer.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Told {
    confirm_error: Option<String>,
    known: bool,
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
    unhealthy: f64,
    unhealthy_error: Option<String>,
    of: f64,
    holds: bool,
}

impl Told {
    fn answers(&self) -> Answers {
        let (silenced_by, inhibited_by) = (self.silenced_by.clone(), self.inhibited_by.clone());
        let standing =
            Confirmation { known: self.known, silenced_by, inhibited_by, ..Confirmation::default() };
        Answers {
            confirm: Some(self.confirm_error.clone().map_or(Ok(standing), Err)),
            unhealthy: Some(self.unhealthy_error.clone().map_or(Ok(self.unhealthy), Err)),
            of: Some(Ok(self.of)),
            precheck: Some((self.holds, "as seen".to_owned())),
        }
    }
}

/// What stands before anything is delivered.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Given {
    /// A config: its guards, storm and freezes.
    config: String,
    quarantine: Vec<Quarantine>,
    /// How often each breaker's key failed, in a row.
    failed: BTreeMap<String, u32>,
    /// Who tries, half a minute later, what each breaker's key guards.
    probe: BTreeMap<String, String>,
    /// Breakers that a person opened.
    opened: Vec<String>,
    /// What the kill switch stands at, for everything.
    switch: Option<String>,
}

impl Given {
    async fn put(self, bench: &Bench) {
        let Self { quarantine, failed, probe, opened, switch, .. } = self;
        if let Some(state) = switch {
            let (by, reason, at) = ("ada".to_owned(), "a test".to_owned(), bench.clock.now());
            let state = SwitchState::parse(&state).unwrap();
            let order = Order { scope: Scope::Global, state, by, reason, at, expires_at: None };
            bench.board.change(|switch| switch.set(order));
        }
        let (now, profile) = (bench.clock.now(), Profiles::default().or_default("default").clone());
        if !probe.is_empty() {
            bench.clock.advance(30_000);
        }
        let later = bench.clock.now();
        transact(&**bench.records.store(), move |txn| {
            for quarantine in &quarantine {
                quarantine::put(txn, quarantine)?;
            }
            for (key, count) in &failed {
                for _ in 0..*count {
                    breaker::record(txn, &key_of(key), &profile, "x", Outcome::Failure, now)?;
                }
            }
            for (key, holder) in &probe {
                let admission = breaker::admit(txn, &key_of(key), &profile, holder, later)?;
                assert_eq!(admission, Admission::Yes);
            }
            for key in &opened {
                let person = Person { user: "ada".to_owned(), reason: "test".to_owned() };
                let fresh = Some(BreakerRecord::blank(&key_of(key), &profile));
                breaker::force_open(txn, key, fresh, &person, now)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// The key `runbook:<id>:<target>`.
fn key_of(text: &str) -> BreakerKey {
    let (runbook, target) = text.strip_prefix("runbook:").unwrap().split_once(':').unwrap();
    BreakerKey::of_runbook(&RunbookId::new(runbook).unwrap(), Some(&Target::new(target).unwrap()))
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Expect {
    runbook: Option<String>,
    message: Option<String>,
    #[serde(default)]
    deny: Vec<Reason>,
    #[serde(default)]
    off: Vec<Reason>,
    /// Which of those that are asked of others are asked, later.
    #[serde(default)]
    later: Vec<Reason>,
    #[serde(default)]
    detail: BTreeMap<String, Map<String, Value>>,
}

/// The options the program has with this config.
fn guarded(text: &str) -> Options {
    let flags = Overrides::default();
    let loaded = load("config", Path::new("config.toml"), text, &BTreeMap::new(), &flags);
    let config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.problems));
    let (guard, storm) = (config.automation.guard, config.automation.storm);
    let has_alertmanager = config.alertmanager.is_some();
    Options { guard, storm, freezes: config.freezes, has_alertmanager, ..options() }
}

async fn check(name: &str, fixture: &Fixture) {
    let about = format!("{name}: {}", fixture.about);
    let bench = Bench::new(library(&corpus("gates/library")), guarded(&fixture.given.config));
    fixture.given.clone().put(&bench).await;
    for element in &fixture.before {
        bench.one(element).await;
        bench.clock.advance(1_000);
    }
    let announced = bench.one(&fixture.alert).await;
    let decision = bench.decisions(10).await.remove(0);
    let expect = &fixture.expect;
    let code = name.split('.').next().unwrap();
    if let Some(told) = &fixture.answers {
        assert_eq!(
            decision.reason,
            Reason::Matched,
            "{about}: the others are asked when it has been decided"
        );
        let said = said_by(&bench, told).await;
        check_answers(&about, code, &said, expect);
        return check_gates(
            &about,
            &decision,
            &Expect { deny: Vec::new(), off: Vec::new(), ..expect.clone() },
        );
    }
    if let Some(waited) = fixture.queued_for {
        assert_eq!(decision.reason, Reason::Matched, "{about}: it is queued when it has been decided");
        check_expiry(&about, code, &bench, waited).await;
        return check_gates(&about, &decision, expect);
    }
    let verdict = if code == "matched" { Verdict::Execute } else { Verdict::Skip };
    assert_eq!((announced.verdict, announced.reason.as_str()), (verdict, code), "{about}");
    assert_eq!((decision.verdict, decision.reason), (announced.verdict, announced.reason), "{about}");
    assert_eq!(decision.runbook.as_ref().map(RunbookId::as_str), expect.runbook.as_deref(), "{about}");
    assert_eq!(decision.execution_id, announced.execution_id, "{about}");
    if let Some(message) = &expect.message {
        assert_eq!(decision.message, *message, "{about}");
    }
    check_gates(&about, &decision, expect);
}

/// That the queue ends the execution with this code after this time, and not a moment before.
async fn check_expiry(about: &str, code: &str, bench: &Bench, waited: i64) {
    let (runbook, state) = begun(bench).await;
    let then = |after: i64| {
        let at = Timestamp::from_millisecond(state.created_at.as_millisecond() + after).unwrap();
        next(&runbook, &state, at)
    };
    assert_eq!(then(waited - 1), Next::Idle { wake: Some(state.created.queue_deadline) }, "{about}");
    match then(waited) {
        Next::Record(Event::Finished { status: ExecutionStatus::Expired, reason: Some(reason), .. }) => {
            assert_eq!(reason.as_str(), code, "{about}");
        }
        other => panic!("{about}: {other:?}"),
    }
}

/// What the first stage of the execution says.
async fn said_by(bench: &Bench, told: &Told) -> Vec<GateReport> {
    let (runbook, state) = begun(bench).await;
    let context = context_of(&runbook, &state);
    let questions = Questions::of(&runbook, &state.created, &context, None, true).unwrap();
    assert!(questions.broken.is_empty(), "{questions:?}");
    questions.judge(&told.answers())
}

/// The latest execution as it was made, and its runbook.
async fn begun(bench: &Bench) -> (Runbook, State) {
    let id = bench.executions().await.remove(0).id;
    let Event::Created(created) = bench.records.journal(&id, 0, 1).await.unwrap().remove(0).event else {
        panic!("{id} does not begin with its creation");
    };
    let text = read(&corpus("gates/library").join(format!("{}.toml", created.runbook)));
    let runbook = runbook::parse(&created.runbook, "fixture", &text).runbook.unwrap();
    (runbook, State::new(created, bench.clock.now()))
}

fn check_answers(about: &str, code: &str, said: &[GateReport], expect: &Expect) {
    for report in said {
        let expected = match (expect.deny.contains(&report.gate), expect.off.contains(&report.gate)) {
            (true, _) => GateVerdict::Deny,
            (_, true) => GateVerdict::Off,
            _ => GateVerdict::Pass,
        };
        assert_eq!(report.verdict, expected, "{about}: {} says {}", report.gate.as_str(), report.message);
    }
    let denial = said.iter().find(|report| report.verdict == GateVerdict::Deny);
    assert_eq!(denial.map_or("matched", |denial| denial.gate.as_str()), code, "{about}");
    assert_eq!(denial.map(|denial| &denial.message), expect.message.as_ref(), "{about}");
}

fn check_gates(about: &str, decision: &Decision, expect: &Expect) {
    if decision.reason == Reason::InvalidAlert {
        assert!(decision.gates.is_empty(), "{about}");
        return;
    }
    let asked: Vec<Reason> = decision.gates.iter().map(|report| report.gate).collect();
    assert_eq!(asked, GATES.iter().map(|(name, _)| *name).chain(LATE).collect::<Vec<_>>(), "{about}");
    for report in &decision.gates {
        let gate = report.gate;
        let expected = match (expect.deny.contains(&gate), expect.off.contains(&gate)) {
            (true, _) => GateVerdict::Deny,
            (_, true) => GateVerdict::Off,
            _ if expect.later.contains(&gate) => GateVerdict::Later,
            _ if LATE.contains(&gate) => GateVerdict::Off,
            _ => GateVerdict::Pass,
        };
        assert_eq!(report.verdict, expected, "{about}: {} says {}", gate.as_str(), report.message);
        assert_eq!(report.reason, (expected == GateVerdict::Deny).then_some(gate), "{about}");
        assert!(!report.message.is_empty(), "{about}: {}", gate.as_str());
        if let Some(detail) = expect.detail.get(gate.as_str()) {
            assert_eq!(report.detail, *detail, "{about}: {}", gate.as_str());
        }
    }
    let denial = decision.gates.iter().find(|report| report.verdict == GateVerdict::Deny);
    match denial {
        Some(denial) => {
            assert_eq!((decision.reason, &decision.message), (denial.gate, &denial.message), "{about}");
        }
        None => assert_eq!(decision.reason, Reason::Matched, "{about}"),
    }
}

#[tokio::test]
async fn every_fixture_is_decided_by_the_gate_in_its_name() {
    for (name, path) in files(&corpus("gates"), "toml") {
        let fixture: Fixture = toml::from_str(&read(&path)).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&name, &fixture).await;
    }
}

#[test]
fn every_code_of_a_decision_has_a_fixture_and_every_gate_is_a_code() {
    let fixtures = files(&corpus("gates"), "toml");
    let codes = Reason::DECISION.iter().map(|code| code.as_str());
    let missing: Vec<&str> = codes.filter(|code| !fixtures.contains_key(*code)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
    let position = |gate: &Reason| Reason::DECISION.iter().position(|code| code == gate);
    let positions: Vec<_> = GATES.iter().map(|(name, _)| position(name)).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{positions:?}");
}

#[tokio::test]
async fn what_is_started_by_a_half_open_breaker_holds_its_probe_and_the_next_is_refused() {
    let bench = Bench::new(library(&corpus("gates/library")), options());
    let key = "runbook:fix:web-1";
    let given = Given { failed: [(key.to_owned(), 5)].into(), ..Given::default() };
    given.put(&bench).await;
    let deliver = async |name: &str| {
        let mut alert = firing("Down", "web-1", "2026-11-21T10:00:00Z");
        alert["labels"]["device"] = name.into();
        bench.one(&alert).await
    };
    assert_eq!(deliver("a").await.reason, Reason::BreakerOpen);
    bench.clock.advance(29_999);
    assert_eq!(deliver("a").await.reason, Reason::BreakerOpen);
    assert_eq!(bench.records.tripped(9).await.unwrap()[0].breaker.state(), BreakerState::Open);
    bench.clock.advance(1);
    let started = deliver("a").await;
    assert_eq!(started.reason, Reason::Matched);
    let record = bench.records.breaker(key).await.unwrap().unwrap();
    let holder = started.execution_id.as_ref().map(|id| id.as_str());
    assert_eq!((record.breaker.state(), record.breaker.probe()), (BreakerState::HalfOpen, holder));
    // Another alert for the same target waits for the probe, and is decided anew when it comes again.
    assert_eq!(deliver("b").await.reason, Reason::BreakerOpen);
    let (id, now) = (started.execution_id.unwrap(), bench.clock.now());
    transact(&**bench.records.store(), move |txn| {
        let profile = Profiles::default().or_default("default").clone();
        breaker::record(txn, &key_of(key), &profile, id.as_str(), Outcome::NotCounted, now)
    })
    .await
    .unwrap();
    assert_eq!(deliver("b").await.reason, Reason::Matched);
    assert_eq!(bench.executions().await.len(), 2);
}

/// Which runbook is selected of an alert that a mapping, an annotation and a runbook all name, by this order.
async fn selected_by(order: &[Source], annotation: Option<&str>, mapped: bool) -> (Reason, Option<String>) {
    let mapping = Mapping {
        name: "to other".to_owned(),
        matchers: vec![Matcher::parse("alertname=Watched").unwrap()],
        runbook: RunbookId::new("other").unwrap(),
    };
    let rules = Rules { mappings: mapped.then_some(mapping).into_iter().collect(), order: order.to_vec() };
    let bench = Bench::new(library(&corpus("gates/library")), Options { rules, ..options() });
    bench.set(at("2026-11-21T10:01:00Z"));
    let mut alert = firing("Watched", "web-1", "2026-11-21T10:00:00Z");
    alert["labels"]["team"] = "platform".into();
    if let Some(annotation) = annotation {
        alert["annotations"] = serde_json::json!({ "automation_runbook": annotation });
    }
    let announced = bench.one(&alert).await;
    (announced.reason, announced.runbook.map(|id| id.to_string()))
}

#[tokio::test]
async fn in_each_order_the_first_that_speaks_selects() {
    use Source::{Annotation, Config, Runbook};
    let selects = |source: Source| match source {
        Config => (Reason::Matched, Some("other".to_owned())),
        Annotation => (Reason::Matched, Some("fix".to_owned())),
        Runbook => (Reason::Shadow, Some("watched".to_owned())),
    };
    for order in [
        [Config, Annotation, Runbook],
        [Config, Runbook, Annotation],
        [Annotation, Config, Runbook],
        [Annotation, Runbook, Config],
        [Runbook, Config, Annotation],
        [Runbook, Annotation, Config],
    ] {
        for (annotation, mapped) in [(Some("fix"), true), (Some("fix"), false), (None, true), (None, false)] {
            let speaks = |source: &&Source| match source {
                Config => mapped,
                Annotation => annotation.is_some(),
                Runbook => true,
            };
            let first = *order.iter().find(speaks).unwrap();
            assert_eq!(selected_by(&order, annotation, mapped).await, selects(first), "{order:?}");
        }
    }
}

#[tokio::test]
async fn an_unknown_or_refused_selection_is_the_end_of_the_search() {
    use Source::{Annotation, Config, Runbook};
    for order in [[Annotation, Config, Runbook], [Annotation, Runbook, Config]] {
        for (annotation, expected) in [
            ("", (Reason::UnknownRunbook, None)),
            ("none", (Reason::UnknownRunbook, None)),
            ("broken", (Reason::UnknownRunbook, None)),
            ("other", (Reason::NotAllowed, Some("other".to_owned()))),
        ] {
            assert_eq!(selected_by(&order, Some(annotation), true).await, expected, "{annotation:?}");
        }
    }
    assert_eq!(selected_by(&[], Some("fix"), true).await, (Reason::NoRunbook, None));
    assert_eq!(selected_by(&[Config], Some("fix"), false).await, (Reason::NoRunbook, None));
}
