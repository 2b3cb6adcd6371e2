//! Who was not allowed to do something to a runbook: its history shows it, and forgets all but the newest.

use super::{Page, Records, read, to_bytes};
use crate::model::{RunbookId, Timestamp};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// The most that are kept of one runbook.
pub const MAX_REFUSALS: usize = 100;

fn refusal_key(runbook: &RunbookId, ulid: &str) -> Vec<u8> {
    format!("rf/{runbook}/{ulid}").into_bytes()
}

fn refusals_of(runbook: &RunbookId) -> Vec<u8> {
    format!("rn/{runbook}").into_bytes()
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// Its id, a ULID.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The runbook.
    pub runbook: RunbookId,
    /// What was wanted: `execute`, `validate`, `control` or another word of the route.
    pub operation: String,
    /// Who wanted it.
    pub user: String,
    /// The roles they had.
    pub roles: Vec<String>,
    /// From where.
    pub client: String,
    /// The request.
    pub request_id: String,
    /// The execution it was about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execution: Option<String>,
    /// Why not.
    pub why: String,
}

/// Keeps refusals; the oldest of too many go.
///
/// # Errors
/// As [`Txn::get`].
pub fn add(txn: &mut dyn Txn, records: &[RefusalRecord]) -> Result<(), CommitError> {
    for record in records {
        let list = refusals_of(&record.runbook);
        let mut ids: Vec<String> = read(txn, &list)?.unwrap_or_default();
        while ids.len() >= MAX_REFUSALS {
            txn.delete(refusal_key(&record.runbook, &ids.remove(0)));
        }
        ids.push(record.id.clone());
        txn.put(refusal_key(&record.runbook, &record.id), to_bytes(record)?);
        txn.put(list, to_bytes(&ids)?);
    }
    Ok(())
}

impl Records {
    /// The refusals of a runbook behind `cursor`, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn refusals(
        &self,
        runbook: &RunbookId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<RefusalRecord>, ReadError> {
        self.page_of(refusal_key(runbook, ""), cursor, limit).await
    }
}
