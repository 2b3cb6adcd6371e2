//! Modify: change the inputs, or the arguments of a pending step, of a paused execution.

use super::{Answer, Ask, FINAL, position};
use crate::journal::{Change, Event, State};
use crate::model::{ExecutionStatus, StepStatus};
use crate::runbook::{Kind, Runbook};
use std::collections::BTreeMap;

/// The most arguments, and the longest of them in bytes.
const MAX_ARGS: usize = 256;
const MAX_TEXT: usize = 64 << 10;

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    match state.status {
        ExecutionStatus::Paused => change(runbook, state, ask).unwrap_or_else(|answer| answer),
        ExecutionStatus::Queued
        | ExecutionStatus::AwaitingApproval
        | ExecutionStatus::Running
        | ExecutionStatus::Verifying
        | ExecutionStatus::RollingBack => Answer::conflict("it can be changed while it is paused"),
        ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::NotVerified
        | ExecutionStatus::Stopped
        | ExecutionStatus::Rejected
        | ExecutionStatus::Expired
        | ExecutionStatus::RolledBack
        | ExecutionStatus::RollbackFailed => Answer::conflict(FINAL),
    }
}

fn change(runbook: &Runbook, state: &State, ask: &Ask) -> Result<Answer, Answer> {
    let mut inputs = BTreeMap::new();
    for (name, to) in &ask.inputs {
        let from = state.inputs.get(name).cloned();
        if from.as_ref() != Some(to) {
            check_input(runbook, name, to)?;
            inputs.insert(name.clone(), Change { from, to: to.clone() });
        }
    }
    let mut args = BTreeMap::new();
    if let Some(to) = &ask.args {
        let index = position(state, ask)?;
        let (step, seen) = (&runbook.steps[index], &state.steps[index]);
        if !matches!(step.kind, Kind::Command(_) | Kind::Ssh(_)) {
            return Err(Answer::Invalid(format!("step {} has no arguments", step.id)));
        }
        if seen.status != StepStatus::Pending {
            return Err(Answer::conflict(format!("step {} is {}, not pending", step.id, seen.status)));
        }
        check_args(to)?;
        if seen.args.as_ref() != Some(to) {
            args.insert(step.id.clone(), Change { from: seen.args.clone(), to: to.clone() });
        }
    } else if ask.step.is_some() {
        return Err(Answer::Invalid("say what the step's arguments are to be".to_owned()));
    }
    if ask.inputs.is_empty() && ask.args.is_none() {
        return Err(Answer::Invalid(
            "say what is to be changed: inputs, or a step and its arguments".to_owned(),
        ));
    }
    if inputs.is_empty() && args.is_empty() {
        return Ok(Answer::AlreadySo);
    }
    let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
    Ok(Answer::Record(vec![Event::Modified { actor, reason, inputs, args }]))
}

/// A changed input is held to what the runbook says of it, like one that came with the alert.
fn check_input(runbook: &Runbook, name: &str, value: &str) -> Result<(), Answer> {
    let Some(input) = runbook.inputs.iter().find(|input| input.name == name) else {
        return Err(Answer::Invalid(format!("there is no input {name}")));
    };
    let fits = input.pattern.as_ref().is_none_or(|pattern| pattern.is_match(value));
    if !fits || value.len() > MAX_TEXT || value.contains('\0') {
        return Err(Answer::Invalid(format!("the value of input {name} does not fit its pattern")));
    }
    Ok(())
}

fn check_args(args: &[String]) -> Result<(), Answer> {
    if args.len() > MAX_ARGS || args.iter().any(|arg| arg.len() > MAX_TEXT || arg.contains('\0')) {
        let why = format!("at most {MAX_ARGS} arguments of {MAX_TEXT} bytes each, without NUL");
        return Err(Answer::Invalid(why));
    }
    Ok(())
}
