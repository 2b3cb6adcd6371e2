//! What the sender of a webhook is told about each element, in its answer.

use crate::model::{Alert, Decision, ExecutionId, Reason, RunbookId, Verdict};
use serde::Serialize;

/// What was decided on one element, as the sender is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Announcement {
    /// The alert's name; empty when it has none.
    pub alertname: String,
    /// The alert's fingerprint.
    pub fingerprint: Option<String>,
    /// `firing` or `resolved`; null for what is no alert.
    pub status: Option<&'static str>,
    /// What was decided.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The runbook that was selected.
    pub runbook: Option<RunbookId>,
    /// The execution that was started, or that the episode has.
    pub execution_id: Option<ExecutionId>,
}

impl Announcement {
    pub(super) fn of(decision: &Decision, alert: Option<&Alert>) -> Self {
        Self {
            alertname: decision.alertname.clone(),
            fingerprint: alert.map(|alert| alert.fingerprint.to_string()),
            status: alert.map(|alert| alert.status.as_str()),
            verdict: decision.verdict,
            reason: decision.reason,
            runbook: decision.runbook.clone(),
            execution_id: decision.execution_id.clone(),
        }
    }

    /// The execution that was started for it, if one was.
    pub fn started(&self) -> Option<&ExecutionId> {
        self.execution_id.as_ref().filter(|_| self.verdict != Verdict::Skip)
    }
}
