//! The gates asked by themselves, and which of several denials decides.

use super::*;
use crate::journal::{Trigger, TriggerKind};
use crate::model::{AlertStatus, DecisionId, ExecutionId, Fingerprint, Labels, RunbookId};
use crate::runbook::{self, Pinned};
use std::collections::BTreeMap;
use std::sync::Arc;
use ulid::Ulid;

const TTL: Duration = Duration::from_secs(3600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn alert(status: AlertStatus, starts_at: i64, instance: &str) -> Alert {
    let labels: Labels =
        [("alertname", "Down"), ("instance", instance)].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    Alert {
        status,
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: Labels::new(),
        starts_at: at(starts_at),
        ends_at: None,
        generator_url: String::new(),
        external_url: String::new(),
    }
}

fn episode(starts_at: i64, resolved_at: Option<i64>, executed: bool) -> Episode {
    let id = || ExecutionId::of(&RunbookId::new("act").unwrap(), Ulid::from_parts(1, 1));
    Episode {
        starts_at: at(starts_at),
        opened_at: at(starts_at),
        last_seen: at(starts_at),
        resolved_at: resolved_at.map(at),
        execution: executed.then(id),
        decision: DecisionId::of(Ulid::from_parts(1, 2)),
        verdict: Verdict::Execute,
        reason: Reason::Matched,
        seen: 1,
        changes: Vec::new(),
        would_have_run: false,
    }
}

fn selected(mode: &str) -> Route {
    let text = format!(
        "title = \"T\"\nmode = \"{mode}\"\ntarget = \"{{{{ labels.instance }}}}\"\n\
         [inputs.instance]\nfrom = \"labels.instance\"\nrequired = true\npattern = '[a-z*]*'\n\
         [[steps]]\nid = \"a\"\ncommand = {{ program = \"true\" }}\n"
    );
    let parsed = runbook::parse(&RunbookId::new("act").unwrap(), "act.toml", &text);
    let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems));
    let pinned = Pinned { runbook, version: 3, hash: parsed.hash, file_name: "act.toml".to_owned() };
    Route::Selected { pinned: Arc::new(pinned), by: "the mapping \"m\"".to_owned() }
}

fn planned(route: &Route, alert: &Alert) -> Option<Result<Created, Denial>> {
    let pinned = route.pinned()?;
    Some(plan(Request {
        pinned,
        trigger: Trigger {
            kind: TriggerKind::Alert,
            alertname: Some("Down".to_owned()),
            fingerprint: Some(alert.fingerprint),
            starts_at: Some(alert.starts_at),
            generator_url: String::new(),
            external_url: String::new(),
            labels: alert.labels.clone(),
            annotations: Labels::new(),
            by: "alert:Down".to_owned(),
            reason: None,
            of: None,
        },
        given: BTreeMap::new(),
        env: BTreeMap::new(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, Ulid::from_parts(2, 2)),
        queue_deadline: Duration::from_secs(60),
        seed: 7,
        instance: "test",
        now: at(100),
    }))
}

fn ruled(alert: &Alert, episode: Option<&Episode>, route: &Route, now: i64) -> Ruling {
    let plan = planned(route, alert);
    let (quarantine, breaker) = (None, None);
    let plan = plan.as_ref();
    let (settings, runs, targets) = (Settings::off(), Runs::default(), Targets::default());
    let guards = Guards {
        settings: &settings,
        runs: &runs,
        targets: &targets,
        storm: None,
        freezes: &[],
        changes: &[],
        counted: at(now),
    };
    decide(&Case {
        occasion: None,
        alert,
        episode,
        route,
        plan,
        order: None,
        quarantine,
        breaker,
        guards,
        has_alertmanager: false,
        now: at(now),
        episode_ttl: TTL,
    })
}

/// What a firing that began at `starts_at` is decided to be at `now`.
fn check(starts_at: i64, episode: Option<Episode>, now: i64, expected: Reason) {
    let ruling =
        ruled(&alert(AlertStatus::Firing, starts_at, "web"), episode.as_ref(), &selected("auto"), now);
    assert_eq!(ruling.reason, expected, "{starts_at} {episode:?} {now}");
    assert_eq!(ruling.verdict == Verdict::Execute, expected == Reason::Matched);
}

#[test]
fn a_firing_is_stale_when_it_began_before_the_last_end_or_not_after_the_last_beginning() {
    check(10, None, 100, Reason::Matched);
    check(10, Some(episode(5, Some(20), true)), 100, Reason::Stale);
    check(19, Some(episode(5, Some(20), false)), 100, Reason::Stale);
    check(20, Some(episode(5, Some(20), true)), 100, Reason::Matched);
    // The end was cut at our clock, behind the sender's.
    check(50, Some(episode(50, Some(20), true)), 100, Reason::Stale);
    check(51, Some(episode(50, Some(20), true)), 100, Reason::Matched);
    // A closed episode is remembered longer than an open one lives.
    check(10, Some(episode(5, Some(20), true)), 100_000, Reason::Stale);
}

#[test]
fn an_open_episode_starts_once_until_it_is_forgotten() {
    check(10, Some(episode(10, None, true)), 100, Reason::Repeat);
    check(5, Some(episode(10, None, true)), 100, Reason::Repeat);
    check(90, Some(episode(10, None, true)), 100, Reason::Repeat);
    check(10, Some(episode(10, None, false)), 100, Reason::Matched);
    check(10, Some(episode(10, None, true)), 10 + 3599, Reason::Repeat);
    check(10, Some(episode(10, None, true)), 10 + 3600, Reason::Matched);
    // A clock that was set back makes nothing older.
    check(10, Some(episode(10, None, true)), 1, Reason::Repeat);
}

#[test]
fn every_gate_answers_in_order_and_the_first_denial_decides() {
    let resolved = alert(AlertStatus::Resolved, 10, "*");
    let ruling = ruled(&resolved, Some(&episode(10, None, true)), &selected("shadow"), 100);
    let asked: Vec<Reason> = ruling.gates.iter().map(|report| report.gate).collect();
    assert_eq!(asked, GATES.iter().map(|(name, _)| *name).chain(late::LATE).collect::<Vec<_>>());
    let denied: Vec<Reason> = ruling.gates.iter().filter_map(|report| report.reason).collect();
    assert_eq!(denied, [Reason::Resolved, Reason::Repeat, Reason::InvalidTarget, Reason::Shadow]);
    assert_eq!((ruling.verdict, ruling.reason), (Verdict::Skip, Reason::Resolved));
    assert_eq!(ruling.message, ruling.gates[0].message);
}

#[test]
fn without_a_runbook_the_gates_about_one_do_not_apply() {
    let firing = alert(AlertStatus::Firing, 10, "web");
    let ruling = ruled(&firing, None, &Route::Nothing, 100);
    let verdicts: Vec<GateVerdict> = ruling.gates.iter().map(|report| report.verdict).collect();
    use GateVerdict::{Deny, Off, Pass};
    let off = |count| std::iter::repeat_n(Off, count);
    let expected = [Pass, Pass, Pass, Deny].into_iter().chain(off(3)).chain([Pass; 4]).chain(off(15));
    assert_eq!(verdicts, expected.collect::<Vec<_>>());
    assert_eq!(ruling.reason, Reason::NoRunbook);
}

#[test]
fn a_plan_pins_the_version_renders_the_target_and_holds_it_alone() {
    let firing = alert(AlertStatus::Firing, 10, "web");
    let created = planned(&selected("auto"), &firing).unwrap().unwrap();
    assert_eq!((created.version, created.seed), (3, 7));
    assert_eq!(created.target.as_ref().map(ToString::to_string).as_deref(), Some("web"));
    assert_eq!(created.lock.as_deref(), Some("web"));
    assert_eq!(created.inputs["instance"], "web");
    assert_eq!(created.queue_deadline, at(160));
    let denied = |instance| planned(&selected("auto"), &alert(AlertStatus::Firing, 10, instance)).unwrap();
    assert!(matches!(denied("WEB"), Err(Denial::Input(_))));
    assert!(matches!(denied("w*"), Err(Denial::Target(_))));
}
