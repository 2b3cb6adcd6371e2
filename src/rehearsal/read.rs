//! From the text of a `*.test.toml` to a [`Suite`], or to everything that is wrong with it.

mod expect;
mod replies;

use super::script::{Answers, Case, Cue, Saying, Suite};
use super::{Book, Library};
use crate::document::{Problems, Table, Value, nearest};
use crate::engine::verb::Verb;
use crate::journal::TriggerKind;
use crate::model::{RunbookId, StepId};
use crate::runbook::{self, Pinned, Runbook};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The longest test file, in bytes.
const MAX_FILE: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Finds the text of a runbook; an error is a sentence.
pub(super) type Load<'l> = &'l mut dyn FnMut(&RunbookId) -> Result<String, String>;

/// Reads the tests in `text`. `file` is how problems call the file, `stem` is the runbook where the file names none.
///
/// # Errors
/// All that is wrong with the file, or with a runbook it is about, as a person reads it.
pub fn read(file: &str, stem: &str, text: &str, load: Load<'_>) -> Result<Suite, String> {
    let problems = Problems::new(file, text);
    if text.len() > MAX_FILE {
        problems.error(0..0, "", format!("{} bytes are too many", text.len()), format!("at most {MAX_FILE}"));
    }
    let mut root = crate::document::parse(&problems);
    let rendered = |problems: Problems| Problems::render(&problems.into_list(), text);
    if problems.has_errors() {
        drop(root);
        return Err(rendered(problems));
    }
    let named = root.take("runbook");
    let id = match &named {
        Some(value) => value.parsed("write the runbook's id", RunbookId::new),
        None => {
            RunbookId::new(stem).map_err(|error| root.error(error.to_string(), "name the `runbook`")).ok()
        }
    };
    let mut library = Library::new();
    if let Some(id) = &id
        && let Err(why) = gather(id, load, &mut library)?
    {
        let help = "the runbook stands beside its tests: runbook = \"its id\"";
        named.as_ref().map_or_else(|| root.error(why.clone(), help), |value| value.error(why.clone(), help));
    }
    let cases = match id.as_ref().and_then(|id| Some((id, library.get(id)?))) {
        Some((id, book)) => cases(&mut root, &About { id, runbook: &book.pinned.runbook, library: &library }),
        None => {
            let _unread = root.take("tests");
            Vec::new()
        }
    };
    root.finish();
    match id.filter(|_| !problems.has_errors()) {
        Some(id) => Ok(Suite { id, library: Arc::new(library), cases }),
        None => Err(rendered(problems)),
    }
}

/// Reads the runbook `id` and all that its steps start. The inner error is that one is not there.
///
/// # Errors
/// What is wrong with one of them.
fn gather(id: &RunbookId, load: Load<'_>, library: &mut Library) -> Result<Result<(), String>, String> {
    let mut wanted = vec![id.clone()];
    while let Some(id) = wanted.pop() {
        if library.contains_key(&id) {
            continue;
        }
        let text = match load(&id) {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        let file_name = format!("{id}.toml");
        let parsed = runbook::parse(&id, &file_name, &text);
        let Some(runbook) = parsed.runbook else {
            return Err(Problems::render(&parsed.problems, &text));
        };
        wanted.extend(runbook.calls().cloned());
        let pinned = Arc::new(Pinned { runbook, version: 1, hash: parsed.hash, file_name });
        library.insert(id, Book { pinned, text });
    }
    Ok(Ok(()))
}

/// What the tests are about.
struct About<'a> {
    id: &'a RunbookId,
    runbook: &'a Runbook,
    library: &'a Library,
}

fn cases(root: &mut Table<'_>, about: &About<'_>) -> Vec<Case> {
    let Some(value) = root.require("tests", "write at least one [[tests]]") else { return Vec::new() };
    let (site, problems) = (value.span(), value.problems());
    let items = value.array().unwrap_or_default();
    if items.is_empty() {
        problems.error(site, "tests", "there is no test", "write at least one [[tests]]");
    }
    let mut names = BTreeSet::new();
    let mut cases = Vec::new();
    for table in items.into_iter().filter_map(Value::table) {
        cases.extend(case(table, about, &mut names));
    }
    cases
}

fn case(mut table: Table<'_>, about: &About<'_>, names: &mut BTreeSet<String>) -> Option<Case> {
    let line = table.problems().place(table.site(), table.path());
    let name =
        table.require("name", "write what the test shows, such as name = \"cured\"").and_then(|value| {
            let name = value.string()?.value;
            if name.trim().is_empty() || !names.insert(name.clone()) {
                value.error("a test needs a name of its own", "write what it shows");
            }
            Some(name)
        });
    let cue = table.take("trigger").and_then(Value::table).map(|table| cue(table, about.runbook));
    let cue = cue.unwrap_or_else(|| Cue {
        kind: TriggerKind::Alert,
        labels: alertname(BTreeMap::new(), about.runbook),
        annotations: BTreeMap::new(),
        inputs: BTreeMap::new(),
        env: BTreeMap::new(),
        resolved_after: None,
    });
    let answers = answers(&mut table, about);
    let people = table.take("people").and_then(Value::array).unwrap_or_default();
    let people = people.into_iter().filter_map(Value::table).filter_map(|it| saying(it, about)).collect();
    let wanted = table.require("expect", "write [tests.expect] with the status it must end in");
    let wanted = wanted.and_then(Value::table).and_then(|table| expect::read(table, about.runbook));
    table.finish();
    Some(Case { name: name?, line: line.line(), cue, answers: Arc::new(answers), people, wanted: wanted? })
}

/// The labels, with the name of the first alert the runbook takes where they have none.
fn alertname(mut labels: BTreeMap<String, String>, runbook: &Runbook) -> BTreeMap<String, String> {
    if let Some(name) = runbook.alerts.first() {
        labels.entry("alertname".to_owned()).or_insert_with(|| name.clone());
    }
    labels
}

fn cue(mut table: Table<'_>, runbook: &Runbook) -> Cue {
    let words =
        [("alert", TriggerKind::Alert), ("manual", TriggerKind::Manual), ("schedule", TriggerKind::Schedule)];
    let kind = table.take("kind").and_then(|value| value.one_of(&words)).unwrap_or(TriggerKind::Alert);
    let labels = texts(&mut table, "labels");
    let (annotations, inputs, env) =
        (texts(&mut table, "annotations"), texts(&mut table, "inputs"), texts(&mut table, "env"));
    let resolved_after =
        table.take("resolved_after").and_then(|value| value.duration(Duration::ZERO..=30 * DAY));
    table.finish();
    let labels = if kind == TriggerKind::Alert { alertname(labels, runbook) } else { labels };
    Cue { kind, labels, annotations, inputs, env, resolved_after }
}

/// A table of texts.
fn texts(table: &mut Table<'_>, key: &'static str) -> BTreeMap<String, String> {
    let inner = table.take(key).and_then(Value::table).map(|mut inner| inner.take_all()).unwrap_or_default();
    inner.into_iter().filter_map(|(name, value)| Some((name.value, value.string()?.value))).collect()
}

fn answers(table: &mut Table<'_>, about: &About<'_>) -> Answers {
    let mut answers = Answers::default();
    if let Some(steps) = table.take("steps").and_then(Value::table) {
        replies::steps(steps, about.id, about.runbook, &mut answers);
    }
    if let Some(mut others) = table.take("runbooks").and_then(Value::table) {
        for (name, value) in others.take_all() {
            let known = about.library.iter().find(|(id, _)| id.as_str() == name.value && *id != about.id);
            let Some((id, book)) = known else {
                let message = format!("no step starts a runbook `{}`", name.value);
                value.problems().error(name.span, value.path(), message, "name one that a step starts");
                continue;
            };
            if let Some(steps) = value.table() {
                replies::steps(steps, id, &book.pinned.runbook, &mut answers);
            }
        }
    }
    let has_query = about
        .runbook
        .verify
        .as_ref()
        .is_some_and(|verify| matches!(verify.condition, crate::runbook::Condition::Promql { .. }));
    let guard = &about.runbook.guard;
    let of = guard.max_unhealthy.as_ref().and_then(|max| max.of.as_ref());
    let asked = [
        ("verify", has_query, &mut answers.verify),
        ("precheck", guard.precheck.is_some(), &mut answers.precheck),
        ("unhealthy", guard.max_unhealthy.is_some(), &mut answers.unhealthy),
        ("of", of.is_some(), &mut answers.of),
    ];
    for (key, is_asked, place) in asked {
        let Some(value) = table.take(key) else { continue };
        if !is_asked {
            value.error(format!("the runbook asks no `{key}` of Prometheus"), "remove it");
        }
        *place = replies::queries(value);
    }
    answers
}

fn saying(mut table: Table<'_>, about: &About<'_>) -> Option<Saying> {
    let after = table.take("after").and_then(|value| value.duration(Duration::ZERO..=30 * DAY));
    let words = Verb::ALL.map(|verb| (verb.as_str(), verb));
    let verb = table.require("says", "write says = \"stop\"").and_then(|value| value.one_of(&words));
    let step = table.take("step").and_then(|value| step(&value, about.runbook));
    let by = table.take("by").and_then(|value| value.string()).map(|by| by.value);
    let roles = table.take("roles").and_then(Value::strings).unwrap_or_default();
    table.finish();
    Some(Saying {
        after: after.unwrap_or_default(),
        verb: verb?,
        step,
        by: by.unwrap_or_else(|| "somebody".to_owned()),
        roles: roles.into_iter().map(|role| role.value).collect(),
    })
}

/// The id of a step of the runbook.
fn step(value: &Value<'_>, runbook: &Runbook) -> Option<StepId> {
    let name = value.string()?.value;
    let known = runbook.steps.iter().find(|step| step.id.as_str() == name);
    if known.is_none() {
        value.error(format!("there is no step `{name}`"), nearest_step(&name, runbook));
    }
    known.map(|step| step.id.clone())
}

fn nearest_step(name: &str, runbook: &Runbook) -> String {
    let known: Vec<&str> = runbook.steps.iter().map(|step| step.id.as_str()).collect();
    nearest(name, &known)
        .map_or_else(|| format!("one of: {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
}
