//! The fold: state and event give the next state, or say why the event cannot follow.

use super::event::{Change, Entry, Event, Skip};
use super::record::AttemptResult;
use super::state::{
    ApprovalState, Attempt, Decided, Open, Pause, Planned, Saying, State, StepState, StopRequest, VerifyState,
};
use crate::model::{
    AttemptOutcome, ExecutionId, ExecutionStatus, Part, Reason, Role, StepId, StepStatus, Timestamp, after,
    between,
};
use std::collections::BTreeMap;
use std::time::Duration;

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
    /// No such attempt is in progress, or it is already.
    #[error("attempt {attempt} of step {step} is not where {kind} would have it")]
    Attempt {
        /// The event offered.
        kind: &'static str,
        /// The step.
        step: StepId,
        /// The number.
        attempt: u32,
    },
    /// Consent to something else than what was asked.
    #[error("the consent to step {step} does not fit what is asked now")]
    Consent {
        /// The step.
        step: StepId,
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

use ExecutionStatus::{AwaitingApproval, Paused, Queued, RollingBack, Running, Verifying};
use StepStatus as Step;

/// The statuses in which steps can begin.
const GOING: &[ExecutionStatus] = &[Running, AwaitingApproval, Verifying, RollingBack];

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
        self.change(entry, kind)?;
        self.seq = entry.seq;
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "the whole transition table in one place")]
    fn change(&mut self, entry: &Entry, kind: &'static str) -> Result<(), IllegalEvent> {
        let at = entry.at;
        match &entry.event {
            Event::Created(_) => return Err(IllegalEvent::Status { kind, status: self.status }),
            Event::Started { deadline } => {
                self.expect(kind, &[Queued])?;
                self.status = Running;
                self.started_at = Some(at);
                self.deadline = Some(*deadline);
            }
            Event::StepSkipped { step, why, actor, reason } => {
                self.skip(kind, step, *why, actor, reason, at)?
            }
            Event::ItemsListed { step, items } => {
                self.expect(kind, GOING)?;
                self.step(kind, step, &[Step::Pending])?.items = Some(items.clone());
            }
            Event::StepIntended { step, part, attempt, deadline, total, plan, breaker, child } => {
                self.expect(kind, GOING)?;
                let open = Open {
                    part: *part,
                    attempt: *attempt,
                    started_at: at,
                    deadline: *deadline,
                    plan: plan.clone(),
                    breaker: breaker.clone(),
                    child: child.clone(),
                };
                self.intend(kind, step, open, *total, entry.seq)?;
            }
            Event::TimerStarted { step, until } => {
                self.expect(kind, GOING)?;
                let step = self.step(kind, step, &[Step::Pending, Step::Running])?;
                step.status = Step::Waiting;
                step.until = Some(*until);
                step.timer_started_at = Some(at);
            }
            Event::StepObserved { step, holds, detail } => {
                self.step(kind, step, &[Step::Waiting])?.observed = Some((*holds, detail.clone()));
            }
            Event::ApprovalRequested { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Acknowledged { .. } => self.consent(&entry.event, kind, at)?,
            Event::AttemptFinished { step, part, attempt, result } => {
                self.finish_attempt(kind, step, (*part, *attempt), at, result)?;
            }
            Event::RetryScheduled { step, part, attempt, at } => {
                let planned = Planned { attempt: *attempt, at: *at };
                let step = self.begun_step(kind, step)?;
                step.retries.insert(*part, planned);
                step.settle_status(part.role);
            }
            Event::PartFinished { step, part, status, error } => {
                let step = match part.role {
                    Role::Undo => self.begun_step(kind, step)?,
                    _ => self.step(kind, step, &[Step::Pending, Step::Waiting, Step::Running])?,
                };
                step.retries.remove(part);
                step.ended.insert(*part, (*status, error.clone()));
            }
            Event::StepFinished { step, status, reason, error } => {
                let step = self.step(kind, step, &[Step::Pending, Step::Waiting, Step::Running])?;
                step.end(*status);
                step.reason = *reason;
                step.error.clone_from(error);
                self.settle_status(at);
            }
            Event::AlertResolved => self.resolved_at = self.resolved_at.or(Some(at)),
            Event::StopRequested { actor, reason, rollback } => {
                self.cut_short |= self.ending.is_some();
                let (actor, reason) = (actor.clone(), reason.clone());
                let stop = self.stop.get_or_insert(StopRequest { actor, reason, at, rollback: false });
                stop.rollback |= *rollback;
            }
            Event::Aborted { actor, reason } => {
                let (actor, reason) = (actor.clone(), reason.clone());
                self.aborted.get_or_insert(Saying { actor, reason, at });
                self.cut_short = true;
                if let Some(pause) = self.pause.take() {
                    self.status = pause.from;
                }
            }
            Event::Paused { actor, reason, code } => {
                // The kill switch holds everything, a person or a failed step only what is not ending.
                let halts = *code == Some(Reason::Halted);
                let is_ending = self.ending.is_some() || self.status == RollingBack;
                self.expect(kind, &[Running, AwaitingApproval, Verifying, RollingBack])?;
                if is_ending && !halts {
                    return Err(IllegalEvent::Status { kind, status: self.status });
                }
                let from = std::mem::replace(&mut self.status, Paused);
                let (actor, reason) = (actor.clone(), reason.clone());
                self.pause = Some(Pause { actor, reason, code: *code, at, from });
            }
            Event::Resumed { .. } => {
                self.expect(kind, &[Paused])?;
                self.resume(at);
            }
            Event::RetryRequested { step, .. } => {
                self.expect(kind, &[Paused])?;
                let failed = [Step::Failed, Step::TimedOut, Step::Stopped, Step::Unknown];
                self.step(kind, step, &failed)?.begin_again();
            }
            Event::Modified { inputs, args, .. } => {
                self.expect(kind, &[Paused])?;
                self.modify(kind, inputs, args)?;
            }
            Event::DeadlinePassed => {
                self.expect(kind, &[Running, AwaitingApproval, Verifying])?;
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
            Event::Ending { status, reason, message, rollback } => {
                self.expect(kind, &[Running, AwaitingApproval, Paused, Verifying])?;
                if self.ending.is_some() || !status.is_final() {
                    return Err(IllegalEvent::Status { kind, status: self.status });
                }
                let (message, rollback) = (message.clone(), *rollback);
                self.ending = Some(Decided { status: *status, reason: *reason, message, rollback });
                self.pause = None;
                if self.status != Verifying {
                    self.status = Running;
                }
            }
            Event::RollbackStarted => {
                let asked = self.ending.as_ref().is_some_and(|ending| ending.rollback);
                if !asked || self.status == RollingBack {
                    return Err(IllegalEvent::Status { kind, status: self.status });
                }
                self.status = RollingBack;
            }
            Event::Finished { status, reason, message } => {
                if !status.is_final() {
                    return Err(IllegalEvent::Status { kind, status: *status });
                }
                self.status = *status;
                self.reason = *reason;
                self.message.clone_from(message);
                self.finished_at = Some(at);
                self.pause = None;
            }
        }
        Ok(())
    }

    fn skip(
        &mut self,
        kind: &'static str,
        id: &StepId,
        why: Skip,
        actor: &Option<String>,
        reason: &Option<String>,
        at: Timestamp,
    ) -> Result<(), IllegalEvent> {
        let by_person =
            [Step::Pending, Step::Waiting, Step::Failed, Step::TimedOut, Step::Stopped, Step::Unknown];
        let allowed = if why == Skip::Person { &by_person[..] } else { &[Step::Pending] };
        let step = self.step(kind, id, allowed)?;
        if !step.open.is_empty() {
            return Err(IllegalEvent::Step { kind, step: id.clone(), status: step.status });
        }
        step.end(Step::Skipped);
        step.skip = Some(why);
        let reason = reason.clone().unwrap_or_default();
        step.skipped_by = actor.clone().map(|actor| Saying { actor, reason, at });
        self.settle_status(at);
        Ok(())
    }

    fn intend(
        &mut self,
        kind: &'static str,
        id: &StepId,
        open: Open,
        total: Option<Timestamp>,
        seq: u64,
    ) -> Result<(), IllegalEvent> {
        let step = match open.part.role {
            Role::Undo => self.begun_step(kind, id)?,
            _ => self.step(kind, id, &[Step::Pending, Step::Waiting, Step::Running])?,
        };
        let (part, attempt) = (open.part, open.attempt);
        if step.open_of(part).is_some() || step.ended.contains_key(&part) {
            return Err(IllegalEvent::Attempt { kind, step: id.clone(), attempt });
        }
        if part.role == Role::Main && !step.begun.iter().any(|(_, begun)| *begun == part) {
            step.begun.push((seq, part));
        }
        if part.role != Role::Undo {
            step.status = Step::Running;
        }
        step.retries.remove(&part);
        step.deadline = step.deadline.or(total);
        step.open.push(open);
        Ok(())
    }

    fn finish_attempt(
        &mut self,
        kind: &'static str,
        id: &StepId,
        (part, attempt): (Part, u32),
        at: Timestamp,
        result: &AttemptResult,
    ) -> Result<(), IllegalEvent> {
        let index = self.index_of(id).ok_or_else(|| IllegalEvent::UnknownStep { kind, step: id.clone() })?;
        let step = &mut self.steps[index];
        let position = step.open.iter().position(|open| open.part == part && open.attempt == attempt);
        let Some(position) = position else {
            return Err(IllegalEvent::Attempt { kind, step: id.clone(), attempt });
        };
        let Open { started_at, plan, .. } = step.open.remove(position);
        let result = result.clone();
        let interrupted = result.outcome == AttemptOutcome::Interrupted;
        step.attempts.push(Attempt { part, attempt, started_at, finished_at: at, plan, result });
        if interrupted {
            step.settle_status(part.role);
        }
        Ok(())
    }

    fn consent(&mut self, event: &Event, kind: &'static str, at: Timestamp) -> Result<(), IllegalEvent> {
        match event {
            Event::ApprovalRequested { step, plan, hash, until } => {
                // Also at the end: a `finally` step may ask for consent, whatever came before it.
                self.expect(kind, GOING)?;
                let (plan, hash, until) = (plan.clone(), hash.clone(), *until);
                let step = self.step(kind, step, &[Step::Pending])?;
                step.status = Step::Waiting;
                step.until = Some(until);
                step.timer_started_at = Some(at);
                step.approval =
                    Some(ApprovalState { plan, hash, asked_at: at, until, given: Vec::new(), refused: None });
                self.settle_status(at);
            }
            Event::Approved { step, actor, reason, hash } => {
                let approval = self.asking(kind, step)?;
                if approval.hash != *hash || approval.given.iter().any(|given| given.actor == *actor) {
                    return Err(IllegalEvent::Consent { step: step.clone() });
                }
                approval.given.push(Saying { actor: actor.clone(), reason: reason.clone(), at });
            }
            Event::Rejected { step, actor, reason } => {
                let saying = Saying { actor: actor.clone(), reason: reason.clone(), at };
                self.asking(kind, step)?.refused.get_or_insert(saying);
            }
            Event::Acknowledged { step, actor, reason } => {
                let saying = Saying { actor: actor.clone(), reason: reason.clone(), at };
                self.step(kind, step, &[Step::Waiting])?.acknowledged.get_or_insert(saying);
            }
            _ => {}
        }
        Ok(())
    }

    fn asking(&mut self, kind: &'static str, id: &StepId) -> Result<&mut ApprovalState, IllegalEvent> {
        let step = self.step(kind, id, &[Step::Waiting])?;
        step.approval.as_mut().ok_or_else(|| IllegalEvent::Consent { step: id.clone() })
    }

    /// Time stood still while it was held: whatever was to come, comes so much later.
    fn resume(&mut self, now: Timestamp) {
        let Some(pause) = self.pause.take() else { return };
        let held = between(pause.at, now);
        self.status = pause.from;
        shift(&mut self.deadline, held);
        shift(&mut self.awaiting_since, held);
        for step in &mut self.steps {
            shift(&mut step.until, held);
            shift(&mut step.deadline, held);
            for planned in step.retries.values_mut() {
                planned.at = after(planned.at, held);
            }
            if let Some(approval) = &mut step.approval {
                approval.until = after(approval.until, held);
            }
        }
        if let Some(verify) = &mut self.verify {
            verify.until = after(verify.until, held);
            // What was seen before says nothing of the time nobody looked.
            verify.holds_since = None;
            verify.detail = None;
        }
        self.settle_status(now);
    }

    /// A consent was given to what was to be done then; what is to be done now needs another one.
    fn modify(
        &mut self,
        kind: &'static str,
        inputs: &BTreeMap<String, Change<String>>,
        args: &BTreeMap<StepId, Change<Vec<String>>>,
    ) -> Result<(), IllegalEvent> {
        for id in args.keys() {
            self.step(kind, id, &[Step::Pending])?;
        }
        for (id, change) in args {
            self.step(kind, id, &[Step::Pending])?.args = Some(change.to.clone());
        }
        for (name, change) in inputs {
            self.inputs.insert(name.clone(), change.to.clone());
        }
        for step in self.steps.iter_mut().filter(|step| step.approval.is_some()) {
            if matches!(step.status, Step::Waiting | Step::Succeeded) {
                step.approval = None;
                step.until = None;
                step.status = Step::Pending;
            }
        }
        Ok(())
    }

    /// While a step waits for consent the whole execution shows it.
    fn settle_status(&mut self, at: Timestamp) {
        match self.status {
            Running if self.ending.is_none() && self.awaits_approval() => {
                self.status = AwaitingApproval;
                self.awaiting_since = Some(at);
            }
            AwaitingApproval if !self.awaits_approval() => {
                self.status = Running;
                if let Some(since) = self.awaiting_since.take() {
                    shift(&mut self.deadline, between(since, at));
                }
            }
            _ => {}
        }
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

    /// The step `id`, of which something has begun.
    fn begun_step(&mut self, kind: &'static str, id: &StepId) -> Result<&mut StepState, IllegalEvent> {
        let index = self.index_of(id).ok_or_else(|| IllegalEvent::UnknownStep { kind, step: id.clone() })?;
        let step = &mut self.steps[index];
        if !step.begun.is_empty() {
            return Ok(step);
        }
        Err(IllegalEvent::Step { kind, step: id.clone(), status: step.status })
    }
}

fn shift(at: &mut Option<Timestamp>, by: Duration) {
    *at = at.map(|at| after(at, by));
}

impl StepState {
    fn end(&mut self, status: StepStatus) {
        self.status = status;
        self.until = None;
        self.open.retain(|open| open.part.role == Role::Undo);
        self.retries.retain(|part, _| part.role == Role::Undo);
    }

    /// Between attempts it waits.
    fn settle_status(&mut self, role: Role) {
        if role != Role::Undo && !self.is_busy() {
            self.status = Step::Waiting;
        }
    }

    /// Another try, as if it had not begun; items that are done stay done.
    fn begin_again(&mut self) {
        self.status = Step::Pending;
        self.since = self.attempts.len();
        self.ended.retain(|part, (status, _)| part.role == Role::Main && *status == Step::Succeeded);
        self.deadline = None;
        (self.reason, self.error) = (None, None);
        (self.acknowledged, self.approval, self.observed) = (None, None, None);
    }
}

impl State {
    /// The executions started by attempts in progress.
    pub fn open_children(&self) -> Vec<ExecutionId> {
        self.steps.iter().flat_map(|step| &step.open).filter_map(|open| open.child.clone()).collect()
    }
}
