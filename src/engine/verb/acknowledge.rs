//! Acknowledge: a person says that they did what a step told them.

use super::{Answer, Ask, FINAL, is_open, named_or_only};
use crate::journal::{Event, State};
use crate::model::StepStatus;
use crate::runbook::{Kind, Runbook};

pub(super) fn answer(runbook: &Runbook, state: &State, ask: &Ask) -> Answer {
    if has_acknowledged(runbook, state, ask) {
        return Answer::AlreadySo;
    }
    if state.status.is_final() {
        return Answer::conflict(FINAL);
    }
    if !is_open(state.status) {
        return Answer::conflict("it has not begun yet and asks for nothing");
    }
    let instructs =
        |index: usize| matches!(runbook.steps[index].kind, Kind::Instruct { acknowledge: true, .. });
    let waits = |index: usize| {
        let seen = &state.steps[index];
        instructs(index) && seen.status == StepStatus::Waiting && seen.until.is_some()
    };
    let index = match named_or_only(state, ask, "waits for an acknowledgement", waits) {
        Ok(index) => index,
        Err(answer) => return answer,
    };
    let step = runbook.steps[index].id.clone();
    if !instructs(index) {
        return Answer::Invalid(format!("step {step} asks for no acknowledgement"));
    }
    if state.steps[index].acknowledged.is_some() {
        return Answer::AlreadySo;
    }
    if !waits(index) {
        return Answer::conflict(format!("step {step} is {}", state.steps[index].status));
    }
    let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
    Answer::Record(vec![Event::Acknowledged { step, actor, reason }])
}

/// Whether this person has said so already, and no step that they may mean waits for another word.
fn has_acknowledged(runbook: &Runbook, state: &State, ask: &Ask) -> bool {
    let said = |index: usize| {
        let saying = state.steps[index].acknowledged.as_ref();
        saying.is_some_and(|saying| saying.actor == ask.actor.subject)
    };
    let waits = |index: usize| {
        matches!(runbook.steps[index].kind, Kind::Instruct { acknowledge: true, .. })
            && state.steps[index].status == StepStatus::Waiting
            && !said(index)
    };
    let mut steps = 0..state.steps.len();
    match &ask.step {
        Some(step) => state.index_of(step).is_some_and(said),
        None => !steps.clone().any(waits) && steps.any(said),
    }
}
