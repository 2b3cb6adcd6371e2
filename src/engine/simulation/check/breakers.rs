//! I6, as far as breakers go: between so many failures in a row and the time an open breaker keeps, nothing starts.
//!
//! Says nothing of half-open ones, and nothing where two things happen in one millisecond: which came first is not told.
//! May import: what `check` may. Must never: ask a breaker.

use super::Case;
use crate::engine::simulation::life::Stage;
use crate::guard::{Outcome, Profiles};
use crate::journal::{Event, TriggerKind};
use crate::model::{Part, Role, StepId, Timestamp, after};
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one breaker saw.
#[derive(Default)]
struct Story {
    /// Failures in a row that certainly open it, and how long that certainly lasts.
    threshold: u32,
    reset: Option<Duration>,
    outcomes: Vec<(Timestamp, Outcome)>,
    starts: Vec<(Timestamp, String)>,
}

impl Story {
    fn guarded_by(&mut self, profile: &str) {
        let profiles = Profiles::default();
        let profile = profiles.or_default(profile);
        self.threshold = self.threshold.max(profile.failure_threshold);
        self.reset = Some(self.reset.map_or(profile.reset_timeout, |reset| reset.min(profile.reset_timeout)));
    }
}

/// What is wrong with what breakers stand before.
pub(super) fn check(cases: &[Case<'_>], stage: &Stage) -> Vec<String> {
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    for case in cases {
        tell_of_steps(case, &mut stories);
        tell_of_runbook(case, &mut stories);
    }
    let mut wrong: Vec<String> = stories.iter_mut().flat_map(|(key, story)| judge(key, story)).collect();
    wrong.extend(cases.iter().flat_map(none_is_passed_by));
    wrong.extend(none_waits_for_ever(stage));
    wrong
}

/// A step that names a breaker asks it, whatever kind it is of.
fn none_is_passed_by(case: &Case<'_>) -> Vec<String> {
    let passed_by = |event: &Event| match event {
        Event::StepIntended { step, part, breaker: None, .. } => {
            (part.role == Role::Main && case.step(step).breaker.is_some()).then(|| step.clone())
        }
        _ => None,
    };
    let steps = case.journal.iter().filter_map(|entry| passed_by(&entry.event));
    steps.map(|step| format!("{}: {step} asked no breaker and names one", case.id)).collect()
}

/// Whoever was let through has told how it ended: nothing is in progress any more.
fn none_waits_for_ever(stage: &Stage) -> Vec<String> {
    let records = stage.records();
    let page = records.breakers(None, None, 1000).now_or_never().unwrap().unwrap();
    let waits = page.items.iter().filter_map(|record| Some((&record.key, record.breaker.probe()?)));
    waits.map(|(key, holder)| format!("the breaker {key} waits for {holder}, which is over")).collect()
}

fn tell_of_steps(case: &Case<'_>, stories: &mut BTreeMap<String, Story>) {
    let mut open: BTreeMap<(StepId, Part), String> = BTreeMap::new();
    for entry in &case.journal {
        match &entry.event {
            Event::StepIntended { step, part, attempt, breaker: Some(key), .. } => {
                let story = stories.entry(key.clone()).or_default();
                story.guarded_by(&case.runbook.breaker);
                story.starts.push((entry.at, format!("{} {step}[{part}]#{attempt}", case.id)));
                open.insert((step.clone(), *part), key.clone());
            }
            Event::AttemptFinished { step, part, result, .. } => {
                let key = open.remove(&(step.clone(), *part));
                if let (Some(key), Some(outcome)) = (key, Outcome::of_attempt(result.outcome)) {
                    stories.entry(key).or_default().outcomes.push((entry.at, outcome));
                }
            }
            _ => {}
        }
    }
}

fn tell_of_runbook(case: &Case<'_>, stories: &mut BTreeMap<String, Story>) {
    let created = &case.state.created;
    let target = created.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let story = stories.entry(format!("runbook:{}:{target}", case.runbook.id)).or_default();
    story.guarded_by(&case.runbook.breaker);
    if let Some(at) = case.state.started_at.filter(|_| created.trigger.kind == TriggerKind::Alert) {
        story.starts.push((at, case.id.to_string()));
    }
    let counts = created.parent.is_none() && created.trigger.kind != TriggerKind::Rollback;
    if let Some(at) = case.state.finished_at.filter(|_| counts) {
        story.outcomes.push((at, Outcome::of_execution(case.state.status, case.state.reason)));
    }
}

fn judge(key: &str, story: &mut Story) -> Vec<String> {
    let mut wrong = Vec::new();
    story.outcomes.retain(|(_, outcome)| *outcome != Outcome::NotCounted);
    story.outcomes.sort_by_key(|(at, _)| *at);
    let Some(reset) = story.reset else { return wrong };
    let (mut failures, mut opened): (u32, Vec<(Timestamp, Timestamp)>) = (0, Vec::new());
    for (index, (at, outcome)) in story.outcomes.iter().enumerate() {
        failures = if *outcome == Outcome::Failure { failures + 1 } else { 0 };
        let together =
            story.outcomes.iter().enumerate().any(|(other, (then, _))| other != index && then == at);
        if together && *outcome == Outcome::Failure && failures < story.threshold {
            // A success of the same millisecond may have come between.
            failures = failures.min(1);
        }
        if failures == story.threshold {
            let ends = story.outcomes[index + 1..].iter().map(|(then, _)| *then).next();
            let closes = after(*at, reset);
            opened.push((*at, ends.map_or(closes, |ends| ends.min(closes))));
        }
    }
    for (at, what) in &story.starts {
        if let Some((from, to)) = opened.iter().find(|(from, to)| at > from && at < to) {
            wrong.push(format!("{what} started at {at}, the breaker {key} was open from {from} to {to}"));
        }
    }
    wrong
}
