//! The record made for every alert received: what was decided, and every gate's answer.

use super::status::words;
use super::{
    Alert, AlertStatus, DecisionId, ExecutionId, Fingerprint, Labels, Reason, RunbookId, StepId, Timestamp,
};
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

/// How much of an alert's annotations a decision holds, in bytes.
const ANNOTATIONS_MAX: usize = 2 << 10;

/// What of an alert is kept beside its labels, so that it can be decided on again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedAlert {
    /// Firing or resolved.
    pub status: AlertStatus,
    /// When it began, as its sender said.
    pub starts_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ends_at: Option<Timestamp>,
    /// Its annotations.
    #[serde(skip_serializing_if = "Labels::is_empty", default)]
    pub annotations: Labels,
    /// Whether annotations were left out, because all of them were too long.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub annotations_cut: bool,
}

impl DecidedAlert {
    /// What is kept of `alert`; of annotations that are too long only `deciding`, by which a runbook is chosen.
    pub fn of(alert: &Alert, deciding: &str) -> Self {
        let size = |annotations: &Labels| -> usize {
            annotations.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        let mut annotations = alert.annotations.clone();
        let is_long = size(&annotations) > ANNOTATIONS_MAX;
        if is_long {
            annotations.retain(|name, value| name == deciding && name.len() + value.len() <= ANNOTATIONS_MAX);
        }
        Self {
            status: alert.status,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            annotations,
            annotations_cut: is_long,
        }
    }
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
    /// What else is kept of the alert; of a due time of a schedule, and of records of earlier versions, nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alert: Option<DecidedAlert>,
    /// The runbook that was selected, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runbook: Option<RunbookId>,
    /// The execution that was made, or that the episode already has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execution_id: Option<ExecutionId>,
    /// The decision that made the execution, where this one says that it never begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<DecisionId>,
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
