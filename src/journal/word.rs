//! What a person did to an execution, as the audit log tells it.
//!
//! The kill switch is not here: its order has a record of its own, and what it ends must not wait for another.

use super::{AuditEntry, Entry, Event};
use crate::model::{ExecutionId, StepId};

/// The audit record of `entry` in the journal of `id`, where a person's word made it.
pub fn audited(id: &ExecutionId, entry: &Entry) -> Option<AuditEntry> {
    let detail = |name: &str, value: &dyn ToString| Some((name.to_owned(), value.to_string()));
    let of_step = |step: &StepId| detail("step", step);
    let (action, user, reason, detail) = match &entry.event {
        Event::StepSkipped { step, actor: Some(actor), reason, .. } => {
            ("execution.skip", actor, reason.as_deref().unwrap_or_default(), of_step(step))
        }
        Event::Approved { step, actor, reason, .. } => {
            ("execution.approve", actor, reason.as_str(), of_step(step))
        }
        Event::Rejected { step, actor, reason } => {
            ("execution.reject", actor, reason.as_str(), of_step(step))
        }
        Event::Acknowledged { step, actor, reason } => {
            ("execution.acknowledge", actor, reason.as_str(), of_step(step))
        }
        Event::RetryRequested { step, actor, reason } => {
            ("execution.retry", actor, reason.as_str(), of_step(step))
        }
        Event::StopRequested { actor, reason, rollback } => {
            ("execution.stop", actor, reason.as_str(), detail("rollback", rollback))
        }
        Event::Paused { actor: Some(actor), reason, code: None } => {
            ("execution.pause", actor, reason.as_str(), None)
        }
        Event::Resumed { actor, reason } => ("execution.resume", actor, reason.as_str(), None),
        Event::Modified { actor, reason, inputs, args } => {
            // What the values are stands in the journal.
            let inputs: Vec<&str> = inputs.keys().map(String::as_str).collect();
            let steps: Vec<&str> = args.keys().map(StepId::as_str).collect();
            let changed = format!("inputs: {}; steps: {}", inputs.join(", "), steps.join(", "));
            ("execution.modify", actor, reason.as_str(), detail("changed", &changed))
        }
        _ => return None,
    };
    Some(AuditEntry {
        at: entry.at,
        user: user.clone(),
        action,
        target: id.to_string(),
        reason: reason.to_owned(),
        detail: detail.into_iter().collect(),
    })
}
