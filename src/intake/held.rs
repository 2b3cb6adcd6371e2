//! Which alerts are left alone because they flap, for status and metrics: those whose last decision said so.
//!
//! Known from the deliveries since the start; Alertmanager repeats what fires. May import: `model`. Must never: decide
//! anything, or grow with what senders make up.

use super::Announcement;
use crate::model::{Reason, Timestamp, after};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most that are remembered; more are not counted.
const MAX_HELD: usize = 10_000;

/// The alerts, and when each was last delivered.
#[derive(Debug, Default)]
pub(super) struct Flapping(Mutex<HashMap<String, Timestamp>>);

impl Flapping {
    /// Hears what was decided at `now`.
    pub(super) fn note(&self, decisions: &[Announcement], now: Timestamp) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for decision in decisions {
            let Some(fingerprint) = &decision.fingerprint else { continue };
            if decision.reason != Reason::Flapping {
                held.remove(fingerprint);
            } else if held.len() < MAX_HELD || held.contains_key(fingerprint) {
                held.insert(fingerprint.clone(), now);
            }
        }
    }

    /// How many there are, without those that were not delivered for `ttl`.
    pub(super) fn count(&self, ttl: Duration, now: Timestamp) -> usize {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, last| now < after(*last, ttl));
        held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;

    fn decided(fingerprint: usize, reason: Reason) -> Announcement {
        Announcement {
            alertname: "A".to_owned(),
            fingerprint: Some(format!("{fingerprint:016x}")),
            status: Some("firing"),
            verdict: Verdict::Skip,
            reason,
            runbook: None,
            execution_id: None,
        }
    }

    #[test]
    fn an_alert_is_held_until_something_else_is_decided_or_nothing_is_heard_of_it() {
        let (held, ttl) = (Flapping::default(), Duration::from_secs(60));
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        held.note(&[decided(1, Reason::Flapping), decided(2, Reason::Flapping)], at(0));
        held.note(&[decided(2, Reason::Flapping), decided(3, Reason::Repeat)], at(30));
        assert_eq!((held.count(ttl, at(30)), held.count(ttl, at(60))), (2, 1));
        held.note(&[decided(2, Reason::Resolved)], at(61));
        assert_eq!(held.count(ttl, at(61)), 0);
        let many: Vec<_> = (0..2 * MAX_HELD).map(|number| decided(number, Reason::Flapping)).collect();
        held.note(&many, at(61));
        assert_eq!(held.count(ttl, at(61)), MAX_HELD);
    }
}
