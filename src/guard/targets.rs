//! On how many targets a runbook acts: the last automatic start on each of those that may still count.
//!
//! Time is treated as in `runs`. Targets are kept by their hash: strangers choose them.

use super::runs::{Counted, counted};
use super::settings::{Limit, MAX_TARGETS};
use crate::model::{Target, Timestamp, after, hex};
use jiff::fmt::serde::timestamp::millisecond;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Acted {
    /// 128 bits of the SHA-256 of the target.
    on: String,
    #[serde(with = "millisecond::required")]
    at: Timestamp,
}

/// The targets of one runbook, the one acted on the longest ago first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Targets(Vec<Acted>);

/// How far a runbook has spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Other targets than the one asked for, and when there is room.
    pub others: Counted,
    /// Whether the one asked for is counted already, so that it takes no place of its own.
    pub is_known: bool,
}

impl Spread {
    /// Whether the target asked for fits.
    pub fn fits(&self, limit: Limit) -> bool {
        self.others.count < limit.count as usize
    }
}

fn name(target: &Target) -> String {
    hex(&Sha256::digest(target.as_str().as_bytes())[..16])
}

impl Targets {
    /// Whether nothing is known.
    pub fn is_blank(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes times that lie ahead of `now` for now; true when there was one.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        for acted in self.0.iter_mut().filter(|acted| acted.at > now) {
            acted.at = now;
            changed = true;
        }
        changed
    }

    /// Notes a start on `target`, and drops what `limit` no longer asks for.
    pub fn started(&mut self, target: &Target, limit: Limit, now: Timestamp) {
        self.settle(now);
        self.put(name(target), Some(now));
        self.0.retain(|acted| after(acted.at, limit.within) > now);
        let surplus = self.0.len().saturating_sub(MAX_TARGETS as usize);
        self.0.drain(..surplus);
    }

    /// Takes a start on `target` back; `last` is the one before it that still stands, where there is one.
    pub fn released(&mut self, target: &Target, last: Option<Timestamp>) {
        let name = name(target);
        if self.0.iter().any(|acted| acted.on == name) {
            self.put(name, last);
        }
    }

    fn put(&mut self, on: String, at: Option<Timestamp>) {
        self.0.retain(|acted| acted.on != on);
        if let Some(at) = at {
            let place = self.0.partition_point(|acted| acted.at <= at);
            self.0.insert(place, Acted { on, at });
        }
    }

    /// How many targets other than `target` lie within `limit`.
    pub fn spread(&self, target: &Target, limit: Limit, now: Timestamp) -> Spread {
        let name = name(target);
        let others = self.0.iter().filter(|acted| acted.on != name).map(|acted| acted.at);
        let own = self.0.iter().filter(|acted| acted.on == name).map(|acted| acted.at);
        Spread { others: counted(others, limit, now), is_known: counted(own, limit, now).count > 0 }
    }
}

#[cfg(test)]
mod tests;
