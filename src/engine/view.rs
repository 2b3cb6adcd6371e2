//! What templates and conditions see of an execution's state. Pure, as `transition` needs it.

use crate::admit::{Subject, context};
use crate::journal::{State, StepState};
use crate::runbook::{Context, Runbook};
use serde_json::{Map, Value, json};

/// The context at this state.
pub(super) fn context_of(runbook: &Runbook, state: &State) -> Context {
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
    context(&created.trigger, &created.inputs, &subject, Value::Object(steps))
}

/// What is known of a step that is over. Output is what the journal itself holds of it: its first 2 KiB.
fn seen(step: &StepState) -> Value {
    let last = step.last();
    let stdout = last.map_or("", |attempt| attempt.result.stdout.head.as_str());
    let json: Value = serde_json::from_str(stdout).unwrap_or(Value::Null);
    json!({
        "ok": step.ok(),
        "status": step.status.as_str(),
        "exit_code": last.and_then(|attempt| attempt.result.exit_code),
        "http_status": last.and_then(|attempt| attempt.result.http_status),
        "stdout": stdout,
        "json": json,
    })
}
