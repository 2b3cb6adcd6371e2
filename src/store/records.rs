//! What is kept, under which key, in which shape.
//!
//! | prefix | key | value |
//! |---|---|---|
//! | `x/` | ULID of an execution | [`Header`]: its line in lists |
//! | `j/` | ULID `/` sequence | one journal entry |
//! | `l/` | ULID | [`Parked`]: the execution is live, and what a restart needs to park it again; empty in older stores |
//! | `n/` | ULID `/` word or child | [`Signal`]: told by intake or a child's end, taken by the engine |
//! | `ir/ ia/ it/ is/` | runbook, alert name, target, final status `/` ULID | empty: lists by one of them |
//! | `e/` | fingerprint and label hash | [`Episode`] |
//! | `b/` | hash of an element that is no alert | [`Rejected`] |
//! | `d/` | ULID of a decision | [`Decision`] |
//! | `k/` | hash of a breaker's key | [`BreakerRecord`](crate::guard::BreakerRecord); none while closed without a failure |
//! | `ko/` | the same hash | empty: the breaker is not closed |
//! | `gr/` | book `/` runbook `/` hash of a target | [`Runs`](crate::guard::Runs): automatic starts there; 8 KiB at most |
//! | `gt/` | book `/` runbook | [`Targets`](crate::guard::Targets): where it started; 34 KiB at most, 0.7 by default |
//! | `g-storm` | | [`Storm`](crate::guard::Storm): new episodes by the second; 2 KiB at most |
//! | `gw/` | runbook | [`Tally`](crate::guard::Tally): what it would have done in shadow mode |
//! | `q/` | hash of a target | [`Quarantine`](crate::guard::Quarantine) |
//! | `s/` | hash of a scope of the kill switch | the order that stands there |
//! | `m/` | hash of a mapping's name | [`MappingRecord`](mapping::MappingRecord): set over the API |
//! | `c/` | hash of a schedule's name | [`ScheduleRecord`](schedule::ScheduleRecord): how far it was seen to |
//! | `cr/` | id | [`CredentialRecord`](credential::CredentialRecord): a secret that people stored, encrypted |
//! | `a/` | sequence | one [`AuditRecord`]; `a-head` is the end of their chain, `a-base` where its front was cut off |
//! | `o/` | id of an escalation | [`Escalation`](crate::report::Escalation) |
//! | `op/` | the same | its revision: something is still to be sent of it |
//! | `ox/` | ULID of an execution | the ids of its escalations |
//! | `od/` | runbook `/` reason, or `flood` and an urgency | the escalation that counts its denials, or what is too much |
//! | `oe/` | key of an episode, or `x/` and the ULID of an execution | the escalations that count its denials, until it ends |
//! | `oc/` | runbook | how many of its escalations nobody was told of yet |
//! | `ak/` | id of an API key | [`KeyRecord`](identity::KeyRecord) |
//! | `ao/` | hash of an owner | the ids of their keys; 100 at most |
//! | `us/` | id of a session | [`SessionRecord`](identity::SessionRecord) |
//! | `uo/` | hash of a subject | the ids of their sessions; 20 at most |
//! | `un/` | hash of a name | [`UserRecord`](identity::UserRecord): signed up; `u-count` is how many |
//! | `rf/` | runbook `/` ULID | [`RefusalRecord`](refusal::RefusalRecord): somebody was not allowed to |
//! | `rn/` | runbook | the ULIDs of its refusals; 100 at most |
//! | `hr/` | hash of an instance's name | what it has counted of callers' requests: [`RequestsTold`] |
//! | `v/ h/ w/` | runbook `/` version, hash; runbook | file text; version; latest version |
//!
//! ULIDs sort by time, so lists need no index of their own. May import: `model`, `journal`, `guard`,
//! `report` (its types).

pub mod audit;
pub mod breaker;
pub mod credential;
mod executions;
pub mod guards;
pub mod identity;
pub mod key;
pub mod late;
mod list;
pub mod mapping;
pub mod outbox;
mod parked;
pub mod quarantine;
mod queue;
pub mod refusal;
mod requests;
mod retire;
pub mod schedule;
pub mod switch;

#[cfg(test)]
mod tests;

pub use audit::{AuditCheck, AuditFilter};
pub use breaker::Person;
pub use executions::{Created, append, create, last_anew};
pub use list::{DecisionFilter, ExecutionFilter, Page};
pub use outbox::{Backlog, EscalationFilter};
pub use parked::Parked;
pub use queue::QueueCount;
pub use requests::RequestsTold;
pub use retire::Portion;

use super::{CommitError, Pair, ReadError, Scan, Store, Txn};
use crate::journal::{AuditRecord, Entry, Parent, TriggerKind, decode};
use crate::model::{
    Decision, DecisionId, Episode, EpisodeKey, ExecutionId, ExecutionStatus, Reason, RunbookId, Target,
    Timestamp,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// An execution's line in lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Its id.
    pub id: ExecutionId,
    /// The runbook.
    pub runbook: RunbookId,
    /// Its version.
    pub version: u64,
    /// The runbook's title then.
    pub title: String,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Why it ended so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// What it acts on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<Target>,
    /// What kind of thing asked for it.
    pub trigger: TriggerKind,
    /// The alert's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alertname: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it left the queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<Timestamp>,
    /// The execution whose step it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Parent>,
    /// What it holds alone while it is live.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<String>,
    /// When it must be looked at again; absent while an attempt is in progress.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wake: Option<Timestamp>,
    /// The number of its last event: what the next append must build on.
    pub seq: u64,
}

/// What a live execution is told by others than its driver: by intake, or by its child's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Its alert resolved.
    Resolved,
    /// The execution one of its steps started is over.
    ChildEnded(ExecutionId),
}

/// What is remembered of an element that is no alert, so that its repeats are counted, not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The decision that stands.
    pub decision: DecisionId,
    /// How often it was made.
    pub seen: u64,
}

/// One stored version of a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVersion {
    /// Counting up from 1.
    pub version: u64,
    /// SHA-256 of the text.
    pub hash: String,
    /// The file's name.
    pub file_name: String,
    /// The file, as it was.
    pub text: String,
    /// When it was first seen.
    pub at: Timestamp,
}

/// Runs `work` and gives what it returned, once durable.
///
/// # Errors
/// As [`Store::commit`].
pub async fn transact<R, F>(store: &dyn Store, mut work: F) -> Result<R, CommitError>
where
    R: Send + 'static,
    F: FnMut(&mut dyn Txn) -> Result<R, CommitError> + Send + 'static,
{
    let slot = Arc::new(Mutex::new(None));
    let out = Arc::clone(&slot);
    store
        .commit(Box::new(move |txn| {
            let result = work(txn)?;
            *out.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            Ok(())
        }))
        .await?;
    let result = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.ok_or_else(|| CommitError::Failed("the work was acknowledged without being run".to_owned()))
}

/// The bytes of a record.
///
/// # Errors
/// [`CommitError::Refused`] when it cannot be expressed, which no record of ours can cause.
pub fn to_bytes(record: &impl Serialize) -> Result<Vec<u8>, CommitError> {
    serde_json::to_vec(record).map_err(|error| CommitError::Refused(error.to_string()))
}

fn from_bytes<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(key, &error))
}

fn damaged(key: &[u8], why: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged { key: key.escape_ascii().to_string(), why: why.to_string() }
}

/// The record at `key`, as `txn` sees it.
///
/// # Errors
/// As [`Txn::get`], and [`ReadError::Damaged`] for bytes of another shape.
pub fn read<T: DeserializeOwned>(txn: &mut dyn Txn, key: &[u8]) -> Result<Option<T>, ReadError> {
    txn.get(key)?.map(|bytes| from_bytes(key, &bytes)).transpose()
}

/// Typed reads. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn Store>,
}

impl Records {
    /// Reads of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn one<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ReadError> {
        self.store.get(key).await?.map(|bytes| from_bytes(key, &bytes)).transpose()
    }

    /// The header of an execution.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn header(&self, ulid: &str) -> Result<Option<Header>, ReadError> {
        self.one(&key::header(ulid)).await
    }

    /// A decision.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn decision(&self, id: &DecisionId) -> Result<Option<Decision>, ReadError> {
        self.one(&key::decision(id)).await
    }

    /// An episode.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn episode(&self, key: &EpisodeKey) -> Result<Option<Episode>, ReadError> {
        self.one(&key::episode(key)).await
    }

    /// Up to `limit` entries of a journal behind `after`.
    ///
    /// # Errors
    /// As [`Store::scan`]; [`ReadError::Damaged`] for an entry that cannot be decoded.
    pub async fn journal(&self, id: &ExecutionId, after: u64, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let scan = Scan {
            prefix: key::journal(id.ulid()),
            after: (after > 0).then(|| key::entry(id.ulid(), after)),
            reverse: false,
            limit,
        };
        let pairs = self.store.scan(scan).await?;
        pairs.iter().map(|(key, bytes)| decode(bytes).map_err(|error| damaged(key, &error))).collect()
    }

    /// The headers of live executions created behind `cursor`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn live(&self, cursor: Option<&str>, limit: usize) -> Result<Vec<Header>, ReadError> {
        let scan = Scan { prefix: b"l/".to_vec(), after: cursor.map(key::live), reverse: false, limit };
        let mut headers = Vec::new();
        for (key, _) in self.store.scan(scan).await? {
            headers.extend(self.header(&last_part(&key)).await?);
        }
        Ok(headers)
    }

    /// Up to `limit` signals nobody took yet: the ULID of the execution, and what.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn signals(&self, limit: usize) -> Result<Vec<(String, Signal)>, ReadError> {
        let scan = Scan { prefix: b"n/".to_vec(), after: None, reverse: false, limit };
        let pairs: Vec<Pair> = self.store.scan(scan).await?;
        pairs
            .iter()
            .map(|(key, bytes)| {
                let text = String::from_utf8_lossy(key);
                let ulid = text.split('/').nth(1).unwrap_or_default().to_owned();
                Ok((ulid, from_bytes(key, bytes)?))
            })
            .collect()
    }

    /// A stored version of a runbook.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn version(
        &self,
        runbook: &RunbookId,
        version: u64,
    ) -> Result<Option<StoredVersion>, ReadError> {
        self.one(&key::version(runbook, version)).await
    }

    /// Every stored version of a runbook, oldest first; the last 1000 at most.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn versions(&self, runbook: &RunbookId) -> Result<Vec<StoredVersion>, ReadError> {
        let prefix = format!("v/{runbook}/").into_bytes();
        let pairs = self.store.scan(Scan { prefix, after: None, reverse: true, limit: 1000 }).await?;
        pairs.iter().rev().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }

    /// The latest ULID of any execution or decision, so that new ones sort behind it even if the clock went back.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn latest_ulid(&self) -> Result<Option<String>, ReadError> {
        let mut latest = None;
        for prefix in [b"x/".to_vec(), b"d/".to_vec()] {
            let scan = Scan { prefix, after: None, reverse: true, limit: 1 };
            latest = latest.max(self.store.scan(scan).await?.first().map(|(key, _)| last_part(key)));
        }
        Ok(latest)
    }

    /// The number of the version of `runbook` that has this text; stores it as a new one where none has.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn version_of(
        &self,
        runbook: &RunbookId,
        hash: &str,
        file_name: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<u64, CommitError> {
        let by_hash = key::version_of_hash(runbook, hash);
        if let Some(version) = self.one::<u64>(&by_hash).await? {
            return Ok(version);
        }
        let mut record = StoredVersion {
            version: 0,
            hash: hash.to_owned(),
            file_name: file_name.to_owned(),
            text: text.to_owned(),
            at: now,
        };
        let runbook = runbook.clone();
        transact(&*self.store, move |txn| {
            if let Some(version) = read(txn, &by_hash)? {
                return Ok(version);
            }
            let latest = key::latest_version(&runbook);
            record.version = read::<u64>(txn, &latest)?.unwrap_or(0) + 1;
            txn.put(key::version(&runbook, record.version), to_bytes(&record)?);
            txn.put(by_hash.clone(), to_bytes(&record.version)?);
            txn.put(latest, to_bytes(&record.version)?);
            Ok(record.version)
        })
        .await
    }
}

fn last_part(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The list value of an alert name or a target: strangers choose them, so they are hashed to a bounded length.
pub fn listed(text: &str) -> String {
    key::short_hash(text.as_bytes())
}
