//! Copying everything as of one moment, beside the work that goes on.
//!
//! The keys are walked in order, a portion at a time. What changes behind the place that the walk has reached is noted
//! by its key and given once more; what changes before it is met there. The copy is of the moment at which the walk is
//! at its end and nothing is noted. May import: `store`'s own types. Must never: hold the table's gate for longer than
//! one portion, or note more than is bounded.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Shared;
use crate::store::{Change, Copying, ReadError, Scan};

/// Records that the walk takes in one go, as many as a scan.
const PORTION: usize = super::PORTION;
/// Changed records that are given again in one go: more than a busy writer changes in one group, or the copy of a
/// store under load would never end.
const AGAIN: usize = 4096;
/// Bytes of a portion; one value may be longer.
const BYTES: usize = 4 << 20;
/// Bytes of keys that are noted.
const NOTED: usize = 32 << 20;
/// Records that may be given again, beside twice those that the walk gave.
const MAX_AGAIN: u64 = 1_000_000;
/// Between two looks whether everything has been checked.
const PAUSE: Duration = Duration::from_millis(20);

/// How far the copy has come, for the writer to note what changes behind it.
#[derive(Default)]
pub(super) struct Reached {
    place: Place,
    noted: BTreeSet<Vec<u8>>,
    bytes: usize,
    /// More was changed than can be noted.
    is_lost: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    /// The last key that was given.
    Behind(Vec<u8>),
    End,
    /// All of it was given, or it was given up: what changes is not noted any more.
    Over,
}

impl Reached {
    /// Notes that `key` was set or removed.
    pub(super) fn changed(&mut self, key: &[u8]) {
        let is_behind = match &self.place {
            Place::Start | Place::Over => false,
            Place::Behind(place) => key <= place.as_slice(),
            Place::End => true,
        };
        if self.is_lost || !is_behind || self.noted.contains(key) {
            return;
        }
        self.bytes += key.len() + mem::size_of::<Vec<u8>>();
        self.is_lost = self.bytes > NOTED;
        self.noted.insert(key.to_vec());
    }

    /// The first key that was noted; it is noted no more.
    fn take(&mut self) -> Option<Vec<u8>> {
        let key = self.noted.pop_first()?;
        self.bytes -= key.len() + mem::size_of::<Vec<u8>>();
        Some(key)
    }
}

/// A copy being made.
pub(super) struct Copy {
    shared: Arc<Shared>,
    given: u64,
    again: u64,
    has_ended: bool,
}

impl Copy {
    /// Begins one, unless another is being made.
    pub(super) fn begin(shared: Arc<Shared>) -> Option<Self> {
        let mut copied = shared.table.copied.lock().unwrap_or_else(PoisonError::into_inner);
        if copied.is_some() {
            return None;
        }
        *copied = Some(Reached::default());
        drop(copied);
        Some(Self { shared, given: 0, again: 0, has_ended: false })
    }

    fn reached(&self) -> MutexGuard<'_, Option<Reached>> {
        self.shared.table.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted, up to a portion. The gate is held.
    fn changed(&mut self, portion: &mut Vec<Change>) -> Result<usize, ReadError> {
        let mut bytes = 0;
        while portion.len() < AGAIN && bytes < BYTES {
            let Some(key) = self.reached().as_mut().and_then(Reached::take) else { break };
            let value = self.shared.table.value(&key)?;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            portion.push((key, value));
        }
        self.again += portion.len() as u64;
        Ok(bytes)
    }

    /// What the walk meets next. The gate is held.
    fn walk(&mut self, bytes: usize, portion: &mut Vec<Change>) -> Result<(), ReadError> {
        let after = match self.reached().as_ref().map(|reached| &reached.place) {
            Some(Place::Behind(key)) => Some(key.clone()),
            Some(Place::Start) => None,
            Some(Place::End | Place::Over) | None => return Ok(()),
        };
        let scan = Scan { prefix: Vec::new(), after, reverse: false, limit: PORTION };
        let pairs = self.shared.table.pairs(&scan, bytes)?;
        self.given += pairs.len() as u64;
        let place = pairs.last().map_or(Place::End, |(key, _)| Place::Behind(key.clone()));
        if let Some(reached) = self.reached().as_mut() {
            reached.place = place;
        }
        portion.extend(pairs.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(())
    }

    /// Whether the walk is at its end and nothing is noted. The gate is held.
    fn is_whole(&self) -> bool {
        self.reached().as_ref().is_none_or(|reached| reached.place == Place::End && reached.noted.is_empty())
    }

    fn portion(&mut self) -> Result<Vec<Change>, ReadError> {
        let shared = Arc::clone(&self.shared);
        let _gate = shared.table.gate.read().unwrap_or_else(PoisonError::into_inner);
        let is_lost = self.reached().as_ref().is_none_or(|reached| reached.is_lost);
        if is_lost || self.again > MAX_AGAIN + 2 * self.given {
            let why = "so much changes meanwhile that the copy cannot keep up; give it a faster place to write to, or try again when there is less to do";
            return Err(ReadError::Failed(why.to_owned()));
        }
        let mut portion = Vec::new();
        let bytes = self.changed(&mut portion)?;
        if bytes < BYTES {
            self.walk(BYTES - bytes, &mut portion)?;
        }
        self.has_ended = self.is_whole();
        Ok(portion)
    }

    /// Waits until everything was read once, where that goes on: what sled lost is not missing from the copy alone.
    fn checked(&self) -> Result<(), ReadError> {
        let is_unchecked =
            || self.shared.table.unchecked.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        while is_unchecked() && self.shared.failure().is_none() && !self.shared.queue.places.is_closed() {
            thread::sleep(PAUSE);
        }
        match self.shared.failure() {
            Some(why) => Err(ReadError::Failed(why)),
            None if is_unchecked() => Err(ReadError::Failed("the store was shut meanwhile".to_owned())),
            None => Ok(()),
        }
    }

    /// Nothing is noted for it any more; another begins only when this one is dropped.
    fn end(&mut self) {
        self.has_ended = true;
        if let Some(reached) = self.reached().as_mut() {
            *reached = Reached { place: Place::Over, ..Reached::default() };
        }
    }
}

impl Copying for Copy {
    fn next(&mut self) -> Result<Option<Vec<Change>>, ReadError> {
        if self.has_ended {
            return Ok(None);
        }
        let portion = self.portion();
        if portion.is_err() || self.has_ended {
            self.end();
        }
        let portion = portion?;
        if self.has_ended {
            self.checked()?;
        }
        Ok(Some(portion))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        *self.reached() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_behind_the_place_is_noted_and_each_key_once() {
        let mut reached = Reached::default();
        reached.changed(b"a");
        reached.place = Place::Behind(b"m".to_vec());
        for key in ["b", "m", "n", "b"] {
            reached.changed(key.as_bytes());
        }
        assert_eq!(
            [reached.take(), reached.take(), reached.take()],
            [Some(b"b".to_vec()), Some(b"m".to_vec()), None]
        );
        reached.place = Place::End;
        reached.changed(b"z");
        assert_eq!((reached.take(), reached.bytes), (Some(b"z".to_vec()), 0));
    }

    #[test]
    fn what_is_noted_is_bounded_and_its_loss_is_kept_in_mind() {
        let mut reached = Reached { place: Place::End, ..Reached::default() };
        for number in 0..200_000_u32 {
            reached.changed(&[&number.to_be_bytes()[..], &[7; 300]].concat());
        }
        assert!(reached.is_lost && reached.bytes < NOTED + 1024 && reached.noted.len() < 120_000);
    }
}
