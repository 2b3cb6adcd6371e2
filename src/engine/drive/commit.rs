//! One commit of a driver: events, header, children and what the guards are asked and told, all or nothing.
//!
//! May import: `journal`, `model`, `report` (its words), `store`. Must never: decide; what to do about its failure is the driver's.

use super::guards::{Denied, Guards};
use crate::engine::Shared;
use crate::guard::Change;
use crate::journal::{Created, Entry, audited};
use crate::model::{ExecutionId, Timestamp};
use crate::report::Word;
use crate::store::records::{Header, append, audit, create, outbox, transact};
use crate::store::{CommitError, Txn};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes durable together.
#[derive(Clone)]
pub(super) struct Commit {
    /// The events, numbered.
    pub(super) entries: Vec<Entry>,
    /// What lists show of the execution afterwards.
    pub(super) header: Header,
    /// The executions its steps start.
    pub(super) children: Vec<Created>,
    /// Breakers and quarantine.
    pub(super) guards: Guards,
    /// What people are told of it.
    pub(super) words: Vec<Word>,
    /// When.
    pub(super) now: Timestamp,
}

impl Commit {
    /// Makes it durable, or tells who denies it; then nothing is written.
    pub(super) async fn run(
        self,
        shared: &Shared,
        id: &ExecutionId,
    ) -> (Result<Vec<(String, Change)>, CommitError>, Option<Denied>) {
        let denied = Arc::new(Mutex::new(None));
        let (id, told) = (id.clone(), Arc::clone(&denied));
        let store = Arc::clone(shared.records.store());
        let committed =
            transact(&*store, move |txn: &mut dyn Txn| match self.guards.apply(txn, self.now)? {
                Ok(changes) => {
                    for child in &self.children {
                        create(txn, child.clone(), self.now)?;
                    }
                    append(txn, &id, &self.entries, &self.header)?;
                    for entry in self.entries.iter().filter_map(|entry| audited(&id, entry)) {
                        audit::append(txn, entry)?;
                    }
                    outbox::apply(txn, &self.words, self.now)?;
                    Ok(changes)
                }
                Err(why) => {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    Err(CommitError::Refused("a guard says no".to_owned()))
                }
            });
        let committed = committed.await;
        let denied = denied.lock().unwrap_or_else(PoisonError::into_inner).take();
        (committed, denied)
    }
}
