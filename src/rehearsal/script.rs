//! What a test file says: the cases of one runbook. Pure data; only `read` makes it.

use super::Library;
use crate::engine::verb::Verb;
use crate::journal::TriggerKind;
use crate::model::{ExecutionStatus, Reason, RunbookId, StepId};
use crate::runbook::Runbook;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The cases of one runbook.
#[derive(Debug)]
pub struct Suite {
    /// Which runbook.
    pub id: RunbookId,
    /// That runbook, and all that its steps start.
    pub library: Arc<Library>,
    /// The cases, in the order of the file; at least one.
    pub cases: Vec<Case>,
}

impl Suite {
    /// The runbook that is tested.
    pub fn runbook(&self) -> &Runbook {
        // `read` makes no suite without it.
        &self.library[&self.id].pinned.runbook
    }
}

/// One test.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The line of the file it begins on.
    pub line: usize,
    pub(super) cue: Cue,
    pub(super) answers: Arc<Answers>,
    pub(super) people: Vec<Saying>,
    pub(super) wanted: Wanted,
}

/// What starts the execution.
#[derive(Debug)]
pub(super) struct Cue {
    pub(super) kind: TriggerKind,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) inputs: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) resolved_after: Option<Duration>,
}

/// What the world answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) steps: BTreeMap<(RunbookId, StepId), StepAnswers>,
    pub(super) verify: Vec<Reply>,
    pub(super) precheck: Vec<Reply>,
    pub(super) unhealthy: Vec<Reply>,
    pub(super) of: Vec<Reply>,
}

/// What comes of the attempts of one step; the last reply of a list stands for all that follow.
#[derive(Debug, Default)]
pub(super) struct StepAnswers {
    pub(super) main: Vec<Reply>,
    /// By the position of the item.
    pub(super) items: Vec<Vec<Reply>>,
    pub(super) probe: Vec<Reply>,
    pub(super) undo: Vec<Reply>,
}

/// What comes of one attempt. Nothing said at all: it goes well.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) word: Option<Word>,
    pub(super) exit: Option<i32>,
    pub(super) status: Option<u16>,
    pub(super) value: Option<f64>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) takes: Duration,
}

/// How an attempt ends, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Ok,
    Failed,
    Timeout,
    Unknown,
    NoAnswer,
    NoData,
    Rejected,
    Nobody,
}

/// What a person says unasked.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) after: Duration,
    pub(super) verb: Verb,
    pub(super) step: Option<StepId>,
    pub(super) by: String,
    pub(super) roles: BTreeSet<String>,
}

/// What must come of it. What is absent is not compared.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) end: End,
    pub(super) message: Option<String>,
    pub(super) ran: Option<Vec<StepId>>,
    pub(super) skipped: Option<Vec<StepId>>,
    pub(super) failed: Option<Vec<StepId>>,
    pub(super) undone: Vec<StepId>,
    pub(super) target: Option<String>,
    pub(super) inputs: BTreeMap<String, String>,
    pub(super) attempts: BTreeMap<StepId, usize>,
    pub(super) calls: BTreeMap<StepId, serde_json::Value>,
    pub(super) undo_calls: BTreeMap<StepId, serde_json::Value>,
}

/// How it must end.
#[derive(Debug)]
pub(super) enum End {
    /// There is an execution, and it ends so.
    Status(ExecutionStatus, Option<Reason>),
    /// There is none, because of this.
    Refused(Reason),
}
