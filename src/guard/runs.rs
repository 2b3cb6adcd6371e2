//! What automation did to one target with one runbook: the starts that still count, which of them live, the last end.
//!
//! Time enters as `now`. A time that lies ahead, as a clock that was set back leaves it, is taken for now once
//! [`Runs::settle`] has been asked: it counts for its whole time again, so that such a clock never allows more.

use super::settings::Limit;
use crate::model::{Timestamp, after};
use jiff::fmt::serde::timestamp::millisecond;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One start. Short words: there are up to [`super::settings::MAX_RUNS`] in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    #[serde(with = "millisecond::required")]
    at: Timestamp,
    /// The ULID of the execution.
    id: String,
    /// Whether it lives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    live: bool,
}

/// The automatic executions of one runbook on one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The oldest first.
    starts: Vec<Start>,
    /// The last end.
    #[serde(with = "millisecond::optional", default)]
    ended_at: Option<Timestamp>,
    /// The latest start that is no longer in the list.
    #[serde(with = "millisecond::optional", default)]
    forgotten: Option<Timestamp>,
}

/// What a cooldown says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cooling {
    /// It is over, or nothing began yet; the last start or end, where there is one.
    No(Option<Timestamp>),
    /// An execution is live; its ULID.
    Live(String),
    /// It is not over.
    Until {
        /// The last start or end.
        last: Timestamp,
        /// When it will be.
        opens_at: Timestamp,
    },
}

/// How many there are in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub count: usize,
    /// When there is room for one more; `None` while there is.
    pub opens_at: Option<Timestamp>,
}

/// How many of `times`, the oldest first, lie within `limit` before `now`, and when there is room again.
pub(super) fn counted(
    times: impl DoubleEndedIterator<Item = Timestamp>,
    limit: Limit,
    now: Timestamp,
) -> Counted {
    let (mut count, mut opens_at) = (0, None);
    // From the newest on: the one that fills the last place is the one whose end makes room.
    for at in times.rev() {
        let leaves = after(at.min(now), limit.within);
        if leaves <= now {
            break;
        }
        count += 1;
        if count == limit.count as usize {
            opens_at = Some(leaves);
        }
    }
    Counted { count, opens_at }
}

impl Runs {
    /// Whether nothing is known.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Whether none of it lives, and nothing began or ended since `cutoff`.
    pub fn is_over(&self, cutoff: Timestamp) -> bool {
        let last = self.last_start().max(self.ended_at);
        !self.starts.iter().any(|start| start.live) && last.is_none_or(|last| last < cutoff)
    }

    /// Takes times that lie ahead of `now` for now; true when there was one.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        let ahead = |at: &mut Timestamp| {
            let ahead = *at > now;
            *at = (*at).min(now);
            ahead
        };
        let mut changed = false;
        for start in &mut self.starts {
            changed |= ahead(&mut start.at);
        }
        for at in [&mut self.ended_at, &mut self.forgotten].into_iter().flatten() {
            changed |= ahead(at);
        }
        changed
    }

    /// Notes the start of `id`; `live` says that its end will be told. The last `keep` starts are remembered.
    pub fn started(&mut self, id: &str, live: bool, keep: usize, now: Timestamp) {
        self.settle(now);
        self.starts.push(Start { at: now, id: id.to_owned(), live });
        let surplus = self.starts.len().saturating_sub(keep.max(1));
        self.forgotten = self.starts.drain(..surplus).map(|start| start.at).chain(self.forgotten).max();
    }

    /// Notes the end of `id`.
    pub fn ended(&mut self, id: &str, now: Timestamp) {
        self.settle(now);
        for start in self.starts.iter_mut().filter(|start| start.id == id) {
            start.live = false;
        }
        self.ended_at = self.ended_at.max(Some(now));
    }

    /// Takes the start of `id` back: it never did anything.
    pub fn released(&mut self, id: &str) {
        self.starts.retain(|start| start.id != id);
    }

    /// The latest start.
    pub fn last_start(&self) -> Option<Timestamp> {
        self.starts.last().map(|start| start.at).max(self.forgotten)
    }

    /// Whether the start of `id` is remembered.
    pub fn knows(&self, id: &str) -> bool {
        self.starts.iter().any(|start| start.id == id)
    }

    /// Whether `cooldown` after the later of the last start and the last end is over at `now`.
    pub fn cooling(&self, cooldown: Duration, now: Timestamp) -> Cooling {
        if let Some(start) = self.starts.iter().rev().find(|start| start.live) {
            return Cooling::Live(start.id.clone());
        }
        let Some(last) = self.last_start().max(self.ended_at) else { return Cooling::No(None) };
        let opens_at = after(last.min(now), cooldown);
        if now >= opens_at { Cooling::No(Some(last)) } else { Cooling::Until { last, opens_at } }
    }

    /// How many starts lie within `limit`.
    pub fn count(&self, limit: Limit, now: Timestamp) -> Counted {
        counted(self.starts.iter().map(|start| start.at), limit, now)
    }
}

#[cfg(test)]
mod tests;
