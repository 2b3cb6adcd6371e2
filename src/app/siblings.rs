//! The runbooks a one-shot execution starts from its own steps: read beside the file it was started from.

use super::oneshot::read;
use crate::engine::Runbooks;
use crate::model::{RunbookId, Timestamp};
use crate::runbook::{Kind, Pinned, Runbook};
use crate::store::records::Records;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Runbooks by id.
pub(super) struct Siblings(BTreeMap<RunbookId, Arc<Pinned>>);

impl Siblings {
    /// All that `pinned` and what it starts name, from `directory`; their texts go to `records`.
    ///
    /// # Errors
    /// A file that cannot be read or used, with everything wrong with it.
    pub(super) async fn read(
        directory: &Path,
        pinned: &Pinned,
        records: &Records,
        now: Timestamp,
    ) -> Result<Self, String> {
        let (mut found, mut wanted) = (BTreeMap::new(), named(&pinned.runbook));
        while let Some(id) = wanted.pop() {
            if found.contains_key(&id) {
                continue;
            }
            let (mut sibling, text) = read(&directory.join(format!("{id}.toml")))?;
            let stored = records.version_of(&id, &sibling.hash, &sibling.file_name, &text, now).await;
            sibling.version = stored.map_err(|error| error.to_string())?;
            wanted.extend(named(&sibling.runbook));
            found.insert(id, Arc::new(sibling));
        }
        Ok(Self(found))
    }
}

fn named(runbook: &Runbook) -> Vec<RunbookId> {
    let kinds = runbook.steps.iter().map(|step| &step.kind);
    kinds
        .filter_map(|kind| if let Kind::Runbook { id, .. } = kind { Some(id.clone()) } else { None })
        .collect()
}

impl Runbooks for Siblings {
    fn current(&self, id: &RunbookId) -> Option<Arc<Pinned>> {
        self.0.get(id).cloned()
    }
}
