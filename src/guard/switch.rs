//! The kill switch: how far automation is held back, where, by whom and until when.
//!
//! Orders stand side by side, one for each scope, and the strictest that covers an execution counts. Pure but for
//! [`Board`], the one place where all who act read what is in force now. May import: `model`. Must never: wait.

use crate::model::{Labels, Matcher, RunbookId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// How far automation may go; the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchState {
    /// No order stands.
    Running,
    /// Nothing new starts; what has begun goes on.
    Draining,
    /// And nothing goes beyond the step in progress, undos included, until it is running again.
    Halted,
    /// And what is in progress is killed.
    Aborted,
}

impl SwitchState {
    /// Every state, the mildest first.
    pub const ALL: [Self; 4] = [Self::Running, Self::Draining, Self::Halted, Self::Aborted];

    /// The word in requests, answers and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
        }
    }

    /// The state spelled `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// What an order covers.
#[derive(Debug, Clone)]
pub enum Scope {
    /// Everything.
    Global,
    /// Everything, by a file that somebody put there; it stands until the file is gone.
    File,
    /// One runbook.
    Runbook(RunbookId),
    /// What alerts started whose labels satisfy all of these; never empty.
    Matchers(Vec<Matcher>),
}

impl Scope {
    /// What tells this scope from all others, and names it to people.
    pub fn key(&self) -> String {
        match self {
            Self::Global => "global".to_owned(),
            Self::File => "file".to_owned(),
            Self::Runbook(id) => format!("runbook:{id}"),
            Self::Matchers(matchers) => {
                let mut texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                texts.sort();
                format!("matchers:{}", texts.join(","))
            }
        }
    }

    /// Its sort: a bounded word for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Global | Self::File => "global",
            Self::Runbook(_) => "runbook",
            Self::Matchers(_) => "matchers",
        }
    }

    fn covers(&self, runbooks: &[&RunbookId], labels: Option<&Labels>) -> bool {
        match self {
            Self::Global | Self::File => true,
            Self::Runbook(id) => runbooks.contains(&id),
            Self::Matchers(matchers) => {
                labels.is_some_and(|labels| matchers.iter().all(|matcher| matcher.matches(labels)))
            }
        }
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// What somebody ordered.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// For what.
    pub scope: Scope,
    /// How far; never `running`, which is no order.
    pub state: SwitchState,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when; absent: until somebody takes it back.
    pub expires_at: Option<Timestamp>,
}

impl Order {
    /// Whether it stands at `now`.
    pub fn stands(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// For people: what, who, why, until when.
    pub fn sentence(&self) -> String {
        let until = self.expires_at.map(|end| format!(" until {end}")).unwrap_or_default();
        let (state, scope) = (self.state.as_str(), self.scope.key());
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{scope} is {state} since {}{until}, by {}{why}", self.at, self.by)
    }
}

/// Every order that was given and not taken back, one for each scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KillSwitch {
    orders: BTreeMap<String, Order>,
}

impl KillSwitch {
    /// Whether nothing was ordered.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// The orders, by scope.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    /// Puts `order` in the place of what was said of its scope before.
    pub fn set(&mut self, order: Order) {
        self.orders.insert(order.scope.key(), order);
    }

    /// Takes back what was said of a scope.
    pub fn clear(&mut self, scope: &Scope) -> Option<Order> {
        self.orders.remove(&scope.key())
    }

    /// What was said of a scope.
    pub fn get(&self, scope: &Scope) -> Option<&Order> {
        self.orders.get(&scope.key())
    }

    /// The strictest order at `now` that covers what is done by `runbooks` (the execution's own and those that
    /// called it) for an alert with these labels; without labels, orders by matchers are left out.
    pub fn strictest(
        &self,
        runbooks: &[&RunbookId],
        labels: Option<&Labels>,
        now: Timestamp,
    ) -> Option<&Order> {
        let covering = self.orders.values().filter(|order| order.stands(now));
        // Of two that are as strict the one that stands longer tells more.
        covering
            .filter(|order| order.scope.covers(runbooks, labels))
            .max_by_key(|order| (order.state, order.expires_at.is_none(), order.expires_at))
    }

    /// How far the whole of automation may go at `now`.
    pub fn global(&self, now: Timestamp) -> SwitchState {
        self.strictest(&[], None, now).map_or(SwitchState::Running, |order| order.state)
    }

    /// When the next order ends by itself.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.orders.values().filter(|order| order.stands(now)).filter_map(|order| order.expires_at).min()
    }
}

/// What is in force, for all who act: read often, changed seldom.
#[derive(Debug, Default)]
pub struct Board {
    posted: RwLock<(u64, Arc<KillSwitch>)>,
}

impl Board {
    /// What is in force.
    pub fn read(&self) -> Arc<KillSwitch> {
        Arc::clone(&self.posted.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// How often it was changed.
    pub fn version(&self) -> u64 {
        self.posted.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Changes what is in force, for everybody at once.
    pub fn change(&self, change: impl FnOnce(&mut KillSwitch)) {
        let mut posted = self.posted.write().unwrap_or_else(PoisonError::into_inner);
        let mut switch = KillSwitch::clone(&posted.1);
        change(&mut switch);
        if *posted.1 != switch {
            *posted = (posted.0 + 1, Arc::new(switch));
        }
    }
}

#[cfg(test)]
mod tests;
