//! The orders of the kill switch as they are kept: one record for each scope.
//!
//! Alone of all changes, one that holds automation back does not wait for its audit record: see `put`.

use super::{Records, Scan, audit, from_bytes, key, to_bytes, transact};
use crate::guard::{KillSwitch, MAX_ORDERS, Order, Scope, SwitchState};
use crate::journal::AuditEntry;
use crate::model::{Matcher, RunbookId, Timestamp};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Told by who no longer waits for a work: what has not been done yet is not done any more.
#[derive(Debug, Clone, Default)]
pub struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    /// Gives up.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), CommitError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(CommitError::Refused("nobody waits for it any more".to_owned())),
            false => Ok(()),
        }
    }
}

/// What the store holds of the kill switch.
#[derive(Debug, Default)]
pub struct Stood {
    /// The orders.
    pub switch: KillSwitch,
    /// Why some of them cannot be read.
    pub unreadable: Option<ReadError>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    runbook: Option<RunbookId>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    matchers: Vec<String>,
    state: SwitchState,
    by: String,
    reason: String,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_at: Option<Timestamp>,
}

impl Stored {
    fn of(order: &Order) -> Self {
        let (runbook, matchers) = match &order.scope {
            Scope::Global | Scope::File => (None, Vec::new()),
            Scope::Runbook(id) => (Some(id.clone()), Vec::new()),
            Scope::Matchers(matchers) => (None, matchers.iter().map(ToString::to_string).collect()),
        };
        let Order { state, by, reason, at, expires_at, .. } = order.clone();
        Self { runbook, matchers, state, by, reason, at, expires_at }
    }

    fn order(self, key: &[u8]) -> Result<Order, ReadError> {
        let Self { runbook, matchers, state, by, reason, at, expires_at } = self;
        let scope = match (runbook, matchers.is_empty()) {
            (Some(id), _) => Scope::Runbook(id),
            (None, true) => Scope::Global,
            (None, false) => {
                let parsed = matchers.iter().map(|text| Matcher::parse(text)).collect::<Result<_, _>>();
                Scope::Matchers(parsed.map_err(|error| super::damaged(key, &error))?)
            }
        };
        Ok(Order { scope, state, by, reason, at, expires_at })
    }
}

fn write(txn: &mut dyn Txn, order: &Order) -> Result<(), CommitError> {
    let key = key::switch(&order.scope.key());
    match order.state {
        SwitchState::Running => txn.delete(key),
        SwitchState::Draining | SwitchState::Halted | SwitchState::Aborted => {
            txn.put(key, to_bytes(&Stored::of(order))?);
        }
    }
    Ok(())
}

fn audited(txn: &mut dyn Txn, order: &Order) -> Result<(), CommitError> {
    let until = order.expires_at.map(|end| ("expires_at".to_owned(), end.to_string()));
    let entry = AuditEntry {
        at: order.at,
        user: order.by.clone(),
        action: "automation.set",
        target: order.scope.key(),
        reason: order.reason.clone(),
        detail: [("state".to_owned(), order.state.as_str().to_owned())].into_iter().chain(until).collect(),
    };
    audit::append(txn, entry).map(drop)
}

impl Records {
    /// The orders that were given and not taken back.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`]; then nobody knows how far automation may go, and it may go nowhere.
    pub async fn kill_switch(&self) -> Result<Stood, ReadError> {
        // Those that have ended may still be there beside those that stand.
        let scan = Scan { prefix: key::SWITCH.to_vec(), after: None, reverse: false, limit: 10 * MAX_ORDERS };
        let mut stood = Stood::default();
        for (key, bytes) in self.store.scan(scan).await? {
            match from_bytes::<Stored>(&key, &bytes).and_then(|stored| stored.order(&key)) {
                Ok(order) => stood.switch.set(order),
                Err(error) => stood.unreadable = Some(error),
            }
        }
        Ok(stood)
    }

    /// Makes `order` durable, with its audit record, unless it was given up before. One that holds automation back is
    /// made so even where the audit log cannot be written to; the state `running` takes the order of the scope back.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn put_order(&self, order: &Order, given_up: GivenUp) -> Result<(), CommitError> {
        let full = order.clone();
        let both = transact(&*self.store, move |txn| {
            given_up.check()?;
            audited(txn, &full)?;
            write(txn, &full)
        });
        match both.await {
            Err(CommitError::Read(_)) if order.state > SwitchState::Running => {
                tracing::error!(
                    scope = order.scope.key(),
                    "the kill switch is set without a record in the audit log"
                );
                let bare = order.clone();
                transact(&*self.store, move |txn| write(txn, &bare)).await
            }
            answer => answer,
        }
    }

    /// Removes orders that have ended by themselves; what their scopes hold by now stays, if that is another one.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn forget_orders(&self, ended: Vec<Order>) -> Result<(), CommitError> {
        let work = move |txn: &mut dyn Txn| {
            for order in &ended {
                let key = key::switch(&order.scope.key());
                if txn.get(&key)? == Some(to_bytes(&Stored::of(order))?) {
                    txn.delete(key);
                }
            }
            Ok(())
        };
        transact(&*self.store, work).await
    }
}
