//! Backups of a stopped server, putting one back, and those that are taken by the clock.
//!
//! May import: `backup`, `store`, `config`, `telemetry`. Must never: remove a file that it did not make, or an older backup
//! before a newer one is whole.

use super::SystemClock;
use crate::backup::{self, Contents, Head, NewFile, Restored};
use crate::config::Export;
use crate::model::{Clock, Timestamp, after, between};
use crate::store::{SledOptions, SledStore, Store};
use crate::telemetry::Metrics;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After the start, which has enough to do.
const FIRST: Duration = Duration::from_secs(5);
/// After one that failed, where none is due earlier.
const AGAIN: Duration = Duration::from_secs(3600);
/// The longest sleep: clocks are set.
const LOOK: Duration = Duration::from_secs(3600);
/// How the name of one begins and ends; the time is between.
const BEGINS: &str = "runbookd-";
const ENDS: &str = ".backup";

/// Writes a backup of the storage of a stopped server to `out`.
///
/// # Errors
/// A sentence, when there is no store, it is in use, or something cannot be read or written.
pub fn take_backup(storage: &Path, out: &mut dyn Write) -> Result<(), String> {
    let path = storage.join("store");
    if !path.is_dir() {
        return Err(format!("{} holds no store of runbookd", storage.display()));
    }
    let store = SledStore::open(&path, SledOptions::default()).map_err(|error| error.to_string())?;
    let copy = store.copy().ok_or("the store is being copied already")?;
    let head = Head::new(&super::lifecycle::instance_name(), SystemClock.now());
    let taken = backup::take(copy, &storage.join("outputs"), &head, out, &|| true);
    taken.map(drop).map_err(|error| error.to_string())
}

/// Puts the backup `file` into the empty directory `storage`.
///
/// # Errors
/// A sentence, when it was not restored.
pub fn restore_backup(file: &Path, storage: &Path) -> Result<Restored, String> {
    backup::restore(file, storage, SystemClock.now()).map_err(|error| error.to_string())
}

/// Takes backups by the clock.
pub(super) struct Exporter {
    pub(super) settings: Export,
    pub(super) store: Arc<dyn Store>,
    /// Where output files are.
    pub(super) outputs: PathBuf,
    pub(super) instance: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

impl Exporter {
    /// Goes on until it is dropped; one that is being written is given up then.
    pub(super) async fn keep(self) {
        let ends = CancellationToken::new();
        let _ends_with_us = ends.clone().drop_guard();
        let exporter = Arc::new(self);
        tokio::time::sleep(FIRST).await;
        let mut failed = None;
        loop {
            let now = exporter.clock.now();
            let wait = between(now, exporter.due(failed));
            if wait > Duration::ZERO {
                tokio::time::sleep(wait.min(LOOK)).await;
                continue;
            }
            let (one, ends) = (Arc::clone(&exporter), ends.clone());
            let written = tokio::task::spawn_blocking(move || one.export(now, &ends)).await;
            let written = written.unwrap_or_else(|error| Err(error.to_string()));
            failed = written.is_err().then_some(now);
            match written {
                Ok(contents) => {
                    tracing::info!(
                        records = contents.records,
                        outputs = contents.files,
                        "a backup was written"
                    );
                }
                Err(why) => {
                    exporter.metrics.backup_failed();
                    tracing::error!(why, dir = %exporter.settings.path.display(), "no backup could be written; it is tried again within the hour");
                }
            }
        }
    }

    /// When the next one is to be taken; the last one that was tried failed at `failed`.
    fn due(&self, failed: Option<Timestamp>) -> Timestamp {
        let every = self.settings.every;
        let newest = list(&self.settings.path).pop().map(|(at, _)| at);
        if let Some(at) = newest {
            self.metrics.backup_written(at);
        }
        let due = newest.map_or(Timestamp::MIN, |at| after(at, every));
        failed.map_or(due, |at| due.max(after(at, every.min(AGAIN))))
    }

    fn export(&self, now: Timestamp, ends: &CancellationToken) -> Result<Contents, String> {
        let dir = &self.settings.path;
        make_dir(dir).map_err(|error| format!("{} cannot be made: {error}", dir.display()))?;
        let mut file = NewFile::create(&dir.join(name_of(now)), false).map_err(|error| error.to_string())?;
        let copy = self.store.copy().ok_or("another backup is being taken")?;
        let goes_on = || !ends.is_cancelled();
        let taken = backup::take(copy, &self.outputs, &Head::new(&self.instance, now), &mut file, &goes_on);
        taken.map_err(|error| error.to_string())?;
        file.sync().map_err(|error| error.to_string())?;
        let (_, contents) = backup::check(file.partial()).map_err(|error| error.to_string())?;
        file.put_in_place().map_err(|error| error.to_string())?;
        self.metrics.backup_written(now);
        self.remove_old();
        Ok(contents)
    }

    /// Removes all but the newest.
    fn remove_old(&self) {
        let known = list(&self.settings.path);
        let old = known.len().saturating_sub(self.settings.keep);
        for (_, path) in &known[..old] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "an old backup cannot be removed");
            }
        }
    }
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Such as `runbookd-20260801T100000Z.backup`.
fn name_of(at: Timestamp) -> String {
    let second = Timestamp::from_second(at.as_second()).unwrap_or(at);
    format!("{BEGINS}{}{ENDS}", second.to_string().replace(['-', ':'], ""))
}

/// The backups in `dir` that were taken by the clock, the oldest first. What cannot be listed holds none.
fn list(dir: &Path) -> Vec<(Timestamp, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut known: Vec<(Timestamp, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let at: Timestamp = name.strip_prefix(BEGINS)?.strip_suffix(ENDS)?.parse().ok()?;
            (name == name_of(at)).then(|| (at, entry.path()))
        })
        .collect();
    known.sort();
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;
    use crate::store::MemoryStore;
    use crate::telemetry::{Build, Gauges};

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> Timestamp {
        "2026-08-01T10:00:00Z".parse().unwrap()
    }

    fn exporter(dir: &Path, clock: &Arc<ManualClock>) -> Exporter {
        Exporter {
            settings: Export { path: dir.join("backups"), every: 24 * HOUR, keep: 2 },
            store: Arc::new(MemoryStore::new()),
            outputs: dir.join("outputs"),
            instance: "here".to_owned(),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            metrics: Metrics::new(&Build { version: "1", revision: "r" }, start()),
        }
    }

    fn metric(exporter: &Exporter, name: &str) -> f64 {
        let (_, text) = exporter.metrics.encode(None, &Gauges::default());
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    fn names(exporter: &Exporter) -> Vec<String> {
        let entries = std::fs::read_dir(&exporter.settings.path).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_stay_and_what_others_put_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let exporter = exporter(dir.path(), &Arc::new(ManualClock::new(start())));
        let ends = CancellationToken::new();
        assert_eq!(exporter.due(None), Timestamp::MIN);
        for day in 0..4 {
            exporter.export(after(start(), day * 24 * HOUR), &ends).unwrap();
            std::fs::write(exporter.settings.path.join("runbookd-mine.backup"), "").unwrap();
        }
        let kept =
            ["runbookd-20260803T100000Z.backup", "runbookd-20260804T100000Z.backup", "runbookd-mine.backup"];
        assert_eq!(names(&exporter), kept);
        assert_eq!(exporter.due(None), after(start(), 4 * 24 * HOUR));
        backup::check(&exporter.settings.path.join(kept[1])).unwrap();
        let last = after(start(), 3 * 24 * HOUR).as_second() as f64;
        assert_eq!(metric(&exporter, "runbookd_backup_last_success_timestamp_seconds"), last);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut exporter = exporter(dir.path(), &Arc::new(ManualClock::new(start())));
        let store = MemoryStore::new();
        let put = store.commit(Box::new(|txn| {
            txn.put(b"k".to_vec(), b"v".to_vec());
            Ok(())
        }));
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(put).unwrap();
        exporter.store = Arc::new(store);
        let ends = CancellationToken::new();
        ends.cancel();
        assert!(exporter.export(start(), &ends).unwrap_err().contains("ends"));
        assert!(names(&exporter).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_taken_when_it_is_due_and_tried_again_when_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(start()));
        let exporter = exporter(dir.path(), &clock);
        let (path, metrics) = (exporter.settings.path.clone(), exporter.metrics.clone());
        std::fs::write(&path, "a file where the directory should be").unwrap();
        let count = |name: &str| {
            let (_, text) = metrics.encode(None, &Gauges::default());
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap().parse::<f64>().unwrap()
        };
        let running = tokio::spawn(exporter.keep());
        let until = async |what: &dyn Fn() -> bool| {
            while !what() {
                clock.advance(60_000);
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        };
        until(&|| count("runbookd_backup_failures_total") == 2.0).await;
        assert!(between(start(), clock.now()) >= HOUR, "it is not tried without a pause");
        std::fs::remove_file(&path).unwrap();
        until(&|| list(&path).len() == 1).await;
        until(&|| list(&path).len() == 2).await;
        let taken = list(&path);
        let apart = between(taken[0].0, taken[1].0);
        assert!(apart >= 24 * HOUR && apart < 26 * HOUR, "{apart:?}");
        running.abort();
    }
}
