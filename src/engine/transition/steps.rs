//! One step, moved on: skipped, begun, waited for, ended.

use super::work::Work;
use super::{Look, Next, part_over, view};
use crate::journal::{Event, Skip, TriggerKind};
use crate::model::{Part, Reason, StepStatus, Timestamp, after};
use crate::runbook::{Kind, Mode, OnResolved, UntilCondition};

impl Look<'_> {
    /// Whether all that the step at `index` comes after is over, however far before: a step between them can be
    /// skipped by a person while an earlier one is in progress, or waits for another consent.
    pub(super) fn is_ready(&self, index: usize) -> bool {
        let mut left: Vec<usize> = self.step(index).after.clone();
        let mut looked_at = vec![false; self.state.steps.len()];
        while let Some(before) = left.pop() {
            if !self.seen(before).is_over() {
                return false;
            }
            if !std::mem::replace(&mut looked_at[before], true) {
                left.extend(&self.step(before).after);
            }
        }
        true
    }

    /// What comes next for the step at `index`, which is ready and not over; nothing while it must wait.
    pub(super) fn advance(&self, index: usize) -> Option<Next> {
        let (step, seen) = (self.step(index), self.seen(index));
        if seen.status == StepStatus::Pending
            && let Some(event) = self.skip_or_fail(index)
        {
            return Some(Next::Record(event));
        }
        if seen.status == StepStatus::Waiting && !seen.is_busy() && self.is_unwanted(index) {
            let why = "the alert resolved before it was tried again".to_owned();
            return self.end(index, StepStatus::Stopped, Some(Reason::Resolved), Some(why));
        }
        if step.for_each.is_some() {
            return self.items(index);
        }
        match &step.kind {
            Kind::Wait { duration } => self.wait(index, after(self.now, *duration)),
            Kind::Until(until) => {
                self.wait_until(index, matches!(until.condition, UntilCondition::AlertResolved))
            }
            Kind::Approve(_) => self.approve(index),
            Kind::Instruct { acknowledge: true, .. } => self.instruct(index),
            _ => self.plain(index),
        }
    }

    /// What a step becomes that does not even begin.
    fn skip_or_fail(&self, index: usize) -> Option<Event> {
        let step = self.step(index);
        let skip = |why| Event::StepSkipped { step: self.id(index), why, actor: None, reason: None };
        if self.state.created.range.is_some_and(|(from, to)| !(from..=to).contains(&index)) {
            return Some(skip(Skip::Range));
        }
        if self.is_unwanted(index) {
            return Some(skip(Skip::Resolved));
        }
        // A person who starts it has consented; what nobody asked for waits for somebody.
        let by_hand = self.state.created.trigger.kind == TriggerKind::Manual;
        if by_hand && self.runbook.mode == Mode::Approve && index == 0 {
            return Some(skip(Skip::When));
        }
        let when = step.when.as_ref()?;
        match when.evaluate(&view::context_of(self.runbook, self.state)) {
            Ok(true) => None,
            Ok(false) => Some(skip(Skip::When)),
            Err(error) => {
                let error = Some(format!("its `when` cannot be answered: {error}"));
                Some(part_over(self.state, index, Part::MAIN, StepStatus::Failed, None, error))
            }
        }
    }

    /// Whether the alert's end makes the step at `index` needless.
    fn is_unwanted(&self, index: usize) -> bool {
        let step = self.step(index);
        let consent = matches!(step.kind, Kind::Approve(_)) && step.effect == crate::model::Effect::ReadOnly;
        self.state.resolved_at.is_some()
            && self.runbook.on_resolved == OnResolved::Finish
            && !step.is_finally
            && (step.effect.is_changing() || consent)
    }

    fn plain(&self, index: usize) -> Option<Next> {
        match self.work(index, Part::MAIN) {
            Work::Over(status, error) => self.end(index, status, None, error),
            work => self.carry_on(index, work),
        }
    }

    /// What work that is not over asks for.
    pub(super) fn carry_on(&self, index: usize, work: Work) -> Option<Next> {
        match work {
            Work::Begin(part, attempt) if self.may_begin => Some(Next::Begin { index, part, attempt }),
            Work::Retry(part, attempt, at) => Some(Next::Retry { index, part, attempt, at }),
            Work::Later(at) => {
                self.wake_at(at);
                None
            }
            Work::Begin(..) | Work::Busy | Work::Over(..) => None,
        }
    }

    pub(super) fn end(
        &self,
        index: usize,
        status: StepStatus,
        reason: Option<Reason>,
        error: Option<String>,
    ) -> Option<Next> {
        Some(Next::Record(Event::StepFinished { step: self.id(index), status, reason, error }))
    }

    fn wait(&self, index: usize, until: Timestamp) -> Option<Next> {
        match self.seen(index).until {
            None => Some(Next::Record(Event::TimerStarted { step: self.id(index), until })),
            Some(until) if self.now >= until => self.end(index, StepStatus::Succeeded, None, None),
            Some(until) => {
                self.wake_at(until);
                None
            }
        }
    }

    fn wait_until(&self, index: usize, for_alert: bool) -> Option<Next> {
        let seen = self.seen(index);
        let Some(until) = seen.until else {
            let until = after(self.now, self.step(index).timeout);
            return Some(Next::Record(Event::TimerStarted { step: self.id(index), until }));
        };
        let holds = seen.observed.as_ref().is_some_and(|(holds, _)| *holds);
        if holds || (for_alert && self.state.resolved_at.is_some()) {
            return self.end(index, StepStatus::Succeeded, None, None);
        }
        if self.now >= until {
            let last = seen.observed.as_ref().map(|(_, detail)| format!("; last seen: {detail}"));
            let why = format!("the condition did not hold in time{}", last.unwrap_or_default());
            return self.end(index, StepStatus::TimedOut, None, Some(why));
        }
        self.wake_at(until);
        None
    }

    fn approve(&self, index: usize) -> Option<Next> {
        let seen = self.seen(index);
        let (Some(asked), Kind::Approve(terms)) = (&seen.approval, &self.step(index).kind) else {
            return Some(Next::Ask { index });
        };
        if let Some(saying) = &asked.refused {
            let why = format!("{} refused: {}", saying.actor, saying.reason);
            return self.end(index, StepStatus::Failed, Some(Reason::Rejected), Some(why));
        }
        if asked.given.len() >= usize::try_from(terms.approval.count).unwrap_or(usize::MAX) {
            return self.end(index, StepStatus::Succeeded, None, None);
        }
        if self.now >= asked.until {
            let why = format!("{} of {} consented in time", asked.given.len(), terms.approval.count);
            return self.end(index, StepStatus::TimedOut, Some(Reason::ApprovalExpired), Some(why));
        }
        self.wake_at(asked.until);
        None
    }

    /// The text is shown like that of any instruction; then a person has until the step's timeout.
    fn instruct(&self, index: usize) -> Option<Next> {
        match self.work(index, Part::MAIN) {
            Work::Over(StepStatus::Succeeded, _) => {}
            Work::Over(status, error) => return self.end(index, status, None, error),
            work => return self.carry_on(index, work),
        }
        let seen = self.seen(index);
        if seen.acknowledged.is_some() {
            return self.end(index, StepStatus::Succeeded, None, None);
        }
        match seen.until {
            None => {
                let until = after(self.now, self.step(index).timeout);
                Some(Next::Record(Event::TimerStarted { step: self.id(index), until }))
            }
            Some(until) if self.now >= until => {
                let why = "nobody acknowledged it in time".to_owned();
                self.end(index, StepStatus::TimedOut, None, Some(why))
            }
            Some(until) => {
                self.wake_at(until);
                None
            }
        }
    }
}
