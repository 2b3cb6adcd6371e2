//! One execution as shown: its journal folded, in the words of the contract.

use crate::journal::{Attempt, State, StepHead, StepState};
use crate::model::Timestamp;
use crate::store::records::Header;
use serde::Serialize;
use serde_json::{Value, json};

/// An execution in full.
#[derive(Debug, Clone, Serialize)]
pub struct ExecutionView(Value);

impl ExecutionView {
    /// What `state` says.
    pub fn of(state: &State) -> Self {
        let created = &state.created;
        let trigger = &created.trigger;
        let mut view = json!({
            "id": created.id,
            "runbook": created.runbook,
            "version": created.version,
            "hash": created.hash,
            "title": created.title,
            "status": state.status,
            "trigger": {
                "kind": trigger.kind,
                "labels": trigger.labels,
                "annotations": trigger.annotations,
                "by": trigger.by,
            },
            "target": created.target,
            "inputs": created.inputs,
            "created_at": state.created_at,
            "deadline": state.deadline,
            "steps": created.steps.iter().zip(&state.steps).map(|(head, step)| step_view(head, step)).collect::<Vec<_>>(),
            "escalations": [],
            "instance": created.instance,
        });
        put(&mut view, "reason", state.reason);
        put(&mut view, "message", state.message.as_ref());
        put(&mut view, "started_at", state.started_at);
        put(&mut view, "finished_at", state.finished_at);
        put(&mut view, "resolved_at", state.resolved_at);
        put(&mut view["trigger"], "alertname", trigger.alertname.as_ref());
        put(&mut view["trigger"], "fingerprint", trigger.fingerprint);
        put(&mut view["trigger"], "starts_at", trigger.starts_at);
        put(&mut view["trigger"], "reason", trigger.reason.as_ref());
        if !trigger.generator_url.is_empty() {
            view["trigger"]["generator_url"] = trigger.generator_url.as_str().into();
        }
        if let Some(stop) = &state.stop {
            view["stop"] = json!({ "actor": stop.actor, "reason": stop.reason, "at": stop.at });
        }
        if let Some(verify) = &state.verify {
            view["verify"] = json!({
                "started_at": verify.started_at,
                "until": verify.until,
                "holds_since": verify.holds_since,
                "detail": verify.detail,
            });
        }
        Self(view)
    }
}

fn put(view: &mut Value, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        view[key] = json!(value);
    }
}

fn step_view(head: &StepHead, step: &StepState) -> Value {
    let mut attempts: Vec<Value> = step.attempts.iter().map(attempt_view).collect();
    if let Some(open) = &step.open {
        attempts.push(json!({
            "attempt": open.attempt,
            "started_at": open.started_at,
            "deadline": open.deadline,
            "plan": open.plan,
            "outcome": null,
        }));
    }
    let mut view = json!({
        "id": head.id,
        "title": head.title,
        "kind": head.kind,
        "effect": head.effect,
        "status": step.status,
        "attempts": attempts,
    });
    put(&mut view, "reason", step.skip.map(|skip| skip.as_str()));
    put(&mut view, "error", step.error.as_ref());
    put(&mut view, "until", step.until);
    view
}

fn attempt_view(attempt: &Attempt) -> Value {
    let mut view = json!({
        "attempt": attempt.attempt,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "plan": attempt.plan,
        "outcome": attempt.result.outcome,
        "stdout": attempt.result.stdout.head,
        "stderr": attempt.result.stderr.head,
        "stdout_bytes": attempt.result.stdout.bytes,
        "stderr_bytes": attempt.result.stderr.bytes,
        "truncated": attempt.result.stdout.cut > 0 || attempt.result.stderr.cut > 0,
    });
    put(&mut view, "exit_code", attempt.result.exit_code);
    put(&mut view, "signal", attempt.result.signal);
    put(&mut view, "http_status", attempt.result.http_status);
    put(&mut view, "error", attempt.result.error.as_ref());
    put(&mut view, "answer", attempt.result.answer);
    view
}

/// An execution's line in lists.
pub fn summary(header: &Header) -> Value {
    let mut view = json!({
        "id": header.id,
        "runbook": header.runbook,
        "version": header.version,
        "title": header.title,
        "status": header.status,
        "target": header.target,
        "trigger": { "kind": header.trigger },
        "created_at": header.created_at,
    });
    put(&mut view["trigger"], "alertname", header.alertname.as_ref());
    put(&mut view, "reason", header.reason);
    put(&mut view, "started_at", header.started_at);
    put(&mut view, "finished_at", header.finished_at);
    let took = |start: Timestamp, end: Timestamp| end.duration_since(start).as_millis();
    put(
        &mut view,
        "duration_ms",
        header.started_at.zip(header.finished_at).map(|(start, end)| i64::try_from(took(start, end)).ok()),
    );
    view
}
