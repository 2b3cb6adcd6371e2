//! The outbox: escalations written in the commit of what causes them, and what the sender notes of them.
//!
//! `apply`, `resolved` and `ended` are called within the commits of the engine and of intake. Of one runbook at most
//! [`MAX_PENDING`] are told one by one while nobody knows of them; beyond that they are counted in one that stands for
//! all. May import: `report`. Must never: send anything, or forget one without a record of it.

mod many;

pub use many::{denied, ended};

use super::list::Walk;
use super::{Page, Person, Records, Scan, audit, from_bytes, key, last_part, read, to_bytes, transact};
use crate::journal::AuditEntry;
use crate::model::{ExecutionId, RunbookId, Timestamp};
use crate::report::{Closed, Escalation, EscalationId, Standing, Which, Word, close, cut};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// How many escalations of one runbook may wait to be told for the first time.
pub const MAX_PENDING: u64 = 1000;
/// How many escalations of one execution are found by it; older ones stay in the list of all.
const MAX_OF_EXECUTION: usize = 32;
/// The longest name of a target that is kept in totals, in bytes.
const TARGET_MAX: usize = 120;

/// How much of one runbook waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Escalations that are to be sent and that no channel has accepted yet.
    pub pending: u64,
    /// Escalations that were counted in another one, because too many were waiting.
    pub dropped: u64,
}

/// Says `words`, which belong to the commit of `txn`.
///
/// # Errors
/// As [`Txn::get`].
pub fn apply(txn: &mut dyn Txn, words: &[Word], now: Timestamp) -> Result<(), CommitError> {
    for word in words {
        match word {
            Word::Open(escalation) => open(txn, escalation).map(|_kept| ())?,
            Word::Denied(denial) => denied(txn, denial)?,
            Word::Close(execution, which) => {
                let closed = Closed { by: None, reason: "what it asked for is over".to_owned(), at: now };
                close_of(txn, execution, which, Standing::Resolved, &closed).map(|_count| ())?;
            }
        }
    }
    Ok(())
}

/// Keeps a new escalation; false where too many of its runbook wait, and it is only counted in the one that stands for
/// these. Again, nothing happens.
///
/// # Errors
/// As [`Txn::get`].
pub fn open(txn: &mut dyn Txn, escalation: &Escalation) -> Result<bool, CommitError> {
    if let Some(known) = read::<Escalation>(txn, &key::escalation(escalation.id.as_str()))? {
        return Ok(known.standing != Standing::Dropped);
    }
    if let Some(execution) = &escalation.execution {
        list_of(txn, execution, &escalation.id)?;
    }
    let of_runbook = key::backlog(&escalation.runbook);
    let mut backlog: Backlog = read(txn, &of_runbook)?.unwrap_or_default();
    // What stands for many is never one too many.
    if backlog.pending < MAX_PENDING || escalation.totals.is_some() {
        write(txn, escalation.clone(), true, false)?;
        return Ok(true);
    }
    backlog.dropped += 1;
    txn.put(of_runbook, to_bytes(&backlog)?);
    let flood = many::flood(txn, escalation)?;
    let reason = format!("too many of this runbook waited to be told; {flood} stands for all of these");
    let closed = Closed { by: None, reason, at: escalation.at };
    let dropped = Escalation { standing: Standing::Dropped, closed: Some(closed), ..escalation.clone() };
    write(txn, dropped, false, false)?;
    Ok(false)
}

/// Notes that `id` is one of the execution's.
fn list_of(txn: &mut dyn Txn, execution: &ExecutionId, id: &EscalationId) -> Result<(), CommitError> {
    let of_execution = key::escalations_of(execution.ulid());
    let mut ids: Vec<EscalationId> = read(txn, &of_execution)?.unwrap_or_default();
    if !ids.contains(id) {
        ids.push(id.clone());
        let old = ids.len().saturating_sub(MAX_OF_EXECUTION);
        ids.drain(..old);
        txn.put(of_execution, to_bytes(&ids)?);
    }
    Ok(())
}

/// Ends the open escalations of an execution that are `which`; how many there were.
///
/// # Errors
/// As [`Txn::get`].
pub fn close_of(
    txn: &mut dyn Txn,
    execution: &ExecutionId,
    which: &Which,
    standing: Standing,
    closed: &Closed,
) -> Result<usize, CommitError> {
    let ids: Vec<EscalationId> = read(txn, &key::escalations_of(execution.ulid()))?.unwrap_or_default();
    let mut count = 0;
    for id in ids {
        let Some(mut escalation) = read::<Escalation>(txn, &key::escalation(id.as_str()))? else { continue };
        // The end of one execution is not the end of what is counted of many.
        let is_own = escalation.execution.as_ref() == Some(execution);
        let was = Was::of(txn, &escalation)?;
        if is_own && which.is(&escalation) && close(&mut escalation, standing, closed.clone()) {
            count += 1;
            write(txn, escalation, true, was.counted)?;
        }
    }
    Ok(count)
}

/// The alert of an execution resolved: nobody else need be told of it.
///
/// # Errors
/// As [`Txn::get`].
pub fn resolved(txn: &mut dyn Txn, execution: &ExecutionId, now: Timestamp) -> Result<(), CommitError> {
    let closed = Closed { by: None, reason: "the alert resolved".to_owned(), at: now };
    close_of(txn, execution, &Which::Alert, Standing::Resolved, &closed)?;
    many::ended_of(txn, execution)
}

/// How an escalation stood before a change.
struct Was {
    /// Something of it may still have been to be sent.
    pending: bool,
    /// It was one of those that wait to be told for the first time.
    counted: bool,
}

impl Was {
    fn of(txn: &mut dyn Txn, escalation: &Escalation) -> Result<Self, CommitError> {
        let pending = txn.get(&key::pending(escalation.id.as_str()))?.is_some();
        Ok(Self { pending, counted: pending && is_untold(escalation) })
    }
}

/// Whether it takes one of the places of those that wait: what is over is not told any more, only taken back.
fn is_untold(escalation: &Escalation) -> bool {
    escalation.is_open() && !escalation.is_told()
}

/// Writes an escalation; `pending` says whether something of it may still be to be sent, `counted` whether it was one of
/// those that wait before.
fn write(
    txn: &mut dyn Txn,
    mut escalation: Escalation,
    pending: bool,
    counted: bool,
) -> Result<(), CommitError> {
    escalation.revision += 1;
    let counts = pending && is_untold(&escalation);
    if counted != counts {
        let of_runbook = key::backlog(&escalation.runbook);
        let mut backlog: Backlog = read(txn, &of_runbook)?.unwrap_or_default();
        backlog.pending = if counts { backlog.pending + 1 } else { backlog.pending.saturating_sub(1) };
        txn.put(of_runbook, to_bytes(&backlog)?);
    }
    let marker = key::pending(escalation.id.as_str());
    if pending {
        txn.put(marker, to_bytes(&escalation.revision)?);
    } else {
        txn.delete(marker);
    }
    txn.put(key::escalation(escalation.id.as_str()), to_bytes(&escalation)?);
    Ok(())
}

/// Which escalations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EscalationFilter {
    /// In this state.
    pub standing: Option<Standing>,
    /// Of this runbook.
    pub runbook: Option<RunbookId>,
}

impl Records {
    /// One escalation.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn escalation(&self, id: &EscalationId) -> Result<Option<Escalation>, ReadError> {
        self.one(&key::escalation(id.as_str())).await
    }

    /// The escalations of an execution, oldest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn escalations_of(&self, execution: &ExecutionId) -> Result<Vec<Escalation>, ReadError> {
        let ids: Vec<EscalationId> =
            self.one(&key::escalations_of(execution.ulid())).await?.unwrap_or_default();
        let mut all = Vec::new();
        for id in ids {
            all.extend(self.escalation(&id).await?);
        }
        Ok(all)
    }

    /// The escalations `filter` admits, behind `cursor`, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn escalations(
        &self,
        filter: &EscalationFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Escalation>, ReadError> {
        let mut walk = Walk::new(key::ESCALATION.to_vec(), cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                let escalation: Escalation = from_bytes(&key, &bytes)?;
                let admitted = filter.standing.is_none_or(|standing| escalation.standing == standing)
                    && filter.runbook.as_ref().is_none_or(|runbook| escalation.runbook == *runbook);
                if !walk.take(&last_part(&key), admitted.then_some(escalation)) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }

    /// The escalations of which something may be to be sent, oldest first, each with its revision.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn pending_escalations(&self, limit: usize) -> Result<Vec<(EscalationId, u64)>, ReadError> {
        let scan = Scan { prefix: key::PENDING.to_vec(), after: None, reverse: false, limit };
        let mut pending = Vec::new();
        for (key, bytes) in self.store.scan(scan).await? {
            let id = EscalationId::parse(&last_part(&key));
            pending.extend(id.map(|id| Ok((id, from_bytes::<u64>(&key, &bytes)?))).transpose()?);
        }
        Ok(pending)
    }

    /// How much waits, and how much nobody was told of, by runbook.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn backlogs(&self) -> Result<Vec<(String, Backlog)>, ReadError> {
        let scan = Scan { prefix: key::BACKLOG.to_vec(), after: None, reverse: false, limit: 10_000 };
        let pairs = self.store.scan(scan).await?;
        pairs.iter().map(|(key, bytes)| Ok((last_part(key), from_bytes(key, bytes)?))).collect()
    }

    /// How many escalations are to be told and no channel has accepted yet.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn untold(&self) -> Result<u64, ReadError> {
        Ok(self.backlogs().await?.iter().map(|(_, backlog)| backlog.pending).sum())
    }

    /// Changes an escalation by `change`, durably; `change` says whether something of it is still to be sent.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn change_escalation<F>(
        &self,
        id: &EscalationId,
        mut change: F,
    ) -> Result<Option<Escalation>, CommitError>
    where
        F: FnMut(&mut Escalation) -> bool + Send + 'static,
    {
        let key = key::escalation(id.as_str());
        transact(&*self.store, move |txn| changed(txn, &key, &mut change)).await
    }

    /// Changes many escalations by `change`, as [`Self::change_escalation`] does one; those there are, as they are then.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn change_escalations<F>(
        &self,
        ids: &[EscalationId],
        mut change: F,
    ) -> Result<Vec<Escalation>, CommitError>
    where
        F: FnMut(&mut Escalation) -> bool + Send + 'static,
    {
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| key::escalation(id.as_str())).collect();
        transact(&*self.store, move |txn| {
            let mut all = Vec::new();
            for key in &keys {
                all.extend(changed(txn, key, &mut change)?);
            }
            Ok(all)
        })
        .await
    }

    /// A person takes an escalation: nobody else is told. It is in the audit log. `None` when there is none; one that
    /// is over stays as it is.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn acknowledge_escalation(
        &self,
        id: &EscalationId,
        person: Person,
        now: Timestamp,
    ) -> Result<Option<Escalation>, CommitError> {
        let key = key::escalation(id.as_str());
        transact(&*self.store, move |txn| {
            let Some(mut escalation) = read::<Escalation>(txn, &key)? else { return Ok(None) };
            let was = Was::of(txn, &escalation)?;
            if close(&mut escalation, Standing::Acknowledged, taken(&person, now)) {
                note(txn, &person, escalation.id.to_string(), now)?;
                write(txn, escalation.clone(), true, was.counted)?;
            }
            Ok(Some(escalation))
        })
        .await
    }

    /// A person takes every open escalation of an execution; how many there were, and whether there is any at all
    /// that a person took.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn acknowledge_escalations_of(
        &self,
        execution: &ExecutionId,
        person: Person,
        now: Timestamp,
    ) -> Result<(usize, bool), CommitError> {
        let execution = execution.clone();
        let list = key::escalations_of(execution.ulid());
        transact(&*self.store, move |txn| {
            let closed = taken(&person, now);
            let count = close_of(txn, &execution, &Which::All, Standing::Acknowledged, &closed)?;
            if count > 0 {
                note(txn, &person, execution.to_string(), now)?;
                return Ok((count, true));
            }
            for id in read::<Vec<EscalationId>>(txn, &list)?.unwrap_or_default() {
                let known: Option<Escalation> = read(txn, &key::escalation(id.as_str()))?;
                if known.is_some_and(|known| known.standing == Standing::Acknowledged) {
                    return Ok((0, true));
                }
            }
            Ok((0, false))
        })
        .await
    }
}

fn changed(
    txn: &mut dyn Txn,
    key: &[u8],
    change: &mut impl FnMut(&mut Escalation) -> bool,
) -> Result<Option<Escalation>, CommitError> {
    let Some(mut escalation) = read::<Escalation>(txn, key)? else { return Ok(None) };
    let was = Was::of(txn, &escalation)?;
    let pending = change(&mut escalation);
    write(txn, escalation.clone(), pending, was.counted)?;
    escalation.revision += 1;
    Ok(Some(escalation))
}

fn taken(person: &Person, at: Timestamp) -> Closed {
    Closed { by: Some(person.user.clone()), reason: cut(&person.reason, 1000), at }
}

fn note(txn: &mut dyn Txn, person: &Person, target: String, at: Timestamp) -> Result<(), CommitError> {
    let entry = AuditEntry {
        at,
        user: person.user.clone(),
        action: "escalation.acknowledge",
        target,
        reason: person.reason.clone(),
        detail: Default::default(),
    };
    audit::append(txn, entry).map(drop)
}

#[cfg(test)]
pub(crate) mod tests;
