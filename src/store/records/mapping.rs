//! Mappings that people set while the daemon runs; each change stands in the audit log.

use super::{Records, Scan, audit, from_bytes, key, read, to_bytes};
use crate::journal::AuditEntry;
use crate::model::{RunbookId, Timestamp};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// The most that are kept.
pub const MAX_MAPPINGS: usize = 1000;
/// The most bytes one takes.
pub const MAX_MAPPING: usize = 4096;

/// A mapping as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// Its name.
    pub name: String,
    /// All must hold; as in Alertmanager.
    pub matchers: Vec<String>,
    /// What it selects.
    pub runbook: RunbookId,
    /// Its place among the others: the lower is asked first.
    pub order: u64,
    /// Who set it last.
    pub by: String,
    /// Why, in their words; empty where they did not say.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

fn audited(txn: &mut dyn Txn, action: &'static str, record: &MappingRecord) -> Result<(), CommitError> {
    let detail = [("matchers", record.matchers.join(", ")), ("runbook", record.runbook.to_string())];
    let entry = AuditEntry {
        at: record.at,
        user: record.by.clone(),
        action,
        target: record.name.clone(),
        reason: match record.reason.as_str() {
            "" => "no reason was given".to_owned(),
            said => said.to_owned(),
        },
        detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
    };
    audit::append(txn, entry).map(drop)
}

/// Sets a mapping, and writes that into the audit log. One that is there keeps its place.
///
/// # Errors
/// As [`audit::append`].
pub fn put(txn: &mut dyn Txn, mut record: MappingRecord) -> Result<MappingRecord, CommitError> {
    let key = key::mapping(&record.name);
    let before: Option<MappingRecord> = read(txn, &key)?;
    record.order = before.map_or(record.order, |before| before.order);
    audited(txn, "mapping.set", &record)?;
    txn.put(key, to_bytes(&record)?);
    Ok(record)
}

/// Removes a mapping, and writes that into the audit log; as it was. `None` when there is none.
///
/// # Errors
/// As [`audit::append`].
pub fn delete(
    txn: &mut dyn Txn,
    name: &str,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Option<MappingRecord>, CommitError> {
    let key = key::mapping(name);
    let Some(before) = read::<MappingRecord>(txn, &key)? else { return Ok(None) };
    let record = MappingRecord { by: by.to_owned(), reason: reason.to_owned(), at: now, ..before.clone() };
    audited(txn, "mapping.delete", &record)?;
    txn.delete(key);
    Ok(Some(before))
}

impl Records {
    /// All of them, in their order.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn mappings(&self) -> Result<Vec<MappingRecord>, ReadError> {
        let scan = Scan { prefix: key::MAPPING.to_vec(), after: None, reverse: false, limit: usize::MAX };
        let pairs = self.store.scan(scan).await?;
        let records = pairs.iter().map(|(key, bytes)| from_bytes(key, bytes));
        let mut records: Vec<MappingRecord> = records.collect::<Result<_, _>>()?;
        records.sort_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
        Ok(records)
    }
}
