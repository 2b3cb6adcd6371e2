//! The journal of an execution, as its watchers see it: what must be true of its events, whatever crashed.
//!
//! May import: `support`, its neighbours here. Must never: look into the storage.

use super::stories::Plan;
use crate::support::alerts::events;
use crate::support::http;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of events that are there once at most, and those that are once for each step.
const ONCE: &[&str] = &["created", "started", "verify_started", "ending", "rollback_started", "finished"];
const ONCE_A_STEP: &[&str] =
    &["items_listed", "timer_started", "approval_requested", "approved", "acknowledged", "step_skipped"];

/// The event that a verb leaves.
const LEAVES: &[(&str, &str)] = &[
    ("approve", "approved"),
    ("acknowledge", "acknowledged"),
    ("pause", "paused"),
    ("resume", "resumed"),
    ("retry", "retry_requested"),
    ("stop", "stop_requested"),
    ("rollback", "stop_requested"),
];

/// (kind, data) of each event.
pub(super) struct Journal(Vec<(String, Value)>);

/// A step and a part of it: `("act", "undo")`.
type Deed = (String, String);

fn deed(data: &Value) -> Deed {
    let role = match data["part"]["role"].as_str() {
        Some("main") | None => "",
        Some(role) => role,
    };
    let item = data["part"]["item"].as_u64().map(|item| format!("item{item}")).unwrap_or_default();
    let dash = if role.is_empty() || item.is_empty() { "" } else { "-" };
    (data["step"].as_str().unwrap().to_owned(), format!("{role}{dash}{item}"))
}

impl Journal {
    /// Of an execution that is over.
    pub(super) fn read(address: &str, id: &str) -> Self {
        let answer = http::get(address, &format!("/api/executions/{id}/events")).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self(events(&answer.text()))
    }

    fn all(&self, kind: &str) -> impl Iterator<Item = (usize, &Value)> {
        let events = self.0.iter().enumerate();
        events.filter(move |(_, (known, _))| known == kind).map(|(at, (_, data))| (at, data))
    }

    /// The executions that its steps started.
    pub(super) fn children(&self) -> Vec<&str> {
        self.all("step_intended").filter_map(|(_, data)| data["child"].as_str()).collect()
    }

    /// How often people had this step tried again.
    pub(super) fn retries_of(&self, step: &str) -> usize {
        self.all("retry_requested").filter(|(_, data)| data["step"] == step).count()
    }

    /// Compares it with the runbook, with what the API shows, and with what people were told.
    pub(super) fn check(&self, plan: &Plan, execution: &Value, heard: &[&str]) {
        self.check_ends(execution);
        self.check_once(execution);
        let open_at_the_end = self.check_attempts(plan, execution);
        assert!(open_at_the_end.is_empty(), "{open_at_the_end:?} never ended: {execution:#}");
        self.check_order(plan, execution);
        self.check_rollback(plan, execution);
        self.check_pauses(execution);
        for verb in heard {
            let (_, kind) = LEAVES.iter().find(|(known, _)| known == verb).unwrap();
            let by_people = self.all(kind).filter(|(_, data)| data["actor"].is_string()).count();
            assert!(by_people > 0, "{verb} was answered with 202 and is not in the journal: {execution:#}");
        }
    }

    fn check_ends(&self, execution: &Value) {
        let kinds: Vec<&str> = self.0.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds.first(), Some(&"created"), "{execution:#}");
        assert_eq!(kinds[kinds.len() - 2..], ["finished", "end"], "{execution:#}");
        let (_, finished) = &self.0[kinds.len() - 2];
        assert_eq!((&finished["status"], &finished["reason"]), (&execution["status"], &execution["reason"]));
        let numbers: Vec<u64> = self.0.iter().filter_map(|(_, data)| data["seq"].as_u64()).collect();
        assert!(numbers.iter().copied().eq(1..kinds.len() as u64), "{numbers:?} of {execution:#}");
    }

    fn check_once(&self, execution: &Value) {
        for kind in ONCE {
            assert!(self.all(kind).count() <= 1, "{kind} twice: {execution:#}");
        }
        for kind in ONCE_A_STEP {
            let mut seen = BTreeSet::new();
            for (_, data) in self.all(kind) {
                assert!(seen.insert(data["step"].as_str()), "{kind} twice: {execution:#}");
            }
        }
    }

    /// Each attempt is intended, then finished, then perhaps the next; as many items at once as the runbook says; and
    /// the API shows all of them. Gives those that never ended.
    fn check_attempts(&self, plan: &Plan, execution: &Value) -> BTreeSet<Deed> {
        let mut open: BTreeSet<Deed> = BTreeSet::new();
        let mut finished: BTreeMap<String, usize> = BTreeMap::new();
        for (kind, data) in &self.0 {
            match kind.as_str() {
                "step_intended" => {
                    let deed = deed(data);
                    let beside = open.iter().filter(|(step, _)| *step == deed.0).count();
                    let limit = plan.step(&deed.0).concurrency;
                    assert!(beside < limit, "{deed:?} began beside {beside} others: {execution:#}");
                    assert!(open.insert(deed), "two attempts of one part: {execution:#}");
                }
                "attempt_finished" => {
                    let deed = deed(data);
                    assert!(open.remove(&deed), "{deed:?} ended and had not begun: {execution:#}");
                    *finished.entry(deed.0).or_default() += 1;
                }
                _ => {}
            }
        }
        for step in execution["steps"].as_array().unwrap() {
            let count = |attempts: &Value| attempts.as_array().map_or(0, Vec::len);
            let shown = count(&step["attempts"]) + count(&step["undo"]["attempts"]);
            let known = finished.get(step["id"].as_str().unwrap()).copied().unwrap_or(0);
            assert_eq!(shown, known, "{}: {execution:#}", step["id"]);
        }
        open
    }

    /// No step is moved before all that it comes after are over, and `finally` steps come last.
    fn check_order(&self, plan: &Plan, execution: &Value) {
        let over = |id: &str| {
            let of_step = |(_, data): &(usize, &Value)| data["step"] == id;
            let ended = self.all("step_finished").chain(self.all("step_skipped")).filter(of_step);
            ended.map(|(at, _)| at).max().unwrap_or_else(|| panic!("{id} never ended: {execution:#}"))
        };
        let begun = |id: &str| {
            let kinds = ["items_listed", "step_intended", "timer_started", "approval_requested"];
            let all = kinds.iter().flat_map(|kind| self.all(kind));
            let main = all.filter(|(_, data)| data["step"] == id && !deed(data).1.starts_with("undo"));
            main.map(|(at, _)| at).min()
        };
        let last_undo = self.all("attempt_finished").filter(|(_, data)| deed(data).1.starts_with("undo"));
        let last_undo = last_undo.map(|(at, _)| at).max();
        for step in &plan.0 {
            let Some(begun) = begun(&step.id) else {
                assert!(!step.is_finally, "{} runs whatever happened: {execution:#}", step.id);
                continue;
            };
            for before in &step.after {
                assert!(over(before) < begun, "{} began before {before} was over: {execution:#}", step.id);
            }
            let comes_last = !step.is_finally || last_undo.is_none_or(|undo| undo < begun);
            assert!(comes_last, "{} began before the last undo ended: {execution:#}", step.id);
        }
    }

    /// What has begun and has an undo is undone in the reverse order of its beginning, all of it or up to one that
    /// failed; behind an irreversible step nothing is.
    fn check_rollback(&self, plan: &Plan, execution: &Value) {
        let mut order: [Vec<Deed>; 2] = [Vec::new(), Vec::new()];
        let mut is_past_return = false;
        for (_, data) in self.all("step_intended") {
            let (step, part) = deed(data);
            let planned = plan.step(&step);
            is_past_return |= planned.is_irreversible;
            let undone = part.strip_prefix("undo").map(|item| item.trim_start_matches('-').to_owned());
            let (place, part) = match undone {
                Some(item) => (1, item),
                None if planned.undo.is_none() || planned.is_finally || part.starts_with("probe") => continue,
                None => (0, part),
            };
            if !order[place].contains(&(step.clone(), part.clone())) {
                order[place].push((step, part));
            }
        }
        let [mut begun, undone] = order;
        begun.reverse();
        assert!(
            !is_past_return || undone.is_empty(),
            "{undone:?} behind the point of no return: {execution:#}"
        );
        match execution["status"].as_str().unwrap() {
            "rolled_back" => assert_eq!(begun, undone, "{execution:#}"),
            "rollback_failed" => assert!(begun.starts_with(&undone) && !undone.is_empty(), "{execution:#}"),
            _ => assert!(undone.is_empty(), "{undone:?} were undone: {execution:#}"),
        }
    }

    /// Nothing begins while it is held.
    fn check_pauses(&self, execution: &Value) {
        let mut is_held = false;
        for (kind, _) in &self.0 {
            match kind.as_str() {
                "paused" => is_held = true,
                "resumed" | "ending" => is_held = false,
                "step_intended" | "timer_started" | "approval_requested" => {
                    assert!(!is_held, "{kind} while it was held: {execution:#}");
                }
                _ => {}
            }
        }
    }
}
