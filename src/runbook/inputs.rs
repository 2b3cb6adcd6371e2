//! The values one execution works with: its inputs and its target.
//!
//! What comes from an alert is checked here, before anything starts: a value that is missing, broken or
//! outside its pattern refuses the execution. Pure. Must never: repair a value, or use part of one.

use super::definition::{Input, InputSource, Runbook};
use super::template::{Context, Template};
use crate::model::{Labels, Target};
use std::collections::BTreeMap;
use std::fmt;

/// What Prometheus puts where a template of a label or annotation failed; such a value means nothing.
const BROKEN: &str = "<error expanding template";

/// Why an input cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// Its name.
    pub input: String,
    /// What is wrong with it: a lower-case fragment.
    pub message: String,
}

impl fmt::Display for InputProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input `{}`: {}", self.input, self.message)
    }
}

/// The value of every input that has one. The caller's value (`given`) wins, then what `from` names,
/// then the default. A label, annotation or variable that is empty counts as absent; an empty value that
/// the caller gives is a value. `env` holds variables the caller sent, never the daemon's own.
///
/// # Errors
/// All that is wrong: a required input without a value, a value outside its pattern, one that Prometheus
/// could not make, one with a NUL character, and every given name the runbook does not know.
pub fn resolve(
    runbook: &Runbook,
    labels: &Labels,
    annotations: &Labels,
    env: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<InputProblem>> {
    let mut values = BTreeMap::new();
    let mut problems = Vec::new();
    for input in &runbook.inputs {
        let found = given.get(&input.name).or_else(|| {
            let (map, name) = match input.from.as_ref()? {
                InputSource::Label(name) => (labels, name),
                InputSource::Annotation(name) => (annotations, name),
                InputSource::Env(name) => (env, name),
            };
            map.get(name).filter(|value| !value.is_empty())
        });
        let value = found.or(input.default.as_ref());
        match value.map_or_else(|| missing(input), |value| wrong(input, value)) {
            Some(message) => problems.push(InputProblem { input: input.name.clone(), message }),
            None => values.extend(value.map(|value| (input.name.clone(), value.clone()))),
        }
    }
    for name in given.keys().filter(|name| runbook.inputs.iter().all(|input| input.name != **name)) {
        let known: Vec<&str> = runbook.inputs.iter().map(|input| input.name.as_str()).collect();
        let message = match known.is_empty() {
            true => "the runbook has no inputs".to_owned(),
            false => format!("the runbook has no such input; it has: {}", known.join(", ")),
        };
        problems.push(InputProblem { input: excerpt(name), message });
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn missing(input: &Input) -> Option<String> {
    input.required.then(|| match &input.from {
        Some(InputSource::Label(name)) => format!("it is required, and the alert has no label `{name}`"),
        Some(InputSource::Annotation(name)) => {
            format!("it is required, and the alert has no annotation `{name}`")
        }
        Some(InputSource::Env(name)) => format!("it is required, and no variable `{name}` was given"),
        None => "it is required, and no value was given".to_owned(),
    })
}

fn wrong(input: &Input, value: &str) -> Option<String> {
    if value.contains(BROKEN) {
        return Some(format!("{:?} is a template that failed in Prometheus", excerpt(value)));
    }
    if value.contains('\0') {
        return Some("the value contains a NUL character".to_owned());
    }
    let pattern = input.pattern.as_ref().filter(|pattern| !pattern.is_match(value))?;
    let bare = pattern.as_str();
    let bare = bare.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(bare);
    Some(format!("{:?} does not match its pattern {bare}", excerpt(value)))
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What the execution acts on, or `None` for a runbook without `target`.
///
/// # Errors
/// A sentence: the template failed, or what it gives is blank, a pattern, too long or broken.
pub fn target(runbook: &Runbook, context: &Context) -> Result<Option<Target>, String> {
    let Some(template) = &runbook.target else { return Ok(None) };
    one_thing(template, context, "target").map(Some)
}

/// What an execution of the runbook holds alone: its `lock`, else its `target`; nothing where no step is changing.
///
/// # Errors
/// As [`target`].
pub fn lock(runbook: &Runbook, target: Option<&Target>, context: &Context) -> Result<Option<String>, String> {
    if !runbook.is_changing() {
        return Ok(None);
    }
    match &runbook.guard.lock {
        Some(template) => one_thing(template, context, "lock").map(|lock| Some(lock.to_string())),
        // By default an execution holds its target alone, so that two cures never meet on one patient.
        None => Ok(target.map(ToString::to_string)),
    }
}

fn one_thing(template: &Template, context: &Context, what: &str) -> Result<Target, String> {
    let text = template.render(context).map_err(|error| match error.help.is_empty() {
        true => format!("the {what} cannot be rendered: {error}"),
        false => format!("the {what} cannot be rendered: {error} ({})", error.help),
    })?;
    if text.contains(BROKEN) {
        return Err(format!("{:?} is a template that failed in Prometheus", excerpt(&text)));
    }
    Target::new(&text).map_err(|error| match what {
        "target" => error.to_string(),
        _ => format!("the {what}: {error}"),
    })
}

#[cfg(test)]
mod tests;
