//! The asking: from what was heard to everything that follows from it, without touching the world.

use super::Drive;
use super::attempts::{self, Start};
use super::child::Refusal;
use super::guards::Denied;
use crate::admit::late::Questions;
use crate::engine::call::{self, Work};
use crate::engine::transition::{self, Next};
use crate::journal::{Created, Entry, Event, State};
use crate::model::{
    ExecutionId, ExecutionStatus, GateReport, Part, Reason, Role, StepStatus, Timestamp, after, between,
};
use crate::runbook::{Kind, Step};
use std::time::Duration;

/// What one round of thinking came to.
#[derive(Default)]
pub(super) struct Round {
    pub(super) events: Vec<Event>,
    pub(super) starts: Vec<Start>,
    /// Executions that begin with it.
    pub(super) children: Vec<Created>,
    pub(super) wake: Option<Timestamp>,
    /// What must be asked before it leaves the queue.
    pub(super) asks_first: Option<Questions>,
    /// It could go on but for a slot, so a restart must look at it at once.
    pub(super) in_line: bool,
}

enum Begin {
    /// Not now: no slot, or the daemon is going.
    Later,
    /// It does not come to an attempt.
    Event(Event),
    /// An attempt with this intent.
    Intend(Event, Work),
    /// An attempt that is an execution of its own.
    Child(Event, Box<Created>),
    /// Not before this is answered.
    Ask(Questions),
}

impl Drive {
    /// Applies `events` to a copy of the state, and then all that follows from it.
    pub(super) fn think(&self, events: Vec<Event>, now: Timestamp) -> Option<(Round, State)> {
        let mut round = Round::default();
        let mut state = self.state.clone();
        for event in events {
            self.fold(&mut state, &mut round, event, now);
        }
        loop {
            if let Some(event) = self.switched(&state, now) {
                if !self.fold(&mut state, &mut round, event, now) {
                    return None;
                }
                continue;
            }
            let next = if round.in_line { transition::next_beside } else { transition::next };
            let event = match next(&self.runbook, &state, now) {
                Next::Done => return Some((round, state)),
                Next::Idle { wake } => {
                    // Only now: what resolved, expired or stopped it while it was queued has been heard.
                    let leaves = self.may_leave(&state, now);
                    let questions = if leaves { self.unasked(&state) } else { None };
                    if leaves && questions.is_none() {
                        self.leave_queue(&state, now)
                    } else {
                        (round.wake, round.asks_first) = (wake, round.asks_first.or(questions));
                        return Some((round, state));
                    }
                }
                Next::Record(event) => event,
                Next::Ask { index } => self.ask(&state, index, now),
                Next::Retry { index, part, attempt, at } => self.retry(&state, index, part, attempt, at, now),
                Next::Begin { index, part, attempt } => match self.begin(&state, index, part, attempt, now) {
                    Begin::Later => {
                        round.in_line = true;
                        continue;
                    }
                    Begin::Ask(questions) => {
                        round.asks_first = Some(questions);
                        round.in_line = true;
                        continue;
                    }
                    Begin::Event(event) => event,
                    Begin::Child(event, child) => {
                        round.children.push(*child);
                        event
                    }
                    Begin::Intend(event, work) if work.takes_time() => {
                        round.starts.push(Start { index, part, attempt, work });
                        event
                    }
                    Begin::Intend(event, work) => {
                        if !self.fold(&mut state, &mut round, event, now) {
                            return None;
                        }
                        let result = attempts::instant(&self.runbook.steps[index].kind, work);
                        attempts::finished(&state, index, part, attempt, result)
                    }
                },
            };
            // What the machine itself says must fit; if not, going on would loop for ever.
            if !self.fold(&mut state, &mut round, event, now) {
                return None;
            }
        }
    }

    fn fold(&self, state: &mut State, round: &mut Round, event: Event, now: Timestamp) -> bool {
        let entry = Entry { seq: state.seq + 1, at: now, event };
        match state.apply(&entry) {
            Ok(()) => {
                round.events.push(entry.event);
                true
            }
            Err(error) => {
                tracing::error!(execution_id = %self.id, %error, "an event does not fit the execution; it is left out");
                false
            }
        }
    }

    fn begin(&self, state: &State, index: usize, part: Part, attempt: u32, now: Timestamp) -> Begin {
        let step = &self.runbook.steps[index];
        if self.interrupting || self.shared.registry().is_draining() {
            return Begin::Later;
        }
        if let Some(halted) = self.halted(state, now) {
            return Begin::Event(halted);
        }
        if part.role == Role::Main
            && let Some(questions) = self.outdated(state, index, now)
        {
            return Begin::Ask(questions);
        }
        if let Some(ending) = self.denied_late(state) {
            return Begin::Event(ending);
        }
        if let Some((reason, why)) = self.denied_part(index, part) {
            return Begin::Event(transition::refusal(state, index, part, Some(reason), why));
        }
        let breaker = match self.breaker_key(state, index) {
            _ if part.role != Role::Main => None,
            Ok(key) => key.map(|key| key.as_str().to_owned()),
            Err(why) => return Begin::Event(transition::refusal(state, index, part, None, why)),
        };
        if let (Kind::Runbook { .. }, Role::Main) = (&step.kind, part.role) {
            return match self.child(state, index, part, attempt, now) {
                Ok(child) => Begin::Child(
                    self.intent_of_child(state, &child, index, (part, attempt), breaker, now),
                    child,
                ),
                Err(Refusal { reason, why }) => {
                    Begin::Event(transition::refusal(state, index, part, reason, why))
                }
            };
        }
        let (work, plan) = match call::work(&self.runbook, state, index, part) {
            Ok(rendered) => rendered,
            Err(why) => return Begin::Event(transition::refusal(state, index, part, None, why)),
        };
        if work.takes_time() && !self.shared.registry().take_slot(&self.id) {
            return Begin::Later;
        }
        if attempt == 1
            && let Some(dependency) = work.dependency()
        {
            self.shared.budgets().first(&dependency, now);
        }
        let (deadline, total) = deadlines(step, state, index, part, now);
        let (id, child) = (step.id.clone(), None);
        Begin::Intend(
            Event::StepIntended { step: id, part, attempt, deadline, total, plan, breaker, child },
            work,
        )
    }

    fn may_leave(&self, state: &State, now: Timestamp) -> bool {
        self.may_start && state.status == ExecutionStatus::Queued && !self.is_held_back(state, now)
    }

    /// It starts, unless its breaker or the quarantine of its target said no.
    fn leave_queue(&self, state: &State, now: Timestamp) -> Event {
        if let Some(GateReport { gate, message, .. }) = self.first_denial() {
            let (status, message) = (ExecutionStatus::Rejected, Some(message.clone()));
            return Event::Finished { status, reason: Some(*gate), message };
        }
        let denied = self.denied.iter().find_map(|denied| match denied {
            Denied::Start(reason, why) => Some((*reason, why.clone())),
            Denied::Part(..) => None,
        });
        if let Some((reason, why)) = denied {
            let status = ExecutionStatus::Rejected;
            return Event::Finished { status, reason: Some(reason), message: Some(why) };
        }
        let timeout = Duration::from_millis(state.created.timeout_ms);
        Event::Started { deadline: after(now, timeout) }
    }

    /// How it ends where a gate that was asked again before anything was changed says no.
    fn denied_late(&self, state: &State) -> Option<Event> {
        let GateReport { gate, message, .. } = self.first_denial()?;
        let (status, rollback) = (ExecutionStatus::Rejected, false);
        state.ending.is_none().then(|| Event::Ending {
            status,
            reason: Some(*gate),
            message: Some(message.clone()),
            rollback,
        })
    }

    fn denied_part(&self, index: usize, part: Part) -> Option<(Reason, String)> {
        self.denied.iter().find_map(|denied| match denied {
            Denied::Part(at, of, reason, why) if (*at, *of) == (index, part) => Some((*reason, why.clone())),
            _ => None,
        })
    }

    /// Another attempt, if what it depends on bears one more.
    fn retry(
        &self,
        state: &State,
        index: usize,
        part: Part,
        attempt: u32,
        at: Timestamp,
        now: Timestamp,
    ) -> Event {
        let step = self.runbook.steps[index].id.clone();
        let dependency =
            call::work(&self.runbook, state, index, part).ok().and_then(|(work, _)| work.dependency());
        if let Some(dependency) = dependency
            && !self.shared.budgets().take(&dependency, now)
        {
            let why = format!("not tried again: too many retries of {dependency} lately, by all executions");
            return transition::refusal(state, index, part, None, why);
        }
        Event::RetryScheduled { step, part, attempt, at }
    }

    /// Shows what would follow, as far as it is known, and asks for consent to just that.
    fn ask(&self, state: &State, index: usize, now: Timestamp) -> Event {
        let step = &self.runbook.steps[index];
        match (&step.kind, call::consent(&self.runbook, state, index)) {
            (Kind::Approve(terms), Ok((plan, hash))) => {
                let until = after(now, terms.approval.expires);
                Event::ApprovalRequested { step: step.id.clone(), plan, hash, until }
            }
            (_, Err(error)) => {
                let (step, status, reason) = (step.id.clone(), StepStatus::Failed, None);
                Event::StepFinished { step, status, reason, error: Some(error) }
            }
            (..) => {
                transition::refusal(state, index, Part::MAIN, None, "the step asks for no consent".to_owned())
            }
        }
    }

    fn intent_of_child(
        &self,
        state: &State,
        child: &Created,
        index: usize,
        (part, attempt): (Part, u32),
        breaker: Option<String>,
        now: Timestamp,
    ) -> Event {
        Event::StepIntended {
            step: state.created.steps[index].id.clone(),
            part,
            attempt,
            deadline: after(now, Duration::from_millis(child.timeout_ms)),
            total: None,
            plan: format!("runbook {} as {}", child.runbook, child.id),
            breaker,
            child: Some(ExecutionId::clone(&child.id)),
        }
    }
}

/// When the attempt ends at the latest, and when all attempts of the step do, where that is limited and this is
/// the first.
fn deadlines(
    step: &Step,
    state: &State,
    index: usize,
    part: Part,
    now: Timestamp,
) -> (Timestamp, Option<Timestamp>) {
    let timeout = match part.role {
        Role::Undo => step.undo.as_ref().map_or(step.timeout, |undo| undo.timeout),
        Role::Main | Role::Probe => step.timeout,
    };
    let seen = &state.steps[index];
    let total = match part.role {
        Role::Main => seen.deadline.or_else(|| step.total_timeout.map(|total| after(now, total))),
        Role::Probe | Role::Undo => None,
    };
    let deadline = after(now, timeout);
    let deadline = total.map_or(deadline, |total| deadline.min(total));
    (deadline, total.filter(|_| seen.deadline.is_none()))
}

/// How long an attempt with this deadline may take from now on; never nothing, so that it can say so.
pub(super) fn time_left(deadline: Timestamp, now: Timestamp) -> Duration {
    between(now, deadline).max(Duration::from_millis(1))
}
