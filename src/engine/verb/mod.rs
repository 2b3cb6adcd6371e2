//! What a person may do to an execution, one file a verb: each an exhaustive match on its status.
//!
//! Pure. May import: `model`, `journal`, `runbook`. Must never: change a state; the driver records the events
//! an answer names, and a verb that meets an execution in another state than its asker saw is answered by that.

mod acknowledge;
mod anew;
mod approve;
mod modify;
mod pause;
mod reject;
mod resume;
mod retry;
mod rollback;
mod skip;
mod stop;

pub use anew::{Anew, Earlier, created, earlier, forebear};

use crate::journal::{Event, State};
use crate::model::{ExecutionStatus, StepId, Timestamp};
use crate::runbook::Runbook;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Kill what is in progress, start nothing more, undo nothing.
    Stop,
    /// The same, then undo; of a finished execution: undo what it did.
    Rollback,
    /// Let what is in progress end, begin nothing, let no time pass.
    Pause,
    /// Go on.
    Resume,
    /// Consent.
    Approve,
    /// Refuse consent.
    Reject,
    /// Say that an instruction has been followed.
    Acknowledge,
    /// Try a failed step once more; of a finished execution: all of it.
    Retry,
    /// Leave a step out.
    Skip,
    /// Change inputs or arguments of what is still to be done.
    Modify,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 10] = [
        Self::Stop,
        Self::Rollback,
        Self::Pause,
        Self::Resume,
        Self::Approve,
        Self::Reject,
        Self::Acknowledge,
        Self::Retry,
        Self::Skip,
        Self::Modify,
    ];

    /// The word in requests and in the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Rollback => "rollback",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Acknowledge => "acknowledge",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Modify => "modify",
        }
    }

    /// The verb spelled `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// Their name.
    pub subject: String,
    /// Their roles, which an approval may want.
    pub roles: BTreeSet<String>,
}

/// One request of a person.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What.
    pub verb: Verb,
    /// Who.
    pub actor: Actor,
    /// Why, in their words.
    pub reason: String,
    /// Which step, where the verb is about one.
    pub step: Option<StepId>,
    /// For an approval: the hash of the plan that was read; unchecked where absent.
    pub hash: Option<String>,
    /// For a change: inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// For a change: the arguments of the step.
    pub args: Option<Vec<String>>,
}

impl Ask {
    /// A request without anything special.
    pub fn new(verb: Verb, actor: Actor, reason: impl Into<String>) -> Self {
        let (step, hash, inputs, args) = (None, None, BTreeMap::new(), None);
        Self { verb, actor, reason: reason.into(), step, hash, inputs, args }
    }
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done by recording these events.
    Record(Vec<Event>),
    /// It is so already; asking again is no error.
    AlreadySo,
    /// It takes a new execution, because final is final.
    Anew(Anew),
    /// The state does not allow it.
    Conflict(String),
    /// The request itself is wrong.
    Invalid(String),
    /// This person may not.
    Forbidden(String),
}

impl Answer {
    fn conflict(why: impl Into<String>) -> Self {
        Self::Conflict(why.into())
    }
}

/// What `ask` comes to for an execution in `state` at `now`.
pub fn answer(runbook: &Runbook, state: &State, now: Timestamp, ask: &Ask) -> Answer {
    match ask.verb {
        Verb::Stop => stop::answer(runbook, state, ask),
        Verb::Rollback => rollback::answer(runbook, state, ask),
        Verb::Pause => pause::answer(state, ask),
        Verb::Resume => resume::answer(runbook, state, ask),
        Verb::Approve => approve::answer(runbook, state, now, ask),
        Verb::Reject => reject::answer(runbook, state, now, ask),
        Verb::Acknowledge => acknowledge::answer(runbook, state, ask),
        Verb::Retry => retry::answer(runbook, state, ask),
        Verb::Skip => skip::answer(runbook, state, ask),
        Verb::Modify => modify::answer(runbook, state, ask),
    }
}

const FINAL: &str = "it is over, and final is final";
const QUEUED: &str = "it has not begun yet; stop it if it must not begin";
const ROLLING_BACK: &str = "half an undo would be worse than either end";

/// The position of the step a request names.
fn position(state: &State, ask: &Ask) -> Result<usize, Answer> {
    let Some(step) = &ask.step else { return Err(Answer::Invalid("name the step".to_owned())) };
    let unknown = || Answer::Invalid(format!("there is no step {step}"));
    state.index_of(step).ok_or_else(unknown)
}

/// The step a request names, or the only one for which `fits` holds.
fn named_or_only(
    state: &State,
    ask: &Ask,
    what: &str,
    fits: impl Fn(usize) -> bool,
) -> Result<usize, Answer> {
    if ask.step.is_some() {
        return position(state, ask);
    }
    let fitting: Vec<usize> = (0..state.steps.len()).filter(|index| fits(*index)).collect();
    match fitting[..] {
        [index] => Ok(index),
        [] => Err(Answer::conflict(format!("no step {what}"))),
        _ => Err(Answer::Invalid(format!("several steps {what}: name one"))),
    }
}

/// Whether the pause was a failed step's, and `index` was the last one that had to be dealt with: then the
/// execution goes on by itself.
fn resumes_with(runbook: &Runbook, state: &State, index: usize) -> bool {
    let by_failure = state.pause.as_ref().is_some_and(|pause| pause.actor.is_none());
    by_failure && first_failed(runbook, state, Some(index)).is_none()
}

/// The first step whose failure holds the execution, apart from `except`.
fn first_failed(runbook: &Runbook, state: &State, except: Option<usize>) -> Option<usize> {
    (0..state.steps.len()).find(|index| {
        Some(*index) != except
            && state.steps[*index].has_failed()
            && runbook.steps[*index].on_failure == crate::runbook::OnFailure::Pause
    })
}

fn resumed(ask: &Ask) -> Event {
    Event::Resumed { actor: ask.actor.subject.clone(), reason: ask.reason.clone() }
}

/// Whether the execution is in a status in which something waits for people.
fn is_open(status: ExecutionStatus) -> bool {
    !status.is_final() && status != ExecutionStatus::Queued
}
