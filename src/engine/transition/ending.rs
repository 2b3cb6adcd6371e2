//! From the decision how an execution ends to its final status: settle, undo, `finally`, done.

use super::work::Work;
use super::{Look, Next, Verdict};
use crate::journal::{Decided, Event, Skip};
use crate::model::{AttemptOutcome, ExecutionStatus, Part, Reason, Role, StepStatus};

impl Look<'_> {
    /// Decides how it ends; where nothing is left to be done it ends at once.
    pub(super) fn decide(&self, verdict: Verdict) -> Next {
        let Verdict { status, reason, mut message, rollback } = verdict;
        let mut undoes = rollback && !self.to_undo().is_empty();
        if undoes && let Some(index) = self.past_return() {
            let why =
                format!("step {} is irreversible and has begun: nothing was undone", self.step(index).id);
            message = Some(message.map_or(why.clone(), |message| format!("{message}; {why}")));
            undoes = false;
        }
        let settled =
            self.state.steps.iter().all(super::StepState::is_over) && !self.state.has_open_attempt();
        if settled && !undoes {
            return self.finish(&Decided { status, reason, message, rollback: false });
        }
        Next::Record(Event::Ending { status, reason, message, rollback: undoes })
    }

    /// The irreversible step that has begun, if one has.
    fn past_return(&self) -> Option<usize> {
        (0..self.state.steps.len())
            .find(|index| self.step(*index).irreversible && !self.seen(*index).begun.is_empty())
    }

    /// What has begun and can be undone, last begun first.
    fn to_undo(&self) -> Vec<(usize, Part)> {
        let mut begun = self.state.begun();
        begun.retain(|(index, _)| !self.step(*index).is_finally && self.step(*index).undo.is_some());
        begun.reverse();
        begun
    }

    /// What comes next once it is decided how it ends.
    pub(super) fn ending(&self) -> Next {
        let Some(ending) = &self.state.ending else {
            let (status, reason) = (ExecutionStatus::Failed, Some(Reason::Unreadable));
            return Next::Record(Event::Finished { status, reason, message: None });
        };
        let winding = self.proper().find(|index| !self.seen(*index).is_over() || self.seen(*index).is_busy());
        if winding.is_some() {
            return self.wind_down(ending);
        }
        if ending.rollback
            && let Some(next) = self.roll_back()
        {
            return next;
        }
        if let Some(next) = self.finally() {
            return next;
        }
        self.finish(ending)
    }

    /// Waits for the attempts in progress to end and settles the steps that remain.
    fn wind_down(&self, ending: &Decided) -> Next {
        let open = self.proper().filter(|index| !self.seen(*index).is_over());
        for index in open {
            if !self.seen(index).is_busy() {
                return Next::Record(self.cut(index, ending));
            }
        }
        Next::Idle { wake: None }
    }

    /// The end of a step that is not wanted any more and has no attempt in progress.
    fn cut(&self, index: usize, ending: &Decided) -> Event {
        let (seen, step) = (self.seen(index), self.id(index));
        if seen.status == StepStatus::Pending && seen.attempts.len() == seen.since {
            return Event::StepSkipped { step, why: Skip::Ended, actor: None, reason: None };
        }
        let out_of_time = ending.reason == Some(Reason::Timeout);
        let cut = if out_of_time { StepStatus::TimedOut } else { StepStatus::Stopped };
        let status = match (&seen.items, seen.last_of(Part::MAIN), seen.until) {
            (Some(items), ..) => self.sum_when_cut(index, items, cut),
            (None, Some(last), None) => outcome_status(last.result.outcome, cut),
            (None, ..) => cut,
        };
        Event::StepFinished { step, status, reason: None, error: None }
    }

    fn sum_when_cut(&self, index: usize, items: &[String], cut: StepStatus) -> StepStatus {
        let seen = self.seen(index);
        let status = |position: usize| {
            let part = Part::item(position);
            let last = || seen.last_of(part).map(|last| outcome_status(last.result.outcome, cut));
            seen.ended.get(&part).map(|(status, _)| *status).or_else(last)
        };
        let all: Vec<StepStatus> = (0..items.len()).filter_map(status).collect();
        let done = all.len() == items.len() && all.iter().all(|status| *status == StepStatus::Succeeded);
        match (done, all.contains(&StepStatus::Unknown)) {
            (true, _) => StepStatus::Succeeded,
            (_, true) => StepStatus::Unknown,
            _ => cut,
        }
    }

    /// The next move of the rollback; nothing once it is through, or has failed.
    fn roll_back(&self) -> Option<Next> {
        let to_undo = self.to_undo();
        if to_undo.is_empty() {
            return None;
        }
        if self.state.aborted.is_some() {
            // Whatever is still in progress is being killed; nothing more begins.
            let kills = self.state.has_open_attempt();
            return kills.then_some(Next::Idle { wake: None });
        }
        if self.state.status != ExecutionStatus::RollingBack {
            return Some(Next::Record(Event::RollbackStarted));
        }
        for (index, part) in to_undo {
            let part = part.with(Role::Undo);
            match self.seen(index).ended.get(&part) {
                Some((StepStatus::Succeeded, _)) => {}
                // Half an undo is no ground to build the next one on: a person is needed.
                Some(_) => return None,
                None => return Some(self.undo(index, part)),
            }
        }
        None
    }

    fn undo(&self, index: usize, part: Part) -> Next {
        match self.work(index, part) {
            Work::Over(status, error) => {
                Next::Record(Event::PartFinished { step: self.id(index), part, status, error })
            }
            work => self.carry_on(index, work).unwrap_or_else(|| self.idle()),
        }
    }

    /// The next move of the `finally` steps; nothing once they are over.
    fn finally(&self) -> Option<Next> {
        let mut is_waiting = false;
        let open = (0..self.state.steps.len())
            .filter(|index| self.step(*index).is_finally && !self.seen(*index).is_over());
        for index in open {
            is_waiting = true;
            if self.state.cut_short || self.is_rollback() {
                if !self.seen(index).is_busy() {
                    let stopped = Decided {
                        status: ExecutionStatus::Stopped,
                        reason: Some(Reason::Stopped),
                        message: None,
                        rollback: false,
                    };
                    return Some(Next::Record(self.cut(index, &stopped)));
                }
            } else if self.is_ready(index)
                && let Some(next) = self.advance(index)
            {
                return Some(next);
            }
        }
        is_waiting.then(|| self.idle())
    }

    /// The end. What was decided stands, unless an undo or a `finally` step says otherwise.
    fn finish(&self, decided: &Decided) -> Next {
        let Decided { mut status, mut reason, mut message, .. } = decided.clone();
        let undone = || {
            let steps = self.state.steps.iter().enumerate();
            steps.flat_map(|(index, step)| step.ended.iter().map(move |(part, end)| (index, part, end)))
        };
        let undone = || undone().filter(|(_, part, _)| part.role == Role::Undo);
        if self.state.aborted.is_some() && decided.rollback && self.is_left_to_undo() {
            status = ExecutionStatus::RollbackFailed;
            reason = Some(Reason::Aborted);
            let why = "the rollback was aborted before its end".to_owned();
            message = Some(message.map_or(why.clone(), |message| format!("{message}; {why}")));
        } else if let Some((index, ..)) = undone().find(|(.., (status, _))| *status != StepStatus::Succeeded)
        {
            status = ExecutionStatus::RollbackFailed;
            reason = reason.or(Some(Reason::UndoFailed));
            let why = format!("the undo of step {} failed", self.step(index).id);
            message = Some(message.map_or(why.clone(), |message| format!("{message}; {why}")));
        } else if undone().next().is_some() {
            status = ExecutionStatus::RolledBack;
        } else if status == ExecutionStatus::Succeeded
            && let Some(index) = (0..self.state.steps.len())
                .find(|index| self.step(*index).is_finally && self.failed_for_good(*index))
        {
            (status, reason) = (ExecutionStatus::Failed, Some(Reason::StepFailed));
            message = Some(format!("the finally step {} failed", self.step(index).id));
        }
        if self.state.aborted.is_some()
            && matches!(status, ExecutionStatus::Succeeded | ExecutionStatus::Stopped)
        {
            // Where it succeeded, something that was to run at the end did not.
            (status, reason) = (ExecutionStatus::Stopped, Some(Reason::Aborted));
        }
        Next::Record(Event::Finished { status, reason, message })
    }

    /// Whether something that was to be undone is not.
    fn is_left_to_undo(&self) -> bool {
        self.to_undo().into_iter().any(|(index, part)| {
            let end = self.seen(index).ended.get(&part.with(Role::Undo));
            end.is_none_or(|(status, _)| *status != StepStatus::Succeeded)
        })
    }
}

fn outcome_status(outcome: AttemptOutcome, cut: StepStatus) -> StepStatus {
    match outcome {
        AttemptOutcome::Succeeded => StepStatus::Succeeded,
        AttemptOutcome::Failed => StepStatus::Failed,
        AttemptOutcome::TimedOut => StepStatus::TimedOut,
        AttemptOutcome::Unknown => StepStatus::Unknown,
        AttemptOutcome::Stopped => StepStatus::Stopped,
        AttemptOutcome::Interrupted => cut,
    }
}
