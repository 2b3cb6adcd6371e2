//! Reading everything once, at the opening or beside the work that goes on, to find what sled lost without a word.
//!
//! May import: `store`'s own types and sled. Must never: hold the table's gate for longer than one portion, or take
//! a store for whole of which a single entry was not read. What is written behind the place that the check has
//! reached is counted by its change, what is written before it when it gets there: so the sums are those of one moment.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::Shared;
use super::open::unfit;
use super::table::{Table, Totals, Unfit};
use crate::store::frame::{self, RECORDS};
use crate::store::overlay::panic_text;

/// Entries that are read in one go; the writer waits that long.
const PORTION: usize = 256;

/// How far the check has come.
#[derive(Default)]
pub(super) struct Progress {
    /// The last key that was read.
    reached: Option<Vec<u8>>,
    found: Totals,
}

impl Progress {
    /// Counts a change of what was read already.
    pub(super) fn changed(&mut self, key: &[u8], change: Totals) {
        if self.reached.as_deref().is_some_and(|reached| key <= reached) {
            self.found.merge(change);
        }
    }
}

impl Table {
    /// Reads all that has not been read yet.
    ///
    /// # Errors
    /// As [`Table::check_some`].
    pub(super) fn check_all(&self) -> Result<(), Unfit> {
        while !self.check_some()? {}
        Ok(())
    }

    /// Reads one more portion; true when that was the last one and the sums are right. The caller catches panics.
    ///
    /// # Errors
    /// [`Unfit`], telling why the table must not be used.
    pub(super) fn check_some(&self) -> Result<bool, Unfit> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut unchecked = self.unchecked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(progress) = unchecked.as_mut() else { return Ok(true) };
        let from = progress.reached.take().map_or(Bound::Included(vec![RECORDS]), Bound::Excluded);
        let mut last = None;
        let mut read = 0;
        for entry in self.db.range((from, Bound::Unbounded)).take(PORTION) {
            let (key, entry) = entry.map_err(Unfit::Engine)?;
            frame::check(&key, &entry).map_err(|error| Unfit::Damaged(error.to_string()))?;
            progress.found.add(&entry);
            read += 1;
            last = Some(key);
        }
        if read == PORTION {
            progress.reached = last.map(|key| key.to_vec());
            return Ok(false);
        }
        let (found, totals) = (progress.found, self.totals());
        *unchecked = None;
        found.compare(totals).map(|()| true)
    }
}

/// How a check beside the work ended; none as long as it goes on.
pub(super) type Ended = watch::Receiver<Option<Result<(), String>>>;

/// Starts the thread that reads everything while the store is used. It ends early when the store is shut.
pub(super) fn begin(dir: &Path, shared: &Arc<Shared>) -> std::io::Result<(JoinHandle<()>, Ended)> {
    let (ending, ended) = watch::channel(None);
    let (dir, shared) = (dir.to_owned(), Arc::clone(shared));
    let check = move || {
        while !shared.queue.places.is_closed() {
            let portion = catch_unwind(AssertUnwindSafe(|| shared.table.check_some()));
            let wrong = match portion {
                Ok(Ok(false)) => continue,
                Ok(Ok(true)) => return drop(ending.send(Some(Ok(())))),
                Ok(Err(wrong)) => wrong,
                Err(panic) => Unfit::Damaged(format!("the engine gave up: {}", panic_text(&*panic))),
            };
            let why = unfit(&dir, wrong).to_string();
            shared.fail(&why);
            return drop(ending.send(Some(Err(why))));
        }
    };
    Ok((thread::Builder::new().name("store-check".to_owned()).spawn(check)?, ended))
}

#[cfg(test)]
mod tests {
    use super::super::open::open;
    use super::super::{CommitError, OpenError, SledOptions, SledStore, Store};
    use crate::store::contract::{long, put, work};
    use crate::store::frame::record_key;
    use crate::store::overlay::Writes;

    const KEYS: usize = 2000;

    fn later() -> SledOptions {
        SledOptions { check_later: true, ..SledOptions::default() }
    }

    async fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), SledOptions::default()).unwrap();
        let fill = work(|txn| {
            for n in 0..KEYS {
                txn.put(
                    format!("k{n:05}").into_bytes(),
                    long(if n.is_multiple_of(50) { 9000 } else { 100 }, n),
                );
            }
            Ok(())
        });
        store.commit(fill).await.unwrap();
        store.shut().await;
        dir
    }

    /// Some twenty keys set, changed or removed, spread over all.
    fn changes(round: usize, seed: usize) -> Writes {
        let key = |n: usize| format!("k{:05}", (n * 7919 + round * 104_729 + seed) % (2 * KEYS)).into_bytes();
        let value = |n: usize| {
            (!n.is_multiple_of(3)).then(|| long(if n.is_multiple_of(5) { 9000 } else { 200 }, round + n))
        };
        (0..20).map(|n| (key(n), value(n))).collect()
    }

    #[tokio::test]
    async fn what_changes_while_everything_is_read_is_counted_once() {
        let dir = filled().await;
        for seed in 0..3 {
            let opened = open(dir.path(), &later()).unwrap();
            let mut rounds = 0;
            while !opened.table.check_some().unwrap() {
                opened.table.apply(&changes(rounds, seed)).unwrap();
                rounds += 1;
            }
            assert!(rounds > 5, "only {rounds} portions: too few to say anything");
            opened.table.flush().unwrap();
        }
        open(dir.path(), &SledOptions::default()).map(drop).unwrap();
    }

    #[tokio::test]
    async fn a_lost_record_fails_a_store_that_is_in_use_and_is_refused_at_the_next_opening() {
        let dir = filled().await;
        let opened = open(dir.path(), &later()).unwrap();
        opened.table.tree().remove(record_key(b"k01234")).unwrap();
        opened.table.flush().unwrap();
        drop(opened);
        let store = SledStore::open(dir.path(), later()).unwrap();
        let why = store.checked().await.unwrap_err();
        assert!(why.contains("is damaged") && why.contains("runbookd restore FILE"), "{why}");
        assert!(store.health().failed);
        assert!(matches!(store.commit(put("k", "v")).await, Err(CommitError::Failed(_))));
        drop(store);
        let refused = SledStore::open(dir.path(), SledOptions::default());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_whole_store_is_found_whole_while_it_is_written_to() {
        let dir = filled().await;
        let store = SledStore::open(dir.path(), later()).unwrap();
        let checked = store.checked();
        for n in 0..50 {
            store.commit(put(format!("k{:05}", n * 41), "new")).await.unwrap();
        }
        checked.await.unwrap();
        store.checked().await.unwrap();
        assert!(!store.health().failed);
    }
}
