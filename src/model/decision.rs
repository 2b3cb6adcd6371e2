//! The record made for every alert received: what was decided, and every gate's answer.

use super::status::words;
use super::{DecisionId, ExecutionId, Fingerprint, Labels, Reason, RunbookId, StepId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

words! {
    /// What was decided.
    Verdict {
        /// An execution was made.
        Execute = "execute",
        /// An execution was made that waits for a person.
        Approve = "approve",
        /// Nothing was started.
        Skip = "skip",
    }
}

words! {
    /// What one gate said.
    GateVerdict {
        /// It has no objection.
        Pass = "pass",
        /// It refuses.
        Deny = "deny",
        /// It is asked later, as the execution's first stage.
        Later = "later",
        /// It does not apply, or is turned off.
        Off = "off",
    }
}

/// One gate's answer, with the numbers it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// The gate's name: the reason code it denies with.
    pub gate: Reason,
    /// Its answer.
    pub verdict: GateVerdict,
    /// The code, when it denied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// For people: what it looked at, and what would have to change.
    pub message: String,
    /// For programs: the numbers.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty", default)]
    pub detail: serde_json::Map<String, serde_json::Value>,
}

/// What a step would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Which.
    pub step: StepId,
    /// With everything filled in, for people.
    pub plan: String,
}

/// A verdict and a reason code for one alert received, with every gate's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its id; ids sort by time.
    pub id: DecisionId,
    /// When it was made.
    pub at: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// The first denial's code, or `matched`.
    pub reason: Reason,
    /// The sentence of the gate that decided.
    pub message: String,
    /// The alert's name; empty when it has none.
    pub alertname: String,
    /// The alert's fingerprint, when it has labels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fingerprint: Option<Fingerprint>,
    /// The alert's labels.
    pub labels: Labels,
    /// The runbook that was selected, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runbook: Option<RunbookId>,
    /// The execution that was made, or that the episode already has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execution_id: Option<ExecutionId>,
    /// What would be done, step by step; of a runbook in shadow mode that would have run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plan: Vec<PlannedStep>,
    /// How often this same decision was made for the episode.
    pub seen: u64,
    /// When it was last made.
    pub last_seen: Timestamp,
    /// Every gate's answer, in order.
    pub gates: Vec<GateReport>,
}
