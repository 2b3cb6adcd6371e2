//! The audit log: appended in the same unit of work as the change it records, so that neither is without the other.

use super::list::Walk;
use super::{Page, Records, Scan, from_bytes, key, last_part, read, to_bytes, transact};
use crate::journal::{AuditEntry, AuditHead, AuditRecord, Broken, CUT, Verifier};
use crate::model::Timestamp;
use crate::store::{CommitError, ReadError, Txn};

/// The longest text a field of a record keeps, in bytes; longer ones are cut.
const MAX_TEXT: usize = 2048;
/// How many records are verified at once.
const STRIDE: usize = 512;

/// How many records are cut off at once.
pub const MAX_CUT: usize = 500;

/// Of where the front of the log was cut off last.
fn key_of_base() -> Vec<u8> {
    b"a-base".to_vec()
}

/// A border as it is stored, exactly as it was written; `None` when it is not.
fn border(bytes: Option<&[u8]>) -> Option<AuditHead> {
    let Some(bytes) = bytes else { return Some(AuditHead::default()) };
    let head: AuditHead = serde_json::from_slice(bytes).ok()?;
    to_bytes(&head).is_ok_and(|written| written == bytes).then_some(head)
}

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
    /// The last record that was cut off at the front; number 0 where none was.
    pub base: AuditHead,
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

    /// Appends `entry` alone, before something that no commit can hold.
    ///
    /// # Errors
    /// As [`append`].
    pub async fn note(&self, entry: AuditEntry) -> Result<(), CommitError> {
        transact(&*self.store, move |txn| append(txn, entry.clone()).map(drop)).await
    }

    /// The end of the log, as it is stored.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn audit_head(&self) -> Result<AuditHead, ReadError> {
        Ok(self.one(&key::audit_head()).await?.unwrap_or_default())
    }

    /// Cuts off the front of the log: records older than `cutoff`, [`MAX_CUT`] of them at most. What is left verifies,
    /// because a record of the cut, with the hash of the last one that is gone, is part of it. Gives how many are gone.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn cut_audit(&self, cutoff: Timestamp, now: Timestamp) -> Result<u64, CommitError> {
        let base: AuditHead = self.one(&key_of_base()).await?.unwrap_or_default();
        let scan = Scan { prefix: key::AUDIT.to_vec(), after: None, reverse: false, limit: MAX_CUT };
        let mut last = None;
        for (key, bytes) in self.store.scan(scan).await? {
            let record: AuditRecord = from_bytes(&key, &bytes)?;
            if record.at >= cutoff {
                break;
            }
            last = Some(record.head());
        }
        let Some(last) = last.filter(|last| last.seq > base.seq) else { return Ok(0) };
        let gone = last.seq - base.seq;
        transact(&*self.store, move |txn| {
            let detail = [("through", last.seq.to_string()), ("hash", last.hash.clone())];
            let entry = AuditEntry {
                at: now,
                user: "runbookd".to_owned(),
                action: CUT,
                target: "audit".to_owned(),
                reason: "older than [store] audit_retention".to_owned(),
                detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
            };
            append(txn, entry)?;
            (base.seq + 1..=last.seq).for_each(|seq| txn.delete(key::audit(seq)));
            txn.put(key_of_base(), to_bytes(&last)?);
            Ok(())
        })
        .await?;
        Ok(gone)
    }

    /// Checks the log from its first record to its last.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`]. A log that is broken is no error.
    pub async fn verify_audit(&self) -> Result<AuditCheck, ReadError> {
        loop {
            let base = self.store.get(&key_of_base()).await?;
            let check = self.verify_behind(base.as_deref()).await?;
            // Its front may have been cut off meanwhile.
            if check.broken.is_none() || self.store.get(&key_of_base()).await? == base {
                return Ok(check);
            }
        }
    }

    /// Checks the log whose records up to the one in `base` are gone.
    async fn verify_behind(&self, base: Option<&[u8]>) -> Result<AuditCheck, ReadError> {
        // Read before the records: one that is appended meanwhile must not look like one too many.
        let stored = self.store.get(&key::audit_head()).await?;
        let (base, stored) = match (border(base), border(stored.as_deref())) {
            (Some(base), Some(stored)) => (base, stored),
            _ => {
                let (head, base) = <(AuditHead, AuditHead)>::default();
                return Ok(AuditCheck { head, base, broken: Some(Broken::Border) });
            }
        };
        let mut verifier = Verifier::behind(base.clone());
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
                let record: AuditRecord = from_bytes(key, bytes).map_err(|_| Broken::Changed(next))?;
                verifier.next(&record)?;
                // Another spelling of the same is not what was written either.
                let same = to_bytes(&record).is_ok_and(|written| written == *bytes);
                if same && *key == key::audit(record.seq) { Ok(()) } else { Err(Broken::Changed(next)) }
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
        Ok(AuditCheck { head: verifier.head().clone(), base, broken })
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

#[cfg(test)]
mod tests;
