//! Deliveries in any order, by any clock, against a model of an episode that fits on a page.
//!
//! The deliveries are what Alertmanagers send: firing and resolved, repeated, late, from two peers, with a beginning
//! that moves; between them the clock goes on, back, or past the life of an episode.

use super::bench::{Bench, acting_on, at, options};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use runbookd::intake::Announcement;
use runbookd::model::{Clock as _, Decision, Reason, Timestamp, Verdict};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 24 * 3600;

/// What is delivered of one alert; times in seconds from the beginning of the test.
#[derive(Debug, Clone, Copy)]
struct Element {
    alert: u8,
    starts: i64,
    /// Firing, or resolved with or without an end.
    resolved: Option<Option<i64>>,
}

#[derive(Debug, Clone)]
enum Action {
    Deliver(Vec<Element>),
    /// The body `n` deliveries ago, once more.
    Again(usize),
    Clock(i64),
}

fn elements() -> impl Strategy<Value = Element> {
    let resolved = prop_oneof![
        3 => Just(None),
        2 => prop::option::weighted(0.9, 0..200_i64).prop_map(Some),
    ];
    (0..4_u8, 0..100_i64, resolved).prop_map(|(alert, starts, resolved)| Element { alert, starts, resolved })
}

fn actions(longest_step: i64) -> impl Strategy<Value = Vec<Action>> {
    let steps = prop_oneof![4 => -40..80_i64, 1 => Just(longest_step)];
    let action = prop_oneof![
        5 => prop::collection::vec(elements(), 1..4).prop_map(Action::Deliver),
        2 => (0..6_usize).prop_map(Action::Again),
        2 => steps.prop_map(Action::Clock),
    ];
    prop::collection::vec(action, 1..50)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(at("2026-11-21T12:00:00Z").as_second() + seconds).unwrap()
}

fn body(elements: &[Element]) -> String {
    let alerts = elements.iter().map(|element| {
        // The last one is an alert that nothing selects a runbook for.
        let name = if element.alert == 3 { "Watchdog" } else { "Down" };
        let ends =
            element.resolved.flatten().map_or("0001-01-01T00:00:00Z".to_owned(), |end| time(end).to_string());
        json!({
            "status": if element.resolved.is_some() { "resolved" } else { "firing" },
            "labels": { "alertname": name, "instance": element.alert.to_string() },
            "startsAt": time(element.starts).to_string(),
            "endsAt": ends,
        })
    });
    json!({ "alerts": alerts.collect::<Vec<Value>>() }).to_string()
}

/// An episode as a person would keep it on paper.
#[derive(Debug, Clone, Copy)]
struct Paper {
    starts: i64,
    last_seen: i64,
    ended: Option<i64>,
}

/// What is on paper of one alert.
#[derive(Debug, Default)]
struct Sheet {
    episode: Option<Paper>,
    /// The last decision: its reason, and whether it names the execution of the episode.
    last: Option<(Reason, bool)>,
    /// How many decisions must be stored.
    stored: usize,
}

impl Sheet {
    /// What must be decided on `element` at `now`.
    fn decide(&mut self, element: &Element, now: i64) -> Reason {
        let fresh = Paper { starts: element.starts, last_seen: now, ended: None };
        let (mut begins, mut named) = (false, element.alert != 3);
        let reason = match (element.resolved, self.episode.as_mut()) {
            (Some(end), None) => {
                self.episode = Some(Paper { ended: Some(end.unwrap_or(now).min(now)), ..fresh });
                Reason::Resolved
            }
            (Some(end), Some(episode)) => {
                let late = end.is_some_and(|end| end <= episode.starts) && element.starts < episode.starts;
                let end = end.unwrap_or(now).min(now);
                match episode.ended {
                    None if late => named = false,
                    None => episode.ended = Some(end),
                    Some(ended) if end > ended => {
                        episode.ended = Some(end);
                        episode.starts = episode.starts.max(element.starts);
                    }
                    Some(_) => {}
                }
                Reason::Resolved
            }
            (None, Some(Paper { starts, ended: Some(ended), .. }))
                if element.starts < *ended || element.starts <= *starts =>
            {
                Reason::Stale
            }
            (None, Some(episode)) if episode.ended.is_none() && now < episode.last_seen + DAY => {
                episode.last_seen = now;
                Reason::Repeat
            }
            (None, _) => {
                self.episode = Some(fresh);
                begins = true;
                Reason::Matched
            }
        };
        let reason = match reason {
            Reason::Matched | Reason::Repeat if element.alert == 3 => Reason::NoRunbook,
            other => other,
        };
        if begins || self.last != Some((reason, named)) {
            self.stored += 1;
        }
        self.last = Some((reason, named));
        reason
    }
}

/// A run of the actions: what was delivered, and what was announced of it.
struct Run {
    bench: Bench,
    sheets: BTreeMap<u8, Sheet>,
    told: Vec<(Element, Announcement)>,
}

fn run(actions: &[Action]) -> Run {
    let bench = Bench::new(acting_on(&["Down"]), options());
    let mut run = Run { bench, sheets: BTreeMap::new(), told: Vec::new() };
    let mut bodies: Vec<Vec<Element>> = Vec::new();
    for action in actions {
        let elements = match action {
            Action::Clock(seconds) => {
                run.bench.clock.advance(seconds * 1_000);
                continue;
            }
            Action::Deliver(elements) => elements.clone(),
            Action::Again(back) => match bodies.len().checked_sub(back + 1) {
                Some(index) => bodies[index].clone(),
                None => continue,
            },
        };
        let now = run.bench.clock.now().as_second() - time(0).as_second();
        let announced = run.bench.post(body(&elements).as_bytes()).now_or_never().unwrap().unwrap();
        for (element, announced) in elements.iter().zip(announced) {
            let expected = run.sheets.entry(element.alert).or_default().decide(element, now);
            assert_eq!(announced.reason, expected, "{element:?} at {now}");
            assert_eq!(announced.verdict == Verdict::Execute, expected == Reason::Matched);
            run.told.push((*element, announced));
        }
        bodies.push(elements);
    }
    run
}

/// The stored decisions are those announced, each state once, and every page of every size says so.
fn check_stored(run: &Run) {
    let all = |limit| run.bench.decisions(limit).now_or_never().unwrap();
    let stored: Vec<Decision> = all(500);
    assert_eq!(stored, all(13));
    for (alert, sheet) in &run.sheets {
        let of_alert = |labels: &str| labels == alert.to_string();
        let mut kept: Vec<&Decision> = stored.iter().filter(|d| of_alert(&d.labels["instance"])).collect();
        kept.reverse();
        assert_eq!(kept.len(), sheet.stored, "decisions of {alert}");
        let told: Vec<&Announcement> =
            run.told.iter().filter(|(element, _)| element.alert == *alert).map(|(_, told)| told).collect();
        assert_eq!(kept.iter().map(|decision| decision.seen).sum::<u64>(), told.len() as u64);
        // Spread out by how often each was seen, they are what was announced, one by one.
        let spread =
            kept.iter().flat_map(|decision| vec![*decision; usize::try_from(decision.seen).unwrap()]);
        for (decision, told) in spread.zip(told) {
            let stored = (decision.reason, decision.verdict, &decision.runbook, &decision.execution_id);
            assert_eq!(stored, (told.reason, told.verdict, &told.runbook, &told.execution_id));
        }
    }
    let mut executions: Vec<_> =
        run.bench.executions().now_or_never().unwrap().into_iter().map(|header| header.id).collect();
    executions.reverse();
    let started: Vec<_> = run.told.iter().filter_map(|(_, told)| told.started().cloned()).collect();
    assert_eq!(executions, started);
    assert_eq!(run.bench.queue.get(), started.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn every_delivery_is_decided_as_on_paper(actions in actions(DAY)) {
        check_stored(&run(&actions));
    }

    #[test]
    fn within_the_life_of_an_episode_no_firing_starts_twice(actions in actions(3600)) {
        let run = run(&actions);
        let mut started = BTreeSet::new();
        let mut closed: BTreeMap<u8, bool> = BTreeMap::new();
        for (element, told) in &run.told {
            if element.resolved.is_some() {
                prop_assert_eq!(told.verdict, Verdict::Skip);
                closed.insert(element.alert, true);
            } else if told.verdict == Verdict::Execute {
                prop_assert!(started.insert((element.alert, element.starts)), "{:?} started again", element);
                let was_closed = closed.insert(element.alert, false);
                prop_assert!(was_closed != Some(false), "{:?} started while its episode was open", element);
            }
        }
    }
}

/// The story of the property above that went wrong: (begins, ends) of each delivery, in order.
fn story(deliveries: &[(i64, Option<i64>)]) -> Vec<&'static str> {
    let deliver = |(starts, ends): &(i64, Option<i64>)| {
        Action::Deliver(vec![Element { alert: 0, starts: *starts, resolved: ends.map(Some) }])
    };
    let actions: Vec<Action> =
        std::iter::once(Action::Clock(60)).chain(deliveries.iter().map(deliver)).collect();
    run(&actions).told.iter().map(|(_, told)| told.reason.as_str()).collect()
}

#[test]
fn the_end_of_an_earlier_episode_does_not_end_this_one() {
    let late = story(&[(10, None), (10, Some(20)), (30, None), (10, Some(20)), (30, None)]);
    assert_eq!(late, ["matched", "resolved", "matched", "resolved", "repeat"]);
    let moved_back = story(&[(10, None), (10, Some(20)), (30, None), (10, None), (10, Some(20)), (30, None)]);
    assert_eq!(moved_back, ["matched", "resolved", "matched", "repeat", "resolved", "repeat"]);
}

#[tokio::test]
async fn only_its_own_end_is_told_to_an_execution() {
    let bench = Bench::new(acting_on(&["Down"]), options());
    bench.clock.advance(60_000);
    let mut told = Vec::new();
    for (starts, resolved) in
        [(10, None), (10, Some(20)), (30, None), (10, Some(20)), (30, None), (30, Some(40))]
    {
        let element = Element { alert: 0, starts, resolved: resolved.map(Some) };
        bench.post(body(&[element]).as_bytes()).await.unwrap();
        told.push(bench.records.signals(10).await.unwrap().len());
    }
    // Nobody takes them here.
    assert_eq!(told, [0, 1, 1, 1, 1, 2]);
}

#[test]
fn t19_a_sender_whose_clock_is_ahead_does_not_start_twice() {
    // Here it is 60: both times are cut to what is now.
    let ahead = story(&[(100, None), (100, Some(130)), (100, None), (131, None)]);
    assert_eq!(ahead, ["matched", "resolved", "stale", "matched"]);
}

#[test]
fn t19_a_new_beginning_after_the_end_starts_again_and_the_same_one_does_not() {
    let again =
        story(&[(10, None), (10, None), (10, Some(20)), (10, None), (15, None), (20, None), (25, None)]);
    assert_eq!(again, ["matched", "repeat", "resolved", "stale", "stale", "matched", "repeat"]);
}
