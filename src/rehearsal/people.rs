//! People: those whom steps ask, and those who speak unasked, through the engine as the API does.

use super::book_of;
use super::script::{Case, Reply, Suite, Word};
use super::stage::replay;
use crate::engine::Engine;
use crate::engine::verb::{Actor, Ask, Verb};
use crate::journal::State;
use crate::model::{Clock, ExecutionId, StepId, StepStatus, between};
use crate::runbook::{Kind, Runbook};
use crate::store::records::Records;
use std::time::Duration;

/// Where people speak.
pub(super) struct Stage<'s> {
    pub(super) suite: &'s Suite,
    pub(super) case: &'s Case,
    pub(super) engine: &'s Engine,
    pub(super) records: &'s Records,
    pub(super) clock: &'s dyn Clock,
}

/// Who has spoken so far.
#[derive(Default)]
pub(super) struct Cast {
    /// Of those who speak unasked.
    spoken: Vec<usize>,
    /// What could not be said, in sentences.
    pub(super) trouble: Vec<String>,
}

impl Cast {
    /// Whether everybody has spoken who would unasked.
    pub(super) fn has_spoken(&self, case: &Case) -> bool {
        self.spoken.len() == case.people.len()
    }

    /// Lets everybody speak whose time has come, `passed` after the beginning.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn speak(
        &mut self,
        stage: &Stage<'_>,
        id: &ExecutionId,
        passed: Duration,
    ) -> Result<(), String> {
        for (index, saying) in stage.case.people.iter().enumerate() {
            if passed < saying.after || self.spoken.contains(&index) {
                continue;
            }
            self.spoken.push(index);
            let actor = Actor { subject: saying.by.clone(), roles: saying.roles.clone() };
            let mut ask = Ask::new(saying.verb, actor, "as rehearsed");
            ask.step.clone_from(&saying.step);
            self.say(stage, id, ask).await;
        }
        let live = stage.records.live(None, usize::MAX).await.map_err(|error| error.to_string())?;
        for header in live {
            let Some(book) = book_of(&stage.suite.library, &header.id) else { continue };
            let state = replay(stage.records, &header.id).await?;
            for ask in asked(stage, &book.pinned.runbook, &state) {
                self.say(stage, &header.id, ask).await;
            }
        }
        Ok(())
    }

    async fn say(&mut self, stage: &Stage<'_>, id: &ExecutionId, ask: Ask) {
        let (verb, by) = (ask.verb, ask.actor.subject.clone());
        if let Err(error) = stage.engine.control(id, ask).await {
            self.trouble.push(format!("{by} cannot {}: {error}", verb.as_str()));
        }
    }
}

/// What the people say whom steps ask at this state.
fn asked(stage: &Stage<'_>, runbook: &Runbook, state: &State) -> Vec<Ask> {
    let mut said = Vec::new();
    for (step, seen) in runbook.steps.iter().zip(&state.steps) {
        if seen.status != StepStatus::Waiting {
            continue;
        }
        let reply = stage.case.answers.steps.get(&(runbook.id.clone(), step.id.clone()));
        let reply = reply.and_then(|answers| answers.main.first()).cloned().unwrap_or_default();
        match (&step.kind, &seen.approval) {
            (Kind::Approve(terms), Some(consent)) if consent.refused.is_none() => {
                let is_time = between(consent.asked_at, stage.clock.now()) >= reply.takes;
                let number = consent.given.len() + 1;
                if is_time
                    && consent.given.len() < usize::try_from(terms.approval.count).unwrap_or(usize::MAX)
                {
                    let roles = terms.approval.roles.iter().cloned().collect();
                    let actor = Actor { subject: format!("approver {number}"), roles };
                    said.extend(answer(&reply, Verb::Approve, actor, &step.id));
                }
            }
            (Kind::Instruct { acknowledge: true, .. }, _) if seen.acknowledged.is_none() => {
                let since = seen.timer_started_at.map(|at| between(at, stage.clock.now()));
                if since.is_some_and(|since| since >= reply.takes) {
                    let actor = Actor { subject: "operator".to_owned(), ..Actor::default() };
                    said.extend(answer(&reply, Verb::Acknowledge, actor, &step.id));
                }
            }
            _ => {}
        }
    }
    said
}

fn answer(reply: &Reply, yes: Verb, actor: Actor, step: &StepId) -> Option<Ask> {
    let verb = match reply.word {
        Some(Word::Nobody) => return None,
        Some(Word::Rejected) => Verb::Reject,
        _ => yes,
    };
    let mut ask = Ask::new(verb, actor, "as rehearsed");
    ask.step = Some(step.clone());
    Some(ask)
}
