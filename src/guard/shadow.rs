//! What a runbook in shadow mode would have done: the numbers that justify its promotion.

use crate::model::{Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counted for one version of a runbook; another version begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Since when.
    pub since: Timestamp,
    /// The version.
    pub version: u64,
    /// Episodes for which it would have run.
    pub would_have_run: u64,
    /// Denials, by code; of an episode one for each time the code changed.
    pub denied: BTreeMap<Reason, u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(version: u64, now: Timestamp) -> Self {
        Self { since: now, version, would_have_run: 0, denied: BTreeMap::new() }
    }

    /// What is known of `version`: this, or nothing yet.
    pub fn of(known: Option<Self>, version: u64, now: Timestamp) -> Self {
        known.filter(|tally| tally.version == version).unwrap_or_else(|| Self::new(version, now))
    }

    /// One more with this outcome: `shadow` would have run.
    pub fn add(&mut self, reason: Reason) {
        if reason == Reason::Shadow {
            self.would_have_run += 1;
        } else {
            *self.denied.entry(reason).or_default() += 1;
        }
    }
}
