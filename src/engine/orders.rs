//! Orders of the kill switch: in force at once, durable as soon as the store takes them, and one after the other.
//!
//! The store gets them in the order in which they came, one at a time. So what is on the board when all are answered is
//! what the store holds, and the last record of the audit log says the same. May import: `guard`, `store`. Must never:
//! keep an order that holds automation back from counting because something else fails.

use super::{Engine, Shared};
use crate::guard::{Board, KillSwitch, MAX_ORDERS, Order, Orders, Scope, Taken, Ticket};
use crate::model::Timestamp;
use crate::store::records::switch::GivenUp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a person waits for the store to take an order.
const PATIENCE: Duration = Duration::from_secs(2);
/// Beyond so many in the line, those that nobody needs any more are taken out of it.
const MAX_WAITING: usize = 100;
const NO_ANSWER: &str = "the store did not answer";

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// It is in force and durable.
    Durable,
    /// It is in force; why it is not durable yet. That is tried again until it is.
    InForce(String),
    /// It takes back what does not stand, so nothing was changed, and nothing was recorded.
    Nothing,
}

/// Why an order does not count.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It would let automation go on, and that must be durable first.
    #[error("it could not be made durable, so what was ordered before still counts: {0}")]
    NotDurable(String),
    /// Too many scopes.
    #[error("{MAX_ORDERS} orders stand already: take some back, or order something of everything")]
    TooMany,
}

/// Where orders lie until the store has them.
#[derive(Default)]
pub(super) struct Desk(Mutex<Lying>);

#[derive(Default)]
struct Lying {
    orders: Orders,
    /// What the store is to get, in the order in which it came.
    waiting: BTreeMap<Ticket, Waiting>,
    /// What it is getting.
    at: Option<Ticket>,
    /// Whether those that have ended are to be removed.
    forgets: bool,
    /// Whether somebody carries them to the store.
    is_served: bool,
}

struct Waiting {
    order: Order,
    /// Whether it is in force already.
    counts: bool,
    given_up: GivenUp,
    answer: oneshot::Sender<Result<(), String>>,
}

enum Job {
    Save(Ticket, Waiting),
    Forget(Vec<Order>),
}

impl Lying {
    fn next(&mut self, now: Timestamp) -> Option<Job> {
        self.at = None;
        while let Some((ticket, waiting)) = self.waiting.pop_first() {
            // What a later order has replaced must not come back.
            if waiting.counts && !self.orders.is_unsaved(ticket) {
                drop(waiting.answer.send(Ok(())));
                continue;
            }
            self.at = Some(ticket);
            return Some(Job::Save(ticket, waiting));
        }
        let ended = if std::mem::take(&mut self.forgets) { self.orders.ended(now) } else { Vec::new() };
        self.is_served = !ended.is_empty();
        self.is_served.then_some(Job::Forget(ended))
    }

    fn put(
        &mut self,
        ticket: Ticket,
        order: Order,
        counts: bool,
    ) -> (GivenUp, oneshot::Receiver<Result<(), String>>) {
        let (given_up, (answer, answered)) = (GivenUp::default(), oneshot::channel());
        if self.waiting.len() > MAX_WAITING {
            let Self { orders, waiting, .. } = self;
            waiting.retain(|ticket, waiting| {
                if waiting.counts { orders.is_unsaved(*ticket) } else { !waiting.answer.is_closed() }
            });
        }
        self.waiting.insert(ticket, Waiting { order, counts, given_up: given_up.clone(), answer });
        (given_up, answered)
    }
}

impl Shared {
    fn lying(&self) -> MutexGuard<'_, Lying> {
        self.desk.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the orders, and what is in force with them.
    fn orders<R>(&self, change: impl FnOnce(&mut Lying) -> R) -> R {
        let mut lying = self.lying();
        let result = change(&mut lying);
        let switch = lying.orders.switch();
        // Still under the lock: of two changes the later one is the last on the board, too.
        self.board.change(|posted| {
            // The file says itself whether it is there.
            let file = posted.clear(&Scope::File);
            *posted = switch;
            file.into_iter().for_each(|file| posted.set(file));
        });
        drop(lying);
        self.wake.notify_one();
        result
    }

    /// Sees to it that what waits is carried to the store, in a task of its own: whoever ordered may go, and what is in
    /// force is what the store took, however long that takes it.
    fn serve(self: &Arc<Self>) {
        if std::mem::replace(&mut self.lying().is_served, true) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let job = shared.lying().next(shared.clock.now());
                match job {
                    Some(Job::Save(ticket, waiting)) => shared.save(ticket, waiting).await,
                    Some(Job::Forget(ended)) => shared.forget(ended).await,
                    None => return,
                }
            }
        });
    }

    async fn save(&self, ticket: Ticket, waiting: Waiting) {
        let Waiting { order, given_up, answer, .. } = waiting;
        let saved = self.records.put_order(&order, given_up).await.map_err(|error| error.to_string());
        if saved.is_ok() {
            self.orders(|lying| lying.orders.saved(ticket, &order));
        }
        // Nobody may be waiting any more.
        drop(answer.send(saved));
    }

    async fn forget(&self, ended: Vec<Order>) {
        match self.records.forget_orders(ended.clone()).await {
            Ok(()) => self.orders(|lying| lying.orders.forgotten(&ended)),
            Err(error) => tracing::debug!(%error, "orders that have ended stay in the store for now"),
        }
    }
}

impl Engine {
    /// What is in force.
    pub fn board(&self) -> &Arc<Board> {
        &self.shared.board
    }

    /// Puts in force what the store holds; `is_complete` where all of it could be read.
    pub fn resume_orders(&self, saved: KillSwitch, is_complete: bool) {
        self.shared.orders(|lying| lying.orders = Orders::holding(saved, is_complete));
    }

    /// Puts an order in force and makes it durable. What holds automation back counts at once, whether or not it can
    /// be made durable; what lets it go on is durable first.
    ///
    /// # Errors
    /// [`OrderError`]; then what was in force before still is.
    pub async fn post(&self, order: Order) -> Result<Posted, OrderError> {
        let now = self.shared.clock.now();
        let taken = self.shared.orders(|lying| {
            let (ticket, counts) = match lying.orders.take(&order, now) {
                Taken::Counts(ticket) => (ticket, true),
                Taken::Waits(ticket) => (ticket, false),
                Taken::Nothing => return Ok(None),
                Taken::TooMany => return Err(OrderError::TooMany),
            };
            Ok(Some((counts, lying.put(ticket, order, counts))))
        })?;
        let Some((counts, (given_up, answered))) = taken else { return Ok(Posted::Nothing) };
        self.shared.serve();
        let saved = match timeout(PATIENCE, answered).await {
            Ok(saved) => saved.unwrap_or_else(|_| Err(NO_ANSWER.to_owned())),
            Err(_) => Err(NO_ANSWER.to_owned()),
        };
        match saved {
            Ok(()) => Ok(Posted::Durable),
            Err(why) if counts => {
                tracing::error!(why, "the kill switch is in force, but not durable yet");
                Ok(Posted::InForce(why))
            }
            Err(why) => {
                // Who was told that it does not count must not find later that it did.
                given_up.set();
                Err(OrderError::NotDurable(why))
            }
        }
    }

    /// Tries once more to make durable what is in force, and to remove what has ended by itself.
    pub fn tidy_orders(&self) {
        let now = self.shared.clock.now();
        let mut lying = self.shared.lying();
        let unsaved: Vec<_> = lying.orders.unsaved().map(|(ticket, order)| (ticket, order.clone())).collect();
        for (ticket, order) in unsaved {
            if lying.at != Some(ticket) && !lying.waiting.contains_key(&ticket) {
                // In force already; nobody waits for the answer.
                drop(lying.put(ticket, order, true));
            }
        }
        lying.forgets = !lying.orders.ended(now).is_empty();
        let is_idle = lying.waiting.is_empty() && !lying.forgets;
        drop(lying);
        if !is_idle {
            self.shared.serve();
        }
    }

    /// The orders in force that are not durable yet.
    pub fn unsaved_orders(&self) -> Vec<Order> {
        self.shared.lying().orders.unsaved().map(|(_, order)| order.clone()).collect()
    }

    /// Halts by a file, or, with none, no longer does.
    pub fn heed_file(&self, order: Option<Order>) {
        self.shared.board.change(|switch| {
            switch.clear(&Scope::File);
            order.into_iter().for_each(|order| switch.set(order));
        });
        self.heed();
    }

    /// Rings, so that what was posted on the board counts at once.
    pub fn heed(&self) {
        self.shared.wake.notify_one();
    }
}
