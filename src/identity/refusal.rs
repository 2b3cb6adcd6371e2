//! What somebody was not allowed to do to a runbook, for its history: noted on the way of the request, written down
//! after it.
//!
//! May import: `model`, `store`. Must never: make a refused request wait, or let one who is refused again and again
//! fill the store.

use super::{Identity, lock, new_id};
use crate::auth::{Allowances, Rule};
use crate::model::RunbookId;
use crate::store::records::refusal::{self, RefusalRecord};
use crate::store::records::transact;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// How many are kept a minute, of all together: sixty, and thirty at once. The log has every one.
const KEPT: Rule = Rule { burst: 30, every: Duration::from_secs(1) };
/// The longest text of one, in characters.
const MAX_TEXT: usize = 300;

/// One that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What it was about.
    pub runbook: RunbookId,
    /// What was wanted.
    pub operation: &'static str,
    /// Who wanted it.
    pub user: String,
    /// The roles they had.
    pub roles: Vec<String>,
    /// From where.
    pub client: IpAddr,
    /// The request.
    pub request_id: String,
    /// The execution it was about.
    pub execution: Option<String>,
    /// Why not.
    pub why: String,
}

/// Those that are not written down yet.
#[derive(Debug)]
pub(super) struct Refusals {
    inner: Mutex<(Allowances<()>, Vec<RefusalRecord>)>,
    wake: Notify,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { inner: Mutex::new((Allowances::new(KEPT, 1), Vec::new())), wake: Notify::new() }
    }
}

impl Refusals {
    /// Ready when there are some.
    pub(super) async fn waiting(&self) {
        self.wake.notified().await;
    }
}

impl Identity {
    /// Notes that somebody was refused. Never waits.
    pub fn refused(&self, refusal: Refusal) {
        let now = self.now();
        if !(self.0.parts.is_runbook)(&refusal.runbook) {
            return;
        }
        let Ok(id) = new_id(now) else { return };
        let bounded = |text: String| text.chars().take(MAX_TEXT).collect::<String>();
        let record = RefusalRecord {
            id,
            at: now,
            runbook: refusal.runbook,
            operation: refusal.operation.to_owned(),
            user: bounded(refusal.user),
            roles: refusal.roles.into_iter().take(20).map(bounded).collect(),
            client: refusal.client.to_string(),
            request_id: refusal.request_id,
            execution: refusal.execution,
            why: bounded(refusal.why),
        };
        let mut inner = lock(&self.0.refusals.inner);
        // The allowance also bounds how many can wait, while the store takes none.
        let (allowances, waiting) = &mut *inner;
        if waiting.len() < 1000 && allowances.take(&(), now).is_ok() {
            waiting.push(record);
            drop(inner);
            self.0.refusals.wake.notify_one();
        }
    }

    pub(super) async fn write_down_refusals(&self) {
        let records = std::mem::take(&mut lock(&self.0.refusals.inner).1);
        if records.is_empty() {
            return;
        }
        let count = records.len();
        let written = transact(&**self.records().store(), move |txn| refusal::add(txn, &records)).await;
        if let Err(error) = written {
            tracing::warn!(%error, count, "refusals are missing in the histories of their runbooks");
        }
    }
}
