//! What comes of steps: a word, a table, or a list of these for successive attempts.
//!
//! Must never: take an answer that its step's kind could not have given; that test would prove nothing.

use super::super::script::{Answers, Reply, StepAnswers, Word};
use super::{DAY, nearest_step};
use crate::document::{Table, Value};
use crate::model::RunbookId;
use crate::runbook::{Kind, Question, Runbook, UntilCondition};
use std::time::Duration;

const WORDS: [(&str, Word); 8] = [
    ("ok", Word::Ok),
    ("failed", Word::Failed),
    ("timeout", Word::Timeout),
    ("unknown", Word::Unknown),
    ("no_answer", Word::NoAnswer),
    ("no_data", Word::NoData),
    ("rejected", Word::Rejected),
    ("nobody", Word::Nobody),
];

/// What can be said of the attempts of a kind.
#[derive(Clone, Copy)]
struct Language {
    words: &'static [&'static str],
    keys: &'static [&'static str],
}

const PROGRAM: Language =
    Language { words: &["ok", "failed", "timeout", "unknown"], keys: &["exit", "stdout", "stderr", "takes"] };
const REQUEST: Language = Language {
    words: &["ok", "failed", "timeout", "unknown", "no_answer"],
    keys: &["status", "stdout", "takes"],
};
const QUERY: Language = Language {
    words: &["ok", "failed", "no_data", "no_answer", "timeout"],
    keys: &["value", "stdout", "takes"],
};
const QUESTION: Language = Language { words: &["ok", "failed", "no_data", "no_answer"], keys: &["value"] };
const LOOK: Language = Language { words: &["ok", "failed", "no_answer"], keys: &["status"] };
const TOLD: Language =
    Language { words: &["ok", "failed", "timeout", "unknown", "no_answer"], keys: &["takes"] };
const PATH: Language = Language { words: &["ok", "failed"], keys: &[] };
const CONSENT: Language = Language { words: &["ok", "rejected", "nobody"], keys: &["takes"] };
const DONE: Language = Language { words: &["ok", "nobody"], keys: &["takes"] };

/// How the attempts of `kind` can be answered for; `None` where the world has no say.
fn language(kind: &Kind) -> Option<Language> {
    Some(match kind {
        Kind::Command(_) | Kind::Script(_) | Kind::Ssh(_) => PROGRAM,
        Kind::Check { question: Question::Command(_), .. } => PROGRAM,
        Kind::Check { question: Question::FileExists(_), .. } => PATH,
        Kind::Http(_) => REQUEST,
        Kind::Promql { .. } => QUERY,
        Kind::Silence(_) | Kind::ExpireSilence | Kind::Notify(_) => TOLD,
        Kind::Approve(_) => CONSENT,
        Kind::Instruct { acknowledge: true, .. } => DONE,
        Kind::Until(until) => match until.condition {
            UntilCondition::Promql { .. } => QUESTION,
            UntilCondition::Http(_) => LOOK,
            UntilCondition::AlertResolved => return None,
        },
        Kind::Check { question: Question::Expr(_), .. }
        | Kind::Wait { .. }
        | Kind::Instruct { acknowledge: false, .. }
        | Kind::Runbook { .. } => return None,
    })
}

/// Reads what comes of the steps of `runbook`.
pub(super) fn steps(mut table: Table<'_>, id: &RunbookId, runbook: &Runbook, answers: &mut Answers) {
    for (name, value) in table.take_all() {
        let Some(step) = runbook.steps.iter().find(|step| step.id.as_str() == name.value) else {
            let message = format!("the runbook `{id}` has no step `{}`", name.value);
            value.problems().error(name.span, value.path(), message, nearest_step(&name.value, runbook));
            continue;
        };
        let undo = step.undo.as_ref().map(|undo| &undo.kind);
        let kinds =
            Kinds { main: &step.kind, has_items: step.for_each.is_some(), probe: step.probe.as_ref(), undo };
        answers.steps.insert((id.clone(), step.id.clone()), of_step(value, &kinds));
    }
}

struct Kinds<'k> {
    main: &'k Kind,
    has_items: bool,
    probe: Option<&'k Kind>,
    undo: Option<&'k Kind>,
}

fn of_step(value: Value<'_>, kinds: &Kinds<'_>) -> StepAnswers {
    if !value.is_table() {
        return StepAnswers { main: spoken(value, Some(kinds.main)), ..StepAnswers::default() };
    }
    let place = value.place();
    let Some(mut table) = value.table() else { return StepAnswers::default() };
    let mut answers = StepAnswers::default();
    let parts = [("undo", kinds.undo, &mut answers.undo), ("probe", kinds.probe, &mut answers.probe)];
    let mut has_parts = false;
    for (key, kind, place) in parts {
        let Some(value) = table.take(key) else { continue };
        has_parts = true;
        if kind.is_none() {
            value.error(format!("the step has no {key}"), "remove it");
            continue;
        }
        *place = spoken(value, kind);
    }
    if let Some(value) = table.take("items") {
        has_parts = true;
        if !kinds.has_items {
            value.error("the step has no `for_each`", "remove it");
        }
        let items = value.array().unwrap_or_default();
        answers.items = items.into_iter().map(|item| spoken(item, Some(kinds.main))).collect();
    }
    if let Some(value) = table.take("attempts") {
        answers.main = spoken(value, Some(kinds.main));
        table.finish();
        return answers;
    }
    if has_parts && table.unasked().is_empty() {
        table.finish();
        return answers;
    }
    match language(kinds.main) {
        Some(language) => answers.main = reply(table, language).into_iter().collect(),
        None => table.problems().add(silent(&place)),
    }
    answers
}

fn silent(place: &crate::document::Place) -> crate::document::Problem {
    let message = "the world has no say in what comes of this step";
    let help = "leave it out: time passes, expressions are evaluated, and a runbook's own steps stand in [tests.runbooks.ID]";
    place.problem(crate::document::Severity::Error, message, help)
}

/// One reply, or a list of them.
fn spoken(value: Value<'_>, kind: Option<&Kind>) -> Vec<Reply> {
    match kind.and_then(language) {
        Some(language) => list(value, language),
        None => {
            value.problems().add(silent(&value.place()));
            Vec::new()
        }
    }
}

/// The answers of Prometheus to one question.
pub(super) fn queries(value: Value<'_>) -> Vec<Reply> {
    list(value, QUESTION)
}

fn list(value: Value<'_>, language: Language) -> Vec<Reply> {
    if !value.is_array() {
        return one(value, language).into_iter().collect();
    }
    if value.json().as_array().is_some_and(Vec::is_empty) {
        value.error("the list is empty", "write \"ok\", or leave it out");
    }
    value.array().into_iter().flatten().filter_map(|item| one(item, language)).collect()
}

fn one(value: Value<'_>, language: Language) -> Option<Reply> {
    if value.is_table() {
        return value.table().and_then(|table| reply(table, language));
    }
    Some(Reply { word: Some(word(&value, language)?), ..Reply::default() })
}

fn word(value: &Value<'_>, language: Language) -> Option<Word> {
    let fitting: Vec<(&'static str, Word)> =
        WORDS.into_iter().filter(|(word, _)| language.words.contains(word)).collect();
    value.one_of(&fitting)
}

fn reply(mut table: Table<'_>, language: Language) -> Option<Reply> {
    let has = |key| language.keys.contains(&key);
    let word = table.take("result").and_then(|value| word(&value, language));
    let mut reply = Reply { word, ..Reply::default() };
    if has("exit") {
        let exit = table.take("exit").and_then(|value| value.integer(0..=255));
        reply.exit = exit.and_then(|exit| exit.try_into().ok());
    }
    if has("status") {
        let status = table.take("status").and_then(|value| value.integer(100..=599));
        reply.status = status.and_then(|status| status.try_into().ok());
    }
    if has("value") {
        reply.value = table.take("value").and_then(|value| value.number(f64::MIN..=f64::MAX));
    }
    for (key, place) in [("stdout", &mut reply.stdout), ("stderr", &mut reply.stderr)] {
        if has(key) {
            *place =
                table.take(key).and_then(|value| value.string()).map(|text| text.value).unwrap_or_default();
        }
    }
    if has("takes") {
        let takes = table.take("takes").and_then(|value| value.duration(Duration::ZERO..=30 * DAY));
        reply.takes = takes.unwrap_or_default();
    }
    let told = [reply.exit.is_some(), reply.status.is_some(), reply.value.is_some(), reply.word.is_some()];
    if told.into_iter().filter(|told| *told).count() > 1 {
        table.error("the attempt ends in several ways", "write one of: result, exit, status, value");
    }
    table.finish();
    Some(reply)
}
