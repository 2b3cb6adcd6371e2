//! Breakers as they are kept: one record for each key that has something to remember.
//!
//! A closed breaker without a failure is no record at all, so that keys that strangers choose do not pile up. Those
//! that are not closed have an index of their own, because every scrape and every status asks for them.

use super::list::Walk;
use super::{Page, Records, Scan, audit, from_bytes, key, last_part, read, to_bytes, transact};
use crate::guard::{Admission, Breaker, BreakerKey, BreakerRecord, BreakerState, Change, Outcome, Profile};
use crate::journal::AuditEntry;
use crate::model::Timestamp;
use crate::store::{CommitError, ReadError, Txn};

/// Where the breaker of `key` stands; `None` while it is closed without a failure.
///
/// # Errors
/// As [`Txn::get`].
pub fn get(txn: &mut dyn Txn, key: &str) -> Result<Option<BreakerRecord>, ReadError> {
    read(txn, &key::breaker(key))
}

/// Whether `holder` may start what `key` guards; where the breaker is half-open it holds the probe from now on.
///
/// To be called in the commit that holds the intent, so that the probe and what it is for are one.
///
/// # Errors
/// As [`Txn::get`].
pub fn admit(
    txn: &mut dyn Txn,
    key: &BreakerKey,
    profile: &Profile,
    holder: &str,
    now: Timestamp,
) -> Result<Admission, CommitError> {
    let Some(before) = get(txn, key.as_str())? else { return Ok(Admission::Yes) };
    let mut breaker = before.breaker.clone();
    let admission = breaker.admit(holder, now);
    if breaker != before.breaker {
        write(txn, key, profile, breaker)?;
    }
    Ok(admission)
}

/// Notes how what `holder` was admitted for ended.
///
/// To be called in the commit that holds the outcome. It says when the breaker opened or closed by it.
///
/// # Errors
/// As [`Txn::get`].
pub fn record(
    txn: &mut dyn Txn,
    key: &BreakerKey,
    profile: &Profile,
    holder: &str,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Option<Change>, CommitError> {
    let before = get(txn, key.as_str())?.map(|record| record.breaker).unwrap_or_default();
    let mut breaker = before.clone();
    let change = breaker.record(profile, holder, outcome, now);
    if breaker != before {
        write(txn, key, profile, breaker)?;
    }
    Ok(change)
}

fn write(
    txn: &mut dyn Txn,
    key: &BreakerKey,
    profile: &Profile,
    breaker: Breaker,
) -> Result<(), CommitError> {
    put(txn, &BreakerRecord { breaker, ..BreakerRecord::blank(key, profile) })
}

fn put(txn: &mut dyn Txn, record: &BreakerRecord) -> Result<(), CommitError> {
    let (own, tripped) = (key::breaker(&record.key), key::tripped(&record.key));
    if record.breaker.is_blank() {
        txn.delete(own);
    } else {
        txn.put(own, to_bytes(record)?);
    }
    match record.breaker.state() {
        BreakerState::Closed => txn.delete(tripped),
        BreakerState::Open | BreakerState::HalfOpen => txn.put(tripped, Vec::new()),
    }
    Ok(())
}

/// A person who changes a breaker, for the audit log.
#[derive(Debug, Clone)]
pub struct Person {
    /// Who.
    pub user: String,
    /// Why, in their words.
    pub reason: String,
}

fn audited(
    txn: &mut dyn Txn,
    action: &'static str,
    before: &BreakerRecord,
    person: &Person,
    now: Timestamp,
) -> Result<(), CommitError> {
    let detail = [
        ("state", before.breaker.state().as_str().to_owned()),
        ("failures", before.breaker.failures().to_string()),
    ];
    let entry = AuditEntry {
        at: now,
        user: person.user.clone(),
        action,
        target: before.key.clone(),
        reason: person.reason.clone(),
        detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
    };
    audit::append(txn, entry).map(drop)
}

/// Closes the breaker `key` and forgives its failures, and writes that into the audit log. `None` when nothing is
/// known of it; then nothing is written.
///
/// # Errors
/// As [`audit::append`].
pub fn reset(
    txn: &mut dyn Txn,
    key: &str,
    person: &Person,
    now: Timestamp,
) -> Result<Option<BreakerRecord>, CommitError> {
    let Some(mut record) = get(txn, key)? else { return Ok(None) };
    audited(txn, "breaker.reset", &record, person, now)?;
    record.breaker.reset();
    put(txn, &record)?;
    Ok(Some(record))
}

/// Opens the breaker `key` until it is reset, and writes that into the audit log. Where nothing is kept of it, it
/// begins as `fresh`; without that the answer is `None`, and nothing is written.
///
/// # Errors
/// As [`audit::append`].
pub fn force_open(
    txn: &mut dyn Txn,
    key: &str,
    fresh: Option<BreakerRecord>,
    person: &Person,
    now: Timestamp,
) -> Result<Option<BreakerRecord>, CommitError> {
    let Some(mut record) = get(txn, key)?.or(fresh) else { return Ok(None) };
    audited(txn, "breaker.open", &record, person, now)?;
    record.breaker.force_open(now);
    put(txn, &record)?;
    Ok(Some(record))
}

impl Records {
    /// The breaker of `key`; `None` while it is closed without a failure.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn breaker(&self, key: &str) -> Result<Option<BreakerRecord>, ReadError> {
        self.one(&key::breaker(key)).await
    }

    /// The breakers that remember something, behind `cursor`, in the order of their hashes; only those in `state`,
    /// where one is given.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn breakers(
        &self,
        state: Option<BreakerState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<BreakerRecord>, ReadError> {
        let is_tripped = matches!(state, Some(BreakerState::Open | BreakerState::HalfOpen));
        let prefix = if is_tripped { key::TRIPPED } else { key::BREAKER };
        let mut walk = Walk::new(prefix.to_vec(), cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                let hash = last_part(&key);
                let record: Option<BreakerRecord> = if is_tripped {
                    self.one(&key::breaker_of_hash(&hash)).await?
                } else {
                    Some(from_bytes(&key, &bytes)?)
                };
                let wanted =
                    record.filter(|record| state.is_none_or(|state| record.breaker.state() == state));
                if !walk.take(&hash, wanted) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }

    /// Up to `most` breakers that are not closed.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn tripped(&self, most: usize) -> Result<Vec<BreakerRecord>, ReadError> {
        let scan = Scan { prefix: key::TRIPPED.to_vec(), after: None, reverse: false, limit: most };
        let mut records = Vec::new();
        for (key, _) in self.store.scan(scan).await? {
            records.extend(self.one(&key::breaker_of_hash(&last_part(&key))).await?);
        }
        Ok(records)
    }

    /// [`reset`], durably.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn reset_breaker(
        &self,
        key: &str,
        person: Person,
        now: Timestamp,
    ) -> Result<Option<BreakerRecord>, CommitError> {
        let key = key.to_owned();
        transact(&*self.store, move |txn| reset(txn, &key, &person, now)).await
    }

    /// [`force_open`], durably.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn open_breaker(
        &self,
        key: &str,
        fresh: Option<BreakerRecord>,
        person: Person,
        now: Timestamp,
    ) -> Result<Option<BreakerRecord>, CommitError> {
        let key = key.to_owned();
        transact(&*self.store, move |txn| force_open(txn, &key, fresh.clone(), &person, now)).await
    }
}
