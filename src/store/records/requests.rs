//! What instances have counted of their callers' requests: one record each, overwritten every few seconds while
//! somebody asks a lot. What it means is the edge's business.

use super::{Records, Scan, from_bytes, key, to_bytes, transact};
use crate::store::{CommitError, ReadError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one instance has counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestsTold {
    /// The instance's name.
    pub instance: String,
    /// Its counts, as the edge writes them.
    pub told: Value,
}

impl Records {
    /// Keeps what an instance has counted, in place of what it told before.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub async fn tell_requests(&self, told: RequestsTold) -> Result<(), CommitError> {
        let bytes = to_bytes(&told)?;
        transact(self.store.as_ref(), move |txn| {
            txn.put(key::requests(&told.instance), bytes.clone());
            Ok(())
        })
        .await
    }

    /// What every instance has told.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn requests_told(&self) -> Result<Vec<RequestsTold>, ReadError> {
        let scan = Scan { prefix: key::REQUESTS.to_vec(), after: None, reverse: false, limit: usize::MAX };
        self.store.scan(scan).await?.iter().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }
}
