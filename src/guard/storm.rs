//! The storm: so many new episodes at once that something larger is wrong, and no runbook is the answer.
//!
//! Entered as soon as more than the limit began within a minute; left when the rate has been at or below the limit
//! for the whole cooldown. Counted by the second, so a minute is up to a second longer than that, never shorter.

use crate::model::{Timestamp, after};
use jiff::fmt::serde::timestamp::millisecond;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many whole seconds before the current one count.
const WINDOW: i64 = 60;

/// What makes a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimit {
    /// New episodes that matched a runbook, in a minute; more are a storm.
    pub episodes_per_minute: u32,
    /// How long it must be calm.
    pub cooldown: Duration,
}

impl Default for StormLimit {
    fn default() -> Self {
        Self { episodes_per_minute: 500, cooldown: Duration::from_secs(600) }
    }
}

/// How many episodes began when, and the last storm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// Second since 1970, and how many began in it; the oldest first, 61 at most.
    seconds: Vec<(i64, u32)>,
    /// When the last storm began.
    #[serde(with = "millisecond::optional", default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// When the rate is at the limit again, if nothing more begins.
    #[serde(with = "millisecond::optional", default, skip_serializing_if = "Option::is_none")]
    over_until: Option<Timestamp>,
}

/// A storm that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raging {
    /// Since when.
    pub since: Timestamp,
    /// When it is over, if it stays calm.
    pub until: Timestamp,
}

impl Storm {
    /// Takes times that lie ahead of `now` for now; true when there was one.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        let before = self.clone();
        let second = now.as_second();
        let ahead: u32 = self.seconds.iter().filter(|(at, _)| *at > second).map(|(_, count)| count).sum();
        if ahead > 0 {
            self.seconds.retain(|(at, _)| *at <= second);
            self.add(second, ahead);
        }
        self.since = self.since.map(|at| at.min(now));
        // No rate outlasts the window it is counted in.
        let longest = after(now, Duration::from_secs(WINDOW.unsigned_abs() + 1));
        self.over_until = self.over_until.map(|at| at.min(longest));
        *self != before
    }

    fn add(&mut self, second: i64, count: u32) {
        match self.seconds.last_mut() {
            Some((at, known)) if *at == second => *known = known.saturating_add(count),
            _ => self.seconds.push((second, count)),
        }
    }

    /// Notes that an episode which matched a runbook began.
    pub fn began(&mut self, limit: StormLimit, now: Timestamp) {
        self.settle(now);
        let second = now.as_second();
        self.seconds.retain(|(at, _)| *at >= second - WINDOW);
        self.add(second, 1);
        let Some(over_until) = self.falls_at(limit.episodes_per_minute) else { return };
        if self.raging(limit, now).is_none() {
            self.since = Some(now);
        }
        self.over_until = self.over_until.max(Some(over_until));
    }

    /// When so many have left the window that no more than `limit` are in it; `None` when that is so now.
    fn falls_at(&self, limit: u32) -> Option<Timestamp> {
        let mut count: u64 = self.seconds.iter().map(|(_, count)| u64::from(*count)).sum();
        let mut falls_at = None;
        for (second, of_second) in &self.seconds {
            if count <= u64::from(limit) {
                break;
            }
            count -= u64::from(*of_second);
            falls_at = Some(Timestamp::from_second(second + WINDOW + 1).unwrap_or(Timestamp::MAX));
        }
        falls_at
    }

    /// How many began within the last minute.
    pub fn rate(&self, now: Timestamp) -> u64 {
        let since = now.as_second() - WINDOW;
        self.seconds.iter().filter(|(at, _)| *at >= since).map(|(_, count)| u64::from(*count)).sum()
    }

    /// The storm, if one is on.
    pub fn raging(&self, limit: StormLimit, now: Timestamp) -> Option<Raging> {
        let (since, until) = (self.since?, after(self.over_until?, limit.cooldown));
        (now < until).then_some(Raging { since, until })
    }
}

#[cfg(test)]
mod tests;
