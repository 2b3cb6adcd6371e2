//! Keeps the history bounded: what is older than the config says is removed, a little at a time, and the head of the
//! audit log is put on record.
//!
//! May import: `store::records`, `guard` (its longest window), `model`. Must never: hold up anything else, or remove what
//! is live.

use crate::config;
use crate::guard::MAX_WITHIN;
use crate::model::{Clock, Timestamp, before};
use crate::store::CommitError;
use crate::store::records::{Portion, Records};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// After the start, which has enough to do.
const FIRST: Duration = Duration::from_secs(60);
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3600);
/// Between two portions of a round.
const BREATH: Duration = Duration::from_millis(200);
/// Executions removed by one commit.
const AT_ONCE: usize = 20;
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
            self.round().await;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn round(&self) {
        self.cut_audit().await;
        self.retire_executions().await;
        self.retire_records().await;
    }

    async fn retire_executions(&self) {
        let cutoff = before(self.clock.now(), self.store.retention);
        let (mut behind, mut gone) = (None, 0);
        loop {
            let Portion { items, behind: next } = match self.records.old_executions(cutoff, behind).await {
                Ok(portion) => portion,
                Err(error) => return tracing::error!(%error, "old executions cannot be read"),
            };
            for some in items.chunks(AT_ONCE) {
                match self.records.remove_executions(some.to_vec(), cutoff).await {
                    Ok(removed) => gone += removed,
                    Err(error) => return tracing::error!(%error, "old executions cannot be removed"),
                }
                tokio::time::sleep(BREATH).await;
            }
            behind = next;
            if behind.is_none() {
                break;
            }
        }
        if gone > 0 {
            tracing::info!(executions = gone, "old executions were removed");
        }
        self.sweep_outputs(cutoff).await;
    }

    /// Removes the output files of executions that are gone; also those that a crash left behind.
    async fn sweep_outputs(&self, cutoff: Timestamp) {
        let dir = self.outputs.clone();
        let listed = tokio::task::spawn_blocking(move || old_outputs(&dir, cutoff)).await;
        let files = match listed {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => return tracing::error!(%error, "the output files cannot be listed"),
            Err(error) => return tracing::error!(%error, "the output files cannot be listed"),
        };
        for (ulid, paths) in files {
            match self.records.header(&ulid).await {
                Ok(None) => {}
                Ok(Some(_)) => continue,
                Err(error) => return tracing::error!(%error, "it cannot be read whose output a file is"),
            }
            for path in paths {
                if let Err(error) = tokio::fs::remove_file(&path).await {
                    tracing::warn!(path = %path.display(), %error, "an old output file cannot be removed");
                }
            }
        }
    }

    async fn retire_records(&self) {
        let cutoff = before(self.clock.now(), self.store.retention);
        let records = &self.records;
        self.retire("decisions", |behind| records.remove_decisions(cutoff, behind)).await;
        self.retire("escalations", |behind| records.remove_escalations(cutoff, behind)).await;
        // A guard must know of what lies within its window, however short the history is.
        let cutoff = before(self.clock.now(), self.store.retention.max(MAX_WITHIN));
        self.retire("episodes", |behind| records.remove_episodes(cutoff, behind)).await;
        self.retire("targets", |behind| records.remove_runs(cutoff, behind)).await;
    }

    /// Removes what is old, portion by portion.
    async fn retire<F>(&self, what: &'static str, remove: impl Fn(Option<Vec<u8>>) -> F)
    where
        F: Future<Output = Result<Portion<u64>, CommitError>>,
    {
        let (mut behind, mut gone) = (None, 0);
        loop {
            match remove(behind).await {
                Ok(portion) => {
                    gone += portion.items;
                    behind = portion.behind;
                }
                Err(error) => return tracing::error!(%error, what, "what is old cannot be removed"),
            }
            if behind.is_none() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        if gone > 0 {
            tracing::info!(what, removed = gone, "old records were removed");
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

/// The files below `dir` of executions that were made before `cutoff`, by their ULID.
fn old_outputs(dir: &Path, cutoff: Timestamp) -> std::io::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut old: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // `runbook_ULID.step.attempt.stream`
        let execution =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
        let Some((_, ulid)) = execution.and_then(|id| id.rsplit_once('_')) else { continue };
        let Ok(made) = Ulid::from_string(ulid) else { continue };
        if i64::try_from(made.timestamp_ms()).is_ok_and(|made| made < cutoff.as_millisecond()) {
            old.entry(ulid.to_owned()).or_default().push(path);
        }
    }
    Ok(old)
}

/// Puts the head of the audit log into the log: whoever rewrites the one is found out by the other.
pub(super) async fn note_head(records: &Records, when: &'static str) {
    match records.audit_head().await {
        Ok(head) => tracing::info!(seq = head.seq, hash = head.hash, "{when}"),
        Err(error) => tracing::error!(%error, "the head of the audit log cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreKind;
    use crate::journal::AuditEntry;
    use crate::model::{ManualClock, after};
    use crate::store::MemoryStore;

    #[tokio::test(start_paused = true)]
    async fn a_round_removes_what_time_has_passed_over_and_leaves_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let records = Records::new(Arc::new(MemoryStore::new()));
        let day = Duration::from_secs(24 * 3600);
        let store = config::Store {
            kind: StoreKind::Sled,
            path: dir.path().to_owned(),
            retention: 2 * day,
            audit_retention: 4 * day,
            backup: None,
        };
        let file = |made: Timestamp, rest: &str| {
            let ulid = Ulid::from_parts(made.as_millisecond() as u64, 7);
            let path = dir.path().join(format!("a_b_{ulid}{rest}"));
            std::fs::write(&path, "output").unwrap();
            path
        };
        let (old, young) = (file(start, ".s.1.stdout"), file(after(start, 2 * day), ".s.1.stderr"));
        let other = dir.path().join("a_file.of.somebody");
        std::fs::write(&other, "").unwrap();
        let entry = |at| AuditEntry {
            at,
            user: "ada".to_owned(),
            action: "breaker.reset",
            target: "t".to_owned(),
            reason: String::new(),
            detail: BTreeMap::new(),
        };
        records.note(entry(start)).await.unwrap();
        records.note(entry(after(start, 3 * day))).await.unwrap();
        let outputs = dir.path().to_owned();
        let retention = Retention { records: records.clone(), clock: clock.clone(), store, outputs };
        retention.round().await;
        assert!(old.exists() && records.audit_head().await.unwrap().seq == 2);
        clock.advance(3 * day.as_millis() as i64);
        retention.round().await;
        assert!(!old.exists() && young.exists() && other.exists());
        assert_eq!(records.verify_audit().await.unwrap().base.seq, 0);
        clock.advance(2 * day.as_millis() as i64);
        retention.round().await;
        assert!(!young.exists());
        let check = records.verify_audit().await.unwrap();
        assert_eq!((check.base.seq, check.head.seq, check.broken), (1, 3, None));
    }
}
