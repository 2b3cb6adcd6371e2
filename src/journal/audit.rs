//! The audit log: who changed what, each record bound to the one before it by a hash.
//!
//! Pure. Whoever changes, removes or reorders a record breaks the chain from there on; whoever rewrites all of it
//! can only be found out by a head that was noted elsewhere.

use crate::model::{Timestamp, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What the hash of the first record is chained to.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The action of the record that is left where the front of a chain is cut off.
pub const CUT: &str = "audit.cut";

/// What a chain begins its hashes with: another encoding needs another name.
const ENCODING: &[u8] = b"runbookd audit 1\n";

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a person's subject, or `runbookd` for what automation did by itself.
    pub user: String,
    /// What was done, such as `breaker.reset`.
    pub action: &'static str,
    /// What it was done to.
    pub target: String,
    /// Why, in the person's words.
    pub reason: String,
    /// What else is worth keeping, by name. Never a secret.
    pub detail: BTreeMap<String, String>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place, counting up from 1 without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// Why.
    pub reason: String,
    /// What else is worth keeping.
    pub detail: BTreeMap<String, String>,
    /// The hash of the record before it; [`GENESIS`] for the first.
    pub prev: String,
    /// SHA-256 of everything above, in hexadecimal.
    pub hash: String,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The last record's number; 0 before the first.
    pub seq: u64,
    /// The last record's hash.
    pub hash: String,
}

impl Default for AuditHead {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

impl AuditRecord {
    /// The record of `entry` behind `head`.
    pub fn seal(entry: AuditEntry, head: &AuditHead) -> Self {
        let AuditEntry { at, user, action, target, reason, detail } = entry;
        let mut record = Self {
            seq: head.seq + 1,
            at,
            user,
            action: action.to_owned(),
            target,
            reason,
            detail,
            prev: head.hash.clone(),
            hash: String::new(),
        };
        record.hash = record.digest();
        record
    }

    /// The head of a chain that ends here.
    pub fn head(&self) -> AuditHead {
        AuditHead { seq: self.seq, hash: self.hash.clone() }
    }

    /// Every field with its length before it, so that no two records have one encoding.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(ENCODING);
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(self.prev.as_bytes());
        field(&self.seq.to_be_bytes());
        for text in [&self.at.to_string(), &self.user, &self.action, &self.target, &self.reason] {
            field(text.as_bytes());
        }
        field(&(self.detail.len() as u64).to_be_bytes());
        for (name, value) in &self.detail {
            field(name.as_bytes());
            field(value.as_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record is missing, or stands in another's place.
    #[error("record {expected} is missing: record {found} stands in its place")]
    Gap {
        /// The number that must come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A record does not continue the one before it.
    #[error("record {0} does not continue the record before it")]
    Link(u64),
    /// A record is not what was written.
    #[error("record {0} is not what was written")]
    Changed(u64),
    /// The end is missing.
    #[error("the log ends with record {found}, but {expected} records were written")]
    Cut {
        /// The number of the last record written.
        expected: u64,
        /// The number of the last record found.
        found: u64,
    },
    /// The last record is not the one that was written last.
    #[error("the last record, {0}, is not the one that was written last")]
    OtherHead(u64),
    /// The front is missing, or where it was cut off was changed.
    #[error("the log begins behind record {0}, and no record says that it was cut off there")]
    Front(u64),
    /// The stored end of the log, or where it begins, is not what was written.
    #[error("where the log begins or ends is not what was written")]
    Border,
    /// The stored end is older than the log.
    #[error("record {found} stands behind record {last}, which was written last")]
    Beyond {
        /// The number of the last record written.
        last: u64,
        /// The number of a record behind it.
        found: u64,
    },
}

/// Checks a chain from its first record on, portion by portion.
#[derive(Debug, Default)]
pub struct Verifier {
    base: AuditHead,
    head: AuditHead,
    /// Where the records themselves say that the front was cut off last.
    cut: AuditHead,
}

impl Verifier {
    /// Of a chain whose records up to `base` were cut off.
    pub fn behind(base: AuditHead) -> Self {
        Self { head: base.clone(), base, cut: AuditHead::default() }
    }

    /// Checks that `record` comes next.
    ///
    /// # Errors
    /// [`Broken`]; the chain is then broken for good.
    pub fn next(&mut self, record: &AuditRecord) -> Result<(), Broken> {
        let expected = self.head.seq + 1;
        if record.seq != expected {
            return Err(Broken::Gap { expected, found: record.seq });
        }
        if record.prev != self.head.hash {
            return Err(Broken::Link(record.seq));
        }
        if record.hash != record.digest() {
            return Err(Broken::Changed(record.seq));
        }
        self.head = record.head();
        if record.action == CUT {
            let said = |name: &str| record.detail.get(name).cloned().unwrap_or_default();
            self.cut = AuditHead { seq: said("through").parse().unwrap_or(0), hash: said("hash") };
        }
        Ok(())
    }

    /// The last record checked.
    pub fn head(&self) -> &AuditHead {
        &self.head
    }

    /// Checks that nothing is missing behind the last record checked, by the head that was stored with it, nor before
    /// the first.
    ///
    /// # Errors
    /// [`Broken::Cut`], [`Broken::OtherHead`] or [`Broken::Front`].
    pub fn end(&self, stored: &AuditHead) -> Result<(), Broken> {
        if self.head.seq != stored.seq {
            return Err(Broken::Cut { expected: stored.seq, found: self.head.seq });
        }
        if self.head.hash != stored.hash {
            return Err(Broken::OtherHead(stored.seq));
        }
        // The records say it themselves, so that nobody can cut more off than was cut.
        if self.cut != self.base {
            return Err(Broken::Front(self.base.seq));
        }
        Ok(())
    }
}

/// Checks a whole chain against its stored head.
///
/// # Errors
/// The first place where it is broken.
pub fn verify<'r>(
    records: impl IntoIterator<Item = &'r AuditRecord>,
    head: &AuditHead,
) -> Result<(), Broken> {
    let mut verifier = Verifier::default();
    records.into_iter().try_for_each(|record| verifier.next(record))?;
    verifier.end(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(text: &str) -> AuditEntry {
        AuditEntry {
            at: Timestamp::from_second(7).unwrap(),
            user: "ada".to_owned(),
            action: "breaker.reset",
            target: "runbook:r".to_owned(),
            reason: text.to_owned(),
            detail: [("failures".to_owned(), text.len().to_string())].into(),
        }
    }

    fn chain(length: usize) -> (Vec<AuditRecord>, AuditHead) {
        let mut head = AuditHead::default();
        let mut records = Vec::new();
        for number in 0..length {
            let record = AuditRecord::seal(entry(&"x".repeat(number)), &head);
            head = record.head();
            records.push(record);
        }
        (records, head)
    }

    #[test]
    fn the_encoding_never_changes() {
        let (records, _) = chain(2);
        assert_eq!(
            records.iter().map(|record| record.hash.as_str()).collect::<Vec<_>>(),
            [
                "e496057070239502be19e3b46f57eabb5ad2fb18f88881d546229c394f32cbf1",
                "1ec10fc4dfb578c2f92a85ab6e2df72427fff020b247bbcf827b53d7fb665db6"
            ]
        );
        assert_eq!(records[0].prev, GENESIS);
    }

    #[test]
    fn text_that_moves_from_one_field_to_the_next_has_another_hash() {
        let head = AuditHead::default();
        let one = AuditRecord::seal(AuditEntry { user: "ab".into(), target: "c".into(), ..entry("") }, &head);
        let other =
            AuditRecord::seal(AuditEntry { user: "a".into(), target: "bc".into(), ..entry("") }, &head);
        assert_ne!(one.hash, other.hash);
    }

    #[test]
    fn what_is_cut_off_is_missed() {
        let (records, head) = chain(4);
        assert_eq!(verify(&records, &head), Ok(()));
        assert_eq!(verify(&[], &AuditHead::default()), Ok(()));
        assert_eq!(verify(&records[..3], &head), Err(Broken::Cut { expected: 4, found: 3 }));
        assert_eq!(verify(&records[1..], &head), Err(Broken::Gap { expected: 1, found: 2 }));
        assert_eq!(verify(&[], &head), Err(Broken::Cut { expected: 4, found: 0 }));
    }

    proptest! {
        #[test]
        fn any_single_change_is_found(at in 0..5_usize, what in 0..8_u8) {
            let (mut records, head) = chain(5);
            let record = &mut records[at];
            match what {
                0 => record.user.push('x'),
                1 => record.action.push('x'),
                2 => record.target.push('x'),
                3 => record.reason.push('x'),
                4 => record.at = Timestamp::from_second(8).unwrap(),
                5 => { record.detail.insert("x".into(), "y".into()); }
                6 => record.hash = record.hash.replace(&record.hash[..2], "zz"),
                _ => { records.remove(at); }
            }
            prop_assert!(verify(&records, &head).is_err());
        }

        #[test]
        fn a_record_that_was_changed_and_sealed_again_breaks_the_next_or_the_head(at in 0..5_usize) {
            let (mut records, head) = chain(5);
            records[at].reason.push('x');
            records[at].hash = records[at].digest();
            let expected = if at == 4 { Broken::OtherHead(5) } else { Broken::Link(at as u64 + 2) };
            prop_assert_eq!(verify(&records, &head), Err(expected));
        }
    }
}
