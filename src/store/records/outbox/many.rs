//! What is told once for many: denials of one window, and what is too much to be told one by one.
//!
//! May import: its neighbours, `report`. Must never: let a number grow without a bound, or page twice in one window.

use super::{MAX_OF_EXECUTION, MAX_PENDING, TARGET_MAX, Was, key, list_of, open, read, to_bytes, write};
use crate::model::{EpisodeKey, ExecutionId, Timestamp, between};
use crate::report::{
    Cause, Denial, Escalation, EscalationId, MAX_TARGETS, Standing, Totals, Urgency, WINDOW, cut,
};
use crate::store::{CommitError, Txn};

/// Counts `one` too many in the escalation that stands for these, one for damage and one for the rest; its id.
pub(super) fn flood(txn: &mut dyn Txn, one: &Escalation) -> Result<EscalationId, CommitError> {
    let word = if one.urgency() == Urgency::Damage { "flood-damage" } else { "flood" };
    let of_window = key::denials(&one.runbook, word);
    if let Some(mut known) = window(txn, &of_window, one.at)? {
        let was = Was::of(txn, &known)?;
        add(known.totals.get_or_insert_default(), one.target.as_deref());
        let id = known.id.clone();
        write(txn, known, was.pending, was.counted)?;
        return Ok(id);
    }
    let mut totals = Totals::default();
    add(&mut totals, one.target.as_deref());
    let fresh = Escalation {
        id: EscalationId::of(one.at, &format!("{} {word}", one.runbook)),
        cause: Cause::Flood,
        execution: None,
        step: None,
        message: Some(format!(
            "more than {MAX_PENDING} escalations of this runbook wait; those beyond are counted here, and each is \
             listed as dropped with its execution"
        )),
        target: None,
        done: Vec::new(),
        totals: Some(totals),
        due: Escalation::gathered(one.at),
        ..one.clone()
    };
    open(txn, &fresh)?;
    txn.put(of_window, to_bytes(&fresh.id)?);
    Ok(fresh.id)
}

/// The escalation that `of_window` points at, while its window lasts.
fn window(txn: &mut dyn Txn, of_window: &[u8], at: Timestamp) -> Result<Option<Escalation>, CommitError> {
    let known: Option<EscalationId> = read(txn, of_window)?;
    let known = known.map(|id| read::<Escalation>(txn, &key::escalation(id.as_str()))).transpose()?.flatten();
    Ok(known.filter(|known| between(known.at, at) < WINDOW))
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
    let id = match window(txn, &of_window, denial.at)? {
        Some(mut known) => {
            // Still unplanned, it is pending already; told, only its numbers change.
            let was = Was::of(txn, &known)?;
            let id = known.id.clone();
            let totals = known.totals.get_or_insert_default();
            add(totals, denial.target.as_deref());
            totals.firing += u64::from(counts(txn, denial, &id)?);
            write(txn, known, was.pending, was.counted)?;
            id
        }
        None => {
            let mut fresh = one_of(denial);
            let firing = counts(txn, denial, &fresh.id)?;
            fresh.totals.get_or_insert_default().firing = u64::from(firing);
            open(txn, &fresh)?;
            txn.put(of_window, to_bytes(&fresh.id)?);
            fresh.id
        }
    };
    match &denial.execution {
        Some(execution) => list_of(txn, execution, &id),
        None => Ok(()),
    }
}

/// Notes that `id` counts what is denied; whether it did not yet. False also where there is no alert to end it.
fn counts(txn: &mut dyn Txn, denial: &Denial, id: &EscalationId) -> Result<bool, CommitError> {
    let of_subject = match (&denial.episode, &denial.execution) {
        (Some(episode), _) => of_episode(episode),
        (None, Some(execution)) if denial.alertname.is_some() => of_execution(execution),
        (None, _) => return Ok(false),
    };
    let mut ids: Vec<EscalationId> = read(txn, &of_subject)?.unwrap_or_default();
    if ids.contains(id) {
        return Ok(false);
    }
    ids.push(id.clone());
    // An alert that fires for weeks is counted in the newest.
    let old = ids.len().saturating_sub(MAX_OF_EXECUTION);
    ids.drain(..old);
    txn.put(of_subject, to_bytes(&ids)?);
    Ok(true)
}

fn of_episode(episode: &EpisodeKey) -> Vec<u8> {
    key::counted(&key::episode(episode))
}

fn of_execution(execution: &ExecutionId) -> Vec<u8> {
    key::counted(&key::header(execution.ulid()))
}

/// The alert of an episode resolved: once all alerts of a denial have, nobody else is told of it.
///
/// # Errors
/// As [`Txn::get`].
pub fn ended(txn: &mut dyn Txn, episode: &EpisodeKey) -> Result<(), CommitError> {
    one_less(txn, of_episode(episode))
}

/// The alert of an execution that was denied at its start resolved.
pub(super) fn ended_of(txn: &mut dyn Txn, execution: &ExecutionId) -> Result<(), CommitError> {
    one_less(txn, of_execution(execution))
}

fn one_less(txn: &mut dyn Txn, of_subject: Vec<u8>) -> Result<(), CommitError> {
    let Some(ids) = read::<Vec<EscalationId>>(txn, &of_subject)? else { return Ok(()) };
    txn.delete(of_subject);
    for id in ids {
        let Some(mut known) = read::<Escalation>(txn, &key::escalation(id.as_str()))? else { continue };
        let was = Was::of(txn, &known)?;
        let totals = known.totals.get_or_insert_default();
        totals.firing = totals.firing.saturating_sub(1);
        totals.resolved += 1;
        let pending = was.pending || known.is_open();
        write(txn, known, pending, was.counted)?;
    }
    Ok(())
}

fn add(totals: &mut Totals, target: Option<&str>) {
    totals.count += 1;
    let Some(target) = target else { return };
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

/// The escalation that begins with `denial`.
pub(super) fn one_of(denial: &Denial) -> Escalation {
    let what = format!("{} {}", denial.runbook, denial.reason);
    let mut totals = Totals::default();
    add(&mut totals, denial.target.as_deref());
    Escalation {
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
        alert_url: denial.alert_url.clone(),
        done: Vec::new(),
        totals: Some(totals),
        to: denial.to.clone(),
        due: Escalation::gathered(denial.at),
        standing: Standing::Open,
        closed: None,
        deliveries: None,
        revision: 0,
    }
}
