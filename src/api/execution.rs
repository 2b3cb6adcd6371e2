//! One execution as shown: its journal folded, in the words of the contract.

use crate::journal::{ApprovalState, Attempt, Saying, State, StepHead, StepState};
use crate::model::{Part, Role, StepStatus, Timestamp};
use crate::report::Escalation;
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
            "inputs": state.inputs,
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
            view["stop"] = json!({ "actor": stop.actor, "reason": stop.reason, "at": stop.at, "rollback": stop.rollback });
        }
        if let Some(pause) = &state.pause {
            view["paused"] = json!({ "reason": pause.reason, "at": pause.at, "code": pause.code });
            put(&mut view["paused"], "actor", pause.actor.as_ref());
        }
        put(&mut view["trigger"], "of", trigger.of.as_ref());
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

impl ExecutionView {
    /// With what people were told of it.
    pub fn with_escalations(mut self, escalations: &[Escalation]) -> Self {
        self.0["escalations"] = super::escalation::lines(escalations).into();
        self
    }
}

fn put(view: &mut Value, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        view[key] = json!(value);
    }
}

fn step_view(head: &StepHead, step: &StepState) -> Value {
    let mut view = json!({
        "id": head.id,
        "title": head.title,
        "kind": head.kind,
        "effect": head.effect,
        "status": step.status,
        "attempts": attempts_view(step, |role| role != Role::Undo),
    });
    let reason = step.skip.map(|skip| skip.as_str().to_owned());
    put(&mut view, "reason", reason.or_else(|| step.reason.map(|reason| reason.to_string())));
    put(&mut view, "error", step.error.as_ref());
    put(&mut view, "until", step.until);
    put(&mut view, "items", step.items.as_ref());
    put(&mut view, "args", step.args.as_ref());
    put(&mut view, "next_attempt_at", step.retries.values().map(|planned| planned.at).min());
    put(&mut view, "observed", step.observed.as_ref().map(|(_, detail)| detail));
    put(&mut view, "approval", step.approval.as_ref().map(approval_view));
    put(&mut view, "acknowledged", step.acknowledged.as_ref().map(saying_view));
    put(&mut view, "skipped_by", step.skipped_by.as_ref().map(saying_view));
    put(&mut view, "undo", undo_view(step));
    view
}

/// The attempts of the roles that `wanted` says, those in progress last.
fn attempts_view(step: &StepState, wanted: impl Fn(Role) -> bool) -> Vec<Value> {
    let ended = step.attempts.iter().filter(|attempt| wanted(attempt.part.role));
    let mut attempts: Vec<Value> = ended.map(|attempt| attempt_view(step, attempt)).collect();
    for open in step.open.iter().filter(|open| wanted(open.part.role)) {
        let mut view = json!({
            "attempt": open.attempt,
            "started_at": open.started_at,
            "deadline": open.deadline,
            "plan": open.plan,
            "outcome": null,
        });
        part_view(&mut view, step, open.part);
        put(&mut view, "execution_id", open.child.as_ref());
        attempts.push(view);
    }
    attempts
}

fn part_view(view: &mut Value, step: &StepState, part: Part) {
    let item = part.item.and_then(|item| step.items.as_ref()?.get(usize::try_from(item).ok()?));
    put(view, "item", item);
    // Its place in the list, by which its output is asked for.
    put(view, "item_index", part.item);
    if part.role == Role::Probe {
        view["probe"] = true.into();
    }
}

fn undo_view(step: &StepState) -> Option<Value> {
    let attempts = attempts_view(step, |role| role == Role::Undo);
    let mut ends = step.ended.iter().filter(|(part, _)| part.role == Role::Undo).peekable();
    let is_open = step.open.iter().any(|open| open.part.role == Role::Undo);
    if attempts.is_empty() && ends.peek().is_none() {
        return None;
    }
    let ends: Vec<StepStatus> = ends.map(|(_, (status, _))| *status).collect();
    let failed = ends.iter().find(|status| **status != StepStatus::Succeeded);
    let status = match failed {
        Some(status) => *status,
        None if is_open => StepStatus::Running,
        None if ends.len() < step.begun.len() => StepStatus::Waiting,
        None => StepStatus::Succeeded,
    };
    Some(json!({ "status": status, "attempts": attempts }))
}

fn approval_view(approval: &ApprovalState) -> Value {
    let mut view = json!({
        "plan": approval.plan,
        "hash": approval.hash,
        "asked_at": approval.asked_at,
        "until": approval.until,
        "given": approval.given.iter().map(saying_view).collect::<Vec<_>>(),
    });
    put(&mut view, "refused", approval.refused.as_ref().map(saying_view));
    view
}

fn saying_view(saying: &Saying) -> Value {
    json!({ "actor": saying.actor, "reason": saying.reason, "at": saying.at })
}

fn attempt_view(step: &StepState, attempt: &Attempt) -> Value {
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
    part_view(&mut view, step, attempt.part);
    put(&mut view, "exit_code", attempt.result.exit_code);
    put(&mut view, "signal", attempt.result.signal);
    put(&mut view, "http_status", attempt.result.http_status);
    put(&mut view, "error", attempt.result.error.as_ref());
    put(&mut view, "answer", attempt.result.answer);
    put(&mut view, "execution_id", attempt.result.child.as_ref());
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
