//! From the text of a `<id>.toml` to a [`Runbook`], or to everything that is wrong with it.
//!
//! One file per section in `parse/`; each reads what it can and notes the rest, and only a file without
//! an error gives a runbook. May import: `model`, `document`. Must never: stop at the first problem,
//! accept a key and ignore it, touch the disk.

mod head;
mod http;
mod inputs;
mod kinds;
mod steps;
mod templates;
mod verify;

use super::definition::Runbook;
use super::template::Scope;
use crate::document::{Problem, Problems, Severity, Table, Value};
use crate::model::RunbookId;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The longest runbook file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of one file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The runbook, where there is no error.
    pub runbook: Option<Runbook>,
    /// Errors and warnings, in the order of the text.
    pub problems: Vec<Problem>,
    /// The SHA-256 of the text, in hexadecimal: what a version is bound to.
    pub hash: String,
}

impl Parsed {
    /// Whether the file can be used.
    pub fn is_valid(&self) -> bool {
        self.runbook.is_some()
    }
}

/// Reads the runbook `id` from `text`; `file_name` is how problems call the file.
pub fn parse(id: &RunbookId, file_name: &str, text: &str) -> Parsed {
    let hash = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let problems = Problems::new(file_name, text);
    if text.len() > MAX_FILE {
        let message = format!("a runbook of {} bytes is too long", text.len());
        problems.error(0..0, "", message, format!("at most {MAX_FILE} bytes"));
        return Parsed { runbook: None, problems: problems.into_list(), hash };
    }
    let mut root = crate::document::parse(&problems);
    let runbook = if problems.has_errors() {
        // What can be read of a broken text says nothing about what its author meant.
        None
    } else {
        let runbook = runbook(id, &mut root);
        root.finish();
        runbook
    };
    let problems = problems.into_list();
    let broken = problems.iter().any(|problem| problem.severity == Severity::Error);
    Parsed { runbook: runbook.filter(|_| !broken), problems, hash }
}

fn runbook(id: &RunbookId, root: &mut Table<'_>) -> Option<Runbook> {
    let head = head::read(id, root);
    let inputs = root.take("inputs").and_then(Value::table).map(inputs::read).unwrap_or_default();
    let drafts = steps::drafts(root);
    let mut scope = Scope {
        inputs: inputs.iter().map(|input| input.name.clone()).collect(),
        steps: drafts.iter().map(|draft| draft.name().to_owned()).collect(),
        ended: None,
    };
    let has_target = root.has("target");
    let target = root.take("target").and_then(|value| head::target(&value, &scope));
    let steps = steps::read(drafts, &mut scope, has_target);
    let verify = root.take("verify").and_then(Value::table).and_then(|table| verify::read(table, &scope));
    Some(Runbook {
        id: id.clone(),
        title: head.title,
        description: head.description,
        mode: head.mode,
        alerts: head.alerts,
        target,
        timeout: head.timeout,
        on_resolved: head.on_resolved,
        breaker: "default".to_owned(),
        allow: head.allow,
        required_claims: head.required_claims,
        inputs,
        steps,
        verify,
    })
}
