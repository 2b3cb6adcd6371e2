//! Writing executions: their creation, and one more stretch of their journal.

use super::{Header, Parked, Signal, key, listed, read, to_bytes};
use crate::journal::{Entry, Event, TriggerKind, encode};
use crate::model::{ExecutionId, Timestamp};
use crate::store::{CommitError, Txn};

pub use crate::journal::Created;

/// Writes a new execution: its first event, its header, its places in the lists.
///
/// # Errors
/// [`CommitError::Refused`] when the id is taken.
pub fn create(txn: &mut dyn Txn, created: Created, at: Timestamp) -> Result<(), CommitError> {
    let ulid = created.id.ulid().to_owned();
    let header = Header {
        id: created.id.clone(),
        runbook: created.runbook.clone(),
        version: created.version,
        title: created.title.clone(),
        status: crate::model::ExecutionStatus::Queued,
        reason: None,
        target: created.target.clone(),
        trigger: created.trigger.kind,
        alertname: created.trigger.alertname.clone(),
        created_at: at,
        started_at: None,
        finished_at: None,
        parent: created.parent.clone(),
        lock: created.lock.clone(),
        wake: Some(created.queue_deadline),
        seq: 1,
    };
    if txn.get(&key::header(&ulid))?.is_some() {
        return Err(CommitError::Refused(format!("the execution {} exists already", created.id)));
    }
    txn.put(key::index("r", header.runbook.as_str(), &ulid), Vec::new());
    if let Some(alertname) = &header.alertname {
        txn.put(key::index("a", &listed(alertname), &ulid), Vec::new());
    }
    if let Some(target) = &header.target {
        txn.put(key::index("t", &listed(target.as_str()), &ulid), Vec::new());
    }
    let again = matches!(header.trigger, TriggerKind::Retry | TriggerKind::Rollback);
    if let Some(of) = created.trigger.of.as_ref().filter(|_| again) {
        txn.put(key::anew(of.ulid(), kind_word(header.trigger)), to_bytes(&header.id)?);
    }
    txn.put(key::header(&ulid), to_bytes(&header)?);
    txn.put(key::live(&ulid), to_bytes(&Parked::from(&header))?);
    let entry = Entry { seq: 1, at, event: Event::Created(Box::new(created)) };
    txn.put(key::entry(&ulid, 1), encode(&entry).map_err(|error| CommitError::Refused(error.to_string()))?);
    Ok(())
}

/// The last execution that does `of` again or takes it back, where there is one.
///
/// # Errors
/// As [`read`].
pub fn last_anew(
    txn: &mut dyn Txn,
    of: &ExecutionId,
    kind: TriggerKind,
) -> Result<Option<Header>, crate::store::ReadError> {
    let Some(id) = read::<ExecutionId>(txn, &key::anew(of.ulid(), kind_word(kind)))? else { return Ok(None) };
    read(txn, &key::header(id.ulid()))
}

fn kind_word(kind: TriggerKind) -> &'static str {
    if kind == TriggerKind::Rollback { "rollback" } else { "retry" }
}

/// Appends entries to a journal and brings the header up to date.
///
/// # Errors
/// [`CommitError::Refused`] when the journal does not end where the entries begin: somebody else drives it.
pub fn append(
    txn: &mut dyn Txn,
    id: &ExecutionId,
    entries: &[Entry],
    header: &Header,
) -> Result<(), CommitError> {
    let ulid = id.ulid();
    let stored: Option<Header> = read(txn, &key::header(ulid))?;
    let first = entries.first().map_or(header.seq + 1, |entry| entry.seq);
    if stored.as_ref().is_none_or(|stored| stored.seq + 1 != first) {
        return Err(CommitError::Refused(format!("event {first} does not follow what is stored of {id}")));
    }
    for entry in entries {
        let bytes = encode(entry).map_err(|error| CommitError::Refused(error.to_string()))?;
        txn.put(key::entry(ulid, entry.seq), bytes);
        match &entry.event {
            Event::AlertResolved => txn.delete(key::resolved(ulid)),
            Event::AttemptFinished { result, .. } => {
                if let Some(child) = &result.child {
                    txn.delete(key::child_ended(ulid, child.ulid()));
                }
            }
            _ => {}
        }
    }
    if header.status.is_final() {
        txn.delete(key::live(ulid));
        txn.delete(key::resolved(ulid));
        txn.put(key::index("s", header.status.as_str(), ulid), Vec::new());
        tell_parent(txn, header)?;
    } else {
        txn.put(key::live(ulid), to_bytes(&Parked::from(header))?);
    }
    txn.put(key::header(ulid), to_bytes(header)?);
    Ok(())
}

/// Leaves word of the end of a child with its parent, in the same commit, so that no crash can part them.
fn tell_parent(txn: &mut dyn Txn, header: &Header) -> Result<(), CommitError> {
    if let Some(parent) = &header.parent
        && txn.get(&key::live(parent.id.ulid()))?.is_some()
    {
        let word = to_bytes(&Signal::ChildEnded(header.id.clone()))?;
        txn.put(key::child_ended(parent.id.ulid(), header.id.ulid()), word);
    }
    Ok(())
}
