//! What templates and conditions see of an execution's state. Pure, as the engine's machine needs it.

use crate::admit::{Subject, context_with};
use crate::journal::{Attempt, State, StepState};
use crate::model::Part;
use crate::runbook::{Context, Items, Runbook};
use serde_json::{Map, Value, json};

/// The most items a list may have.
const MAX_ITEMS: usize = 1000;

/// The context at this state.
pub fn context_of(runbook: &Runbook, state: &State) -> Context {
    context_for(runbook, state, None)
}

/// The context at this state for one item of a list.
pub fn context_for(runbook: &Runbook, state: &State, item: Option<&str>) -> Context {
    let created = &state.created;
    let subject = Subject {
        id: &created.id,
        runbook: &runbook.id,
        version: created.version,
        target: created.target.as_ref(),
        started_at: state.started_at,
    };
    let over = state.steps.iter().enumerate().filter(|(_, step)| step.is_over());
    let steps: Map<String, Value> =
        over.map(|(index, step)| (created.steps[index].id.to_string(), seen(step))).collect();
    context_with(&created.trigger, &state.inputs, &subject, Value::Object(steps), item)
}

/// The context for `part` of the step at `index`.
pub fn context_of_part(runbook: &Runbook, state: &State, index: usize, part: Part) -> Context {
    let items = state.steps[index].items.as_ref();
    let item = part.item.and_then(|item| items?.get(usize::try_from(item).ok()?));
    context_for(runbook, state, item.map(String::as_str))
}

/// What is known of a step that is over. Output is what the journal itself holds of it: its first 2 KiB.
fn seen(step: &StepState) -> Value {
    let mut value = result(step.last());
    value["ok"] = step.ok().into();
    value["status"] = step.status.as_str().into();
    if let Some(items) = &step.items {
        let of_item = |(index, item): (usize, &String)| {
            let part = Part::item(index);
            let last = step.attempts.iter().rev().find(|attempt| attempt.part == part);
            let mut value = result(last);
            let ended = step.ended.get(&part).map(|(status, _)| status.as_str());
            value["item"] = item.as_str().into();
            value["status"] = ended.into();
            value["ok"] = (ended == Some("succeeded")).into();
            value
        };
        value["items"] = items.iter().enumerate().map(of_item).collect();
    }
    value
}

fn result(last: Option<&Attempt>) -> Value {
    let stdout = last.map_or("", |attempt| attempt.result.stdout.head.as_str());
    let json: Value = serde_json::from_str(stdout).unwrap_or(Value::Null);
    json!({
        "exit_code": last.and_then(|attempt| attempt.result.exit_code),
        "http_status": last.and_then(|attempt| attempt.result.http_status),
        "stdout": stdout,
        "json": json,
    })
}

/// What the step at `index` is to be done for.
///
/// # Errors
/// A sentence: what of the list cannot be rendered or read.
pub fn items(runbook: &Runbook, state: &State, index: usize) -> Result<Vec<String>, String> {
    let Some(for_each) = &runbook.steps[index].for_each else { return Ok(Vec::new()) };
    let context = context_of(runbook, state);
    let items = match &for_each.items {
        Items::Listed(items) => items.iter().map(|item| item.render(&context)).collect::<Result<Vec<_>, _>>(),
        Items::Rendered(template) => template.render(&context).map(|text| split(&text)),
    };
    let items = items.map_err(|error| format!("the list cannot be rendered: {error}"))?;
    if items.len() > MAX_ITEMS {
        return Err(format!("the list has {} items; at most {MAX_ITEMS} are allowed", items.len()));
    }
    Ok(items)
}

/// A JSON list, or words between commas and blanks.
fn split(text: &str) -> Vec<String> {
    if let Ok(Value::Array(items)) = serde_json::from_str::<Value>(text.trim()) {
        let plain = |item: Value| match item {
            Value::String(text) => text,
            other => other.to_string(),
        };
        return items.into_iter().map(plain).collect();
    }
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_json_or_words() {
        for text in [r#"["a b", "c", 3]"#, " [\"a b\",\"c\",3] "] {
            assert_eq!(split(text), ["a b", "c", "3"]);
        }
        assert_eq!(split("a, b\tc,,d "), ["a", "b", "c", "d"]);
        assert!(split(" ").is_empty());
    }
}
