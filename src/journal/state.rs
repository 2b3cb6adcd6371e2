//! Where an execution stands, as told by its journal. Only `fold` changes it.

use super::event::Skip;
use super::record::{AttemptResult, Created, Inherited};
use crate::model::{
    AttemptOutcome, Effect, ExecutionId, ExecutionStatus, Part, Reason, Role, StepId, StepStatus, Timestamp,
};
use std::collections::BTreeMap;

/// Where an execution stands.
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
    /// The inputs as they are now.
    pub inputs: BTreeMap<String, String>,
    /// The steps, in the runbook's order.
    pub steps: Vec<StepState>,
    /// The proof, once begun.
    pub verify: Option<VerifyState>,
    /// When its alert resolved.
    pub resolved_at: Option<Timestamp>,
    /// Who stopped it.
    pub stop: Option<StopRequest>,
    /// Who aborted it by the kill switch.
    pub aborted: Option<Saying>,
    /// Whether it was stopped once more after its end was decided: `finally` steps end too.
    pub cut_short: bool,
    /// Whether the whole timeout passed.
    pub deadline_passed: bool,
    /// Since when it waits for consent, while it does: that time counts against no timeout of its own.
    pub awaiting_since: Option<Timestamp>,
    /// Why it is held, while it is.
    pub pause: Option<Pause>,
    /// How it ends, once that is decided.
    pub ending: Option<Decided>,
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
    /// Who skipped it.
    pub skipped_by: Option<Saying>,
    /// The code of why it ended so, where one says more than the status.
    pub reason: Option<Reason>,
    /// Why it failed, where no attempt says it.
    pub error: Option<String>,
    /// The attempts in progress.
    pub open: Vec<Open>,
    /// The attempts that ended, of all parts, in the order in which they did.
    pub attempts: Vec<Attempt>,
    /// How many of `attempts` belong to the time before a person asked for another try.
    pub since: usize,
    /// The attempts that will be made later, by part.
    pub retries: BTreeMap<Part, Planned>,
    /// How items and undos ended, and why where no attempt says it.
    pub ended: BTreeMap<Part, (StepStatus, Option<String>)>,
    /// What it is done for, item by item.
    pub items: Option<Vec<String>>,
    /// Which main parts have begun, each with the number of the event that says so.
    pub begun: Vec<(u64, Part)>,
    /// When the time of all its attempts passes.
    pub deadline: Option<Timestamp>,
    /// Until when it waits at most.
    pub until: Option<Timestamp>,
    /// When its timer began.
    pub timer_started_at: Option<Timestamp>,
    /// The last answer to the question it waits on.
    pub observed: Option<(bool, String)>,
    /// The consent it asks for.
    pub approval: Option<ApprovalState>,
    /// Who said that it is done.
    pub acknowledged: Option<Saying>,
    /// Its arguments, where a person changed them.
    pub args: Option<Vec<String>>,
}

/// An attempt in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// The part of the step.
    pub part: Part,
    /// Its number.
    pub attempt: u32,
    /// When it was intended.
    pub started_at: Timestamp,
    /// When its timeout passes.
    pub deadline: Timestamp,
    /// What it does, for people.
    pub plan: String,
    /// The breaker that hears of its outcome.
    pub breaker: Option<String>,
    /// The execution it started.
    pub child: Option<ExecutionId>,
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The part of the step.
    pub part: Part,
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

/// An attempt to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Its number.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saying {
    /// Who.
    pub actor: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A consent that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalState {
    /// To what.
    pub plan: String,
    /// SHA-256 of that.
    pub hash: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Until when it may be given.
    pub until: Timestamp,
    /// Who gave it so far.
    pub given: Vec<Saying>,
    /// Who refused.
    pub refused: Option<Saying>,
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
    /// Whether what was done is to be undone.
    pub rollback: bool,
}

/// Why it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Who wanted it so; absent where a step's failure did.
    pub actor: Option<String>,
    /// Why, in their words.
    pub reason: String,
    /// The code of why.
    pub code: Option<Reason>,
    /// Since when.
    pub at: Timestamp,
    /// Where it goes on.
    pub from: ExecutionStatus,
}

/// How an execution ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The final status, unless an undo says otherwise.
    pub status: ExecutionStatus,
    /// Why.
    pub reason: Option<Reason>,
    /// What a person needs to know beyond the reason.
    pub message: Option<String>,
    /// Whether what was done is undone.
    pub rollback: bool,
}

impl State {
    /// The state of an execution just created.
    pub fn new(created: Box<Created>, at: Timestamp) -> Self {
        let inherited = |id: &StepId| created.inherited.iter().find(|step| step.step == *id);
        let steps = created
            .steps
            .iter()
            .map(|head| inherited(&head.id).map_or_else(StepState::new, |step| StepState::inherit(step, at)))
            .collect();
        Self {
            inputs: created.inputs.clone(),
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
            aborted: None,
            cut_short: false,
            deadline_passed: false,
            awaiting_since: None,
            pause: None,
            ending: None,
            seq: 1,
        }
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
        self.steps.iter().any(|step| !step.open.is_empty())
    }

    /// The main parts that have begun, in the order in which they did.
    pub fn begun(&self) -> Vec<(usize, Part)> {
        let mut begun: Vec<(u64, usize, Part)> = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            begun.extend(step.begun.iter().map(|(seq, part)| (*seq, index, *part)));
        }
        begun.sort_unstable();
        begun.into_iter().map(|(_, index, part)| (index, part)).collect()
    }

    /// Whether a step waits for consent.
    pub fn awaits_approval(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Waiting && step.approval.is_some())
    }
}

impl StepState {
    pub(super) fn new() -> Self {
        Self {
            status: StepStatus::Pending,
            skip: None,
            skipped_by: None,
            reason: None,
            error: None,
            open: Vec::new(),
            attempts: Vec::new(),
            since: 0,
            retries: BTreeMap::new(),
            ended: BTreeMap::new(),
            items: None,
            begun: Vec::new(),
            deadline: None,
            until: None,
            timer_started_at: None,
            observed: None,
            approval: None,
            acknowledged: None,
            args: None,
        }
    }

    fn inherit(step: &Inherited, at: Timestamp) -> Self {
        let attempts = step.last.iter().map(|result| Attempt {
            part: Part::MAIN,
            attempt: 0,
            started_at: at,
            finished_at: at,
            plan: "done by the execution that is taken back".to_owned(),
            result: result.clone(),
        });
        Self {
            status: step.status,
            items: step.items.clone(),
            begun: step.begun.clone(),
            attempts: attempts.collect(),
            ..Self::new()
        }
    }

    /// Whether nothing more happens to it.
    pub fn is_over(&self) -> bool {
        !matches!(self.status, StepStatus::Pending | StepStatus::Running | StepStatus::Waiting)
    }

    /// Whether it ended in another way than well.
    pub fn has_failed(&self) -> bool {
        use StepStatus::{Failed, Stopped, TimedOut, Unknown};
        matches!(self.status, Failed | TimedOut | Stopped | Unknown)
    }

    /// Its last attempt that ended, apart from probes and undos.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| attempt.part.role == Role::Main)
    }

    /// The last attempt of `part` since a person last asked for another try.
    pub fn last_of(&self, part: Part) -> Option<&Attempt> {
        self.attempts[self.since..].iter().rev().find(|attempt| attempt.part == part)
    }

    /// How many attempts of `part` ended with an outcome since a person last asked for another try.
    pub fn tried(&self, part: Part) -> u32 {
        let ended = self.attempts[self.since..]
            .iter()
            .filter(|attempt| attempt.part == part && attempt.result.outcome != AttemptOutcome::Interrupted);
        u32::try_from(ended.count()).unwrap_or(u32::MAX)
    }

    /// The number of the next new attempt of `part`.
    pub fn next_number(&self, part: Part) -> u32 {
        let of_part = self.attempts.iter().filter(|attempt| attempt.part == part);
        of_part.map(|attempt| attempt.attempt).max().unwrap_or(0) + 1
    }

    /// The attempt of `part` in progress.
    pub fn open_of(&self, part: Part) -> Option<&Open> {
        self.open.iter().find(|open| open.part == part)
    }

    /// Whether the step itself, not its undo, has an attempt in progress.
    pub fn is_busy(&self) -> bool {
        self.open.iter().any(|open| open.part.role != Role::Undo)
    }

    /// What `steps.X.ok` is: a check's answer, else whether it succeeded.
    pub fn ok(&self) -> bool {
        let answer = self.last().and_then(|attempt| attempt.result.answer);
        self.status == StepStatus::Succeeded && answer.unwrap_or(true)
    }
}
