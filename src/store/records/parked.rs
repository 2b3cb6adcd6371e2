//! What a restart needs of a live execution, in the record that says that it is live: one scan parks them all.
//!
//! May import: `model`, the store's own types. Must never: say anything that the header does not say too; a record
//! without a value is of an earlier program, and then the header is asked.

use super::{Header, Records, Scan, from_bytes, key, last_part};
use crate::model::{ExecutionId, ExecutionStatus, Timestamp};
use crate::store::ReadError;
use serde::{Deserialize, Serialize};

/// A live execution as it waits in memory. The names are short because every commit of it writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its id.
    #[serde(rename = "i")]
    pub id: ExecutionId,
    /// Where it stands.
    #[serde(rename = "s")]
    pub status: ExecutionStatus,
    /// When it was accepted.
    #[serde(rename = "c")]
    pub created_at: Timestamp,
    /// What it holds alone.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<String>,
    /// When it must be looked at again; absent while an attempt is in progress.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    pub wake: Option<Timestamp>,
    /// The execution at the top of those whose child it is.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none", default)]
    pub root: Option<ExecutionId>,
}

impl From<&Header> for Parked {
    fn from(header: &Header) -> Self {
        Self {
            id: header.id.clone(),
            status: header.status,
            created_at: header.created_at,
            lock: header.lock.clone(),
            wake: header.wake,
            root: header.parent.as_ref().map(|parent| parent.root.clone()),
        }
    }
}

impl Records {
    /// Live executions created behind `cursor`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn parked(&self, cursor: Option<&str>, limit: usize) -> Result<Vec<Parked>, ReadError> {
        let scan = Scan { prefix: b"l/".to_vec(), after: cursor.map(key::live), reverse: false, limit };
        let mut parked = Vec::new();
        for (key, bytes) in self.store.scan(scan).await? {
            if bytes.is_empty() {
                let header = self.header(&last_part(&key)).await?;
                parked.extend(header.as_ref().map(Parked::from));
            } else {
                parked.push(from_bytes(&key, &bytes)?);
            }
        }
        Ok(parked)
    }
}
