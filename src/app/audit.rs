//! Checking the audit log of a stopped server: its storage is opened as the server would open it.

use crate::api;
use crate::store::records::Records;
use crate::store::{SledOptions, SledStore, Store};
use std::path::Path;
use std::sync::Arc;

/// Checks the audit log below `storage`; the answer is that of `GET /api/audit/verify`.
///
/// # Errors
/// A sentence, when there is no store, it is in use, or it cannot be read.
pub fn verify_audit(storage: &Path) -> Result<serde_json::Value, String> {
    let path = storage.join("store");
    if !path.is_dir() {
        return Err(format!("{} holds no store of runbookd", storage.display()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let store = SledStore::open(&path, SledOptions::default()).map_err(|error| error.to_string())?;
    let store: Arc<dyn Store> = Arc::new(store);
    runtime.block_on(async {
        let check = Records::new(Arc::clone(&store)).verify_audit().await;
        store.shut().await;
        check.map(|check| api::audit_check(&check)).map_err(|error| error.to_string())
    })
}
