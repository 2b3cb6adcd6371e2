//! Quarantined targets. Automation adds them, a person takes them away; both stand in the audit log.

use super::{AuditRecord, Page, Records, Scan, audit, key, read, to_bytes, transact};
use crate::guard::Quarantine;
use crate::journal::AuditEntry;
use crate::model::{Target, Timestamp};
use crate::store::{CommitError, ReadError, Txn};

/// Who automation is in the audit log.
const AUTOMATION: &str = "runbookd";

/// Why `target` is quarantined, if it is.
///
/// # Errors
/// As [`Txn::get`].
pub fn get(txn: &mut dyn Txn, target: &Target) -> Result<Option<Quarantine>, ReadError> {
    read(txn, &key::quarantine(target.as_str()))
}

/// Quarantines a target, and writes that into the audit log. Again, the later cause stands.
///
/// # Errors
/// As [`audit::append`].
pub fn put(txn: &mut dyn Txn, quarantine: &Quarantine) -> Result<(), CommitError> {
    let Quarantine { target, runbook, execution, at, reason } = quarantine;
    audit::append(
        txn,
        AuditEntry {
            at: *at,
            user: AUTOMATION.to_owned(),
            action: "quarantine.put",
            target: target.to_string(),
            reason: reason.clone(),
            detail: [("runbook", runbook.to_string()), ("execution", execution.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        },
    )?;
    txn.put(key::quarantine(target.as_str()), to_bytes(quarantine)?);
    Ok(())
}

/// Ends a quarantine, and writes that into the audit log. `None` when there is none; then nothing is written.
///
/// # Errors
/// As [`audit::append`].
pub fn clear(
    txn: &mut dyn Txn,
    target: &Target,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Quarantine>, CommitError> {
    let Some(quarantine) = get(txn, target)? else { return Ok(None) };
    let detail = [
        ("runbook", quarantine.runbook.to_string()),
        ("execution", quarantine.execution.to_string()),
        ("since", quarantine.at.to_string()),
    ];
    let _record: AuditRecord = audit::append(
        txn,
        AuditEntry {
            at: now,
            user: by.to_owned(),
            action: "quarantine.clear",
            target: target.to_string(),
            reason: reason.to_owned(),
            detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
        },
    )?;
    txn.delete(key::quarantine(target.as_str()));
    Ok(Some(quarantine))
}

impl Records {
    /// The quarantined targets behind `cursor`, in the order of their hashes.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn quarantined(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Quarantine>, ReadError> {
        self.page_of(key::QUARANTINE.to_vec(), cursor, limit).await
    }

    /// How many targets are quarantined, counted up to `most`.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn count_quarantined(&self, most: usize) -> Result<usize, ReadError> {
        let scan = Scan { prefix: key::QUARANTINE.to_vec(), after: None, reverse: false, limit: most };
        Ok(self.store.scan(scan).await?.len())
    }

    /// Ends the quarantine of `target`, durably and with its audit record. `None` when there is none.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn clear_quarantine(
        &self,
        target: &Target,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Quarantine>, CommitError> {
        let (target, by, reason) = (target.clone(), by.to_owned(), reason.to_owned());
        transact(&*self.store, move |txn| clear(txn, &target, &by, &reason, now)).await
    }
}
