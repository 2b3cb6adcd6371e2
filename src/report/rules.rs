//! What of an execution's life people are told of.
//!
//! The rule: every end but `succeeded` is told, unless it is what a person or the end of the alert asked for and nothing
//! was left half done: what was stopped after it had begun to change something is told, whoever stopped it. Of what
//! waits for a person, people are told when it begins to wait, and the telling ends when it does not wait any more.

use super::entry::{Cause, Denial, Escalation, EscalationId, Standing};
use super::text::{alert_url, cut};
use crate::journal::{Event, State, StepState};
use crate::model::{ExecutionId, ExecutionStatus, Reason, Role, StepId, StepStatus, Target, Timestamp};
use crate::runbook::{Kind, OnFailure, Runbook};

/// Denials that mean "too much is broken, or automation does not help": told once per runbook and window, with totals.
/// A new gate of that sort adds its code here, and nowhere else.
pub const DENIALS: &[Reason] = &[
    Reason::Storm,
    Reason::Flapping,
    Reason::AttemptsExhausted,
    Reason::BreakerOpen,
    Reason::TooManyTargets,
    Reason::Unconfirmed,
    Reason::Systemic,
    Reason::PrecheckFailed,
    Reason::QueueExpired,
];

/// What a person or the end of the alert asked for. A gate that finds that nothing is wrong adds its code here.
const QUIET: &[Reason] =
    &[Reason::Resolved, Reason::Stopped, Reason::Rejected, Reason::NotFiring, Reason::Silenced];

/// How much of a text is kept, in bytes.
const MESSAGE_MAX: usize = 1000;
const NAME_MAX: usize = 200;
const URL_MAX: usize = 1000;
/// How many steps are told of.
const DONE_MAX: usize = 12;

/// What a commit has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// Tell people of this.
    Open(Box<Escalation>),
    /// Count this, and tell people of all of them once.
    Denied(Box<Denial>),
    /// What they were told of this execution has happened.
    Close(ExecutionId, Which),
}

/// Which of an execution's escalations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// What waits for a person at this step.
    Step(StepId),
    /// That it is held.
    Pause,
    /// All that waits for a person.
    Waiting,
    /// What ends with its alert; a target left half undone does not.
    Alert,
    /// All of them.
    All,
}

impl Which {
    /// Whether `escalation` is one of them.
    pub fn is(&self, escalation: &Escalation) -> bool {
        let waits = matches!(escalation.cause, Cause::Approval | Cause::Instruction);
        match self {
            Self::Step(step) => waits && escalation.step.as_ref() == Some(step),
            Self::Pause => escalation.cause == Cause::Paused,
            Self::Waiting => waits || escalation.cause == Cause::Paused,
            Self::Alert => escalation.status != Some(ExecutionStatus::RollbackFailed),
            Self::All => true,
        }
    }
}

/// Whether people are told of a denial with this code.
pub fn calls_for_people(reason: Reason) -> bool {
    DENIALS.contains(&reason)
}

/// Whether people are told of this end, whatever its steps did; of one that was stopped these decide.
pub fn speaks(status: ExecutionStatus, reason: Option<Reason>) -> bool {
    use ExecutionStatus as S;
    let quiet = reason.is_none_or(|reason| QUIET.contains(&reason));
    match status {
        S::Succeeded => false,
        // Half undone: a person is needed, whoever asked for it.
        S::RollbackFailed => true,
        // Only a person, the alert or the kill switch stops; what was changed by then is for the steps to say.
        S::Stopped => false,
        // Without a code it is the rollback somebody asked for.
        S::RolledBack => !quiet,
        S::Rejected | S::Expired => reason.is_none_or(|reason| !QUIET.contains(&reason)),
        S::Failed | S::NotVerified => true,
        S::Queued | S::AwaitingApproval | S::Running | S::Paused | S::Verifying | S::RollingBack => false,
    }
}

/// What `events`, which led from `before` to `after`, have to say.
pub fn words(
    runbook: &Runbook,
    before: &State,
    after: &State,
    events: &[Event],
    now: Timestamp,
) -> Vec<Word> {
    let mut words = Vec::new();
    // Where the runbook says that nobody is told, nothing is kept of it either.
    if runbook.escalate_to.as_ref().is_some_and(Vec::is_empty) {
        return words;
    }
    for (event, seq) in events.iter().zip(before.seq + 1..) {
        let told = Told { runbook, state: after, seq, now };
        told.of(event, &mut words);
    }
    words
}

/// What there is to say of an execution that cannot be continued.
pub fn unreadable(state: &State, now: Timestamp) -> Word {
    let message = state.message.as_deref();
    Word::Open(Box::new(entry(state, None, Cause::Finished, None, message, state.seq, now)))
}

struct Told<'t> {
    runbook: &'t Runbook,
    state: &'t State,
    seq: u64,
    now: Timestamp,
}

impl Told<'_> {
    fn of(&self, event: &Event, words: &mut Vec<Word>) {
        let id = &self.state.created.id;
        let close = |which| Word::Close(id.clone(), which);
        match event {
            Event::ApprovalRequested { step, plan, .. } => {
                // What was asked before, if anything, is void.
                words.push(close(Which::Step(step.clone())));
                words.push(self.open(Cause::Approval, Some(step), Some(plan)));
            }
            Event::TimerStarted { step, .. } if self.is_instruction(step) => {
                words.push(self.open(Cause::Instruction, Some(step), None));
            }
            Event::Paused { actor: None, reason, .. } => {
                words.push(self.open(Cause::Paused, None, Some(reason)));
            }
            Event::Resumed { .. } => words.push(close(Which::Pause)),
            Event::StepFinished { step, status, .. } => {
                if self.waits(step) {
                    words.push(close(Which::Step(step.clone())));
                }
                let goes_on = |step: &StepId| {
                    let index = self.state.index_of(step);
                    index.is_some_and(|index| self.runbook.steps[index].on_failure == OnFailure::Continue)
                };
                if *status == StepStatus::Unknown && goes_on(step) {
                    words.push(self.open(Cause::UnknownOutcome, Some(step), None));
                }
            }
            Event::StepSkipped { step, .. } if self.waits(step) => {
                words.push(close(Which::Step(step.clone())));
            }
            Event::Finished { status, reason, message } => {
                words.push(close(Which::Waiting));
                words.extend(self.finished(*status, *reason, message.as_deref()));
            }
            _ => {}
        }
    }

    fn finished(
        &self,
        status: ExecutionStatus,
        reason: Option<Reason>,
        message: Option<&str>,
    ) -> Option<Word> {
        let created = &self.state.created;
        // A child's end is a step's end, of which its parent tells; but a target left half undone is told of always.
        let is_childs = created.parent.is_some() && status != ExecutionStatus::RollbackFailed;
        let half_done = status == ExecutionStatus::Stopped && self.has_changed();
        if is_childs || !(half_done || speaks(status, reason)) {
            return None;
        }
        let never_began = matches!(status, ExecutionStatus::Rejected | ExecutionStatus::Expired);
        match reason.filter(|reason| never_began && calls_for_people(*reason)) {
            Some(reason) => Some(Word::Denied(Box::new(Denial {
                runbook: created.runbook.clone(),
                title: cut(&created.title, NAME_MAX),
                reason,
                message: cut(message.unwrap_or(reason.sentence()), MESSAGE_MAX),
                target: target(self.state),
                alertname: created.trigger.alertname.as_deref().map(|name| cut(name, NAME_MAX)),
                source_url: url(&created.trigger.generator_url),
                alert_url: alert_url(&created.trigger.external_url, &created.trigger.labels),
                to: self.runbook.escalate_to.clone(),
                execution: Some(created.id.clone()),
                episode: None,
                at: self.now,
            }))),
            None => Some(self.open(Cause::Finished, None, message.or_else(|| self.seen_last(reason)))),
        }
    }

    /// Whether a step that changes something had begun. Who was only told something has not been changed.
    fn has_changed(&self) -> bool {
        let steps = self.state.created.steps.iter().zip(&self.state.steps);
        let mut changing = steps.filter(|(head, _)| head.effect.is_changing() && head.kind != "notify");
        changing.any(|(_, seen)| !matches!(seen.status, StepStatus::Pending | StepStatus::Skipped))
    }

    /// What the verify saw last, of an end for which it is the reason.
    fn seen_last(&self, reason: Option<Reason>) -> Option<&str> {
        let verify = self.state.verify.as_ref().filter(|_| reason == Some(Reason::NotVerified))?;
        verify.detail.as_deref()
    }

    fn open(&self, cause: Cause, step: Option<&StepId>, message: Option<&str>) -> Word {
        let Self { runbook, state, seq, now } = *self;
        Word::Open(Box::new(entry(state, Some(runbook), cause, step, message, seq, now)))
    }

    fn is_instruction(&self, step: &StepId) -> bool {
        let index = self.state.index_of(step);
        let kind = index.map(|index| &self.runbook.steps[index].kind);
        matches!(kind, Some(Kind::Instruct { acknowledge: true, .. }))
    }

    fn waits(&self, step: &StepId) -> bool {
        let index = self.state.index_of(step);
        let kind = index.map(|index| &self.runbook.steps[index].kind);
        matches!(kind, Some(Kind::Approve(_))) || self.is_instruction(step)
    }
}

fn entry(
    state: &State,
    runbook: Option<&Runbook>,
    cause: Cause,
    step: Option<&StepId>,
    message: Option<&str>,
    seq: u64,
    now: Timestamp,
) -> Escalation {
    let created = &state.created;
    Escalation {
        id: EscalationId::of(now, &format!("{} {seq}", created.id)),
        at: now,
        cause,
        runbook: created.runbook.clone(),
        title: cut(&created.title, NAME_MAX),
        execution: Some(created.id.clone()),
        step: step.cloned(),
        status: Some(state.status),
        reason: state.reason.or(state.pause.as_ref().and_then(|pause| pause.code)),
        message: message.filter(|text| !text.trim().is_empty()).map(|text| cut(text, MESSAGE_MAX)),
        target: target(state),
        alertname: created.trigger.alertname.as_deref().map(|name| cut(name, NAME_MAX)),
        source_url: url(&created.trigger.generator_url),
        alert_url: alert_url(&created.trigger.external_url, &created.trigger.labels),
        done: done(state),
        totals: None,
        to: runbook.and_then(|runbook| runbook.escalate_to.clone()),
        due: now,
        standing: Standing::Open,
        closed: None,
        deliveries: None,
        revision: 0,
    }
}

fn target(state: &State) -> Option<String> {
    state.created.target.as_ref().map(|target: &Target| cut(target.as_str(), NAME_MAX))
}

/// Half a link leads elsewhere, so a long one is left out.
fn url(text: &str) -> String {
    if text.len() <= URL_MAX { text.to_owned() } else { String::new() }
}

/// A line for each step that did something, the last ones where there are many.
fn done(state: &State) -> Vec<String> {
    let lines: Vec<String> = state
        .created
        .steps
        .iter()
        .zip(&state.steps)
        .filter(|(_, seen)| !matches!(seen.status, StepStatus::Pending | StepStatus::Skipped))
        .map(|(head, seen)| {
            cut(&format!("{}: {}{}{}", head.id, seen.status, why(seen), undo(seen)), NAME_MAX)
        })
        .collect();
    lines[lines.len().saturating_sub(DONE_MAX)..].to_vec()
}

fn why(seen: &StepState) -> String {
    if seen.status == StepStatus::Succeeded {
        return String::new();
    }
    let last = seen.last().map(|attempt| &attempt.result);
    let exit = last.and_then(|result| result.exit_code).map(|code| format!("exit {code}"));
    let status = last.and_then(|result| result.http_status).map(|code| format!("status {code}"));
    let error = seen.error.clone().or_else(|| last.and_then(|result| result.error.clone()));
    exit.or(status).or(error).map(|why| format!(" ({why})")).unwrap_or_default()
}

/// What became of its undo, where there was one.
fn undo(seen: &StepState) -> &'static str {
    let ends: Vec<StepStatus> = seen
        .ended
        .iter()
        .filter(|(part, _)| part.role == Role::Undo)
        .map(|(_, (status, _))| *status)
        .collect();
    match &ends[..] {
        [] => "",
        ends if ends.len() < seen.begun.len() => ", not undone",
        ends if ends.iter().any(|status| *status != StepStatus::Succeeded) => ", not undone",
        _ => ", undone",
    }
}
