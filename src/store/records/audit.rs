//! The audit log: appended in the same unit of work as the change it records, so that neither is without the other.

use super::list::Walk;
use super::{Page, Records, Scan, from_bytes, key, last_part, read, to_bytes};
use crate::journal::{AuditEntry, AuditHead, AuditRecord, Broken, Verifier};
use crate::model::Timestamp;
use crate::store::{CommitError, ReadError, Txn};

/// The longest text a field of a record keeps, in bytes; longer ones are cut.
const MAX_TEXT: usize = 2048;
/// How many records are verified at once.
const STRIDE: usize = 512;

/// Appends `entry` to the log.
///
/// # Errors
/// [`CommitError`] when the end of the log cannot be read; then the change must not happen either.
pub fn append(txn: &mut dyn Txn, entry: AuditEntry) -> Result<AuditRecord, CommitError> {
    let head: AuditHead = read(txn, &key::audit_head())?.unwrap_or_default();
    let AuditEntry { at, user, action, target, reason, detail } = entry;
    let detail = detail.into_iter().map(|(name, value)| (name, cut(value))).collect();
    let entry = AuditEntry { at, user: cut(user), action, target: cut(target), reason: cut(reason), detail };
    let record = AuditRecord::seal(entry, &head);
    txn.put(key::audit(record.seq), to_bytes(&record)?);
    txn.put(key::audit_head(), to_bytes(&record.head())?);
    Ok(record)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this person.
    pub user: Option<String>,
    /// Of this action, such as `breaker.reset`.
    pub action: Option<String>,
    /// On this.
    pub target: Option<String>,
    /// Written at or after.
    pub since: Option<Timestamp>,
}

impl AuditFilter {
    fn admits(&self, record: &AuditRecord) -> bool {
        self.user.as_ref().is_none_or(|user| record.user == *user)
            && self.action.as_ref().is_none_or(|action| record.action == *action)
            && self.target.as_ref().is_none_or(|target| record.target == *target)
    }
}

/// What came of checking the whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCheck {
    /// The last record that is good.
    pub head: AuditHead,
    /// Where it is broken, if it is.
    pub broken: Option<Broken>,
}

impl Records {
    /// The records `filter` admits, behind `cursor`, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<AuditRecord>, ReadError> {
        let mut walk = Walk::new(key::AUDIT.to_vec(), cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                let record: AuditRecord = from_bytes(&key, &bytes)?;
                if filter.since.is_some_and(|since| record.at < since) {
                    walk.end();
                    break;
                }
                if !walk.take(&last_part(&key), filter.admits(&record).then_some(record)) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }

    /// Checks the log from its first record to its last.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`]. A log that is broken is no error.
    pub async fn verify_audit(&self) -> Result<AuditCheck, ReadError> {
        // Read before the records: one that is appended meanwhile must not look like one too many.
        let stored: AuditHead = self.one(&key::audit_head()).await?.unwrap_or_default();
        let mut verifier = Verifier::default();
        let mut after = None;
        let broken = loop {
            let left = stored.seq.saturating_sub(verifier.head().seq);
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(STRIDE);
            let scan = Scan { prefix: key::AUDIT.to_vec(), after: after.take(), reverse: false, limit };
            let pairs = if limit == 0 { Vec::new() } else { self.store.scan(scan).await? };
            if pairs.is_empty() {
                break verifier.end(&stored).err();
            }
            let checked = pairs.iter().try_for_each(|(key, bytes)| {
                // What is no record any more was changed, too.
                let next = verifier.head().seq + 1;
                let record = from_bytes(key, bytes).map_err(|_| Broken::Changed(next))?;
                verifier.next(&record)
            });
            if let Err(broken) = checked {
                break Some(broken);
            }
            after = pairs.last().map(|(key, _)| key.clone());
        };
        let broken = match broken {
            None => self.beyond_head().await?,
            broken => broken,
        };
        Ok(AuditCheck { head: verifier.head().clone(), broken })
    }

    /// A record behind the stored end, as it is left when the end is removed or put back.
    async fn beyond_head(&self) -> Result<Option<Broken>, ReadError> {
        let scan = Scan { prefix: key::AUDIT.to_vec(), after: None, reverse: true, limit: 1 };
        let last =
            self.store.scan(scan).await?.pop().map_or(0, |(key, _)| last_part(&key).parse().unwrap_or(0));
        // Read after the record: the two are written together, so the end cannot be behind by itself.
        let head: AuditHead = self.one(&key::audit_head()).await?.unwrap_or_default();
        Ok((last > head.seq).then_some(Broken::Beyond { last: head.seq, found: last }))
    }
}
