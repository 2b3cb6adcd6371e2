//! What became of everything, once all is over: ledger, journal, API, far side and people must tell the same.
//!
//! May import: `support`, its neighbours here. Must never: be content with less than the story says.

use super::far_side::FarSide;
use super::journal::Journal;
use super::ledger::{self, Counts, Line};
use super::people::People;
use super::stories::{Plan, Story};
use crate::support::lives::Lives;
use serde_json::Value;
use std::collections::BTreeMap;

/// All there is to see at one daemon.
pub(super) struct Verdict<'v> {
    lives: &'v Lives,
    far: &'v FarSide,
    people: &'v People,
    ledger: BTreeMap<String, Vec<Line>>,
    executions: BTreeMap<String, Value>,
}

impl<'v> Verdict<'v> {
    /// Looks at all of it; the same execution must look the same in the list and by itself.
    pub(super) fn look(lives: &'v Lives, far: &'v FarSide, people: &'v People) -> Self {
        let mut executions = BTreeMap::new();
        for listed in lives.executions() {
            let id = listed["id"].as_str().unwrap().to_owned();
            let execution = lives.json(&format!("/api/executions/{id}"));
            for key in ["status", "reason", "runbook", "target", "created_at"] {
                assert_eq!(listed[key], execution[key], "{key} in the list: {listed:#} {execution:#}");
            }
            executions.insert(id, execution);
        }
        let ledger = ledger::read(lives.dir());
        assert!(ledger.keys().all(|id| executions.contains_key(id)), "something ran for no execution");
        Self { lives, far, people, ledger, executions }
    }

    /// The executions that alerts started.
    pub(super) fn of_alerts(&self) -> impl Iterator<Item = &Value> {
        self.executions.values().filter(|execution| execution["trigger"]["kind"] == "alert")
    }

    /// Judges every execution; panics where anything does not agree.
    pub(super) fn judge(&self) -> Counts {
        let mut counts = Counts::default();
        let mut started: Vec<String> = Vec::new();
        for execution in self.executions.values() {
            let story = Story::of(execution["runbook"].as_str().unwrap());
            let id = execution["id"].as_str().unwrap();
            let (plan, journal) = (story.plan(), Journal::read(self.lives.address(), id));
            let lines = self.ledger.get(id).map(Vec::as_slice).unwrap_or_default();
            ledger::judge(&plan, execution, |step| journal.retries_of(step), lines, &mut counts);
            journal.check(&plan, execution, &self.people.heard(id));
            self.judge_silences(&plan, execution);
            self.judge_end(story, execution, &mut counts);
            started.extend(journal.children().into_iter().map(str::to_owned));
        }
        let children = self.executions.values().filter(|it| it["trigger"]["kind"] == "runbook");
        let children: Vec<&str> = children.map(|it| it["id"].as_str().unwrap()).collect();
        started.sort();
        assert_eq!(started, children, "a child that was not intended, or that was begun twice");
        counts
    }

    fn judge_end(&self, story: &Story, execution: &Value, counts: &mut Counts) {
        let status = execution["status"].as_str().unwrap();
        let end =
            execution["reason"].as_str().map_or(status.to_owned(), |reason| format!("{status}:{reason}"));
        let steps = execution["steps"].as_array().unwrap();
        let plan = story.plan();
        let unknown_step = steps.iter().filter(|step| step["status"] == "unknown").any(|step| {
            let planned = plan.step(step["id"].as_str().unwrap());
            !planned.is_optional && !planned.is_finally
        });
        let unknown_undo = steps.iter().any(|step| step["undo"]["status"] == "unknown");
        let expected = match (unknown_undo, unknown_step) {
            // Half an undo is no undo: a person is needed.
            (true, _) => status == "rollback_failed",
            (false, true) => matches!(end.as_str(), "failed:unknown_outcome" | "rolled_back:unknown_outcome"),
            (false, false) => story.ends.contains(&end.as_str()),
        };
        // Where many executions lean on one shell, one of them may be refused its next attempt.
        let refused = steps.iter().any(|step| step.to_string().contains("too many retries"));
        assert!(expected || refused, "{end} is no end of {}: {execution:#}\n{}", story.id, self.lives.log());
        *counts.ends.entry(end).or_default() += 1;
        let is_known = |step: &Value| {
            [&step["attempts"], &step["undo"]["attempts"]].iter().all(|attempts| {
                attempts.as_array().into_iter().flatten().all(|attempt| attempt["outcome"] != "unknown")
            })
        };
        if !refused && steps.iter().all(is_known) {
            for (name, expected) in story.comes_to {
                assert_eq!(come_to(name, execution), *expected, "{name}: {execution:#}");
            }
        }
    }

    /// A silence is made once, whatever crashed, and is over once it is undone.
    fn judge_silences(&self, plan: &Plan, execution: &Value) {
        let id = execution["id"].as_str().unwrap();
        for step in execution["steps"].as_array().unwrap().iter().filter(|step| step["kind"] == "silence") {
            assert_eq!(plan.step(step["id"].as_str().unwrap()).undo.as_deref(), Some("idempotent"));
            let made = self.far.silences_of(id, step["id"].as_str().unwrap());
            assert!(made.len() <= 1, "a silence was made twice: {made:?} {execution:#}");
            assert!(step["status"] != "succeeded" || made.len() == 1, "no silence was made: {execution:#}");
            let undone = step["undo"]["status"] == "succeeded";
            assert!(made.iter().all(|silence| silence.is_expired == undone), "{made:?} {execution:#}");
        }
    }
}

/// The outcomes of a step's attempts, or of its undo's, apart from interrupted ones and probes.
fn come_to(name: &str, execution: &Value) -> String {
    let (id, is_undo) = name.strip_suffix("/undo").map_or((name, false), |id| (id, true));
    let steps = execution["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == id).expect("a step of the story");
    let attempts = if is_undo { &step["undo"]["attempts"] } else { &step["attempts"] };
    let ended = attempts.as_array().into_iter().flatten();
    let outcomes = ended.filter(|attempt| attempt["outcome"] != "interrupted" && attempt["probe"] != true);
    outcomes.map(|attempt| attempt["outcome"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}
