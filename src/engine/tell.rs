//! What durable events mean for metrics and logs.

use super::Shared;
use crate::guard::Change;
use crate::journal::{Event, State};
use crate::model::{ExecutionId, ExecutionStatus, StepStatus, between};
use crate::runbook::Runbook;
use crate::telemetry::StepKind;
use std::time::Duration;

/// Tells of `events`, which led from `before` to `state`.
pub(super) fn tell(shared: &Shared, runbook: &Runbook, before: &State, state: &State, events: &[Event]) {
    for event in events {
        match event {
            Event::Started { .. } => {
                let id = &state.created.id;
                tracing::info!(execution_id = %id, runbook = %runbook.id, "execution started");
            }
            Event::StepIntended { step, attempt, plan, .. } => {
                let first = before.steps.iter().all(|step| step.open.is_empty() && step.attempts.is_empty());
                if first && *attempt == 1 && state.index_of(step) == first_begun(state) {
                    shared.metrics.reacted(between(state.created_at, shared.clock.now()));
                }
                tracing::info!(execution_id = %state.created.id, runbook = %runbook.id, step = %step, attempt, plan, "step started");
            }
            Event::StepSkipped { step, .. } => {
                step_over(shared, runbook, state, step.as_str(), StepStatus::Skipped)
            }
            Event::StepFinished { step, status, .. } => {
                step_over(shared, runbook, state, step.as_str(), *status)
            }
            Event::RetryScheduled { .. } => shared.metrics.retry_scheduled(&runbook.id),
            Event::RollbackStarted => {
                tracing::warn!(execution_id = %state.created.id, runbook = %runbook.id, "rollback started");
            }
            Event::Finished { .. } => over(shared, runbook, state),
            _ => {}
        }
        acted(runbook, state, event);
    }
}

/// Tells of breakers that opened or closed by an outcome of `id`.
pub(super) fn breakers(id: &ExecutionId, runbook: &Runbook, changes: &[(String, Change)]) {
    for (breaker, change) in changes {
        match change {
            Change::Opened { failures, retry_at } => tracing::warn!(
                execution_id = %id, runbook = %runbook.id, breaker, failures, retry_at = %retry_at, "breaker opened"
            ),
            change => {
                tracing::info!(execution_id = %id, runbook = %runbook.id, breaker, ?change, "breaker changed")
            }
        }
    }
}

/// One line for each act of a person, and for what makes one necessary.
fn acted(runbook: &Runbook, state: &State, event: &Event) {
    let (id, runbook) = (&state.created.id, &runbook.id);
    let (message, step, actor, reason) = match event {
        Event::StopRequested { actor, reason, rollback: false } => ("stop requested", None, actor, reason),
        Event::StopRequested { actor, reason, .. } => ("rollback requested", None, actor, reason),
        Event::Paused { actor: Some(actor), reason, .. } => ("paused", None, actor, reason),
        Event::Resumed { actor, reason } => ("resumed", None, actor, reason),
        Event::Approved { step, actor, reason, .. } => ("approved", Some(step), actor, reason),
        Event::Rejected { step, actor, reason } => ("rejected", Some(step), actor, reason),
        Event::Acknowledged { step, actor, reason } => ("acknowledged", Some(step), actor, reason),
        Event::RetryRequested { step, actor, reason } => ("retry requested", Some(step), actor, reason),
        Event::StepSkipped { step, actor: Some(actor), reason, .. } => {
            let reason = reason.as_deref().unwrap_or_default();
            tracing::warn!(execution_id = %id, runbook = %runbook, step = %step, user = actor, reason, "skip requested");
            return;
        }
        Event::Modified { actor, reason, .. } => ("modified", None, actor, reason),
        Event::Paused { actor: None, reason, .. } => {
            tracing::warn!(execution_id = %id, runbook = %runbook, reason, "paused until a person decides");
            return;
        }
        Event::ApprovalRequested { step, hash, until, .. } => {
            tracing::warn!(execution_id = %id, runbook = %runbook, step = %step, hash, %until, "approval requested");
            return;
        }
        _ => return,
    };
    let step = step.map(tracing::field::display);
    tracing::warn!(execution_id = %id, runbook = %runbook, step, user = actor, reason, "{message}");
}

fn first_begun(state: &State) -> Option<usize> {
    state.steps.iter().position(|step| !step.open.is_empty() || !step.attempts.is_empty())
}

fn step_over(shared: &Shared, runbook: &Runbook, state: &State, step: &str, status: StepStatus) {
    let Some(index) = state.created.steps.iter().position(|head| head.id.as_str() == step) else { return };
    let seen = &state.steps[index];
    let ran: Option<Duration> = match (seen.attempts.first(), seen.attempts.last(), seen.timer_started_at) {
        (Some(first), Some(last), _) => Some(between(first.started_at, last.finished_at)),
        (_, _, Some(since)) => Some(between(since, shared.clock.now())),
        _ => None,
    };
    if let Some(kind) = StepKind::parse(&state.created.steps[index].kind) {
        shared.metrics.step_finished(&runbook.id, kind, status, ran);
    }
    let error =
        seen.error.as_deref().or_else(|| seen.last().and_then(|attempt| attempt.result.error.as_deref()));
    if seen.last().is_some_and(|attempt| attempt.result.outcome == crate::model::AttemptOutcome::TimedOut) {
        // A stable message: people alert on it.
        tracing::warn!(execution_id = %state.created.id, runbook = %runbook.id, step, "Script execution timed out");
    }
    tracing::info!(execution_id = %state.created.id, runbook = %runbook.id, step, status = status.as_str(), error, "step ended");
}

fn over(shared: &Shared, runbook: &Runbook, state: &State) {
    shared.metrics.execution_finished(&runbook.id, state.status, took(state));
    if let (ExecutionStatus::Succeeded, Some(began), Some(end)) =
        (state.status, state.created.trigger.starts_at, state.finished_at)
    {
        shared.metrics.remediated(&runbook.id, between(began, end));
    }
    let reason = state.reason.map(crate::model::Reason::as_str);
    tracing::info!(
        execution_id = %state.created.id,
        runbook = %runbook.id,
        status = state.status.as_str(),
        reason,
        "execution ended"
    );
}

/// How long `state` has been going, for metrics.
fn took(state: &State) -> Duration {
    let start = state.started_at.unwrap_or(state.created_at);
    state.finished_at.map_or(Duration::ZERO, |end| between(start, end))
}
