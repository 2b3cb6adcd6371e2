//! The events, and how an entry is written: JSON with a version, readable by a person in an emergency.

use crate::model::{
    AttemptOutcome, Effect, ExecutionId, ExecutionStatus, Fingerprint, Labels, Reason, RunbookId, StepId,
    StepStatus, Target, Timestamp,
};
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
    },
    /// An attempt is about to begin; durable before anything is changed.
    StepIntended {
        /// Which.
        step: StepId,
        /// Counting up from 1; a re-run after a crash keeps the number.
        attempt: u32,
        /// When the attempt's own timeout passes.
        deadline: Timestamp,
        /// What will be done, with everything filled in, for people.
        plan: String,
    },
    /// The step waits for time to pass.
    TimerStarted {
        /// Which.
        step: StepId,
        /// Absolute, so that a restart neither loses nor repeats time.
        until: Timestamp,
    },
    /// An attempt ended.
    AttemptFinished {
        /// Which step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// How.
        result: Box<AttemptResult>,
    },
    /// A step ended for good.
    StepFinished {
        /// Which.
        step: StepId,
        /// How.
        status: StepStatus,
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
            Self::StepIntended { .. } => "step_intended",
            Self::TimerStarted { .. } => "timer_started",
            Self::AttemptFinished { .. } => "attempt_finished",
            Self::StepFinished { .. } => "step_finished",
            Self::AlertResolved => "alert_resolved",
            Self::StopRequested { .. } => "stop_requested",
            Self::DeadlinePassed => "deadline_passed",
            Self::VerifyStarted { .. } => "verify_started",
            Self::VerifyObserved { .. } => "verify_observed",
            Self::Finished { .. } => "finished",
        }
    }
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
}

impl Skip {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::When => "when",
            Self::Resolved => "resolved",
            Self::Ended => "ended",
            Self::Range => "range",
        }
    }
}

/// Everything an execution is bound to from its first moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: ExecutionId,
    /// The runbook.
    pub runbook: RunbookId,
    /// Its version; a reload never changes a running execution.
    pub version: u64,
    /// The SHA-256 of that version's file.
    pub hash: String,
    /// The runbook's title then.
    pub title: String,
    /// What asked for it.
    pub trigger: Trigger,
    /// What it acts on.
    pub target: Option<Target>,
    /// What it holds alone from start to end; `None` when nothing in it is changing.
    pub lock: Option<String>,
    /// The inputs' values.
    pub inputs: BTreeMap<String, String>,
    /// The steps' outline, so that the record can be shown without the runbook.
    pub steps: Vec<StepHead>,
    /// Steps before and after this range of positions are skipped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub range: Option<(usize, usize)>,
    /// From start to end, in milliseconds.
    pub timeout_ms: u64,
    /// When it expires unless started.
    pub queue_deadline: Timestamp,
    /// The source of all randomness of this execution.
    pub seed: u64,
    /// The instance that accepted it.
    pub instance: String,
}

/// A step in outline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepHead {
    /// Its id.
    pub id: StepId,
    /// Its title.
    pub title: String,
    /// Its kind's word.
    pub kind: String,
    /// What a crash may do to it.
    pub effect: Effect,
}

/// What asked for an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Alert or person.
    pub kind: TriggerKind,
    /// The alert's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alertname: Option<String>,
    /// The alert's fingerprint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fingerprint: Option<Fingerprint>,
    /// When the alert began, as its source says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub starts_at: Option<Timestamp>,
    /// Link to the alert's expression.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub generator_url: String,
    /// The labels it was started with.
    pub labels: Labels,
    /// The annotations it was started with.
    pub annotations: Labels,
    /// `alert:<name>`, or the person's subject.
    pub by: String,
    /// Why, in the person's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What kind of thing asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A delivered alert.
    Alert,
    /// A person or a program with a token.
    Manual,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptResult {
    /// How.
    pub outcome: AttemptOutcome,
    /// The process's exit code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// The signal that ended the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// The answer's status.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_status: Option<u16>,
    /// Standard output, or the answer's body.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// What went wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// A check's answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<bool>,
}

impl AttemptResult {
    /// An end without a process or a request; `text` stands where output would.
    pub fn plain(outcome: AttemptOutcome, text: String, error: Option<String>) -> Self {
        let stdout = Output { bytes: text.len() as u64, head: text, ..Output::default() };
        let (exit_code, signal, http_status, answer) = (None, None, None, None);
        Self { outcome, exit_code, signal, http_status, stdout, stderr: Output::default(), error, answer }
    }
}

/// What is kept of one stream of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Bytes produced.
    pub bytes: u64,
    /// Bytes cut out of the middle.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub cut: u64,
    /// The first 2 KiB, as text.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub head: String,
    /// The file that holds all that was kept, when that is more than `head`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
