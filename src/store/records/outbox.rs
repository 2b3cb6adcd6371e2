//! The outbox: escalations written in the commit of what causes them, and what the sender notes of them.
//!
//! `apply` and `resolved` are called within the commits of the engine and of intake. Of one runbook at most
//! [`MAX_PENDING`] wait to be sent; beyond that they are counted. May import: `report`. Must never: send anything.

use super::list::Walk;
use super::{Page, Person, Records, Scan, audit, from_bytes, key, last_part, read, to_bytes, transact};
use crate::journal::AuditEntry;
use crate::model::{ExecutionId, RunbookId, Timestamp, between};
use crate::report::{
    Cause, Closed, Denial, Escalation, EscalationId, MAX_TARGETS, Standing, Totals, Which, Word, close, cut,
};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many escalations of one runbook may wait to be sent.
pub const MAX_PENDING: u64 = 1000;
/// How long denials of one runbook with one code are one escalation.
pub const WINDOW: Duration = Duration::from_secs(3600);
/// How many escalations of one execution are found by it; older ones stay in the list of all.
const MAX_OF_EXECUTION: usize = 32;
/// The longest name of a target that is kept in totals, in bytes.
const TARGET_MAX: usize = 120;

/// How much of one runbook waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Escalations of which something is still to be sent.
    pub pending: u64,
    /// Escalations nobody was told of, because too many were waiting.
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

/// Keeps a new escalation, unless too many of its runbook wait; then it is counted. Again, nothing happens.
///
/// # Errors
/// As [`Txn::get`].
pub fn open(txn: &mut dyn Txn, escalation: &Escalation) -> Result<bool, CommitError> {
    if txn.get(&key::escalation(escalation.id.as_str()))?.is_some() {
        return Ok(true);
    }
    let of_runbook = key::backlog(&escalation.runbook);
    let mut backlog: Backlog = read(txn, &of_runbook)?.unwrap_or_default();
    if backlog.pending >= MAX_PENDING {
        backlog.dropped += 1;
        txn.put(of_runbook, to_bytes(&backlog)?);
        return Ok(false);
    }
    if let Some(execution) = &escalation.execution {
        list_of(txn, execution, &escalation.id)?;
    }
    write(txn, escalation.clone(), true)?;
    Ok(true)
}

/// Counts a denial in the escalation of its window, or begins one.
///
/// # Errors
/// As [`Txn::get`].
pub fn denied(txn: &mut dyn Txn, denial: &Denial) -> Result<(), CommitError> {
    if denial.to.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let of_window = key::denials(&denial.runbook, denial.reason.as_str());
    let known: Option<EscalationId> = read(txn, &of_window)?;
    let known = known.map(|id| read::<Escalation>(txn, &key::escalation(id.as_str()))).transpose()?.flatten();
    let escalation = match known.filter(|known| between(known.at, denial.at) < WINDOW) {
        Some(mut known) => {
            add(known.totals.get_or_insert_default(), denial);
            // Still unplanned, it is pending already; told, only its numbers change.
            let pending = txn.get(&key::pending(known.id.as_str()))?.is_some();
            write(txn, known.clone(), pending)?;
            known
        }
        None => {
            let fresh = Escalation::of_denial(denial);
            if !open(txn, &fresh)? {
                return Ok(());
            }
            txn.put(of_window, to_bytes(&fresh.id)?);
            fresh
        }
    };
    match &denial.execution {
        Some(execution) => list_of(txn, execution, &escalation.id),
        None => Ok(()),
    }
}

fn add(totals: &mut Totals, denial: &Denial) {
    totals.count += 1;
    let Some(target) = &denial.target else { return };
    let target = cut(target, TARGET_MAX);
    if totals.targets.contains(&target) {
        return;
    }
    if totals.targets.len() < MAX_TARGETS {
        totals.targets.push(target);
    } else {
        totals.more_targets = true;
    }
}

impl Escalation {
    fn of_denial(denial: &Denial) -> Self {
        let what = format!("{} {}", denial.runbook, denial.reason);
        let mut totals = Totals::default();
        add(&mut totals, denial);
        Self {
            id: EscalationId::of(denial.at, &what),
            at: denial.at,
            cause: Cause::Denied,
            runbook: denial.runbook.clone(),
            title: denial.title.clone(),
            execution: None,
            step: None,
            status: None,
            reason: Some(denial.reason),
            message: Some(cut(&denial.message, 1000)),
            target: None,
            alertname: denial.alertname.clone(),
            source_url: denial.source_url.clone(),
            done: Vec::new(),
            totals: Some(totals),
            to: denial.to.clone(),
            due: Self::gathered(denial.at),
            standing: Standing::Open,
            closed: None,
            deliveries: None,
            revision: 0,
        }
    }
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
        if is_own && which.is(&escalation) && close(&mut escalation, standing, closed.clone()) {
            count += 1;
            write(txn, escalation, true)?;
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
    close_of(txn, execution, &Which::Alert, Standing::Resolved, &closed).map(|_count| ())
}

/// Writes an escalation; `pending` says whether something of it may still be to be sent.
fn write(txn: &mut dyn Txn, mut escalation: Escalation, pending: bool) -> Result<(), CommitError> {
    escalation.revision += 1;
    let marker = key::pending(escalation.id.as_str());
    let was = txn.get(&marker)?.is_some();
    if was != pending {
        let of_runbook = key::backlog(&escalation.runbook);
        let mut backlog: Backlog = read(txn, &of_runbook)?.unwrap_or_default();
        backlog.pending = if pending { backlog.pending + 1 } else { backlog.pending.saturating_sub(1) };
        txn.put(of_runbook, to_bytes(&backlog)?);
    }
    if pending {
        txn.put(marker, to_bytes(&escalation.revision)?);
    } else if was {
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
        transact(&*self.store, move |txn| {
            let Some(mut escalation) = read::<Escalation>(txn, &key)? else { return Ok(None) };
            let pending = change(&mut escalation);
            write(txn, escalation.clone(), pending)?;
            escalation.revision += 1;
            Ok(Some(escalation))
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
            if close(&mut escalation, Standing::Acknowledged, taken(&person, now)) {
                note(txn, &person, escalation.id.to_string(), now)?;
                write(txn, escalation.clone(), true)?;
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
mod tests {
    use super::*;
    use crate::model::Reason;
    use crate::report::{DeliveryState, Directory, plan, told};
    use crate::store::MemoryStore;
    use std::sync::Arc;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn denial(runbook: &str, target: &str, second: i64) -> Denial {
        Denial {
            runbook: RunbookId::new(runbook).unwrap(),
            title: "R".into(),
            reason: Reason::BreakerOpen,
            message: "open".into(),
            target: Some(target.into()),
            alertname: None,
            source_url: String::new(),
            to: None,
            execution: None,
            at: at(second),
        }
    }

    async fn deny(records: &Records, denial: Denial) {
        transact(&**records.store(), move |txn| denied(txn, &denial)).await.unwrap();
    }

    fn records() -> Records {
        Records::new(Arc::new(MemoryStore::new()))
    }

    async fn all(records: &Records) -> Vec<Escalation> {
        records.escalations(&EscalationFilter::default(), None, 500).await.unwrap().items
    }

    #[tokio::test]
    async fn denials_of_a_runbook_are_one_escalation_an_hour_with_a_bounded_list_of_targets() {
        let records = records();
        for number in 0..50 {
            deny(&records, denial("a", &format!("t{}", number % 30), 1000 + number)).await;
        }
        deny(&records, denial("b", "t0", 1000)).await;
        deny(&records, Denial { to: Some(vec![]), ..denial("c", "t0", 1000) }).await;
        let found = all(&records).await;
        assert_eq!(found.len(), 2);
        let one = found.iter().find(|one| one.runbook.as_str() == "a").unwrap();
        let totals = one.totals.as_ref().unwrap();
        assert_eq!((totals.count, totals.targets.len(), totals.more_targets), (50, MAX_TARGETS, true));
        assert_eq!(one.due, at(1005), "the totals gather first");
        deny(&records, denial("a", "t0", 1000 + 3600)).await;
        assert_eq!(all(&records).await.len(), 3);
    }

    #[tokio::test]
    async fn beyond_the_bound_escalations_are_counted_and_room_comes_back() {
        let records = records();
        let escalation = |number: u64| Escalation {
            id: EscalationId::of(at(5), &number.to_string()),
            ..Escalation::of_denial(&denial("a", "t", 5))
        };
        let put = |number: u64| {
            let records = &records;
            async move {
                let one = escalation(number);
                transact(&**records.store(), move |txn| open(txn, &one)).await.unwrap()
            }
        };
        for number in 0..MAX_PENDING {
            assert!(put(number).await);
        }
        assert!(put(0).await, "the same once more is no more");
        assert!(!put(MAX_PENDING).await);
        let backlog = |records: &Records| {
            let records = records.clone();
            async move { records.backlogs().await.unwrap().remove(0).1 }
        };
        assert_eq!(backlog(&records).await, Backlog { pending: MAX_PENDING, dropped: 1 });
        let first = escalation(0).id;
        records.change_escalation(&first, |_| false).await.unwrap();
        assert_eq!(backlog(&records).await.pending, MAX_PENDING - 1);
        assert!(put(MAX_PENDING).await);
        assert_eq!(records.pending_escalations(5000).await.unwrap().len(), 1000);
    }

    #[tokio::test]
    async fn a_person_takes_an_escalation_once_and_the_log_says_who() {
        let records = records();
        deny(&records, denial("a", "t", 1000)).await;
        let id = all(&records).await[0].id.clone();
        let directory = Directory {
            notifiers: [("n".to_owned(), true)].into(),
            escalate_to: vec!["n".into()],
            ..Directory::default()
        };
        let planned = records.change_escalation(&id, move |one| {
            one.deliveries = Some(plan(one, &directory));
            told(one, crate::report::Act::Send(0), &Ok(()), at(1001));
            false
        });
        assert_eq!(planned.await.unwrap().unwrap().deliveries()[0].state, DeliveryState::Sent);
        assert!(records.pending_escalations(10).await.unwrap().is_empty());
        for user in ["ada", "bob"] {
            let person = Person { user: user.into(), reason: "mine".into() };
            let taken = records.acknowledge_escalation(&id, person, at(1002)).await.unwrap().unwrap();
            assert_eq!(taken.closed.unwrap().by.as_deref(), Some("ada"));
        }
        assert_eq!(
            records.pending_escalations(10).await.unwrap().len(),
            1,
            "it is taken back at the far side"
        );
        let log = records.audit(&Default::default(), None, 10).await.unwrap().items;
        assert_eq!(
            (log.len(), log[0].action.as_str(), log[0].user.as_str()),
            (1, "escalation.acknowledge", "ada")
        );
    }
}
