//! A store in memory: for one-shot `execute`, for tests, for simulation. Nothing outlives the process.
//!
//! May import: `store`'s own types. Must never: differ in meaning from the durable ones; `contract` runs
//! against it too. Everything happens inside the call, on the caller's thread; the futures are ready at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::overlay::{self, Writes};
use super::{Change, CommitError, Copying, Health, Pair, ReadError, Scan, Store, Work};

/// A failure to pretend, see [`MemoryStore::pretend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every commit is answered with [`CommitError::Full`] until the fault is taken away.
    Full,
    /// Every commit is answered with [`CommitError::Failed`], for good.
    Failed,
}

/// Changes that a copy gives at a time.
const COPIED: usize = 128;

/// An ordered map in memory.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: u64,
    full: bool,
    failed: bool,
    shut: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pretends a fault from now on, or with `None` that the disk has room again.
    pub fn pretend(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        inner.full = fault == Some(Fault::Full);
        inner.failed |= fault == Some(Fault::Failed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Works run behind catch_unwind and their writes are applied in one go, so a poisoned map is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn commit(&mut self, work: Work) -> Result<(), CommitError> {
        if self.shut {
            return Err(CommitError::Shut);
        }
        if self.failed {
            return Err(CommitError::Failed("pretended".to_owned()));
        }
        if self.full {
            return Err(CommitError::Full { free: 0, reserve: 1 });
        }
        let map = &self.map;
        let writes = overlay::run(work, &Writes::new(), &|key| Ok(map.get(key).cloned()))?;
        for (key, value) in writes {
            let key_len = key.len();
            let added = value.as_ref().map_or(0, |value| key_len + value.len());
            let removed = match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
            self.bytes += added as u64;
            self.bytes -= removed.map_or(0, |value| key_len + value.len()) as u64;
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan) -> Vec<Pair> {
        let Some(range) = overlay::range_of(scan) else { return Vec::new() };
        let pairs = self.map.range(range).map(|(key, value)| (key.clone(), value.clone()));
        if scan.reverse { pairs.rev().take(scan.limit).collect() } else { pairs.take(scan.limit).collect() }
    }
}

/// What there was when the copy began.
struct Whole(std::vec::IntoIter<Change>);

impl Copying for Whole {
    fn next(&mut self) -> Result<Option<Vec<Change>>, ReadError> {
        let portion: Vec<Change> = self.0.by_ref().take(COPIED).collect();
        Ok((!portion.is_empty()).then_some(portion))
    }
}

impl Store for MemoryStore {
    fn commit(&self, work: Work) -> BoxFuture<'static, Result<(), CommitError>> {
        ready(self.lock().commit(work)).boxed()
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Vec<u8>>, ReadError>> {
        ready(Ok(self.lock().map.get(key).cloned())).boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<Pair>, ReadError>> {
        ready(Ok(self.lock().scan(&scan))).boxed()
    }

    fn copy(&self) -> Option<Box<dyn Copying>> {
        let all: Vec<Change> =
            self.lock().map.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        Some(Box::new(Whole(all.into_iter())))
    }

    fn health(&self) -> Health {
        let inner = self.lock();
        Health {
            size_bytes: inner.bytes,
            free_bytes: if inner.full { 0 } else { u64::MAX },
            writer_alive: !inner.shut,
            failed: inner.failed,
        }
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        self.lock().shut = true;
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    contract::suite!(async { (MemoryStore::new(), ()) });

    fn put() -> Work {
        Box::new(|txn| {
            txn.put(b"k".to_vec(), b"v".to_vec());
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_pretended_full_disk_recovers_and_a_pretended_failure_does_not() {
        let store = MemoryStore::new();
        store.pretend(Some(Fault::Full));
        assert!(matches!(store.commit(put()).await, Err(CommitError::Full { .. })));
        assert_eq!(store.get(b"k").await.unwrap(), None);
        store.pretend(None);
        store.commit(put()).await.unwrap();
        assert_eq!(store.health().size_bytes, 2);
        store.pretend(Some(Fault::Failed));
        store.pretend(None);
        assert!(matches!(store.commit(put()).await, Err(CommitError::Failed(_))));
        assert!(store.health().failed);
        assert_eq!(store.get(b"k").await.unwrap(), Some(b"v".to_vec()));
    }
}
