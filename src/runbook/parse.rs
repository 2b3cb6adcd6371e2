//! From the text of a `<id>.toml` to a [`Runbook`], or to everything that is wrong with it.
//!
//! One file per section in `parse/`; each reads what it can and notes the rest, and only a file without
//! an error gives a runbook. May import: `model`, `document`, `guard` (its settings). Must never: stop at the first problem,
//! accept a key and ignore it, touch the disk.

mod approval;
mod confine;
mod effect;
mod escalate;
mod guard;
mod head;
mod http;
mod inputs;
mod kinds;
mod order;
mod query;
mod remote;
mod retry;
mod steps;
mod templates;
mod undo;
mod verify;
mod waits;

use super::definition::{Approval, Guard, Kind, Mode, Runbook};
use super::links::Links;
use super::template::{Scope, Turn};
use crate::document::{Place, Problem, Problems, Severity, Table, Value};
use crate::model::{RunbookId, hex};
use order::Order;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::time::Duration;

/// The longest runbook file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The most steps of a runbook.
pub const MAX_STEPS: usize = 1000;

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
    /// Where the runbook speaks of things outside of its file.
    pub links: Links,
}

/// What a step must know of its runbook.
struct Around<'r> {
    id: &'r RunbookId,
    timeout: Duration,
    /// The terms of an approval unless its step says otherwise.
    approval: Approval,
    /// Where other runbooks are called, in the order of reading.
    calls: RefCell<Vec<Place>>,
}

impl Parsed {
    /// Whether the file can be used.
    pub fn is_valid(&self) -> bool {
        self.runbook.is_some()
    }
}

/// Reads the runbook `id` from `text`; `file_name` is how problems call the file.
pub fn parse(id: &RunbookId, file_name: &str, text: &str) -> Parsed {
    let hash = hex(&Sha256::digest(text));
    let problems = Problems::new(file_name, text);
    if text.len() > MAX_FILE {
        let message = format!("a runbook of {} bytes is too long", text.len());
        problems.error(0..0, "", message, format!("at most {MAX_FILE} bytes"));
        return Parsed { runbook: None, problems: problems.into_list(), hash, links: Links::default() };
    }
    let mut root = crate::document::parse(&problems);
    let (runbook, links) = if problems.has_errors() {
        // What can be read of a broken text says nothing about what its author meant.
        (None, Links::default())
    } else {
        let (runbook, links) = runbook(id, &mut root);
        root.finish();
        (Some(runbook), links)
    };
    let problems = problems.into_list();
    let broken = problems.iter().any(|problem| problem.severity == Severity::Error);
    Parsed { runbook: runbook.filter(|_| !broken), problems, hash, links }
}

fn runbook(id: &RunbookId, root: &mut Table<'_>) -> (Runbook, Links) {
    let head = head::read(id, root);
    let approval = root.take("approval").map(|value| (value.place(), value));
    let (approval_place, approval) = approval.unzip();
    let terms = approval.and_then(Value::table).map(approval::section).unwrap_or_default();
    let calls = RefCell::default();
    let around = Around { id, timeout: head.timeout, approval: terms, calls };
    let inputs = root.take("inputs").and_then(Value::table).map(inputs::read).unwrap_or_default();
    let mut drafts = steps::drafts(root);
    let mut scope = Scope {
        inputs: inputs.iter().map(|input| input.name.clone()).collect(),
        steps: drafts.iter().map(|draft| draft.name().to_owned()).collect(),
        turns: None,
        has_item: false,
    };
    let has_target = root.has("target");
    let target = root.take("target").and_then(|value| head::target(&value, &scope));
    let first = Scope { turns: Some(vec![Turn::Later; scope.steps.len()]), ..scope.clone() };
    let (guard, lock_place) = read_guard(root, &scope, &first);
    let order = Order::read(&mut drafts, root.problems());
    let mut steps = steps::read(drafts, &order, &scope, &around, has_target);
    if let Some(place) = approval_place.filter(|_| {
        head.mode != Mode::Approve && !steps.iter().any(|step| matches!(step.kind, Kind::Approve(_)))
    }) {
        let message = "no step asks for an approval";
        root.problems().add(place.problem(
            Severity::Warning,
            message,
            "add a step `approve`, write mode = \"approve\", or remove it",
        ));
    }
    if let Some(place) = lock_place.filter(|_| !steps.iter().any(|step| step.effect.is_changing())) {
        root.problems().add(guard::idle_lock(&place));
    }
    if head.mode == Mode::Approve {
        approval::ask_first(&mut steps, &head.title, &around.approval, root.problems());
    }
    scope.turns = Some(order.verifying());
    let verify = root.take("verify").and_then(Value::table).and_then(|table| verify::read(table, &scope));
    let escalate_to = root.take("escalate").and_then(Value::table).and_then(escalate::read);
    let breaker_place = head.breaker.as_ref().map(|name| root.problems().place(name.span.clone(), "breaker"));
    let links = Links { calls: around.calls.into_inner(), breaker: breaker_place };
    let runbook = Runbook {
        id: id.clone(),
        title: head.title,
        description: head.description,
        mode: head.mode,
        alerts: head.alerts,
        target,
        timeout: head.timeout,
        on_resolved: head.on_resolved,
        breaker: head.breaker.map_or_else(|| "default".to_owned(), |name| name.value),
        allow: head.allow,
        required_claims: head.required_claims,
        guard,
        inputs,
        steps,
        verify,
        escalate_to,
    };
    (runbook, links)
}

/// The section `[guard]`, and where its lock stands.
fn read_guard(root: &mut Table<'_>, before: &Scope, first: &Scope) -> (Guard, Option<Place>) {
    let Some(table) = root.take("guard").and_then(Value::table) else { return Default::default() };
    let place = table.has("lock").then(|| root.problems().place(table.site(), "guard.lock"));
    (guard::read(table, before, first), place)
}
