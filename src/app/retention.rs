//! Keeps the history bounded: what is older than the config says is removed, a little at a time, and the head of the
//! audit log is put on record.
//!
//! May import: `store::records`, `model`. Must never: hold up anything else, or remove what is live.

use crate::config;
use crate::model::{Clock, before};
use crate::store::records::Records;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// After the start, which has enough to do.
const FIRST: Duration = Duration::from_secs(60);
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3600);
/// Between two portions of a round.
const BREATH: Duration = Duration::from_millis(200);
/// Rounds between two notes of the head.
const ROUNDS_A_DAY: u32 = 24;

/// What removes.
pub(super) struct Retention {
    pub(super) records: Records,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: config::Store,
    /// Where output files are.
    pub(super) outputs: PathBuf,
}

impl Retention {
    /// Goes on until the process ends.
    pub(super) async fn keep(self) {
        tokio::time::sleep(FIRST).await;
        for round in 0_u32.. {
            if round % ROUNDS_A_DAY == 0 {
                note_head(&self.records, "the head of the audit log today").await;
            }
            self.cut_audit().await;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn cut_audit(&self) {
        let mut gone = 0;
        loop {
            let now = self.clock.now();
            match self.records.cut_audit(before(now, self.store.audit_retention), now).await {
                Ok(0) => break,
                Ok(cut) => gone += cut,
                Err(error) => {
                    tracing::error!(%error, "the audit log cannot be cut; it is tried again in an hour");
                    break;
                }
            }
            tokio::time::sleep(BREATH).await;
        }
        if gone > 0 {
            tracing::info!(records = gone, "old records of the audit log were removed");
        }
    }
}

/// Puts the head of the audit log into the log: whoever rewrites the one is found out by the other.
pub(super) async fn note_head(records: &Records, when: &'static str) {
    match records.audit_head().await {
        Ok(head) => tracing::info!(seq = head.seq, hash = head.hash, "{when}"),
        Err(error) => tracing::error!(%error, "the head of the audit log cannot be read"),
    }
}
