//! Approve: one person's consent to the plan that was shown.

use super::{Answer, Ask, FINAL, Verb, is_open, named_or_only};
use crate::journal::{ApprovalState, Event, State};
use crate::model::{StepStatus, Timestamp};
use crate::runbook::{Approval, Kind, Runbook};

pub(super) fn answer(runbook: &Runbook, state: &State, now: Timestamp, ask: &Ask) -> Answer {
    if has_consented(state, ask) {
        return Answer::AlreadySo;
    }
    match asked(runbook, state, now, ask) {
        Err(answer) => answer,
        Ok(None) => Answer::AlreadySo,
        Ok(Some((index, approval))) => {
            let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
            if approval.given.iter().any(|given| given.actor == actor) {
                return Answer::AlreadySo;
            }
            let (step, hash) = (runbook.steps[index].id.clone(), approval.hash.clone());
            Answer::Record(vec![Event::Approved { step, actor, reason, hash }])
        }
    }
}

/// Whether this person's consent is given already, and no step that they may mean waits for another one.
fn has_consented(state: &State, ask: &Ask) -> bool {
    if ask.step.is_none() && state.awaits_approval() {
        return false;
    }
    state.created.steps.iter().zip(&state.steps).any(|(head, seen)| {
        let is_meant = ask.step.as_ref().is_none_or(|step| *step == head.id);
        is_meant
            && seen.approval.as_ref().is_some_and(|approval| {
                approval.given.iter().any(|given| given.actor == ask.actor.subject)
                    && ask.hash.as_ref().is_none_or(|hash| *hash == approval.hash)
            })
    })
}

/// The step that waits for this person's word; nothing where consent was given already.
pub(super) fn asked<'s>(
    runbook: &Runbook,
    state: &'s State,
    now: Timestamp,
    ask: &Ask,
) -> Result<Option<(usize, &'s ApprovalState)>, Answer> {
    // Which statuses can wait is said by the steps; the exhaustive question is whether anything can.
    if state.status.is_final() {
        return Err(Answer::conflict(FINAL));
    }
    if !is_open(state.status) {
        return Err(Answer::conflict("it has not begun yet and asks for nothing"));
    }
    let waits = |index: usize| {
        state.steps[index].status == StepStatus::Waiting && state.steps[index].approval.is_some()
    };
    let index = named_or_only(state, ask, "waits for consent", waits)?;
    let Kind::Approve(terms) = &runbook.steps[index].kind else {
        return Err(Answer::Invalid(format!("step {} asks for no consent", runbook.steps[index].id)));
    };
    let seen = &state.steps[index];
    let Some(approval) = seen.approval.as_ref() else {
        return Err(Answer::conflict("it is not the step's turn yet"));
    };
    if seen.status == StepStatus::Succeeded {
        return Ok(None);
    }
    if !waits(index) || now >= approval.until {
        return Err(Answer::conflict(format!(
            "step {} no longer waits for consent",
            runbook.steps[index].id
        )));
    }
    may(state, &terms.approval, ask)?;
    if ask.hash.as_ref().is_some_and(|hash| *hash != approval.hash) {
        return Err(Answer::conflict("the plan has changed since it was shown: read it again"));
    }
    Ok(Some((index, approval)))
}

fn may(state: &State, terms: &Approval, ask: &Ask) -> Result<(), Answer> {
    let actor = &ask.actor;
    // Whoever asked for it may take that back.
    let consents = ask.verb == Verb::Approve;
    if consents && terms.not_requester && actor.subject == state.created.trigger.by {
        return Err(Answer::Forbidden("whoever asked for the execution may not consent to it".to_owned()));
    }
    if terms.roles.is_empty() || terms.roles.iter().any(|role| actor.roles.contains(role)) {
        return Ok(());
    }
    Err(Answer::Forbidden(format!("consent needs one of the roles: {}", terms.roles.join(", "))))
}
