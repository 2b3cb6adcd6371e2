//! Which channels asked to be left alone, and until when. It is the channel that is asked too often, not one message.
//!
//! Kept in memory only: after a restart the first answer says it again. Must never: let a far side close a channel for
//! longer than [`LONGEST_ASKED`].

use crate::model::{Timestamp, after};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest a far side can put a try off.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The channels that asked to be left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quiet(BTreeMap<String, Timestamp>);

impl Quiet {
    /// `notifier` asked at `now` to be left alone for so long; an earlier and longer wish stands.
    pub fn heed(&mut self, notifier: &str, asked: Duration, now: Timestamp) {
        self.0.retain(|_, until| *until > now);
        let until = after(now, asked.min(LONGEST_ASKED));
        let known = self.0.entry(notifier.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Until when `notifier` wants to be left alone, if it ever said so.
    pub fn until(&self, notifier: &str) -> Option<Timestamp> {
        self.0.get(notifier).copied()
    }
}
