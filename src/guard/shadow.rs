//! What a runbook in shadow mode would have done: the numbers that justify its promotion.

use crate::model::{Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counted for one version of a runbook; another version begins anew, and keeps what was counted for the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// What was counted for the version before, which itself knows of none before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Box<Tally>>,
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
        Self { previous: None, since: now, version, would_have_run: 0, denied: BTreeMap::new() }
    }

    /// What is known of `version`: this, or nothing yet.
    pub fn of(known: Option<Self>, version: u64, now: Timestamp) -> Self {
        match known {
            Some(known) if known.version == version => known,
            known => {
                let previous = known.map(|known| Box::new(Self { previous: None, ..known }));
                Self { previous, ..Self::new(version, now) }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_begins_anew_and_remembers_the_one_before() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = Tally::of(None, 1, now);
        first.add(Reason::Shadow);
        let mut same = Tally::of(Some(first.clone()), 1, now);
        same.add(Reason::Cooldown);
        assert_eq!((same.would_have_run, same.denied.get(&Reason::Cooldown)), (1, Some(&1)));
        let second = Tally::of(Some(same.clone()), 2, now);
        assert_eq!((second.version, second.would_have_run, second.denied.len()), (2, 0, 0));
        assert_eq!(second.previous.as_deref(), Some(&same));
        // One, not all.
        let third = Tally::of(Some(second.clone()), 3, now);
        assert_eq!(third.previous.unwrap().previous, None);
    }
}
