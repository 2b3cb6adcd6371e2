//! An episode: one alert from its first firing until it resolves.

use super::{Alert, DecisionId, ExecutionId, Fingerprint, Labels, Reason, Timestamp, Verdict};
use serde::{Deserialize, Serialize};

/// Where an episode is stored: by fingerprint, and by label set where two share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodeKey {
    /// The index.
    pub fingerprint: Fingerprint,
    /// The identity.
    pub labels: Labels,
}

impl EpisodeKey {
    /// The key of the episode `alert` belongs to.
    ///
    /// The fingerprint is computed, not taken from the sender, so that an old sender without one,
    /// and Grafana, which hashes labels it does not show, index the same way as all others.
    pub fn of(alert: &Alert) -> Self {
        Self { fingerprint: Fingerprint::of(&alert.labels), labels: alert.labels.clone() }
    }
}

/// What is known of an alert between two deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// When this episode began, as first told.
    pub starts_at: Timestamp,
    /// When it was first delivered here.
    pub opened_at: Timestamp,
    /// When it was last delivered here.
    pub last_seen: Timestamp,
    /// When it ended: the sender's `endsAt`, or the delivery that said `resolved`. `None` while open.
    pub resolved_at: Option<Timestamp>,
    /// The execution it started; it starts one at most.
    pub execution: Option<ExecutionId>,
    /// The decision that stands, so that an equal one is counted instead of stored again.
    pub decision: DecisionId,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// How often that same decision was made.
    pub seen: u64,
    /// When the alert fired or resolved anew, the oldest first; the last ones only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<Timestamp>,
    /// Whether its runbook, in shadow mode, would have run for it: it is counted once.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub would_have_run: bool,
}
