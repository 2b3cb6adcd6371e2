//! Keeps the kill switch: what is durable of it, the sentinel file, and the orders the store could not take.
//!
//! May import: `engine`, `guard`, `store`, `telemetry`. Must never: let automation go on because something cannot be read.

use crate::engine::Engine;
use crate::guard::{KillSwitch, Order, Scope, SwitchState};
use crate::http::handler::Services;
use crate::journal::AuditEntry;
use crate::model::{Clock, Timestamp};
use crate::store::ReadError;
use crate::store::records::Records;
use crate::store::records::switch::Stood;
use crate::telemetry::Metrics;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The file that halts everything while it is there.
const FILE: &str = "halt";
/// Bytes kept for it, so that it can be put there while the disk is full.
const RESERVE: &str = "halt.reserve";
/// Room for one order.
const RESERVED: usize = 4096;
/// How a file of our own begins; any other one is somebody's.
const OURS: &str = "runbookd could not store this order, and keeps it here:";
/// Between two looks at the file.
const EVERY: Duration = Duration::from_millis(400);
/// Who acts where no person does.
const AUTOMATION: &str = "runbookd";
/// Who acts, for the audit log, where somebody put a file there or took it away.
const BY_FILE: &str = "file";
/// Changes by the file that wait for the audit log.
const MAX_UNTOLD: usize = 100;

/// What is in force from the start. What cannot be read means halted.
pub(super) async fn load(records: &Records, engine: &Engine, now: Timestamp) {
    let (switch, is_complete) = judge(records.kill_switch().await, now);
    engine.resume_orders(switch, is_complete);
}

/// What is in force where this was read, and whether it is all that there is.
fn judge(read: Result<Stood, ReadError>, now: Timestamp) -> (KillSwitch, bool) {
    let (mut switch, unreadable) = match read {
        Ok(Stood { switch, unreadable }) => (switch, unreadable),
        Err(error) => (KillSwitch::default(), Some(error)),
    };
    if let Some(error) = &unreadable {
        tracing::error!(%error, "the kill switch cannot be read: everything is halted until somebody says otherwise");
        let order = halt(Scope::Global, AUTOMATION, &format!("its record cannot be read: {error}"), now);
        // Not below what is known, and without an end.
        let state = switch.get(&Scope::Global).map_or(order.state, |known| known.state.max(order.state));
        switch.set(Order { state, ..order });
    }
    (switch, unreadable.is_none())
}

/// An order that halts.
pub(super) fn halt(scope: Scope, by: &str, reason: &str, at: Timestamp) -> Order {
    let (state, expires_at) = (SwitchState::Halted, None);
    Order { scope, state, by: by.to_owned(), reason: reason.to_owned(), at, expires_at }
}

/// What lies where the file would be.
enum Found {
    Nothing,
    Ours,
    Somebodys(String),
}

/// The keeper.
pub(super) struct Keeper {
    engine: Engine,
    records: Records,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    file: PathBuf,
    reserve: PathBuf,
    /// Whether an order to halt everything was not durable at the last look.
    lags: AtomicBool,
    /// What the audit log is to hear of the file.
    untold: Mutex<VecDeque<AuditEntry>>,
}

impl Keeper {
    /// A keeper of what `services` have, over the storage directory `dir`.
    pub(super) fn new(services: &Services, dir: &Path) -> Self {
        Self {
            engine: services.engine.clone(),
            records: services.records.clone(),
            metrics: services.metrics.clone(),
            clock: Arc::clone(&services.clock),
            file: dir.join(FILE),
            reserve: dir.join(RESERVE),
            lags: AtomicBool::new(false),
            untold: Mutex::default(),
        }
    }

    /// Looks once before anything begins, and sets bytes aside for the day the disk is full.
    pub(super) async fn begin(&self) {
        if matches!(look(&self.file), Found::Ours) {
            let order = halt(
                Scope::Global,
                AUTOMATION,
                "it was ordered while the store took nothing",
                self.clock.now(),
            );
            tracing::error!(file = %self.file.display(), "halted: an order was kept in the file");
            // In force at once; whether it is durable now is asked again until it is.
            let _posted = self.engine.post(order).await;
        }
        if !self.reserve.exists()
            && let Err(error) = std::fs::write(&self.reserve, vec![b' '; RESERVED])
        {
            tracing::warn!(file = %self.reserve.display(), %error, "no room could be set aside for the kill switch");
        }
        self.look();
    }

    /// Keeps it until the process ends.
    pub(super) async fn keep(self) {
        let watch = async {
            loop {
                tokio::time::sleep(EVERY).await;
                self.look();
            }
        };
        // Apart: a store that does not answer must not keep anybody from looking at the file.
        tokio::join!(watch, self.tell());
    }

    /// Waits for nobody, so that the next look is never late.
    fn look(&self) {
        self.engine.tidy_orders();
        let unsaved = self.engine.unsaved_orders();
        let kept =
            unsaved.iter().find(|order| order.scope == Scope::Global && order.state >= SwitchState::Halted);
        let lagged = self.lags.swap(kept.is_some(), Ordering::Relaxed);
        let found = look(&self.file);
        match (&found, kept) {
            // One that is only on its way into the store needs no file.
            (Found::Nothing, Some(order)) if lagged => self.put_aside(order),
            (Found::Ours, None) => self.take_away(),
            _ => {}
        }
        let now = self.clock.now();
        let stands = self.engine.board().read().get(&Scope::File).is_some();
        match found {
            Found::Somebodys(why) if !stands => {
                let by = format!("the file {}", self.file.display());
                tracing::error!(file = %self.file.display(), why, "halted by a file, until it is removed");
                self.engine.heed_file(Some(halt(Scope::File, &by, &why, now)));
                self.note(SwitchState::Halted, why, now);
            }
            Found::Nothing | Found::Ours if stands => {
                tracing::warn!(file = %self.file.display(), "the file that halted is gone");
                self.engine.heed_file(None);
                self.note(SwitchState::Running, "the file is gone".to_owned(), now);
            }
            _ => {}
        }
    }

    fn untold(&self) -> MutexGuard<'_, VecDeque<AuditEntry>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the audit log, when it can be written to; what is in force does not wait for it.
    fn note(&self, state: SwitchState, reason: String, at: Timestamp) {
        let mut untold = self.untold();
        if untold.len() >= MAX_UNTOLD {
            untold.pop_front();
        }
        untold.push_back(AuditEntry {
            at,
            user: BY_FILE.to_owned(),
            action: "automation.set",
            target: Scope::File.key(),
            reason,
            detail: BTreeMap::from([("state".to_owned(), state.as_str().to_owned())]),
        });
    }

    async fn tell(&self) {
        let mut was_refused = false;
        loop {
            let next = self.untold().front().cloned();
            match next {
                None => tokio::time::sleep(EVERY).await,
                Some(entry) => match self.records.note(entry.clone()).await {
                    Ok(_) => {
                        was_refused = false;
                        let mut untold = self.untold();
                        // It may have been given up for newer ones meanwhile.
                        if untold.front() == Some(&entry) {
                            untold.pop_front();
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut was_refused, true) {
                            tracing::error!(%error, "the audit log does not know yet what a file did to the kill switch");
                            self.metrics.audit_write_failed();
                        }
                        tokio::time::sleep(EVERY).await;
                    }
                },
            }
        }
    }

    /// Writes into bytes that are there already: a full disk has none to give.
    fn put_aside(&self, order: &Order) {
        let mut text = format!("{OURS}\n{}", order.sentence());
        text.truncate(text.floor_char_boundary(RESERVED));
        // Nothing of an earlier order may show behind it.
        let text = format!("{text:RESERVED$}");
        let written =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.reserve);
        let written = written.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            std::fs::rename(&self.reserve, &self.file)
        });
        if let Err(error) = written {
            tracing::error!(file = %self.file.display(), %error, "the order could not be kept in a file either: it counts until the daemon ends");
        }
    }

    fn take_away(&self) {
        if let Err(error) = std::fs::rename(&self.file, &self.reserve) {
            tracing::error!(file = %self.file.display(), %error, "remove this file: its order is stored, or taken back");
        }
    }
}

/// What cannot be looked at counts as a file that halts.
fn look(file: &Path) -> Found {
    let mut text = Vec::new();
    let read = std::fs::File::open(file).and_then(|opened| opened.take(1024).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        // A directory of that name halts as well.
        Err(error) => Found::Somebodys(format!("it is there ({error})")),
        Ok(_) if text.starts_with(OURS) => Found::Ours,
        Ok(_) if text.is_empty() => Found::Somebodys("it says no more".to_owned()),
        Ok(_) => Found::Somebodys(text.chars().filter(|c| !c.is_control()).take(200).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn unreadable() -> ReadError {
        ReadError::Failed("no such luck".to_owned())
    }

    #[test]
    fn a_file_is_seen_within_the_second_that_was_promised() {
        assert!(EVERY <= Duration::from_millis(500));
    }

    #[test]
    fn what_cannot_be_read_at_the_start_means_halted() {
        let (switch, is_complete) = judge(Err(unreadable()), at(0));
        assert_eq!((switch.global(at(0)), is_complete), (SwitchState::Halted, false));
        assert!(switch.get(&Scope::Global).unwrap().reason.contains("no such luck"));
        let (switch, is_complete) = judge(Ok(Stood::default()), at(0));
        assert_eq!((switch.global(at(0)), is_complete), (SwitchState::Running, true));
    }

    #[test]
    fn what_can_be_read_beside_it_still_counts_and_no_end_is_taken_for_sure() {
        let mut known = KillSwitch::default();
        let order = halt(Scope::Global, "ann", "for a while", at(0));
        known.set(Order { state: SwitchState::Aborted, expires_at: Some(at(10)), ..order.clone() });
        let one = Scope::Runbook(crate::model::RunbookId::new("one").unwrap());
        known.set(Order { scope: one.clone(), ..order });
        let stood = Stood { switch: known, unreadable: Some(unreadable()) };
        let (switch, is_complete) = judge(Ok(stood), at(1));
        assert_eq!((switch.global(at(20)), is_complete), (SwitchState::Aborted, false));
        assert_eq!(switch.get(&one).unwrap().state, SwitchState::Halted);
    }
}
