//! The events, and how an entry is written: JSON with a version, readable by a person in an emergency.

use super::record::{AttemptResult, Created};
use crate::model::{ExecutionId, ExecutionStatus, Part, Reason, StepId, StepStatus, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version written. A reader accepts this one and refuses a newer one.
const VERSION: u32 = 1;

/// Why a stored entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer runbookd.
    #[error("the journal entry has version {0}, this program reads up to {VERSION}: run the newer runbookd")]
    Newer(u32),
    /// Not an entry.
    #[error("the journal entry cannot be read")]
    Shape(#[from] serde_json::Error),
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, counting up from 1 without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(default = "Option::default")]
    entry: Option<T>,
}

/// The bytes of an entry.
///
/// # Errors
/// When the event cannot be expressed, which no event can cause.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Versioned { v: VERSION, entry: Some(entry) })
}

/// The entry in `bytes`.
///
/// # Errors
/// [`DecodeError`] for a newer version or bytes that are no entry.
pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
    // The version is looked at first, so that a newer shape is named as such instead of as damage.
    let Versioned { v, .. } = serde_json::from_slice::<Versioned<serde::de::IgnoredAny>>(bytes)?;
    if v > VERSION {
        return Err(DecodeError::Newer(v));
    }
    let versioned: Versioned<Entry> = serde_json::from_slice(bytes)?;
    versioned.entry.ok_or_else(|| DecodeError::Shape(serde::de::Error::missing_field("entry")))
}

/// What happened to an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// It was accepted; always the first.
    Created(Box<Created>),
    /// It left the queue with a slot and, where it has one, its lock.
    Started {
        /// When its whole timeout passes.
        deadline: Timestamp,
    },
    /// A step will not run.
    StepSkipped {
        /// Which.
        step: StepId,
        /// Why.
        why: Skip,
        /// Who wanted it so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why they did, in their words.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// What a step is done for, item by item.
    ItemsListed {
        /// Which step.
        step: StepId,
        /// The list; it stays so, whatever its template would give later.
        items: Vec<String>,
    },
    /// An attempt is about to begin; durable before anything is changed.
    StepIntended {
        /// Which.
        step: StepId,
        /// Which part of it.
        #[serde(skip_serializing_if = "Part::is_main", default)]
        part: Part,
        /// Counting up from 1; a re-run after a crash keeps the number.
        attempt: u32,
        /// When the attempt's own timeout passes.
        deadline: Timestamp,
        /// When the time of all attempts passes; with the first of them, where it is limited.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        total: Option<Timestamp>,
        /// What will be done, with everything filled in, for people.
        plan: String,
        /// The breaker that let it pass and hears of its outcome.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        breaker: Option<String>,
        /// The execution it starts.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        child: Option<ExecutionId>,
    },
    /// The step waits: for time to pass, for a condition, or for a person.
    TimerStarted {
        /// Which.
        step: StepId,
        /// Until when at most. Absolute, so that a restart neither loses nor repeats time.
        until: Timestamp,
    },
    /// The answer to the question a step waits on changed.
    StepObserved {
        /// Which step.
        step: StepId,
        /// Whether it holds now.
        holds: bool,
        /// What was seen.
        detail: String,
    },
    /// Consent is asked for.
    ApprovalRequested {
        /// By which step.
        step: StepId,
        /// What is asked, and everything that would follow, as far as it is known.
        plan: String,
        /// SHA-256 of the plan: consent is given to this one and no other.
        hash: String,
        /// Until when it may be given.
        until: Timestamp,
    },
    /// A person consented.
    Approved {
        /// To which step.
        step: StepId,
        /// Who.
        actor: String,
        /// Why, in their words.
        reason: String,
        /// To which plan.
        hash: String,
    },
    /// A person refused.
    Rejected {
        /// Which step.
        step: StepId,
        /// Who.
        actor: String,
        /// Why, in their words.
        reason: String,
    },
    /// A person says that they did what a step told them.
    Acknowledged {
        /// Which step.
        step: StepId,
        /// Who.
        actor: String,
        /// In their words.
        reason: String,
    },
    /// An attempt ended.
    AttemptFinished {
        /// Which step.
        step: StepId,
        /// Which part of it.
        #[serde(skip_serializing_if = "Part::is_main", default)]
        part: Part,
        /// Which attempt.
        attempt: u32,
        /// How.
        result: Box<AttemptResult>,
    },
    /// Another attempt will be made.
    RetryScheduled {
        /// Of which step.
        step: StepId,
        /// Of which part of it.
        #[serde(skip_serializing_if = "Part::is_main", default)]
        part: Part,
        /// Its number.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// One item of a step, or an undo, ended for good.
    PartFinished {
        /// Which step.
        step: StepId,
        /// Which part of it.
        part: Part,
        /// How.
        status: StepStatus,
        /// Why, where no attempt says it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
    },
    /// A step ended for good.
    StepFinished {
        /// Which.
        step: StepId,
        /// How.
        status: StepStatus,
        /// The code of why, where one says more than the status.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<Reason>,
        /// Why, where no attempt says it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
    },
    /// The alert that triggered it resolved.
    AlertResolved,
    /// It is to end.
    StopRequested {
        /// Who asked.
        actor: String,
        /// Why, in their words.
        reason: String,
        /// Whether what was done is to be undone.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        rollback: bool,
    },
    /// The kill switch ends it: nothing is undone, nothing is finished.
    Aborted {
        /// Who ordered it.
        actor: String,
        /// Why, in their words.
        reason: String,
    },
    /// It is held: what is in progress ends, nothing else begins, no time passes.
    Paused {
        /// Who wanted it so; absent where a step's failure did.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why, in their words.
        reason: String,
        /// The code of why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        code: Option<Reason>,
    },
    /// It goes on where it was held.
    Resumed {
        /// Who wanted it so.
        actor: String,
        /// Why, in their words.
        reason: String,
    },
    /// A failed step is to be tried once more.
    RetryRequested {
        /// Which.
        step: StepId,
        /// By whom.
        actor: String,
        /// Why, in their words.
        reason: String,
    },
    /// A person changed what is still to be done.
    Modified {
        /// Who.
        actor: String,
        /// Why, in their words.
        reason: String,
        /// Inputs by name.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        inputs: BTreeMap<String, Change<String>>,
        /// Arguments by step; they are taken as they are, not as templates.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        args: BTreeMap<StepId, Change<Vec<String>>>,
    },
    /// The whole timeout passed.
    DeadlinePassed,
    /// The steps are done; proving that they helped begins.
    VerifyStarted {
        /// Until when it may be proved.
        until: Timestamp,
    },
    /// The answer to the verify question changed.
    VerifyObserved {
        /// Whether it holds now.
        holds: bool,
        /// What was seen.
        detail: String,
    },
    /// It is decided how it ends; what has begun is settled, undone where asked, and `finally` steps run.
    Ending {
        /// The final status, unless an undo says otherwise.
        status: ExecutionStatus,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<Reason>,
        /// What a person needs to know beyond the reason.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
        /// Whether what was done is undone.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        rollback: bool,
    },
    /// What was done is being undone, in the reverse order.
    RollbackStarted,
    /// The end. No event leads out of it.
    Finished {
        /// The final status.
        status: ExecutionStatus,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<Reason>,
        /// What a person needs to know beyond the reason.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
}

impl Event {
    /// The name of the event in records and in the event stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Started { .. } => "started",
            Self::StepSkipped { .. } => "step_skipped",
            Self::ItemsListed { .. } => "items_listed",
            Self::StepIntended { .. } => "step_intended",
            Self::TimerStarted { .. } => "timer_started",
            Self::StepObserved { .. } => "step_observed",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Acknowledged { .. } => "acknowledged",
            Self::AttemptFinished { .. } => "attempt_finished",
            Self::RetryScheduled { .. } => "retry_scheduled",
            Self::PartFinished { .. } => "part_finished",
            Self::StepFinished { .. } => "step_finished",
            Self::AlertResolved => "alert_resolved",
            Self::StopRequested { .. } => "stop_requested",
            Self::Aborted { .. } => "aborted",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::RetryRequested { .. } => "retry_requested",
            Self::Modified { .. } => "modified",
            Self::DeadlinePassed => "deadline_passed",
            Self::VerifyStarted { .. } => "verify_started",
            Self::VerifyObserved { .. } => "verify_observed",
            Self::Ending { .. } => "ending",
            Self::RollbackStarted => "rollback_started",
            Self::Finished { .. } => "finished",
        }
    }
}

/// What something was and what it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    /// Before; absent where it was a template.
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    pub from: Option<T>,
    /// From now on.
    pub to: T,
}

/// Why a step will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its `when` was false.
    When,
    /// The alert resolved and the step would change something.
    Resolved,
    /// The execution was over before it.
    Ended,
    /// The caller chose a range of steps without it.
    Range,
    /// A person skipped it.
    Person,
}

impl Skip {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::When => "when",
            Self::Resolved => "resolved",
            Self::Ended => "ended",
            Self::Range => "range",
            Self::Person => "person",
        }
    }
}
