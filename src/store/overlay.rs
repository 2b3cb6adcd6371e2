//! Running one work over what is there: its writes stay apart until it has said yes.
//!
//! Shared by the implementations, so that refusal, panics and the view of earlier works mean the same everywhere.
//! May import: `store`'s own types. Must never: touch the engine, or keep a write of a work that failed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::frame::printable;
use super::{CommitError, MAX_KEY, ReadError, Scan, Txn, Work};

/// Writes by key; `None` removes it.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What is below the writes: a read of the engine.
pub(super) type Below<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, ReadError>;

/// Keys from and to, in order.
pub(super) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Runs `work` over `earlier` (of the same group) and `below`, and gives back what it wrote.
///
/// # Errors
/// What the work returned, or why it is refused: it panicked, used too long a key, or ignored a failed read.
pub(super) fn run(mut work: Work, earlier: &Writes, below: Below<'_>) -> Result<Writes, CommitError> {
    let mut txn = WorkTxn { own: Writes::new(), earlier, below, failed: None };
    // The transaction is ours alone and is thrown away after a panic, so nothing half-done can be seen.
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let answer = work(&mut txn);
        drop(work);
        answer
    }));
    match (answer, txn.failed) {
        (Err(panic), _) => Err(CommitError::Refused(format!("the work panicked: {}", panic_text(&*panic)))),
        (Ok(Err(refused)), _) => Err(refused),
        (Ok(Ok(())), Some(failed)) => Err(failed),
        (Ok(Ok(())), None) => Ok(txn.own),
    }
}

/// How many bytes `writes` are, about.
pub(super) fn bytes_of(writes: &Writes) -> usize {
    writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

/// The range of keys that `scan` may visit; none when it is empty.
pub(super) fn range_of(scan: &Scan) -> Option<Range> {
    let mut from = Bound::Included(scan.prefix.clone());
    let mut to = end_of_prefix(&scan.prefix).map_or(Bound::Unbounded, Bound::Excluded);
    if let Some(after) = &scan.after {
        let beyond_end = matches!(&to, Bound::Excluded(end) if after >= end);
        if scan.reverse {
            if !beyond_end {
                to = Bound::Excluded(after.clone());
            }
        } else if *after >= scan.prefix {
            from = Bound::Excluded(after.clone());
        }
    }
    let empty = match (&from, &to) {
        (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        // No key fits between a key and its next one, which is the key with a zero byte behind it.
        (Bound::Excluded(from), Bound::Excluded(to)) => {
            from >= to || (to.len() == from.len() + 1 && to.starts_with(from) && to.ends_with(&[0]))
        }
        _ => false,
    };
    (!empty && scan.limit > 0).then_some((from, to))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

/// The first key behind all that start with `prefix`; none when there is no such key.
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

struct WorkTxn<'a> {
    own: Writes,
    earlier: &'a Writes,
    below: Below<'a>,
    failed: Option<CommitError>,
}

impl WorkTxn<'_> {
    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if key.len() > MAX_KEY {
            let text = format!("a key of {} bytes, {MAX_KEY} are allowed: {}", key.len(), printable(&key));
            self.failed.get_or_insert(CommitError::Refused(text));
        } else {
            self.own.insert(key, value);
        }
    }
}

impl Txn for WorkTxn<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        if let Some(written) = self.own.get(key).or_else(|| self.earlier.get(key)) {
            return Ok(written.clone());
        }
        (self.below)(key).inspect_err(|error| {
            self.failed.get_or_insert(CommitError::Read(error.clone()));
        })
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_work_that_ignores_a_failed_read_is_refused() {
        let below = |_: &[u8]| Err(ReadError::Failed("gone".into()));
        let work: Work = Box::new(|txn| {
            if txn.get(b"a").is_err() {
                txn.put(b"a".to_vec(), b"guessed".to_vec());
            }
            Ok(())
        });
        assert!(matches!(run(work, &Writes::new(), &below), Err(CommitError::Read(ReadError::Failed(_)))));
    }

    proptest! {
        #[test]
        fn the_range_holds_exactly_the_keys_that_the_scan_means(
            prefix in prop::collection::vec(prop::sample::select(vec![0u8, 1, 0xfe, 0xff]), 0..3),
            after in prop::option::of(prop::collection::vec(prop::sample::select(vec![0u8, 1, 0xfe, 0xff]), 0..4)),
            key in prop::collection::vec(prop::sample::select(vec![0u8, 1, 0xfe, 0xff]), 0..4),
            reverse: bool,
        ) {
            let wanted = key.starts_with(&prefix)
                && after.as_ref().is_none_or(|after| if reverse { key < *after } else { key > *after });
            let range = range_of(&Scan { prefix, after, reverse, limit: 1 });
            let held = range.is_some_and(|range| {
                // A BTreeMap panics on a range that ends before it begins.
                BTreeMap::from([(key, ())]).range(range).count() == 1
            });
            prop_assert_eq!(held, wanted);
        }
    }
}
