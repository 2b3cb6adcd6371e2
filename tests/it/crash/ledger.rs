//! The ledger: what steps did, told by the steps themselves, and compared with what the API says of them.
//!
//! A line is `word execution step attempt key process`, one write each, so lines do not mix. `begin` and `end` are
//! the step's own words, `undo` and `undone` its compensation's. May import: the standard library, `serde_json`.
//! Must never: believe the daemon.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Stands for the shell function `line` in the scripts of runbooks.
const LINE: &str = r#"line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }"#;

/// A runbook's text: `@line@` is the shell function that writes a line, `@ledger@` the environment it needs.
pub(super) fn with_ledger(runbook: &str) -> String {
    runbook.replace("@line@", LINE).replace("@ledger@", "env = { LEDGER = \"@dir@/ledger\" }")
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
    /// Steps of which nobody knows whether they happened.
    pub(super) unknown: usize,
}

/// A step's own attempts, or those of its undo.
struct Deed<'d> {
    name: &'d str,
    effect: &'d str,
    status: &'d str,
    attempts: &'d [Value],
    lines: Vec<&'d Line>,
    begin: &'d str,
}

/// Compares an execution that is over with its lines; panics where they do not agree. Gives `status` or
/// `status:reason`.
pub(super) fn judge(execution: &Value, lines: &[Line], counts: &mut Counts) -> String {
    let id = execution["id"].as_str().unwrap();
    let mut unknown = 0;
    for step in execution["steps"].as_array().unwrap() {
        let deeds = deeds(step, lines);
        for deed in &deeds {
            judge_deed(id, deed, execution, counts);
        }
        unknown += usize::from(step["status"] == "unknown");
    }
    counts.unknown += unknown;
    let known: BTreeSet<&str> = lines.iter().map(|line| line.step.as_str()).collect();
    let steps = execution["steps"].as_array().unwrap();
    assert!(
        known.iter().all(|name| steps.iter().any(|step| step["id"] == *name)),
        "{known:?}: {execution:#}"
    );
    let end = match execution["reason"].as_str() {
        Some(reason) => format!("{}:{reason}", execution["status"].as_str().unwrap()),
        None => execution["status"].as_str().unwrap().to_owned(),
    };
    *counts.ends.entry(end.clone()).or_default() += 1;
    end
}

fn deeds<'d>(step: &'d Value, lines: &'d [Line]) -> Vec<Deed<'d>> {
    let name = step["id"].as_str().unwrap();
    let own = |words: [&str; 2]| -> Vec<&'d Line> {
        lines.iter().filter(|line| line.step == name && words.contains(&line.word.as_str())).collect()
    };
    let mut deeds = vec![Deed {
        name,
        effect: step["effect"].as_str().unwrap(),
        status: step["status"].as_str().unwrap(),
        attempts: step["attempts"].as_array().unwrap(),
        lines: own(["begin", "end"]),
        begin: "begin",
    }];
    if let Some(attempts) = step["undo"]["attempts"].as_array() {
        deeds.push(Deed {
            name,
            effect: step["undo"]["effect"].as_str().unwrap_or("idempotent"),
            status: step["undo"]["status"].as_str().unwrap(),
            attempts,
            lines: own(["undo", "undone"]),
            begin: "undo",
        });
    }
    deeds
}

fn judge_deed(id: &str, deed: &Deed<'_>, execution: &Value, counts: &mut Counts) {
    let Deed { name, effect, status, attempts, lines, begin } = deed;
    // Kinds that leave no line of their own are judged by the journal alone.
    let leaves_lines = !lines.is_empty();
    let mut keys: BTreeMap<String, &str> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.key != "-") {
        assert!(line.key.starts_with(&format!("{id}.{name}.")), "{line:?} of {id}");
        let number = line.attempt.clone();
        assert_eq!(*keys.entry(number).or_insert(&line.key), line.key, "another key: {execution:#}");
    }
    // By number, and by item where the step has a list.
    let mut intended: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for attempt in *attempts {
        let number = (attempt["item"].to_string(), attempt["attempt"].to_string());
        intended.entry(number).or_default().push(attempt["outcome"].as_str().unwrap());
    }
    for ((_, number), outcomes) in &intended {
        let (last, cut) = outcomes.split_last().unwrap();
        assert!(cut.iter().all(|outcome| *outcome == "interrupted"), "{name} {number}: {execution:#}");
        // Nothing begins again once somebody said stop, or all time is over.
        let ended_early = matches!(*status, "stopped" | "timed_out");
        assert!(ended_early || *last != "interrupted", "{name} was cut and not begun again: {execution:#}");
        counts.interrupted += cut.len();
        if *effect == "at_most_once" {
            assert!(cut.is_empty(), "{name} is at_most_once and was intended again: {execution:#}");
        }
    }
    let begun =
        |number: &str| lines.iter().filter(|line| line.word == *begin && line.attempt == number).count();
    let numbers: BTreeSet<&String> = intended.keys().map(|(_, number)| number).collect();
    for number in numbers {
        let of_number = intended.iter().filter(|((_, known), _)| known == number);
        let times: usize = of_number.map(|(_, outcomes)| outcomes.len()).sum();
        assert!(begun(number) <= times, "{name} ran more often than intended: {execution:#}");
    }
    let all = lines.iter().filter(|line| line.word == *begin).count();
    match *status {
        "skipped" | "pending" => assert_eq!((all, attempts.len()), (0, 0), "{execution:#}"),
        "succeeded" if leaves_lines => {
            assert!(
                all >= 1 && attempts.last().is_some_and(|it| it["outcome"] == "succeeded"),
                "{execution:#}"
            );
        }
        "unknown" => assert_eq!(*effect, "at_most_once", "{name} can run again: {execution:#}"),
        _ => {}
    }
    check_no_overlap(lines);
}

/// Once a later process has begun, an earlier one writes nothing more. A far side (`far…`) is no process of ours:
/// it may still be busy with what the daemon asked for before it died.
fn check_no_overlap(own: &[&Line]) {
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut now: Option<&str> = None;
    for line in own.iter().filter(|line| !line.process.starts_with("far")) {
        assert!(
            !gone.contains(line.process.as_str()),
            "two processes of one attempt at the same time: {own:?}"
        );
        if line.word == "begin" || line.word == "undo" {
            gone.extend(now.replace(&line.process));
        }
    }
}

/// In a runbook whose steps come one after the other, none begins before all earlier ones have ended.
pub(super) fn check_order(execution: &Value, lines: &[Line]) {
    let steps: Vec<&str> =
        execution["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    let begun = lines.iter().filter(|line| line.word == "begin" || line.word == "end");
    let positions: Vec<usize> =
        begun.map(|line| steps.iter().position(|step| *step == line.step).unwrap()).collect();
    assert!(positions.is_sorted(), "steps out of order: {positions:?}\n{execution:#}");
}
