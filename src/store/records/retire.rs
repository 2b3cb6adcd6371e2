//! Removing what is over and old: finished executions with all that belongs to them, and decisions.
//!
//! In portions, so that no commit is long. Not here: output files, which the caller removes first; episodes and guards,
//! by which an old alert that comes again is known; versions of runbooks. Must never: remove what is live, what people
//! are still to be told of, or what something that is kept refers to.

use super::{Header, Pair, Records, Scan, from_bytes, key, listed, read, transact};
use crate::journal::{Event, TriggerKind, decode};
use crate::model::{Decision, ExecutionId, Timestamp};
use crate::report::{Escalation, EscalationId};
use crate::store::{CommitError, ReadError, Txn};

/// How many records are looked at in one portion.
const STRIDE: usize = 500;
/// All headers, as a prefix; oldest first.
const HEADERS: &[u8] = b"x/";
/// All decisions, as a prefix; oldest first.
const DECISIONS: &[u8] = b"d/";

/// A portion of what is old.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portion<T> {
    /// What can go, or how much went.
    pub items: T,
    /// Where to go on; `None` at the end.
    pub behind: Option<Vec<u8>>,
}

impl Records {
    /// A portion of what lies below `prefix`, oldest first, and where to go on.
    async fn oldest(
        &self,
        prefix: &[u8],
        after: Option<Vec<u8>>,
    ) -> Result<(Vec<Pair>, Option<Vec<u8>>), ReadError> {
        let scan = Scan { prefix: prefix.to_vec(), after, reverse: false, limit: STRIDE };
        let pairs = self.store.scan(scan).await?;
        let behind = (pairs.len() == STRIDE).then(|| pairs.last().map(|(key, _)| key.clone())).flatten();
        Ok((pairs, behind))
    }

    /// The executions behind `after` that ended before `cutoff`.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn old_executions(
        &self,
        cutoff: Timestamp,
        after: Option<Vec<u8>>,
    ) -> Result<Portion<Vec<ExecutionId>>, ReadError> {
        let (pairs, mut behind) = self.oldest(HEADERS, after).await?;
        let mut items = Vec::new();
        for (key, bytes) in pairs {
            let header: Header = from_bytes(&key, &bytes)?;
            // Whatever was made later ended later.
            if header.created_at >= cutoff {
                behind = None;
                break;
            }
            if is_old(&header, cutoff) {
                items.push(header.id);
            }
        }
        Ok(Portion { items, behind })
    }

    /// Removes those of `ids` that nothing holds; how many.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn remove_executions(
        &self,
        ids: Vec<ExecutionId>,
        cutoff: Timestamp,
    ) -> Result<usize, CommitError> {
        transact(&*self.store, move |txn| {
            let mut gone = 0;
            for id in &ids {
                gone += usize::from(remove(txn, id, cutoff)?);
            }
            Ok(gone)
        })
        .await
    }

    /// Removes a portion of the decisions behind `after` that were last made before `cutoff`.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn remove_decisions(
        &self,
        cutoff: Timestamp,
        after: Option<Vec<u8>>,
    ) -> Result<Portion<u64>, CommitError> {
        let (pairs, mut behind) = self.oldest(DECISIONS, after).await?;
        let mut old = Vec::new();
        for (key, bytes) in pairs {
            let decision: Decision = from_bytes(&key, &bytes)?;
            if decision.at >= cutoff {
                behind = None;
                break;
            }
            if decision.last_seen < cutoff {
                old.push(key);
            }
        }
        if old.is_empty() {
            return Ok(Portion { items: 0, behind });
        }
        let items = transact(&*self.store, move |txn| {
            let mut gone = 0;
            for key in &old {
                // It may have been counted once more meanwhile.
                if read::<Decision>(txn, key)?.is_some_and(|decision| decision.last_seen < cutoff) {
                    txn.delete(key.clone());
                    gone += 1;
                }
            }
            Ok(gone)
        })
        .await?;
        Ok(Portion { items, behind })
    }
}

fn is_old(header: &Header, cutoff: Timestamp) -> bool {
    header.status.is_final() && header.finished_at.is_some_and(|end| end < cutoff)
}

/// Removes one execution, unless it lives or something needs it.
fn remove(txn: &mut dyn Txn, id: &ExecutionId, cutoff: Timestamp) -> Result<bool, CommitError> {
    let ulid = id.ulid();
    let Some(header) = read::<Header>(txn, &key::header(ulid))?.filter(|header| header.id == *id) else {
        return Ok(false);
    };
    if !is_old(&header, cutoff) || txn.get(&key::live(ulid))?.is_some() {
        return Ok(false);
    }
    // A parent that lives reads what its child ended in.
    if let Some(parent) = &header.parent
        && txn.get(&key::live(parent.id.ulid()))?.is_some()
    {
        return Ok(false);
    }
    // Who did it again or took it back is known by this, so that it is not done twice.
    if matches!(header.trigger, TriggerKind::Retry | TriggerKind::Rollback)
        && let Some(of) = forebear(txn, ulid)?
    {
        if txn.get(&key::header(of.ulid()))?.is_some() {
            return Ok(false);
        }
        let word = if header.trigger == TriggerKind::Rollback { "rollback" } else { "retry" };
        txn.delete(key::anew(of.ulid(), word));
    }
    let escalations: Vec<EscalationId> = read(txn, &key::escalations_of(ulid))?.unwrap_or_default();
    for escalation in &escalations {
        if txn.get(&key::pending(escalation.as_str()))?.is_some() {
            return Ok(false);
        }
    }
    for escalation in &escalations {
        let key = key::escalation(escalation.as_str());
        // What counts the denials of many is not this one's.
        if read::<Escalation>(txn, &key)?.is_some_and(|known| known.execution.as_ref() == Some(id)) {
            txn.delete(key);
        }
    }
    txn.delete(key::escalations_of(ulid));
    txn.delete(key::index("r", header.runbook.as_str(), ulid));
    if let Some(alertname) = &header.alertname {
        txn.delete(key::index("a", &listed(alertname), ulid));
    }
    if let Some(target) = &header.target {
        txn.delete(key::index("t", &listed(target.as_str()), ulid));
    }
    txn.delete(key::index("s", header.status.as_str(), ulid));
    (1..=header.seq).for_each(|seq| txn.delete(key::entry(ulid, seq)));
    txn.delete(key::resolved(ulid));
    txn.delete(key::header(ulid));
    Ok(true)
}

/// The execution that this one does again or takes back, as its first event says.
fn forebear(txn: &mut dyn Txn, ulid: &str) -> Result<Option<ExecutionId>, CommitError> {
    let Some(bytes) = txn.get(&key::entry(ulid, 1))? else { return Ok(None) };
    let entry = decode(&bytes).map_err(|error| CommitError::Refused(error.to_string()))?;
    Ok(match entry.event {
        Event::Created(created) => created.trigger.of.clone(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Parent;
    use crate::model::{ExecutionStatus, Part, RunbookId, Target};
    use crate::store::records::to_bytes;
    use crate::store::{MemoryStore, Store};
    use std::sync::Arc;
    use ulid::Ulid;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// One that was made then, and ended then if it ended.
    fn header(made: i64, ended: Option<i64>) -> Header {
        let runbook = RunbookId::new("r").unwrap();
        let id = ExecutionId::of(&runbook, Ulid::from_parts(made as u64 * 1000, 1));
        Header {
            id,
            runbook,
            version: 1,
            title: String::new(),
            status: if ended.is_some() { ExecutionStatus::Failed } else { ExecutionStatus::Running },
            reason: None,
            target: Some(Target::new("t").unwrap()),
            trigger: TriggerKind::Alert,
            alertname: Some("A".to_owned()),
            created_at: at(made),
            started_at: None,
            finished_at: ended.map(at),
            parent: None,
            lock: None,
            wake: None,
            seq: 3,
        }
    }

    async fn put(records: &Records, header: &Header) {
        let header = header.clone();
        transact(&**records.store(), move |txn| {
            let ulid = header.id.ulid();
            txn.put(key::header(ulid), to_bytes(&header)?);
            (1..=3).for_each(|seq| txn.put(key::entry(ulid, seq), b"an event".to_vec()));
            txn.put(key::index("r", "r", ulid), Vec::new());
            txn.put(key::index("a", &listed("A"), ulid), Vec::new());
            txn.put(key::index("t", &listed("t"), ulid), Vec::new());
            if header.status.is_final() {
                txn.put(key::index("s", header.status.as_str(), ulid), Vec::new());
            } else {
                txn.put(key::live(ulid), Vec::new());
            }
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn keys(records: &Records) -> Vec<String> {
        let all = Scan { prefix: Vec::new(), after: None, reverse: false, limit: usize::MAX };
        let pairs = records.store().scan(all).await.unwrap();
        pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_ended_long_ago_goes_with_all_that_is_its_own_and_nothing_else() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let records = Records::new(store);
        let (old, live) = (header(1, Some(5)), header(2, None));
        let mut child = header(3, Some(6));
        let (id, root) = (live.id.clone(), live.id.clone());
        child.parent = Some(Parent { id, index: 0, part: Part::MAIN, attempt: 1, depth: 1, root });
        let (told, late, young) = (header(4, Some(7)), header(5, Some(50)), header(40, Some(50)));
        for header in [&old, &live, &child, &told, &late, &young] {
            put(&records, header).await;
        }
        let ulid = told.id.ulid().to_owned();
        transact(&**records.store(), move |txn| {
            txn.put(key::escalations_of(&ulid), to_bytes(&vec![escalation()])?);
            txn.put(key::pending(escalation().as_str()), b"1".to_vec());
            Ok(())
        })
        .await
        .unwrap();
        let portion = records.old_executions(at(20), None).await.unwrap();
        assert_eq!(portion.items, [old.id.clone(), child.id.clone(), told.id.clone()]);
        assert_eq!(portion.behind, None);
        let everyone = [&old, &live, &child, &told, &late, &young].map(|header| header.id.clone());
        assert_eq!(records.remove_executions(everyone.into(), at(20)).await.unwrap(), 1);
        let left = keys(&records).await;
        assert!(!left.iter().any(|key| key.contains(old.id.ulid())), "{left:?}");
        for kept in [&live, &child, &told, &late, &young] {
            assert!(left.iter().filter(|key| key.contains(kept.id.ulid())).count() >= 7, "{left:?}");
        }
        // Once the parent is over and people were told, the others go as well.
        let (done, ulid) = (header(2, Some(8)), live.id.ulid().to_owned());
        transact(&**records.store(), move |txn| {
            txn.delete(key::live(&ulid));
            txn.delete(key::pending(escalation().as_str()));
            Ok(())
        })
        .await
        .unwrap();
        put(&records, &done).await;
        let portion = records.old_executions(at(20), None).await.unwrap();
        assert_eq!(records.remove_executions(portion.items, at(20)).await.unwrap(), 3);
    }

    fn escalation() -> EscalationId {
        EscalationId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()
    }
}
