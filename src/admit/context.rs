//! What templates see of an execution: one place, so that gates and steps see the same.

use crate::journal::{Trigger, TriggerKind};
use crate::model::{ExecutionId, RunbookId, Target, Timestamp};
use crate::runbook::Context;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The execution's own part of a context.
#[derive(Debug)]
pub struct Subject<'s> {
    /// Its id.
    pub id: &'s ExecutionId,
    /// Its runbook.
    pub runbook: &'s RunbookId,
    /// Its runbook's version.
    pub version: u64,
    /// Its target; not there while the target itself is rendered.
    pub target: Option<&'s Target>,
    /// When it left the queue.
    pub started_at: Option<Timestamp>,
}

/// The context of an execution; `steps` maps the id of each step that is over to what is known of it.
pub fn context(
    trigger: &Trigger,
    inputs: &BTreeMap<String, String>,
    subject: &Subject<'_>,
    steps: Value,
) -> Context {
    context_with(trigger, inputs, subject, steps, None)
}

/// The same, for one item of a list.
pub fn context_with(
    trigger: &Trigger,
    inputs: &BTreeMap<String, String>,
    subject: &Subject<'_>,
    steps: Value,
    item: Option<&str>,
) -> Context {
    let Subject { id, runbook, version, target, started_at } = subject;
    let mut execution = json!({ "id": id.as_str(), "runbook": runbook.as_str(), "version": version });
    if let Some(target) = target {
        execution["target"] = target.as_str().into();
    }
    if let Some(at) = started_at {
        execution["started_at"] = at.to_string().into();
    }
    let mut builder = Context::builder()
        .labels(&trigger.labels)
        .annotations(&trigger.annotations)
        .inputs(inputs)
        .execution(execution)
        .steps(steps);
    if let Some(item) = item {
        builder = builder.item(item);
    }
    // What follows from an alert's execution knows that alert too.
    if trigger.kind == TriggerKind::Alert || trigger.alertname.is_some() {
        builder = builder.alert(json!({
            "name": trigger.alertname,
            "status": "firing",
            "starts_at": trigger.starts_at.map(|at| at.to_string()),
            "fingerprint": trigger.fingerprint.map(|fingerprint| fingerprint.to_string()),
            "generator_url": trigger.generator_url,
        }));
    }
    builder.build()
}
