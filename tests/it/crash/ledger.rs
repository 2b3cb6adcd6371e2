//! The ledger: what steps did, told by the steps themselves, and compared with what the API says of them.
//!
//! A line is `word execution step attempt key process`, one write each, so lines do not mix; `word` is `begin` or
//! `end`, and the key says which part of the step it was: itself, an item, its probe, its undo. May import: the
//! standard library, `serde_json`, its neighbours here. Must never: believe the daemon.

use super::stories::Plan;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The shell function `line`.
const LINE: &str = r#"line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }"#;

/// A runbook's text: `<< … >>` becomes a script that knows `line` and `$LEDGER`.
pub(super) fn fill(runbook: &str) -> String {
    let script = |line: &str| match line.strip_prefix("<< ").and_then(|line| line.strip_suffix(" >>")) {
        Some(shell) => {
            let text = format!("'''\n{LINE}\n{shell}\n'''");
            format!("script = {{ text = {text}, env = {{ LEDGER = \"@dir@/ledger\" }} }}\n")
        }
        None => format!("{line}\n"),
    };
    runbook.lines().map(script).collect()
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    word: String,
    step: String,
    attempt: String,
    key: String,
    process: String,
}

impl Line {
    /// A far side (`far…`) is no process of ours: it may still be busy with what the daemon asked for before it died.
    fn is_far(&self) -> bool {
        self.process.starts_with("far")
    }

    /// The part of the step: empty for itself, else `item0`, `probe`, `undo`, `undo-item0`.
    fn part(&self, id: &str) -> &str {
        if self.key == "-" {
            return "";
        }
        let own = self.key.strip_prefix(&format!("{id}.{}", self.step));
        let rest = own.unwrap_or_else(|| panic!("{} is no key of {id}: {self:?}", self.key));
        // A person's retry has a key of its own.
        let part = rest.split(".after").next().unwrap_or_default();
        part.strip_prefix('.').unwrap_or(part)
    }
}

/// The lines of each execution, in order.
pub(super) fn read(dir: &Path) -> BTreeMap<String, Vec<Line>> {
    let mut by_execution: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for text in fs::read_to_string(dir.join("ledger")).unwrap_or_default().lines() {
        let [word, id, step, attempt, key, process] = text.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line: {text:?}");
        };
        let [word, step, attempt, key, process] = [word, step, attempt, key, process].map(str::to_owned);
        by_execution.entry(id.to_owned()).or_default().push(Line { word, step, attempt, key, process });
    }
    by_execution
}

/// What was seen of many executions.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Executions by their end.
    pub(super) ends: BTreeMap<String, usize>,
    /// Attempts that a crash cut and that ran again.
    pub(super) interrupted: usize,
    /// Attempts of which nobody knows whether they happened.
    pub(super) unknown: usize,
}

impl Counts {
    /// Takes `other` in.
    pub(super) fn add(&mut self, other: Self) {
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.interrupted += other.interrupted;
        self.unknown += other.unknown;
    }
}

/// A part of a step: what the API says that was intended, and what the part itself said.
struct Deed<'d> {
    effect: &'d str,
    /// Number and outcome, in order.
    attempts: Vec<(String, &'d str)>,
    lines: Vec<&'d Line>,
    /// Whether its attempts leave lines.
    tells: bool,
    /// Whether somebody ended it: then what was cut does not begin again.
    ended_early: bool,
}

/// Compares the steps of an execution that is over with its lines; panics where they do not agree. `retries` says how
/// often people had a step tried again, which is a new wish with a key of its own.
pub(super) fn judge(
    plan: &Plan,
    execution: &Value,
    retries: impl Fn(&str) -> usize,
    lines: &[Line],
    counts: &mut Counts,
) {
    let id = execution["id"].as_str().unwrap();
    let mut known = 0;
    for step in execution["steps"].as_array().unwrap() {
        for (part, deed) in deeds(plan, id, step, lines) {
            known += deed.lines.len();
            let keys: BTreeSet<&str> = deed.lines.iter().map(|line| line.key.as_str()).collect();
            let wishes = 1 + retries(step["id"].as_str().unwrap());
            assert!(keys.len() <= wishes, "{} {part} has the keys {keys:?}: {execution:#}", step["id"]);
            judge_deed(&format!("{} {part}", step["id"]), &deed, execution, counts);
        }
        judge_probe(step, lines, execution);
    }
    assert_eq!(known, lines.len(), "something ran that was not intended: {lines:#?} {execution:#}");
    check_order(plan, id, lines, execution);
}

fn deeds<'d>(plan: &'d Plan, id: &str, step: &'d Value, lines: &'d [Line]) -> BTreeMap<String, Deed<'d>> {
    let (name, kind) = (step["id"].as_str().unwrap(), step["kind"].as_str().unwrap());
    let mut deeds: BTreeMap<String, Deed<'d>> = BTreeMap::new();
    let undos = step["undo"]["attempts"].as_array().into_iter().flatten().map(|attempt| (attempt, true));
    let own = step["attempts"].as_array().unwrap().iter().map(|attempt| (attempt, false));
    for (attempt, is_undo) in own.chain(undos) {
        let item = attempt["item_index"].as_u64().map(|item| format!("item{item}"));
        let (role, effect) = match (is_undo, attempt["probe"] == true) {
            (true, _) => {
                ("undo", plan.step(name).undo.as_deref().expect("an undo that is not in the runbook"))
            }
            (_, true) => ("probe", "read_only"),
            _ => ("", step["effect"].as_str().unwrap()),
        };
        let part = [Some(role).filter(|role| !role.is_empty()).map(str::to_owned), item];
        let part = part.into_iter().flatten().collect::<Vec<_>>().join("-");
        let deed = deeds.entry(part.clone()).or_insert_with(|| Deed {
            effect,
            attempts: Vec::new(),
            lines: lines.iter().filter(|line| line.step == name && line.part(id) == part).collect(),
            tells: matches!(kind, "script" | "http") && role != "probe",
            ended_early: !is_undo && matches!(step["status"].as_str(), Some("stopped" | "timed_out")),
        });
        deed.attempts.push((attempt["attempt"].to_string(), attempt["outcome"].as_str().unwrap()));
    }
    deeds
}

fn judge_deed(name: &str, deed: &Deed<'_>, execution: &Value, counts: &mut Counts) {
    let Deed { effect, attempts, lines, tells, ended_early } = deed;
    let begins = |number: Option<&str>| {
        let of_number = |line: &&&Line| number.is_none_or(|number| line.attempt == number);
        lines.iter().filter(|line| line.word == "begin").filter(of_number).count()
    };
    assert!(begins(None) <= attempts.len(), "{name} ran more often than intended: {execution:#}");
    let numbered = !lines.iter().any(|line| line.attempt == "-");
    let mut by_number: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (number, outcome) in attempts {
        by_number.entry(number).or_default().push(outcome);
    }
    for (number, outcomes) in by_number {
        let (last, cut) = outcomes.split_last().unwrap();
        assert!(cut.iter().all(|outcome| *outcome == "interrupted"), "{name} {number}: {execution:#}");
        assert!(*ended_early || *last != "interrupted", "{name} was cut and not begun again: {execution:#}");
        if *effect == "at_most_once" {
            let was_cut = !cut.is_empty() || *last == "interrupted";
            assert!(!was_cut, "{name} is at_most_once and was intended again: {execution:#}");
        }
        counts.interrupted += cut.len();
        if numbered && *tells {
            let begun = begins(Some(number));
            assert!(begun <= outcomes.len(), "{name} {number} ran more often than intended: {execution:#}");
            let must = matches!(*last, "succeeded" | "failed");
            assert!(begun >= usize::from(must), "{name} {number} did not run: {execution:#}");
        }
    }
    if let Some(unknown) = attempts.iter().position(|(_, outcome)| *outcome == "unknown") {
        counts.unknown += 1;
        let is_child = attempts.len() == 1 && !tells;
        assert!(*effect == "at_most_once" || is_child, "{name} can run again: {execution:#}");
        assert_eq!(unknown + 1, attempts.len(), "{name} began again after an unknown outcome: {execution:#}");
    }
    check_no_overlap(lines);
}

/// A probe of the stories asks the ledger, so it must be right.
fn judge_probe(step: &Value, lines: &[Line], execution: &Value) {
    let attempts = step["attempts"].as_array().unwrap();
    let Some(last) = attempts.iter().rfind(|attempt| attempt["probe"] == true) else { return };
    let begun = lines.iter().filter(|line| step["id"] == line.step.as_str() && line.word == "begin").count();
    let expected = match last["outcome"].as_str().unwrap() {
        "succeeded" => (1, "succeeded"),
        "failed" => (0, "failed"),
        other => panic!("the probe ended as {other}: {execution:#}"),
    };
    assert_eq!((begun, step["status"].as_str().unwrap()), expected, "{execution:#}");
}

/// Once a later process has begun, an earlier one writes nothing more.
fn check_no_overlap(own: &[&Line]) {
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut now: Option<&str> = None;
    for line in own.iter().filter(|line| !line.is_far()) {
        assert!(
            !gone.contains(line.process.as_str()),
            "two processes of one attempt at the same time: {own:?}"
        );
        if line.word == "begin" {
            gone.extend(now.replace(&line.process));
        }
    }
}

/// No step begins before those it comes after have ended; undos come one after the other.
fn check_order(plan: &Plan, id: &str, lines: &[Line], execution: &Value) {
    let is_main =
        |line: &Line| matches!(line.part(id).split_once("item").map_or(line.part(id), |(role, _)| role), "");
    for step in &plan.0 {
        let first = lines.iter().position(|line| line.step == step.id && is_main(line));
        for before in &step.after {
            let is_before =
                |line: &Line| line.step == *before && is_main(line) && !(line.is_far() && line.word == "end");
            let last = lines.iter().rposition(is_before);
            assert!(
                first.is_none() || first > last,
                "{} before the end of {before}: {lines:#?} {execution:#}",
                step.id
            );
        }
    }
    let undos = lines.iter().filter(|line| line.part(id).starts_with("undo"));
    let mut order: Vec<(&str, &str)> = undos.map(|line| (line.step.as_str(), line.part(id))).collect();
    order.dedup();
    let all: BTreeSet<_> = order.iter().collect();
    assert_eq!(all.len(), order.len(), "undos beside each other: {order:?} {execution:#}");
}
