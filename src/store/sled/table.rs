//! The one tree: records, parts of long values, and the sums by which a loss is noticed.
//!
//! sled drops what it cannot read at the recovery of its log, without a word. So every group writes, in its own
//! batch, how many groups there were and a sum over the fingerprints of all entries; `check` reads everything once
//! and compares. May import: `store`'s own types and sled. Must never: let a panic of sled out, or write outside a batch.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};

use ::sled::{Batch, Db, IVec};

use super::check::Progress;
use super::copy::Reached;
use crate::store::frame::{self, Head, META, RECORDS, Record, part_key, record_key};
use crate::store::overlay::{Writes, panic_text, range_of};
use crate::store::{Pair, ReadError, Scan};

/// What this program writes and the newest it reads.
pub(super) const FORMAT: u32 = 1;

const FORMAT_KEY: &[u8] = &[META, b'f', b'o', b'r', b'm', b'a', b't'];
const TOTALS_KEY: &[u8] = &[META, b't', b'o', b't', b'a', b'l', b's'];

/// What all entries together are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// How many groups were ever written.
    pub(super) groups: u64,
    entries: u64,
    sum: u64,
}

impl Totals {
    fn to_bytes(self) -> Vec<u8> {
        [self.groups, self.entries, self.sum].iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self { groups: number(0)?, entries: number(8)?, sum: number(16)? })
    }

    /// One more entry.
    pub(super) fn add(&mut self, frame: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(frame::fingerprint(frame));
    }

    fn subtract(&mut self, frame: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(frame::fingerprint(frame));
    }

    /// Counts the entries of `change` too.
    pub(super) fn merge(&mut self, change: Self) {
        self.entries = self.entries.wrapping_add(change.entries);
        self.sum = self.sum.wrapping_add(change.sum);
    }

    /// Whether these entries, which were found, are those that were written.
    ///
    /// # Errors
    /// [`Unfit::Damaged`], when they are not.
    pub(super) fn compare(self, written: Self) -> Result<(), Unfit> {
        if self.entries != written.entries {
            let text = format!("{} entries are left of {}", self.entries, written.entries);
            return Err(Unfit::Damaged(text));
        }
        if self.sum != written.sum {
            return Err(Unfit::Damaged("some entries are not the last that were written".to_owned()));
        }
        Ok(())
    }
}

/// Why a table cannot be used.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Written by a newer program, in this format.
    Newer(u32),
    /// Something is missing or wrong.
    Damaged(String),
    /// It could not be read or written.
    Engine(::sled::Error),
}

/// sled's default tree behind our framing.
pub(super) struct Table {
    pub(super) db: Db,
    /// Held for writing while a batch is applied, so that no reader sees half of one.
    pub(super) gate: RwLock<()>,
    totals: Mutex<Totals>,
    /// Set until everything was read once; taken behind the gate.
    pub(super) unchecked: Mutex<Option<Progress>>,
    /// Set while everything is being copied; taken behind the gate.
    pub(super) copied: Mutex<Option<Reached>>,
}

impl Table {
    /// Takes what is there, for [`Table::check_all`] to read, or writes the first records of a new store. The caller
    /// syncs and catches panics.
    ///
    /// # Errors
    /// [`Unfit`], telling why it must not be used.
    pub(super) fn over(db: Db) -> Result<Self, Unfit> {
        let (totals, unchecked, copied) = <(Mutex<_>, Mutex<_>, Mutex<_>)>::default();
        let table = Self { db, gate: RwLock::default(), totals, unchecked, copied };
        let Some(format) = table.db.get(FORMAT_KEY).map_err(Unfit::Engine)? else {
            if table.db.iter().next().is_some() {
                return Err(Unfit::Damaged("the format record is missing".to_owned()));
            }
            table.begin()?;
            return Ok(table);
        };
        let format = meta(FORMAT_KEY, &format)?;
        match format.try_into().map(u32::from_le_bytes) {
            Ok(FORMAT) => {}
            Ok(newer) if newer > FORMAT => return Err(Unfit::Newer(newer)),
            _ => return Err(Unfit::Damaged("the format record makes no sense".to_owned())),
        }
        *table.totals.lock().unwrap_or_else(PoisonError::into_inner) = table.read_totals()?;
        *table.unchecked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress::default());
        Ok(table)
    }

    /// The tree itself, to damage it.
    #[cfg(test)]
    pub(super) fn tree(&self) -> &::sled::Tree {
        &self.db
    }

    /// What all entries together are, as of the last group.
    pub(super) fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of `key`, of one moment.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.value(key)
    }

    /// The value of `key`, for the writer, as nobody else writes, and for who holds the gate.
    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let record_key = record_key(key);
        self.entry(&record_key)?.map(|entry| self.complete(&record_key, &entry)).transpose()
    }

    /// The pairs of `scan`, of one moment. The caller keeps `scan.limit` small.
    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<Pair>, ReadError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.pairs(scan, usize::MAX)
    }

    /// The pairs of `scan` until they are `bytes` long, for who holds the gate: at least one, where there is one.
    pub(super) fn pairs(&self, scan: &Scan, bytes: usize) -> Result<Vec<Pair>, ReadError> {
        let Some((from, to)) = range_of(scan) else { return Ok(Vec::new()) };
        let from = from.map(|key| record_key(&key));
        let to = match to {
            Bound::Unbounded => Bound::Excluded(vec![RECORDS + 1]),
            to => to.map(|key| record_key(&key)),
        };
        let mut entries = self.db.range((from, to));
        let mut pairs = Vec::new();
        let mut length = 0;
        while pairs.len() < scan.limit && length < bytes {
            let next = fenced(&record_key(&scan.prefix), || {
                if scan.reverse { entries.next_back().transpose() } else { entries.next().transpose() }
            })?;
            let Some((key, entry)) = next else { break };
            let value = self.complete(&key, &entry)?;
            length += key.len() + value.len();
            pairs.push((key[1..].to_vec(), value));
        }
        Ok(pairs)
    }

    /// Applies `writes` in one batch. Not durable before [`Table::flush`] and a sync of the file.
    ///
    /// # Errors
    /// What went wrong, for people. Then what is stored is unknown until the store is reopened.
    pub(super) fn apply(&self, writes: &Writes) -> Result<(), String> {
        let Changes { batch, totals, each } = self.batch(writes).map_err(|error| error.to_string())?;
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        fenced(TOTALS_KEY, || self.db.apply_batch(batch)).map_err(|error| error.to_string())?;
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
        if let Some(progress) = self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            each.iter().flatten().for_each(|(key, change)| progress.changed(key, *change));
        }
        if let Some(reached) = self.copied.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            writes.keys().for_each(|key| reached.changed(key));
        }
        Ok(())
    }

    /// Hands everything applied to the operating system. This is not a sync.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(super) fn flush(&self) -> Result<(), String> {
        fenced(TOTALS_KEY, || self.db.flush()).map(drop).map_err(|error| error.to_string())
    }

    fn batch(&self, writes: &Writes) -> Result<Changes, ReadError> {
        // A check may end before this is applied, but none begins.
        let is_unchecked = self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let each = is_unchecked.then(Vec::new);
        let mut changes = Changes { batch: Batch::default(), totals: self.totals(), each };
        for (key, value) in writes {
            let record_key = record_key(key);
            let old = self.entry(&record_key)?;
            let old_parts =
                old.as_ref().map_or(Ok(Vec::new()), |old| self.parts_of(key, &record_key, old))?;
            let mut parts = 0;
            let record = match value {
                None => None,
                Some(value) => {
                    let (record, pieces) = frame::encode(&record_key, value);
                    for piece in pieces {
                        let part_key = part_key(key, parts);
                        let old = if old_parts.binary_search(&parts).is_ok() {
                            self.entry(&part_key)?
                        } else {
                            None
                        };
                        let part = frame::encode_part(&part_key, piece);
                        changes.change(part_key, Some(part), old.as_ref());
                        parts += 1;
                    }
                    Some(record)
                }
            };
            changes.change(record_key, record, old.as_ref());
            for number in old_parts.into_iter().filter(|number| *number >= parts) {
                let part_key = part_key(key, number);
                let old = self.entry(&part_key)?;
                changes.change(part_key, None, old.as_ref());
            }
        }
        changes.totals.groups += 1;
        changes.batch.insert(TOTALS_KEY, frame::encode(TOTALS_KEY, &changes.totals.to_bytes()).0);
        Ok(changes)
    }

    fn begin(&self) -> Result<(), Unfit> {
        let mut batch = Batch::default();
        batch.insert(FORMAT_KEY, frame::encode(FORMAT_KEY, &FORMAT.to_le_bytes()).0);
        batch.insert(TOTALS_KEY, frame::encode(TOTALS_KEY, &Totals::default().to_bytes()).0);
        self.db.apply_batch(batch).map_err(Unfit::Engine)?;
        self.db.flush().map_err(Unfit::Engine).map(drop)
    }

    /// What the last group said.
    fn read_totals(&self) -> Result<Totals, Unfit> {
        let Some(totals) = self.db.get(TOTALS_KEY).map_err(Unfit::Engine)? else {
            return Err(Unfit::Damaged("the record of the totals is missing".to_owned()));
        };
        Totals::from_bytes(&meta(TOTALS_KEY, &totals)?)
            .ok_or_else(|| Unfit::Damaged("the record of the totals makes no sense".to_owned()))
    }

    fn entry(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        fenced(key, || self.db.get(key))
    }

    fn complete(&self, record_key: &[u8], entry: &[u8]) -> Result<Vec<u8>, ReadError> {
        match frame::decode(record_key, entry)? {
            Record::Whole(value) => Ok(value),
            Record::Split(head) => self.join(record_key, &head),
        }
    }

    fn join(&self, record_key: &[u8], head: &Head) -> Result<Vec<u8>, ReadError> {
        let mut value = Vec::new();
        for number in 0..head.parts {
            let part_key = part_key(&record_key[1..], number);
            let Some(part) = self.entry(&part_key)? else {
                return Err(frame::damaged(
                    record_key,
                    &format!("part {number} of {} is missing", head.parts),
                ));
            };
            frame::append_part(&part_key, &part, &mut value)?;
        }
        frame::check_whole(record_key, head, &value)?;
        Ok(value)
    }

    /// The numbers of the parts that the record `key` has now. Where its head is unreadable, they are looked for.
    fn parts_of(&self, key: &[u8], record_key: &[u8], entry: &[u8]) -> Result<Vec<u32>, ReadError> {
        match frame::decode(record_key, entry) {
            Ok(Record::Whole(_)) => Ok(Vec::new()),
            Ok(Record::Split(head)) => Ok((0..head.parts).collect()),
            Err(_) => fenced(record_key, || {
                let mut numbers = Vec::new();
                for found in self.db.range(part_key(key, 0)..=part_key(key, u32::MAX)) {
                    let (found, _) = found?;
                    // Parts of longer keys lie in this range too; they are longer.
                    if let Some(number) = found[1..].strip_prefix(key).and_then(|tail| tail.try_into().ok()) {
                        numbers.push(u32::from_be_bytes(number));
                    }
                }
                Ok(numbers)
            }),
        }
    }
}

struct Changes {
    batch: Batch,
    totals: Totals,
    /// What each key adds to the totals, while everything is being read.
    each: Option<Vec<(Vec<u8>, Totals)>>,
}

impl Changes {
    fn change(&mut self, key: Vec<u8>, new: Option<Vec<u8>>, old: Option<&IVec>) {
        let mut change = Totals::default();
        if let Some(old) = old {
            change.subtract(old);
        }
        if let Some(new) = &new {
            change.add(new);
        }
        self.totals.merge(change);
        if let Some(each) = &mut self.each {
            each.push((key.clone(), change));
        }
        match new {
            Some(new) => {
                self.batch.insert(key, new);
            }
            None if old.is_some() => self.batch.remove(key),
            None => {}
        }
    }
}

/// Runs `read` so that neither an error nor a panic of sled gets further than an error of ours.
fn fenced<T>(key: &[u8], read: impl FnOnce() -> ::sled::Result<T>) -> Result<T, ReadError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error @ (::sled::Error::Corruption { .. } | ::sled::Error::ReportableBug(_)))) => {
            Err(frame::damaged(key, &error.to_string()))
        }
        Ok(Err(error)) => Err(ReadError::Failed(error.to_string())),
        Err(panic) => Err(frame::damaged(key, &format!("the engine gave up: {}", panic_text(&*panic)))),
    }
}

fn meta(key: &[u8], entry: &[u8]) -> Result<Vec<u8>, Unfit> {
    match frame::decode(key, entry) {
        Ok(Record::Whole(value)) => Ok(value),
        Ok(Record::Split(_)) => Err(Unfit::Damaged("a record of the store's own is too long".to_owned())),
        Err(error) => Err(Unfit::Damaged(error.to_string())),
    }
}
