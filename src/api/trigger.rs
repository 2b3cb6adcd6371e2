//! What starts runbooks beside alerts: mappings that people set, schedules, and executions by hand, as shown.

use crate::journal::{Attempt, Created, State};
use crate::model::{ExecutionStatus, Matcher, Role, RunbookId, StepStatus, Timestamp};
use crate::runbook::Pinned;
use crate::schedule::Schedule;
use crate::store::records::mapping::MappingRecord;
use crate::store::records::schedule::ScheduleRecord;
use serde_json::{Value, json};

/// A mapping that a person set, at this place; `problem` is why it starts nothing.
pub fn set_mapping(record: &MappingRecord, order: usize, problem: Option<&str>) -> Value {
    json!({
        "name": record.name,
        "matchers": record.matchers,
        "runbook": record.runbook,
        "origin": "api",
        "order": order,
        "by": record.by,
        "reason": record.reason,
        "at": record.at,
        "problem": problem,
    })
}

/// A mapping of the config file, at this place; `problem` is why it starts nothing.
pub fn config_mapping(
    name: &str,
    matchers: &[Matcher],
    runbook: &RunbookId,
    order: usize,
    problem: Option<&str>,
) -> Value {
    let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    json!({
        "name": name,
        "matchers": matchers,
        "runbook": runbook,
        "origin": "config",
        "order": order,
        "problem": problem,
    })
}

/// A schedule; `problem` is why it starts nothing, now or until it is due next.
pub fn schedule(
    schedule: &Schedule,
    record: Option<&ScheduleRecord>,
    next_at: Option<Timestamp>,
    problem: Option<&str>,
) -> Value {
    let last = record.and_then(|record| record.last.as_ref());
    json!({
        "name": schedule.name,
        "cron": schedule.cron.to_string(),
        "zone": schedule.zone.name(),
        "runbook": schedule.runbook,
        "inputs": schedule.inputs,
        "next_at": next_at,
        "last_at": last.map(|last| last.at),
        "last_execution_id": record.and_then(|record| record.execution.as_ref()),
        "last_reason": last.map(|last| last.reason),
        "last_verdict": last.map(|last| last.verdict),
        "last_decision_id": last.map(|last| &last.decision),
        "problem": problem,
    })
}

/// What would be done; `plan` tells it of the step at a position.
pub fn dry_run(pinned: &Pinned, created: &Created, plan: impl Fn(usize) -> String) -> Value {
    let steps = pinned.runbook.steps.iter().enumerate().map(|(index, step)| {
        let left_out = created.range.is_some_and(|(from, to)| !(from..=to).contains(&index));
        json!({
            "id": step.id,
            "title": step.title,
            "kind": step.kind.as_str(),
            "effect": step.effect,
            "when": step.when.as_ref().map(crate::runbook::Expression::source),
            "plan": (!left_out).then(|| plan(index)),
            "left_out": left_out,
        })
    });
    json!({
        "dry_run": true,
        "runbook": created.runbook,
        "version": created.version,
        "hash": created.hash,
        "target": created.target,
        "lock": created.lock,
        "inputs": created.inputs,
        "steps": steps.collect::<Vec<_>>(),
    })
}

/// The last attempt of each part of each step that is neither an undo nor a probe, in the order of the steps.
pub fn last_attempts(state: &State) -> Vec<&Attempt> {
    let of_step = |step: &'_ crate::journal::StepState| {
        let main = step.attempts.iter().enumerate().filter(|(_, attempt)| attempt.part.role == Role::Main);
        let last: Vec<usize> = main
            .filter(|(at, attempt)| !step.attempts[at + 1..].iter().any(|later| later.part == attempt.part))
            .map(|(at, _)| at)
            .collect();
        last
    };
    state.steps.iter().flat_map(|step| of_step(step).into_iter().map(|at| &step.attempts[at])).collect()
}

/// How an execution that is over ended, for who waited for it.
pub fn outcome(state: &State, stdout: &str, stderr: &str, mut warnings: Vec<String>) -> Value {
    let success = state.status == ExecutionStatus::Succeeded;
    let mut errors = Vec::new();
    if !success {
        let why = state.reason.map_or("", |reason| reason.sentence());
        let why = state.message.as_deref().unwrap_or(why);
        errors.push(format!("{}: {why}", state.status));
    }
    for (head, step) in state.created.steps.iter().zip(&state.steps) {
        if !matches!(step.status, StepStatus::Failed | StepStatus::TimedOut | StepStatus::Unknown) {
            continue;
        }
        let told = step.error.as_deref().or_else(|| step.last()?.result.error.as_deref());
        let code = step.last().and_then(|attempt| attempt.result.exit_code);
        let told = told.map(str::to_owned).or_else(|| code.map(|code| format!("exit code {code}")));
        let line = format!("{}: {}", head.id, told.unwrap_or_else(|| step.status.to_string()));
        // What failed and did not matter is no error of the whole.
        if success { warnings.push(line) } else { errors.push(line) }
    }
    json!({
        "success": success,
        "runbook": state.created.runbook,
        "return_code": return_code(state),
        "stdout": stdout,
        "stderr": stderr,
        "errors": errors,
        "warnings": warnings,
        "execution_id": state.created.id,
        "status": state.status,
    })
}

/// The failed command's exit code, else 0 for success and 1 for anything else.
fn return_code(state: &State) -> i32 {
    if state.status == ExecutionStatus::Succeeded {
        return 0;
    }
    let failed = state.steps.iter().rev().find(|step| step.status == StepStatus::Failed);
    let code = failed.and_then(|step| step.last()).and_then(|attempt| attempt.result.exit_code);
    code.filter(|code| *code != 0).unwrap_or(1)
}
