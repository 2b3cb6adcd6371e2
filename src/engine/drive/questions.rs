//! The looking: the questions an execution waits on, asked again and again until one is answered with yes.
//!
//! They only look, so they need no intent; only a change of the answer is worth an event.

use super::Drive;
use crate::engine::call::{self, Work};
use crate::engine::observe;
use crate::engine::registry::Input;
use crate::engine::view;
use crate::journal::{Event, State};
use crate::model::{AttemptOutcome, ExecutionStatus, Part, Role, StepStatus, Timestamp, after};
use crate::runbook::{Condition, Kind, Runbook, UntilCondition};
use crate::step::{AttemptContext, Call, kill_pair};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The longest one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which questions are on their way, and when each is due again; `None` is the verify's, else the step's position.
#[derive(Default)]
pub(super) struct Questions {
    asked: HashSet<Option<usize>>,
    due: HashMap<Option<usize>, Timestamp>,
}

impl Questions {
    pub(super) fn answered(&mut self, question: Option<usize>) {
        self.asked.remove(&question);
    }

    pub(super) fn none_is_asked(&self) -> bool {
        self.asked.is_empty()
    }
}

/// The questions that `state` waits on, each with the time between two askings.
fn open(runbook: &Runbook, state: &State) -> Vec<(Option<usize>, Duration)> {
    let mut open: Vec<(Option<usize>, Duration)> = Vec::new();
    if state.status == ExecutionStatus::Verifying
        && state.ending.is_none()
        && let Some(verify) = &runbook.verify
        && matches!(verify.condition, Condition::Promql { .. })
    {
        open.push((None, observe::pause(verify)));
    }
    let steps_go_on = state.status != ExecutionStatus::Paused && !state.status.is_final();
    for (index, seen) in state.steps.iter().enumerate().filter(|_| steps_go_on) {
        if let (Kind::Until(until), StepStatus::Waiting) = (&runbook.steps[index].kind, seen.status)
            && !matches!(until.condition, UntilCondition::AlertResolved)
        {
            open.push((Some(index), until.every));
        }
    }
    open
}

/// When the next life of the daemon must look at an execution that would be looked at next at `wake`: at once where
/// it waits on a question, for what this life has asked is forgotten then.
pub(super) fn wake_anew(
    runbook: &Runbook,
    state: &State,
    wake: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    if open(runbook, state).is_empty() { wake } else { wake.map(|wake| wake.min(now)) }
}

impl Drive {
    /// Asks what is due, and says when the next question is.
    pub(super) fn ask_what_is_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let open = open(&self.runbook, &self.state);
        self.questions.due.retain(|question, _| open.iter().any(|(still, _)| still == question));
        if self.interrupting || self.shared.registry().is_draining() {
            return None;
        }
        for (question, every) in open {
            let is_due = self.questions.due.get(&question).is_none_or(|at| now >= *at);
            if is_due && self.questions.asked.insert(question) {
                self.questions.due.insert(question, after(now, every));
                match question {
                    None => self.ask_for_proof(),
                    Some(index) => self.ask_for_step(index),
                }
            }
        }
        // A question that is due but on its way waits for its answer, not for a time that has passed.
        self.questions.due.values().filter(|at| now < **at).min().copied()
    }

    fn ask_for_proof(&self) {
        let Some(verify) = &self.runbook.verify else { return };
        let Condition::Promql { query, expect } = &verify.condition else { return };
        let question = query.render(&view::context_of(&self.runbook, &self.state));
        let (shared, id, expect) = (Arc::clone(&self.shared), self.id.clone(), *expect);
        tokio::spawn(async move {
            let (holds, detail) = match question {
                Ok(question) => observe::ask(&shared, &question, expect).await,
                Err(error) => (false, format!("the query cannot be rendered: {error}")),
            };
            shared.send(&id, Input::Observed { step: None, holds, detail });
        });
    }

    fn ask_for_step(&self, index: usize) {
        let Kind::Until(until) = &self.runbook.steps[index].kind else { return };
        let context = view::context_of(&self.runbook, &self.state);
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let step = Some(index);
        match &until.condition {
            UntilCondition::AlertResolved => {}
            UntilCondition::Promql { query, expect } => {
                let (question, expect) = (query.render(&context), *expect);
                tokio::spawn(async move {
                    let (holds, detail) = match question {
                        Ok(question) => observe::ask(&shared, &question, expect).await,
                        Err(error) => (false, format!("the query cannot be rendered: {error}")),
                    };
                    shared.send(&id, Input::Observed { step, holds, detail });
                });
            }
            UntilCondition::Http(http) => {
                let rendered = call::render(&Kind::Http((**http).clone()), &context, &call::Given::default());
                let attempt = AttemptContext {
                    execution: self.id.clone(),
                    step: self.runbook.steps[index].id.clone(),
                    part: Part::MAIN.with(Role::Probe),
                    attempt: 1,
                    idempotency_key: call::idempotency_key(&self.state, index, Part::MAIN.with(Role::Probe)),
                    timeout: PATIENCE,
                    amx: std::collections::BTreeMap::new(),
                };
                tokio::spawn(async move {
                    let (holds, detail) = match rendered {
                        Ok(Work::Call(call)) => look(&shared, attempt, call).await,
                        Ok(_) => (false, "the question is no request".to_owned()),
                        Err(error) => (false, format!("the request cannot be rendered: {error}")),
                    };
                    shared.send(&id, Input::Observed { step, holds, detail });
                });
            }
        }
    }

    /// The event that an answer is, where it is news.
    pub(super) fn observed(&self, step: Option<usize>, holds: bool, detail: String) -> Option<Event> {
        let Some(index) = step else {
            // Once it is decided how it ends, a late answer would only contradict what was decided by.
            let is_asked = self.state.status == ExecutionStatus::Verifying && self.state.ending.is_none();
            let verify = self.state.verify.as_ref().filter(|_| is_asked)?;
            let unchanged = verify.detail.is_some() && verify.holds_since.is_some() == holds;
            return (!unchanged).then_some(Event::VerifyObserved { holds, detail });
        };
        let seen = self.state.steps.get(index).filter(|seen| seen.status == StepStatus::Waiting)?;
        let unchanged = seen.observed.as_ref().is_some_and(|(before, _)| *before == holds);
        let step = self.runbook.steps[index].id.clone();
        (!unchanged).then_some(Event::StepObserved { step, holds, detail })
    }
}

async fn look(shared: &super::Shared, context: AttemptContext, call: Call) -> (bool, String) {
    // Nobody ends it: it is short, and only looks.
    let (_killer, signal) = kill_pair();
    let finished = shared.world.attempt(context, call, signal).await;
    let holds = finished.outcome == AttemptOutcome::Succeeded;
    let status = finished.http_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
    (holds, finished.error.filter(|_| !holds).unwrap_or(status))
}
