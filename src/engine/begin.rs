//! An execution that a person or a program asks for: no guard of automation is asked, only the kill switch.
//!
//! May import: `admit` (the plan), `store`, `journal`. Must never: pass by the queue, its lock or its slots.

use super::Engine;
use crate::admit::{self, Denial, Request};
use crate::guard::Order;
use crate::journal::{AuditEntry, Created, Trigger};
use crate::model::{ExecutionId, Timestamp};
use crate::runbook::Pinned;
use crate::store::records::{audit, create, transact};
use crate::store::{CommitError, Ids};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The runbook in the version that is live.
    pub pinned: Arc<Pinned>,
    /// Who asks, with which labels and annotations, and why.
    pub trigger: Trigger,
    /// Values for inputs.
    pub inputs: BTreeMap<String, String>,
    /// Variables for inputs `from = "env.NAME"`.
    pub env: BTreeMap<String, String>,
    /// Only the steps at these positions.
    pub range: Option<(usize, usize)>,
    /// The instance that accepts it.
    pub instance: String,
}

/// Why it was not started. Nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// An order of the kill switch covers it.
    #[error("{}", .0.sentence())]
    Held(Box<Order>),
    /// A freeze is in force, also for what people start.
    #[error("frozen by {0:?} until {1}")]
    Frozen(String, Timestamp),
    /// Inputs or target do not fit.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The queue has no room for it.
    #[error("the queue is full")]
    QueueFull,
    /// It could not be made durable.
    #[error(transparent)]
    Store(CommitError),
}

impl Wish {
    fn plan(&self, ids: &Ids, now: Timestamp, queue_deadline: Duration) -> Result<Created, Denial> {
        let ulid = ids.next(now);
        admit::plan(Request {
            pinned: &self.pinned,
            trigger: self.trigger.clone(),
            given: self.inputs.clone(),
            env: self.env.clone(),
            range: self.range,
            id: ExecutionId::of(&self.pinned.runbook.id, ulid),
            queue_deadline,
            seed: ulid.random() as u64,
            instance: &self.instance,
            now,
        })
    }

    fn audited(&self, created: &Created, now: Timestamp) -> AuditEntry {
        let target = created.target.as_ref().map(|target| ("target".to_owned(), target.to_string()));
        AuditEntry {
            at: now,
            user: self.trigger.by.clone(),
            action: "runbook.execute",
            target: created.id.to_string(),
            reason: self.trigger.reason.clone().unwrap_or_default(),
            detail: target.into_iter().collect(),
        }
    }
}

impl Engine {
    /// What `wish` would become; nothing is started and nothing is kept.
    ///
    /// # Errors
    /// [`Denial`] with a sentence for each thing that does not fit.
    pub fn plan(&self, wish: &Wish) -> Result<Created, Denial> {
        wish.plan(&self.shared.ids, self.shared.clock.now(), self.queue_deadline())
    }

    /// How long an execution may wait in the queue.
    pub fn queue_deadline(&self) -> Duration {
        self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner).queue_deadline
    }

    /// Puts what `wish` asks for into the queue, durably and with its audit record.
    ///
    /// # Errors
    /// [`BeginError`]; then nothing of it remains.
    pub async fn begin(&self, wish: Wish) -> Result<ExecutionId, BeginError> {
        let now = self.shared.clock.now();
        let runbook = &wish.pinned.runbook.id;
        let order = self.shared.board.read().strictest(&[runbook], Some(&wish.trigger.labels), now).cloned();
        if let Some(order) = order {
            return Err(BeginError::Held(Box::new(order)));
        }
        if let Some((freeze, until)) = self.shared.freeze_for_people(now) {
            return Err(BeginError::Frozen(freeze, until));
        }
        let limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.shared.queue.try_add(1, limits.queue_limit).is_err() {
            return Err(BeginError::QueueFull);
        }
        let ids = Arc::clone(&self.shared.ids);
        // The id is drawn within the commit, so that ids are stored in their order and none is overlooked.
        let begun = transact(&**self.shared.records.store(), move |txn| {
            let created = match wish.plan(&ids, now, limits.queue_deadline) {
                Ok(created) => created,
                Err(denial) => return Ok(Err(denial)),
            };
            audit::append(txn, wish.audited(&created, now))?;
            let id = created.id.clone();
            create(txn, created, now)?;
            Ok(Ok(id))
        });
        let begun = begun.await;
        if !matches!(begun, Ok(Ok(_))) {
            self.shared.queue.remove(1);
        }
        let id = begun.map_err(BeginError::Store)??;
        self.shared.wake.notify_one();
        Ok(id)
    }
}
