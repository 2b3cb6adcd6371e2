//! Escalations as shown: who was told of what, and how that went.

use crate::report::{Delivery, Escalation};
use serde_json::{Value, json};

/// One escalation, whole.
pub fn escalation(escalation: &Escalation) -> Value {
    let Escalation { closed, totals, .. } = escalation;
    let mut view = json!({
        "id": escalation.id,
        "at": escalation.at,
        "cause": escalation.cause,
        "state": escalation.standing,
        "runbook": escalation.runbook,
        "title": escalation.title,
        "execution_id": escalation.execution,
        "step": escalation.step,
        "status": escalation.status,
        "reason": escalation.reason,
        "message": escalation.message,
        "target": escalation.target,
        "alertname": escalation.alertname,
        "to": escalation.to,
        "deliveries": escalation.deliveries().iter().map(delivery).collect::<Vec<_>>(),
    });
    if let Some(totals) = totals {
        view["totals"] = json!({
            "count": totals.count,
            "targets": totals.targets,
            "more_targets": totals.more_targets,
            "firing": totals.firing,
        });
    }
    if let Some(closed) = closed {
        view["closed"] = json!({ "by": closed.by, "reason": closed.reason, "at": closed.at });
    }
    view
}

fn delivery(delivery: &Delivery) -> Value {
    let mut view = json!({
        "notifier": delivery.notifier,
        "name": delivery.name,
        "level": delivery.level,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "due": delivery.due,
        "at": delivery.at,
    });
    if let Some(error) = &delivery.error {
        view["error"] = error.as_str().into();
    }
    view
}

/// The lines of an execution: one for each message, one for an escalation without any.
pub(super) fn lines(escalations: &[Escalation]) -> Vec<Value> {
    let mut lines = Vec::new();
    for escalation in escalations {
        let head = json!({
            "id": escalation.id,
            "cause": escalation.cause,
            "escalation": escalation.standing,
        });
        let mut messages: Vec<Value> = escalation.deliveries().iter().map(delivery).collect();
        if messages.is_empty() {
            let state = if escalation.is_open() { "waiting" } else { escalation.standing.as_str() };
            messages.push(json!({
                "notifier": null, "name": null, "level": 1, "state": state, "attempts": 0,
                "due": escalation.due, "at": escalation.at,
            }));
        }
        for mut message in messages {
            if let (Value::Object(message), Value::Object(head)) = (&mut message, &head) {
                message.extend(head.clone());
            }
            lines.push(message);
        }
    }
    lines
}
