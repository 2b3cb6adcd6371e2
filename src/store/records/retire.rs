//! Removing what is over and old: finished executions with all that belongs to them, decisions, and what is known of
//! alerts and targets, each of which strangers can make any number of.
//!
//! In portions, so that no commit is long. Not here: output files, which the caller removes first; versions of
//! runbooks. Must never: remove what is live, what people are still to be told of, or what something that is kept
//! refers to.

use super::{Header, Pair, Records, Scan, from_bytes, key, listed, read, transact};
use crate::guard::Runs;
use crate::journal::{Event, TriggerKind, decode};
use crate::model::{Decision, Episode, ExecutionId, Timestamp};
use crate::report::{Escalation, EscalationId};
use crate::store::{CommitError, ReadError, Txn};
use serde::de::DeserializeOwned;

/// How many records are looked at in one portion.
const STRIDE: usize = 500;
/// All headers, as a prefix; oldest first.
const HEADERS: &[u8] = b"x/";
/// All decisions, as a prefix; oldest first.
const DECISIONS: &[u8] = b"d/";
/// All episodes, as a prefix; in no order.
const EPISODES: &[u8] = b"e/";
/// The starts of all runbooks on all targets, as a prefix; in no order.
const RUNS: &[u8] = b"gr/";

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
        let age = |decision: &Decision, cutoff| match () {
            // Whatever stands behind it was made later.
            () if decision.at >= cutoff => Age::YoungAndAllBehind,
            () if decision.last_seen >= cutoff => Age::Young,
            () => Age::Old,
        };
        self.remove(DECISIONS, after, cutoff, age, |_, _| Ok(true)).await
    }

    /// Removes a portion of the episodes behind `after` that were last delivered before `cutoff`, unless the execution
    /// of one lives, which is to be told of its end.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn remove_episodes(
        &self,
        cutoff: Timestamp,
        after: Option<Vec<u8>>,
    ) -> Result<Portion<u64>, CommitError> {
        let age = |episode: &Episode, cutoff| Age::of(episode.last_seen < cutoff);
        let is_free = |txn: &mut dyn Txn, episode: &Episode| match &episode.execution {
            Some(id) => Ok(txn.get(&key::live(id.ulid()))?.is_none()),
            None => Ok(true),
        };
        self.remove(EPISODES, after, cutoff, age, is_free).await
    }

    /// Removes a portion of what is known of starts on targets, behind `after`, where nothing lives and nothing began
    /// or ended since `cutoff`.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn remove_runs(
        &self,
        cutoff: Timestamp,
        after: Option<Vec<u8>>,
    ) -> Result<Portion<u64>, CommitError> {
        let age = |runs: &Runs, cutoff| Age::of(runs.is_over(cutoff));
        self.remove(RUNS, after, cutoff, age, |_, _| Ok(true)).await
    }

    /// Removes a portion of the escalations behind `after` that began before `cutoff`, of which nothing is to be sent
    /// and whose execution, if they had one, is gone.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn remove_escalations(
        &self,
        cutoff: Timestamp,
        after: Option<Vec<u8>>,
    ) -> Result<Portion<u64>, CommitError> {
        // Whatever stands behind it was made later.
        let age = |one: &Escalation, cutoff| if one.at < cutoff { Age::Old } else { Age::YoungAndAllBehind };
        let is_free = |txn: &mut dyn Txn, one: &Escalation| {
            let kept = match &one.execution {
                Some(execution) => txn.get(&key::header(execution.ulid()))?.is_some(),
                None => false,
            };
            Ok(!kept && txn.get(&key::pending(one.id.as_str()))?.is_none())
        };
        self.remove(key::ESCALATION, after, cutoff, age, is_free).await
    }

    /// Removes what is old among a portion of the records below `prefix`; `is_free` is asked once more, last.
    async fn remove<T: DeserializeOwned + 'static>(
        &self,
        prefix: &[u8],
        after: Option<Vec<u8>>,
        cutoff: Timestamp,
        age: fn(&T, Timestamp) -> Age,
        is_free: fn(&mut dyn Txn, &T) -> Result<bool, CommitError>,
    ) -> Result<Portion<u64>, CommitError> {
        let (pairs, mut behind) = self.oldest(prefix, after).await?;
        let mut old = Vec::new();
        for (key, bytes) in pairs {
            match age(&from_bytes(&key, &bytes)?, cutoff) {
                Age::Old => old.push(key),
                Age::Young => {}
                Age::YoungAndAllBehind => {
                    behind = None;
                    break;
                }
            }
        }
        if old.is_empty() {
            return Ok(Portion { items: 0, behind });
        }
        let items = transact(&*self.store, move |txn| {
            let mut gone = 0;
            for key in &old {
                // It may have been written again meanwhile.
                if let Some(record) = read::<T>(txn, key)?
                    && age(&record, cutoff) == Age::Old
                    && is_free(txn, &record)?
                {
                    if key.starts_with(EPISODES) {
                        txn.delete(key::counted(key));
                    }
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

/// How a record stands to the cutoff.
#[derive(PartialEq, Eq)]
enum Age {
    Old,
    Young,
    YoungAndAllBehind,
}

impl Age {
    fn of(is_old: bool) -> Self {
        if is_old { Self::Old } else { Self::Young }
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
    txn.delete(key::counted(&key::header(ulid)));
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
    use crate::model::{DecisionId, ExecutionStatus, Part, Reason, RunbookId, Target, Verdict};
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
        child.parent =
            Some(Parent { id, index: 0, part: Part::MAIN, attempt: 1, depth: 1, root, automatic: true });
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

    #[tokio::test]
    async fn alerts_and_targets_nothing_was_heard_of_are_forgotten() {
        let records = Records::new(Arc::new(MemoryStore::new()));
        let live = header(1, None);
        put(&records, &live).await;
        let episode = |seen, execution: Option<&Header>| Episode {
            starts_at: at(1),
            opened_at: at(1),
            last_seen: at(seen),
            resolved_at: None,
            execution: execution.map(|header| header.id.clone()),
            decision: DecisionId::of(Ulid::from_parts(1, 1)),
            verdict: Verdict::Skip,
            reason: Reason::NoRunbook,
            seen: 1,
            changes: Vec::new(),
            would_have_run: false,
        };
        let runs = |live, end: Option<i64>| {
            let mut runs = Runs::default();
            runs.started("x", live, 5, at(3));
            end.into_iter().for_each(|end| runs.ended("x", at(end)));
            runs
        };
        let ended = header(2, Some(4));
        let episodes = [
            ("e/live", episode(5, Some(&live))),
            ("e/old", episode(19, Some(&ended))),
            ("e/other", episode(5, None)),
            ("e/young", episode(20, None)),
        ];
        let starts = [
            ("gr/r/a/ended", runs(true, Some(19))),
            ("gr/r/a/live", runs(true, None)),
            ("gr/r/a/released", runs(false, None)),
            ("gr/r/a/young", runs(true, Some(20))),
        ];
        transact(&**records.store(), move |txn| {
            for (key, episode) in &episodes {
                txn.put(key.as_bytes().to_vec(), to_bytes(episode)?);
            }
            for (key, runs) in &starts {
                txn.put(key.as_bytes().to_vec(), to_bytes(runs)?);
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(records.remove_episodes(at(20), None).await.unwrap(), Portion { items: 2, behind: None });
        assert_eq!(records.remove_runs(at(20), None).await.unwrap(), Portion { items: 2, behind: None });
        let left = keys(&records).await;
        let kept =
            |prefix: &str| left.iter().filter(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>();
        assert_eq!(kept("e/"), ["e/live", "e/young"]);
        assert_eq!(kept("gr/"), ["gr/r/a/live", "gr/r/a/young"]);
    }

    #[tokio::test]
    async fn escalations_go_when_they_are_old_over_and_no_executions() {
        use crate::store::records::outbox::{self, tests::failed};
        let records = Records::new(Arc::new(MemoryStore::new()));
        let kept = header(4, Some(7));
        put(&records, &kept).await;
        let own = Escalation { execution: Some(kept.id.clone()), ..failed("r", "own", at(5)) };
        let lone = |target: &str, second| Escalation { execution: None, ..failed("r", target, at(second)) };
        let (gone, waits, young) = (lone("gone", 5), lone("waits", 6), lone("young", 40));
        for one in [&own, &gone, &waits, &young].map(Clone::clone) {
            transact(&**records.store(), move |txn| outbox::open(txn, &one)).await.unwrap();
        }
        for id in [&own.id, &gone.id, &young.id] {
            records.change_escalation(id, |_| false).await.unwrap();
        }
        let portion = records.remove_escalations(at(20), None).await.unwrap();
        assert_eq!(portion, Portion { items: 1, behind: None });
        for (one, stays) in [(&own, true), (&gone, false), (&waits, true), (&young, true)] {
            let found = records.escalation(&one.id).await.unwrap();
            assert_eq!(found.is_some(), stays, "{:?}", one.target);
        }
    }

    fn escalation() -> EscalationId {
        EscalationId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()
    }
}
