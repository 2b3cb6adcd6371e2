//! What events carry: the creation of an execution, and the result of an attempt.

use crate::model::{
    AttemptOutcome, DecisionId, Effect, ExecutionId, Fingerprint, Labels, Part, RunbookId, StepId,
    StepStatus, Target, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The execution whose step it is; it shares that one's lock and slot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Parent>,
    /// What the execution it takes back has done, where it was asked for as a rollback.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub inherited: Vec<Inherited>,
    /// The decision that made it, where one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<DecisionId>,
    /// The instance that accepted it.
    pub instance: String,
}

impl Created {
    /// Whether no person and no other execution asked for it: what guards, gates and freezes are about.
    pub fn is_automatic(&self) -> bool {
        matches!(self.trigger.kind, TriggerKind::Alert | TriggerKind::Schedule) && self.parent.is_none()
    }

    /// Whether no person asked for it, nor for the execution whose step it is.
    pub fn acts_by_itself(&self) -> bool {
        self.parent.as_ref().map_or_else(|| self.is_automatic(), |parent| parent.automatic)
    }
}

/// The execution whose step another one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Which.
    pub id: ExecutionId,
    /// The position of the step.
    pub index: usize,
    /// The part of the step.
    pub part: Part,
    /// The attempt.
    pub attempt: u32,
    /// How many parents stand above: 1 for the child of an execution without one.
    pub depth: u32,
    /// The execution at the top, which holds locks and slot for all of them.
    pub root: ExecutionId,
    /// Whether no person asked for the one at the top.
    #[serde(default)]
    pub automatic: bool,
}

/// What a finished execution has done in one step: what its rollback needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inherited {
    /// The step.
    pub step: StepId,
    /// How it ended.
    pub status: StepStatus,
    /// The list it was done for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub items: Option<Vec<String>>,
    /// The parts that began, in the order in which they did, counted over the whole execution.
    pub begun: Vec<(u64, Part)>,
    /// How its last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<AttemptResult>,
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
    /// When the alert began, as its source says; or when the schedule was due.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub starts_at: Option<Timestamp>,
    /// Link to the alert's expression.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub generator_url: String,
    /// Where people find the Alertmanager that sent it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub external_url: String,
    /// The labels it was started with.
    pub labels: Labels,
    /// The annotations it was started with.
    pub annotations: Labels,
    /// `alert:<name>`, `schedule:<name>`, or the person's subject.
    pub by: String,
    /// Why, in the person's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The execution it follows from: its parent, or the one done again or taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of: Option<ExecutionId>,
}

/// What kind of thing asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A delivered alert.
    Alert,
    /// A person or a program with a token.
    Manual,
    /// A schedule, whose time had come.
    Schedule,
    /// A step of another execution.
    Runbook,
    /// A person, to do again what an execution did.
    Retry,
    /// A person, to take back what an execution did.
    Rollback,
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
    /// The execution it started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub child: Option<ExecutionId>,
    /// How long the far side asks to be left alone, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
}

impl AttemptResult {
    /// An end without a process or a request; `text` stands where output would.
    pub fn plain(outcome: AttemptOutcome, text: String, error: Option<String>) -> Self {
        let stdout = Output { bytes: text.len() as u64, head: text, ..Output::default() };
        Self {
            outcome,
            exit_code: None,
            signal: None,
            http_status: None,
            stdout,
            stderr: Output::default(),
            error,
            answer: None,
            child: None,
            retry_after_ms: None,
        }
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
