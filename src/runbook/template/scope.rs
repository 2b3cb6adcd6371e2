//! Which names a template at a given place of a runbook can know, checked when the file is loaded.
//!
//! A misspelt step or input is found before the alert comes, not while it is being handled.
//! Must never: refuse a label or annotation; which of those exist is known only by the alert.

use super::scan::Reference;
use super::{Expression, Template, TemplateError};
use crate::document::nearest;

const ROOTS: [&str; 7] = ["labels", "annotations", "inputs", "steps", "execution", "alert", "item"];
const STEP: [&str; 7] = ["ok", "status", "exit_code", "http_status", "stdout", "json", "items"];
const EXECUTION: [&str; 5] = ["id", "target", "runbook", "version", "started_at"];
const ALERT: [&str; 5] = ["name", "status", "starts_at", "fingerprint", "generator_url"];

/// How a step of the runbook stands where a template is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is over by then, in one way or another.
    Over,
    /// It is the one the template belongs to.
    Own,
    /// It begins only afterwards.
    Later,
    /// Nothing says which of the two comes first.
    Unordered,
}

/// The names that exist where a template stands.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The inputs of the runbook.
    pub inputs: Vec<String>,
    /// The steps of the runbook, all of them, in the order of the file.
    pub steps: Vec<String>,
    /// How each of `steps` stands; `None` before the execution exists.
    pub turns: Option<Vec<Turn>>,
    /// Whether there is an `item` of a list.
    pub has_item: bool,
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
        let roots = &ROOTS[..if self.has_item { ROOTS.len() } else { ROOTS.len() - 1 }];
        if root == "item" && !self.has_item {
            let help = "it is one of the list of `for_each`, in that step, its probe and its undo";
            return Some(TemplateError::new("there is no `item` here", help, Some(reference.span())));
        }
        if !roots.contains(&root) {
            return Some(unknown(reference, 0, format!("`{root}` is not defined"), roots));
        }
        if matches!(root, "steps" | "execution") && self.turns.is_none() {
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
        let turn = |index: usize| self.turns.as_ref().and_then(|turns| turns.get(index)).copied();
        let Some(index) = self.steps.iter().position(|step| step == name) else {
            let steps = self.steps.iter().enumerate();
            let known = steps.filter(|(index, _)| turn(*index) == Some(Turn::Over));
            let known: Vec<&str> = known.map(|(_, step)| step.as_str()).collect();
            return Some(unknown(reference, 1, format!("there is no step `{name}`"), &known));
        };
        let refused = match turn(index)? {
            Turn::Over => None,
            Turn::Own => Some((format!("the step `{name}` refers to itself"), "refer to an earlier step")),
            Turn::Later => Some((format!("the step `{name}` comes later"), "refer to an earlier step")),
            Turn::Unordered => {
                Some((format!("the step `{name}` may not be over when this runs"), "add it to `after`"))
            }
        };
        if let Some((message, help)) = refused {
            return Some(TemplateError::new(message, help, reference.spans.get(1).cloned()));
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
