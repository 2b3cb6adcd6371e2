//! Which names a template at a given place of a runbook can know, checked when the file is loaded.
//!
//! A misspelt step or input is found before the alert comes, not while it is being handled.
//! Must never: refuse a label or annotation; which of those exist is known only by the alert.

use super::scan::Reference;
use super::{Expression, Template, TemplateError};
use crate::document::nearest;

const ROOTS: [&str; 6] = ["labels", "annotations", "inputs", "steps", "execution", "alert"];
const STEP: [&str; 5] = ["ok", "status", "exit_code", "stdout", "json"];
const EXECUTION: [&str; 5] = ["id", "target", "runbook", "version", "started_at"];
const ALERT: [&str; 5] = ["name", "status", "starts_at", "fingerprint", "generator_url"];

/// The names that exist where a template stands.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The inputs of the runbook.
    pub inputs: Vec<String>,
    /// The steps of the runbook, all of them, in order.
    pub steps: Vec<String>,
    /// How many of `steps` have ended by then; `None` before the execution exists.
    pub ended: Option<usize>,
}

impl Scope {
    /// Every name in `template` that is not known here.
    pub fn check(&self, template: &Template) -> Vec<TemplateError> {
        template.references().iter().filter_map(|reference| self.problem(reference)).collect()
    }

    /// Every name in `expression` that is not known here.
    pub fn check_expression(&self, expression: &Expression) -> Vec<TemplateError> {
        expression.references.iter().filter_map(|reference| self.problem(reference)).collect()
    }

    fn problem(&self, reference: &Reference) -> Option<TemplateError> {
        let root = reference.path[0].as_str();
        if !ROOTS.contains(&root) {
            return Some(unknown(reference, 0, format!("`{root}` is not defined"), &ROOTS));
        }
        if matches!(root, "steps" | "execution") && self.ended.is_none() {
            let message = format!("`{root}` is not known before the execution exists");
            let help = "use labels, annotations, inputs or alert".to_owned();
            return Some(TemplateError::new(message, help, Some(reference.span())));
        }
        let name = reference.path.get(1)?;
        match root {
            "inputs" if !self.inputs.contains(name) => {
                let known: Vec<&str> = self.inputs.iter().map(String::as_str).collect();
                Some(unknown(reference, 1, format!("there is no input `{name}`"), &known))
            }
            "steps" => self.step_problem(reference, name),
            "execution" if !EXECUTION.contains(&name.as_str()) => {
                Some(unknown(reference, 1, format!("`execution` has no `{name}`"), &EXECUTION))
            }
            "alert" if !ALERT.contains(&name.as_str()) => {
                Some(unknown(reference, 1, format!("`alert` has no `{name}`"), &ALERT))
            }
            _ => None,
        }
    }

    fn step_problem(&self, reference: &Reference, name: &str) -> Option<TemplateError> {
        let ended = self.ended.unwrap_or(0);
        let Some(index) = self.steps.iter().position(|step| step == name) else {
            let known: Vec<&str> = self.steps.iter().take(ended).map(String::as_str).collect();
            return Some(unknown(reference, 1, format!("there is no step `{name}`"), &known));
        };
        if index >= ended {
            let message = if index == ended {
                format!("the step `{name}` refers to itself")
            } else {
                format!("the step `{name}` comes later")
            };
            return Some(TemplateError::new(
                message,
                "refer to an earlier step",
                reference.spans.get(1).cloned(),
            ));
        }
        let field = reference.path.get(2)?;
        (!STEP.contains(&field.as_str()))
            .then(|| unknown(reference, 2, format!("a step has no `{field}`"), &STEP))
    }
}

fn unknown(reference: &Reference, part: usize, message: String, known: &[&str]) -> TemplateError {
    let word = &reference.path[part];
    let help = match nearest(word, known) {
        Some(near) if near.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            format!("did you mean `{near}`?")
        }
        Some(near) => format!("did you mean [{near:?}], in brackets and quotes?"),
        None if known.is_empty() => "there is none here".to_owned(),
        None => format!("one of: {}", known.join(", ")),
    };
    TemplateError::new(message, help, reference.spans.get(part).cloned())
}
