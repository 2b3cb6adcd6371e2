//! What the guards count: starts per runbook and target, targets per runbook, new episodes, and the shadow's tally.
//!
//! Automatic executions only. What a runbook in shadow mode would have done stands in books of its own, so that its
//! promotion begins afresh. A guard that is turned off has nothing written for it.

use super::{Created, Records, key, read, to_bytes};
use crate::guard::{Runs, Settings, Storm, Tally, Targets};
use crate::model::{Reason, RunbookId, Target, Timestamp};
use crate::store::{CommitError, ReadError, Txn};

/// Whose starts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// Of executions.
    Real,
    /// Of what would have been executions, in shadow mode.
    Shadow,
}

impl Book {
    fn word(self) -> &'static str {
        match self {
            Self::Real => "r",
            Self::Shadow => "s",
        }
    }
}

/// The book an execution stands in; `None` for one that a person wanted, or another execution: those do not count.
fn book_of(created: &Created) -> Option<Book> {
    created.is_automatic().then_some(Book::Real)
}

fn runs_key(book: Book, runbook: &RunbookId, target: Option<&Target>) -> Vec<u8> {
    key::runs(book.word(), runbook, target.map(Target::as_str))
}

/// The starts of `runbook` on `target`, in the clock of `now`.
///
/// # Errors
/// As [`Txn::get`].
pub fn runs(
    txn: &mut dyn Txn,
    book: Book,
    runbook: &RunbookId,
    target: Option<&Target>,
    now: Timestamp,
) -> Result<Runs, CommitError> {
    let key = runs_key(book, runbook, target);
    let mut runs: Runs = read(txn, &key)?.unwrap_or_default();
    // Written back, or each question would put the end off.
    if runs.settle(now) {
        txn.put(key, to_bytes(&runs)?);
    }
    Ok(runs)
}

/// The targets `runbook` acted on, in the clock of `now`.
///
/// # Errors
/// As [`Txn::get`].
pub fn targets(
    txn: &mut dyn Txn,
    book: Book,
    runbook: &RunbookId,
    now: Timestamp,
) -> Result<Targets, CommitError> {
    let key = key::targets(book.word(), runbook);
    let mut targets: Targets = read(txn, &key)?.unwrap_or_default();
    if targets.settle(now) {
        txn.put(key, to_bytes(&targets)?);
    }
    Ok(targets)
}

/// How many episodes began, in the clock of `now`.
///
/// # Errors
/// As [`Txn::get`].
pub fn storm(txn: &mut dyn Txn, now: Timestamp) -> Result<Storm, CommitError> {
    let mut storm: Storm = read(txn, &key::storm())?.unwrap_or_default();
    if storm.settle(now) {
        put_storm(txn, &storm)?;
    }
    Ok(storm)
}

/// Keeps what is known of new episodes.
///
/// # Errors
/// As [`to_bytes`].
pub fn put_storm(txn: &mut dyn Txn, storm: &Storm) -> Result<(), CommitError> {
    txn.put(key::storm(), to_bytes(storm)?);
    Ok(())
}

/// Counts the start of `created`, as the guards of its runbook ask for it.
///
/// To be called in the commit that creates it. In the shadow's book nothing ends.
///
/// # Errors
/// As [`Txn::get`].
pub fn started(
    txn: &mut dyn Txn,
    book: Book,
    created: &Created,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), CommitError> {
    let (runbook, target) = (&created.runbook, created.target.as_ref());
    let limit = settings.max_targets.zip(target);
    if settings.counts_runs() || limit.is_some() {
        let mut runs = runs(txn, book, runbook, target, now)?;
        runs.started(created.id.ulid(), book == Book::Real, settings.runs_kept(), now);
        txn.put(runs_key(book, runbook, target), to_bytes(&runs)?);
    }
    if let Some((limit, target)) = limit {
        let mut targets = targets(txn, book, runbook, now)?;
        targets.started(target, limit, now);
        txn.put(key::targets(book.word(), runbook), to_bytes(&targets)?);
    }
    Ok(())
}

/// Takes the start of `created` back: a late denial, or anything else that let it end without having begun.
///
/// # Errors
/// As [`Txn::get`].
pub fn release(txn: &mut dyn Txn, created: &Created) -> Result<(), CommitError> {
    let Some(book) = book_of(created) else { return Ok(()) };
    let (runbook, target) = (&created.runbook, created.target.as_ref());
    let key = runs_key(book, runbook, target);
    let Some(mut runs) = read::<Runs>(txn, &key)? else { return Ok(()) };
    if !runs.knows(created.id.ulid()) {
        return Ok(());
    }
    runs.released(created.id.ulid());
    if let Some(target) = target {
        let of_runbook = key::targets(book.word(), runbook);
        if let Some(mut targets) = read::<Targets>(txn, &of_runbook)? {
            targets.released(target, runs.last_start());
            put_or_delete(txn, of_runbook, &targets, targets.is_blank())?;
        }
    }
    put_or_delete(txn, key, &runs, runs.is_blank())
}

/// Notes that `created` is over. To be called in the commit that ends it.
///
/// # Errors
/// As [`Txn::get`].
pub fn ended(txn: &mut dyn Txn, created: &Created, now: Timestamp) -> Result<(), CommitError> {
    let Some(book) = book_of(created) else { return Ok(()) };
    let key = runs_key(book, &created.runbook, created.target.as_ref());
    // Where no start was counted, no end needs to be.
    let Some(mut runs) = read::<Runs>(txn, &key)? else { return Ok(()) };
    runs.ended(created.id.ulid(), now);
    txn.put(key, to_bytes(&runs)?);
    Ok(())
}

fn put_or_delete(
    txn: &mut dyn Txn,
    key: Vec<u8>,
    record: &impl serde::Serialize,
    is_blank: bool,
) -> Result<(), CommitError> {
    match is_blank {
        true => txn.delete(key),
        false => txn.put(key, to_bytes(record)?),
    }
    Ok(())
}

/// Counts what came of an alert for a runbook in shadow mode.
///
/// # Errors
/// As [`Txn::get`].
pub fn tell_shadow(
    txn: &mut dyn Txn,
    runbook: &RunbookId,
    version: u64,
    reason: Reason,
    now: Timestamp,
) -> Result<(), CommitError> {
    let key = key::tally(runbook);
    let mut tally = Tally::of(read(txn, &key)?, version, now);
    tally.add(reason);
    txn.put(key, to_bytes(&tally)?);
    Ok(())
}

impl Records {
    /// How many episodes began, in the clock of `now`.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn storm(&self, now: Timestamp) -> Result<Storm, ReadError> {
        let mut storm: Storm = self.one(&key::storm()).await?.unwrap_or_default();
        storm.settle(now);
        Ok(storm)
    }

    /// What a runbook would have done in shadow mode, of the version that was last in it.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn shadow(&self, runbook: &RunbookId) -> Result<Option<Tally>, ReadError> {
        self.one(&key::tally(runbook)).await
    }
}
