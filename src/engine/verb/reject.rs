//! Reject: one person's refusal, which is enough.

use super::{Answer, Ask, approve};
use crate::journal::{Event, State};
use crate::model::{Reason, Timestamp};
use crate::runbook::Runbook;

pub(super) fn answer(runbook: &Runbook, state: &State, now: Timestamp, ask: &Ask) -> Answer {
    if state.reason == Some(Reason::Rejected) {
        return Answer::AlreadySo;
    }
    match approve::asked(runbook, state, now, ask) {
        Err(answer) => answer,
        Ok(None) => Answer::conflict("consent has been given"),
        Ok(Some((index, _))) => {
            let (actor, reason) = (ask.actor.subject.clone(), ask.reason.clone());
            Answer::Record(vec![Event::Rejected { step: runbook.steps[index].id.clone(), actor, reason }])
        }
    }
}
