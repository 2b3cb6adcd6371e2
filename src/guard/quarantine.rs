//! A target that automation must leave alone until a person has looked at it.

use crate::model::{ExecutionId, RunbookId, Target, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a target is quarantined, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The target.
    pub target: Target,
    /// The runbook whose rollback failed.
    pub runbook: RunbookId,
    /// The execution that left it so.
    pub execution: ExecutionId,
    /// Since when.
    pub at: Timestamp,
    /// What happened, for people.
    pub reason: String,
}
