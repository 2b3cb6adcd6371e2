//! The fold: state and event give the next state, or say why the event cannot follow.

use super::event::{AttemptResult, Created, Entry, Event, Skip};
use crate::model::{AttemptOutcome, Effect, ExecutionStatus, Reason, StepId, StepStatus, Timestamp};

/// An event that cannot follow the state it met: a bug or a damaged journal, never obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// Numbers must count up without gaps.
    #[error("event {found} cannot follow event {last}")]
    Sequence {
        /// The last applied.
        last: u64,
        /// The one offered.
        found: u64,
    },
    /// The journal must begin with `created`.
    #[error("the journal does not begin with its creation")]
    NotCreated,
    /// Nothing follows the end.
    #[error("{kind} cannot follow the end of the execution")]
    Final {
        /// The event offered.
        kind: &'static str,
    },
    /// The execution's status does not allow it.
    #[error("{kind} cannot happen while {status}")]
    Status {
        /// The event offered.
        kind: &'static str,
        /// Where the execution stood.
        status: ExecutionStatus,
    },
    /// The step's status does not allow it.
    #[error("{kind} cannot happen to step {step} while it is {status}")]
    Step {
        /// The event offered.
        kind: &'static str,
        /// The step.
        step: StepId,
        /// Where the step stood.
        status: StepStatus,
    },
    /// No such attempt is in progress.
    #[error("attempt {attempt} of step {step} is not in progress")]
    Attempt {
        /// The step.
        step: StepId,
        /// The number.
        attempt: u32,
    },
    /// No such step.
    #[error("{kind} names the unknown step {step}")]
    UnknownStep {
        /// The event offered.
        kind: &'static str,
        /// The name.
        step: StepId,
    },
}

/// Where an execution stands, as told by its journal.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What it is bound to.
    pub created: Box<Created>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Its status.
    pub status: ExecutionStatus,
    /// Why it ended so, once it has.
    pub reason: Option<Reason>,
    /// What a person needs to know beyond the reason.
    pub message: Option<String>,
    /// When it left the queue.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its whole timeout passes.
    pub deadline: Option<Timestamp>,
    /// The steps, in the runbook's order.
    pub steps: Vec<StepState>,
    /// The proof, once begun.
    pub verify: Option<VerifyState>,
    /// When its alert resolved.
    pub resolved_at: Option<Timestamp>,
    /// Who stopped it.
    pub stop: Option<StopRequest>,
    /// Whether the whole timeout passed.
    pub deadline_passed: bool,
    /// The number of the last event.
    pub seq: u64,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub struct StepState {
    /// Its status.
    pub status: StepStatus,
    /// Why it was skipped.
    pub skip: Option<Skip>,
    /// Why it failed, where no attempt says it.
    pub error: Option<String>,
    /// The attempt in progress.
    pub open: Option<Open>,
    /// Its attempts that ended, in order.
    pub attempts: Vec<Attempt>,
    /// When it goes on, while it waits for time.
    pub until: Option<Timestamp>,
    /// When its timer began.
    pub timer_started_at: Option<Timestamp>,
}

/// An attempt in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Its number.
    pub attempt: u32,
    /// When it was intended.
    pub started_at: Timestamp,
    /// When its timeout passes.
    pub deadline: Timestamp,
    /// What it does, for people.
    pub plan: String,
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number; an interrupted attempt and its re-run share one.
    pub attempt: u32,
    /// When it was intended.
    pub started_at: Timestamp,
    /// When its end was recorded.
    pub finished_at: Timestamp,
    /// What it did, for people.
    pub plan: String,
    /// How it ended.
    pub result: AttemptResult,
}

/// The proof that the steps helped.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyState {
    /// When it began.
    pub started_at: Timestamp,
    /// When it is given up.
    pub until: Timestamp,
    /// Since when it holds without a break.
    pub holds_since: Option<Timestamp>,
    /// The last thing seen.
    pub detail: Option<String>,
}

/// A request to end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl State {
    /// The state after a whole journal.
    ///
    /// # Errors
    /// [`IllegalEvent`] at the first entry that cannot follow.
    pub fn replay(entries: impl IntoIterator<Item = Entry>) -> Result<Self, IllegalEvent> {
        let mut entries = entries.into_iter();
        let mut state = match entries.next() {
            Some(Entry { seq: 1, at, event: Event::Created(created) }) => Self::new(created, at),
            _ => return Err(IllegalEvent::NotCreated),
        };
        for entry in entries {
            state.apply(&entry)?;
        }
        Ok(state)
    }

    /// The state of an execution just created.
    pub fn new(created: Box<Created>, at: Timestamp) -> Self {
        let steps = created
            .steps
            .iter()
            .map(|_| StepState {
                status: StepStatus::Pending,
                skip: None,
                error: None,
                open: None,
                attempts: Vec::new(),
                until: None,
                timer_started_at: None,
            })
            .collect();
        Self {
            created,
            created_at: at,
            status: ExecutionStatus::Queued,
            reason: None,
            message: None,
            started_at: None,
            finished_at: None,
            deadline: None,
            steps,
            verify: None,
            resolved_at: None,
            stop: None,
            deadline_passed: false,
            seq: 1,
        }
    }

    /// Applies one more entry. On an error the state is as it was.
    ///
    /// # Errors
    /// [`IllegalEvent`] saying why it cannot follow.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), IllegalEvent> {
        if entry.seq != self.seq + 1 {
            return Err(IllegalEvent::Sequence { last: self.seq, found: entry.seq });
        }
        let kind = entry.event.kind();
        if self.status.is_final() {
            return Err(IllegalEvent::Final { kind });
        }
        self.change(entry.at, &entry.event, kind)?;
        self.seq = entry.seq;
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "the whole transition table in one place")]
    fn change(&mut self, at: Timestamp, event: &Event, kind: &'static str) -> Result<(), IllegalEvent> {
        use ExecutionStatus::{Queued, Running, Verifying};
        match event {
            Event::Created(_) => return Err(IllegalEvent::Status { kind, status: self.status }),
            Event::Started { deadline } => {
                self.expect(kind, &[Queued])?;
                self.status = Running;
                self.started_at = Some(at);
                self.deadline = Some(*deadline);
            }
            Event::StepSkipped { step, why } => {
                let step = self.step(kind, step, &[StepStatus::Pending])?;
                step.status = StepStatus::Skipped;
                step.skip = Some(*why);
            }
            Event::StepIntended { step, attempt, deadline, plan } => {
                self.expect(kind, &[Running])?;
                let step = self.step(kind, step, &[StepStatus::Pending, StepStatus::Waiting])?;
                step.status = StepStatus::Running;
                step.open =
                    Some(Open { attempt: *attempt, started_at: at, deadline: *deadline, plan: plan.clone() });
            }
            Event::TimerStarted { step, until } => {
                self.expect(kind, &[Running])?;
                let step = self.step(kind, step, &[StepStatus::Pending])?;
                step.status = StepStatus::Waiting;
                step.until = Some(*until);
                step.timer_started_at = Some(at);
            }
            Event::AttemptFinished { step: id, attempt, result } => {
                let step = self.step(kind, id, &[StepStatus::Running])?;
                let Some(open) = step.open.take_if(|open| open.attempt == *attempt) else {
                    return Err(IllegalEvent::Attempt { step: id.clone(), attempt: *attempt });
                };
                finish_attempt(step, open, at, result);
            }
            Event::StepFinished { step, status, error } => {
                let step =
                    self.step(kind, step, &[StepStatus::Pending, StepStatus::Waiting, StepStatus::Running])?;
                step.status = *status;
                step.error.clone_from(error);
                step.until = None;
                step.open = None;
            }
            Event::AlertResolved => self.resolved_at = self.resolved_at.or(Some(at)),
            Event::StopRequested { actor, reason } => {
                let request = StopRequest { actor: actor.clone(), reason: reason.clone(), at };
                self.stop.get_or_insert(request);
            }
            Event::DeadlinePassed => {
                self.expect(kind, &[Running, Verifying])?;
                self.deadline_passed = true;
            }
            Event::VerifyStarted { until } => {
                self.expect(kind, &[Running])?;
                self.status = Verifying;
                self.verify =
                    Some(VerifyState { started_at: at, until: *until, holds_since: None, detail: None });
            }
            Event::VerifyObserved { holds, detail } => {
                self.expect(kind, &[Verifying])?;
                if let Some(verify) = &mut self.verify {
                    verify.holds_since = if *holds { verify.holds_since.or(Some(at)) } else { None };
                    verify.detail = Some(detail.clone());
                }
            }
            Event::Finished { status, reason, message } => {
                if !status.is_final() {
                    return Err(IllegalEvent::Status { kind, status: *status });
                }
                self.status = *status;
                self.reason = *reason;
                self.message.clone_from(message);
                self.finished_at = Some(at);
            }
        }
        Ok(())
    }

    fn expect(&self, kind: &'static str, allowed: &[ExecutionStatus]) -> Result<(), IllegalEvent> {
        if allowed.contains(&self.status) {
            return Ok(());
        }
        Err(IllegalEvent::Status { kind, status: self.status })
    }

    fn step(
        &mut self,
        kind: &'static str,
        id: &StepId,
        allowed: &[StepStatus],
    ) -> Result<&mut StepState, IllegalEvent> {
        let index = self.index_of(id).ok_or_else(|| IllegalEvent::UnknownStep { kind, step: id.clone() })?;
        let step = &mut self.steps[index];
        if allowed.contains(&step.status) {
            return Ok(step);
        }
        Err(IllegalEvent::Step { kind, step: id.clone(), status: step.status })
    }

    /// Where the step `id` stands in the order.
    pub fn index_of(&self, id: &StepId) -> Option<usize> {
        self.created.steps.iter().position(|head| head.id == *id)
    }

    /// The effect class of the step at `index`.
    pub fn effect(&self, index: usize) -> Effect {
        self.created.steps.get(index).map_or(Effect::AtMostOnce, |head| head.effect)
    }

    /// Whether an attempt is in progress.
    pub fn has_open_attempt(&self) -> bool {
        self.steps.iter().any(|step| step.open.is_some())
    }
}

/// Closes the attempt in progress. The step stays `running` until the machine says what follows, except
/// that an interrupted attempt leaves it `waiting` to be intended again.
fn finish_attempt(step: &mut StepState, open: Open, at: Timestamp, result: &AttemptResult) {
    if result.outcome == AttemptOutcome::Interrupted {
        step.status = StepStatus::Waiting;
    }
    let Open { attempt, started_at, plan, .. } = open;
    step.attempts.push(Attempt { attempt, started_at, finished_at: at, plan, result: result.clone() });
}

impl StepState {
    /// Whether nothing more happens to it.
    pub fn is_over(&self) -> bool {
        !matches!(self.status, StepStatus::Pending | StepStatus::Running | StepStatus::Waiting)
    }

    /// The last attempt that ended.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// What `steps.X.ok` is: a check's answer, else whether it succeeded.
    pub fn ok(&self) -> bool {
        let answer = self.last().and_then(|attempt| attempt.result.answer);
        self.status == StepStatus::Succeeded && answer.unwrap_or(true)
    }
}
