//! The section `[tests.expect]`: what must come of a case.

use super::super::script::{End, Wanted};
use super::{nearest_step, step, texts};
use crate::document::{Table, Value, nearest};
use crate::model::{ExecutionStatus, Reason, StepId};
use crate::runbook::Runbook;
use std::collections::BTreeMap;

/// What of a call can be compared.
pub(in crate::rehearsal) const CALL: [&str; 14] = [
    "plan", "program", "args", "env", "stdin", "script", "method", "url", "headers", "json", "query",
    "matchers", "to", "message",
];

pub(super) fn read(mut table: Table<'_>, runbook: &Runbook) -> Option<Wanted> {
    let (has_status, has_refused) = (table.has("status"), table.has("refused"));
    if has_status == has_refused {
        let message =
            if has_status { "it cannot end and be refused" } else { "nothing says how it must end" };
        table.error(message, "write either status = \"succeeded\" or refused = \"invalid_input\"");
    }
    let status =
        table.take("status").and_then(|value| word(&value, ExecutionStatus::ALL, ExecutionStatus::as_str));
    let reason = table.take("reason").and_then(|value| word(&value, Reason::ALL, Reason::as_str));
    let refused = table.take("refused").and_then(|value| word(&value, Reason::ALL, Reason::as_str));
    let message = table.take("message").and_then(|value| value.string()).map(|text| text.value);
    let mut list = |key| table.take(key).map(|value| steps(value, runbook));
    let (ran, skipped, failed, undone) = (list("ran"), list("skipped"), list("failed"), list("undone"));
    let target = table.take("target").and_then(|value| value.string()).map(|text| text.value);
    let inputs = texts(&mut table, "inputs");
    let attempts = by_step(&mut table, "attempts", runbook, |value| {
        value.integer(0..=1000).and_then(|count| usize::try_from(count).ok())
    });
    let calls = by_step(&mut table, "calls", runbook, call);
    let undo_calls = by_step(&mut table, "undo_calls", runbook, call);
    table.finish();
    let end = match (status, refused) {
        (Some(status), _) => End::Status(status, reason),
        (None, refused) => End::Refused(refused?),
    };
    let undone = undone.unwrap_or_default();
    Some(Wanted { end, message, ran, skipped, failed, undone, target, inputs, attempts, calls, undo_calls })
}

fn word<T: Copy>(value: &Value<'_>, all: &[T], as_str: fn(T) -> &'static str) -> Option<T> {
    let words: Vec<(&'static str, T)> = all.iter().map(|it| (as_str(*it), *it)).collect();
    value.one_of(&words)
}

fn steps(value: Value<'_>, runbook: &Runbook) -> Vec<StepId> {
    let items = value.array().unwrap_or_default();
    items.iter().filter_map(|item| step(item, runbook)).collect()
}

fn by_step<T>(
    table: &mut Table<'_>,
    key: &'static str,
    runbook: &Runbook,
    read: impl Fn(Value<'_>) -> Option<T>,
) -> BTreeMap<StepId, T> {
    let mut found = BTreeMap::new();
    let inner = table.take(key).and_then(Value::table).map(|mut inner| inner.take_all()).unwrap_or_default();
    for (name, value) in inner {
        let Some(step) = runbook.steps.iter().find(|step| step.id.as_str() == name.value) else {
            let message = format!("there is no step `{}`", name.value);
            value.problems().error(name.span, value.path(), message, nearest_step(&name.value, runbook));
            continue;
        };
        found.extend(read(value).map(|value| (step.id.clone(), value)));
    }
    found
}

/// What a call must have; its shape is that of `judge::facts`.
fn call(value: Value<'_>) -> Option<serde_json::Value> {
    let json = value.json();
    for (name, value) in value.table()?.take_all() {
        if !CALL.contains(&name.value.as_str()) {
            let help = nearest(&name.value, &CALL).map_or_else(
                || format!("one of: {}", CALL.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            value.problems().error(name.span, value.path(), format!("a call has no `{}`", name.value), help);
        }
    }
    Some(json)
}
