//! How far schedules have been seen to. Written in the commit of what they start, so that no crash can part the two.

use super::{Header, Records, Scan, from_bytes, key, read, to_bytes};
use crate::model::{DecisionId, ExecutionId, Reason, Timestamp, Verdict};
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// How far a schedule has been seen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// The schedule's name.
    pub name: String,
    /// Its expression, as `handled` belongs to it.
    pub cron: String,
    /// Its zone, likewise.
    pub zone: String,
    /// Every due time up to this one has been seen to: the last one, or when the schedule came into force.
    pub handled: Timestamp,
    /// What was decided last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<LastRun>,
    /// The last execution it started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execution: Option<ExecutionId>,
}

/// What was decided on a due time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The due time.
    pub at: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The decision that stands for it.
    pub decision: DecisionId,
    /// How often it was made in a row.
    pub seen: u64,
}

/// How far the schedule called `name` has been seen to.
///
/// # Errors
/// As [`Txn::get`].
pub fn get(txn: &mut dyn Txn, name: &str) -> Result<Option<ScheduleRecord>, ReadError> {
    read(txn, &key::schedule(name))
}

/// Notes how far it has been seen to.
///
/// # Errors
/// As [`to_bytes`].
pub fn put(txn: &mut dyn Txn, record: &ScheduleRecord) -> Result<(), CommitError> {
    txn.put(key::schedule(&record.name), to_bytes(record)?);
    Ok(())
}

/// Forgets a schedule.
pub fn forget(txn: &mut dyn Txn, name: &str) {
    txn.delete(key::schedule(name));
}

/// The last execution the schedule started, while it is live.
///
/// # Errors
/// As [`Txn::get`].
pub fn live(txn: &mut dyn Txn, record: &ScheduleRecord) -> Result<Option<ExecutionId>, ReadError> {
    let Some(id) = &record.execution else { return Ok(None) };
    let header: Option<Header> = read(txn, &key::header(id.ulid()))?;
    Ok(header.filter(|header| !header.status.is_final()).map(|header| header.id))
}

impl Records {
    /// Every schedule that is remembered.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn schedules(&self) -> Result<Vec<ScheduleRecord>, ReadError> {
        let scan = Scan { prefix: key::SCHEDULE.to_vec(), after: None, reverse: false, limit: usize::MAX };
        self.store.scan(scan).await?.iter().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }
}
