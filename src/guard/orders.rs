//! The orders of the kill switch on their way into the store: what counts already, and what must be durable first.
//!
//! What holds automation back counts from the moment it is taken, whether or not the store has it yet; what lets it go
//! on counts when the store has it. Once the store has all that was taken, what counts is what it holds. Pure. May
//! import: `model`. Must never: let an order end earlier than the one it replaces before the store knows of it.

use super::switch::{KillSwitch, Order, Scope, SwitchState};
use crate::model::Timestamp;

/// The most orders of runbooks and labels that stand side by side.
pub const MAX_ORDERS: usize = 200;
/// Orders that are remembered one by one while the store takes nothing; beyond it the last one of a scope suffices.
const MAX_AHEAD: usize = 1000;

/// Names an order among all that were taken; a later one has a greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts now, and is to be saved.
    Counts(Ticket),
    /// It is to be saved, and counts then.
    Waits(Ticket),
    /// It takes back what does not stand.
    Nothing,
    /// Too many stand already.
    TooMany,
}

/// One that counts, and that the store may not have yet.
#[derive(Debug)]
struct Ahead {
    ticket: Ticket,
    order: Order,
    /// As it counts meanwhile: no shorter than what stood before it.
    shown: Order,
}

/// Every order that counts, and where it is.
#[derive(Debug)]
pub struct Orders {
    saved: KillSwitch,
    ahead: Vec<Ahead>,
    last: Ticket,
    /// Whether all that the store holds is known.
    is_complete: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self::holding(KillSwitch::default(), true)
    }
}

impl Orders {
    /// What the store holds; `is_complete` where it could be read to the end.
    pub fn holding(saved: KillSwitch, is_complete: bool) -> Self {
        Self { saved, ahead: Vec::new(), last: Ticket(0), is_complete }
    }

    /// What counts.
    pub fn switch(&self) -> KillSwitch {
        let mut switch = self.saved.clone();
        for ahead in &self.ahead {
            switch.set(ahead.shown.clone());
        }
        switch
    }

    fn counting(&self, scope: &Scope) -> Option<&Order> {
        let newest = self.ahead.iter().rev().find(|ahead| ahead.order.scope == *scope);
        newest.map(|ahead| &ahead.shown).or_else(|| self.saved.get(scope))
    }

    /// Takes an order. One that covers everything, or tightens what stands, is never refused.
    pub fn take(&mut self, order: &Order, now: Timestamp) -> Taken {
        let before = self.counting(&order.scope).filter(|before| before.stands(now)).cloned();
        let ticket = Ticket(self.last.0 + 1);
        if order.state == SwitchState::Running {
            if before.is_none() && self.is_complete {
                return Taken::Nothing;
            }
            self.last = ticket;
            return Taken::Waits(ticket);
        }
        let is_scoped = |scope: &Scope| matches!(scope, Scope::Runbook(_) | Scope::Matchers(_));
        if before.is_none() && is_scoped(&order.scope) {
            let switch = self.switch();
            let standing = switch.orders().filter(|order| is_scoped(&order.scope) && order.stands(now));
            if standing.count() >= MAX_ORDERS {
                return Taken::TooMany;
            }
        }
        self.last = ticket;
        let mut shown = order.clone();
        if let Some(before) = before {
            if order.state < before.state {
                return Taken::Waits(ticket);
            }
            shown.expires_at =
                before.expires_at.zip(order.expires_at).map(|(before, after)| before.max(after));
        }
        if self.ahead.len() >= MAX_AHEAD {
            self.ahead.retain(|ahead| ahead.order.scope != order.scope);
        }
        self.ahead.push(Ahead { ticket, order: order.clone(), shown });
        Taken::Counts(ticket)
    }

    /// The store has `order` now, behind all that it had before.
    pub fn saved(&mut self, ticket: Ticket, order: &Order) {
        match order.state {
            SwitchState::Running => drop(self.saved.clear(&order.scope)),
            SwitchState::Draining | SwitchState::Halted | SwitchState::Aborted => {
                self.saved.set(order.clone());
            }
        }
        self.ahead.retain(|ahead| ahead.ticket > ticket || ahead.order.scope != order.scope);
    }

    /// Whether this one is still to be saved: nothing that came later has taken its place.
    pub fn is_unsaved(&self, ticket: Ticket) -> bool {
        self.ahead.iter().any(|ahead| ahead.ticket == ticket)
    }

    /// Those that count and that the store may not have yet, the first one first.
    pub fn unsaved(&self) -> impl Iterator<Item = (Ticket, &Order)> {
        self.ahead.iter().map(|ahead| (ahead.ticket, &ahead.order))
    }

    /// Those of the store that have ended by themselves, with nothing in their place.
    pub fn ended(&self, now: Timestamp) -> Vec<Order> {
        let is_replaced = |order: &&Order| self.ahead.iter().any(|ahead| ahead.order.scope == order.scope);
        let ended = self.saved.orders().filter(|order| !order.stands(now));
        ended.filter(|order| !is_replaced(order)).cloned().collect()
    }

    /// The store holds these no longer.
    pub fn forgotten(&mut self, orders: &[Order]) {
        for order in orders {
            if self.saved.get(&order.scope) == Some(order) {
                self.saved.clear(&order.scope);
            }
        }
    }
}

#[cfg(test)]
mod tests;
