//! The schedules in force, and seeing to them: whoever keeps the time calls [`Intake::keep_schedules`] when it said so.
//!
//! A schedule counts from the moment it came into force, and that moment is stored before anything else: what is due
//! while the daemon is down is then known to have been missed.

use super::accept::Intake;
use super::foresight;
use crate::model::{Timestamp, after};
use crate::routing::Listed;
use crate::schedule::Schedule;
use crate::store::CommitError;
use crate::store::records::schedule::{self, ScheduleRecord};
use crate::store::records::{Records, transact};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// When what could not be made durable is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The schedules in force.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    schedules: Vec<Arc<Schedule>>,
    /// By name; of those that are stored.
    records: BTreeMap<String, ScheduleRecord>,
    /// Counts the changes of `schedules`.
    version: u64,
    /// The version that is stored.
    adopted: Option<u64>,
}

impl Timetable {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A schedule as people see it.
#[derive(Debug, Clone)]
pub struct Scheduled {
    /// The schedule.
    pub schedule: Arc<Schedule>,
    /// How far it was seen to; `None` while that is not stored yet.
    pub record: Option<ScheduleRecord>,
    /// When it is due next.
    pub next_at: Option<Timestamp>,
    /// Why it starts nothing, now or until it is due next.
    pub problem: Option<String>,
}

impl Intake {
    /// Puts these schedules in force, in place of all others.
    pub fn reschedule(&self, schedules: impl IntoIterator<Item = Schedule>) {
        let schedules: Vec<_> = schedules.into_iter().map(Arc::new).collect();
        schedules.iter().for_each(|schedule| self.warn_of_refusal(schedule));
        let mut inner = self.timetable.inner();
        inner.schedules = schedules;
        inner.version += 1;
        drop(inner);
        self.timetable.changed.notify_one();
    }

    /// Says of a schedule that its runbook will refuse each of its due times, long before the first of them.
    fn warn_of_refusal(&self, schedule: &Schedule) {
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let Some(Listed::Good(pinned)) = library.get(&schedule.runbook) else { return };
        if let Some(why) = foresight::refusal(schedule, pinned, self.clock.now()) {
            let (schedule, runbook) = (&schedule.name, schedule.runbook.as_str());
            tracing::warn!(schedule, runbook, why, "a schedule can start nothing");
        }
    }

    /// Resolves when schedules were put in force since the last time it did.
    pub async fn rescheduled(&self) {
        self.timetable.changed.notified().await;
    }

    /// The schedules in force, in the order of the config.
    pub fn schedules(&self) -> Vec<Scheduled> {
        let now = self.clock.now();
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let inner = self.timetable.inner();
        let shown = |schedule: &Arc<Schedule>| {
            let record = inner.records.get(&schedule.name).cloned();
            let handled = record.as_ref().map_or(now, |record| record.handled);
            let problem = foresight::problem(schedule, &library, handled, now);
            Scheduled { schedule: Arc::clone(schedule), next_at: schedule.next(handled), record, problem }
        };
        inner.schedules.iter().map(shown).collect()
    }

    /// Sees to every due time that has come, and gives when to call it again; `None` when nothing will be due.
    ///
    /// # Cancel safety
    /// Dropped half-way, what was seen to is stored, and nothing is seen to twice.
    pub async fn keep_schedules(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        if let Err(error) = self.adopt(now).await {
            tracing::error!(%error, "the schedules are not kept yet: how far they were seen to cannot be stored");
            return Some(after(now, AGAIN));
        }
        let mut next = None;
        for Scheduled { schedule, record, .. } in self.schedules() {
            let Some(record) = record else { continue };
            let due = schedule.due(record.handled, now);
            let coming = match due {
                None => schedule.next(record.handled),
                Some(due) => {
                    if due.first < due.at {
                        tracing::warn!(
                            schedule = schedule.name, first = %due.first, last = %due.at,
                            "due times were missed; only the last of them is seen to"
                        );
                    }
                    match self.occur(&schedule, due).await {
                        Ok(record) => {
                            let handled = record.handled;
                            self.timetable.inner().records.insert(schedule.name.clone(), record);
                            schedule.next(handled)
                        }
                        Err(error) => {
                            tracing::error!(
                                schedule = schedule.name, due = %due.at, %error,
                                "the schedule is due and cannot be seen to; it is tried again"
                            );
                            Some(after(now, AGAIN))
                        }
                    }
                }
            };
            next = [next, coming].into_iter().flatten().min();
        }
        next
    }

    /// Makes it durable since when each schedule counts, where that is not so yet.
    async fn adopt(&self, now: Timestamp) -> Result<(), CommitError> {
        let (schedules, version) = {
            let inner = self.timetable.inner();
            if inner.adopted == Some(inner.version) || (inner.adopted.is_none() && inner.version == 0) {
                return Ok(());
            }
            (inner.schedules.clone(), inner.version)
        };
        let known = Records::new(Arc::clone(&self.store)).schedules().await?;
        let adopted = transact(&*self.store, move |txn| {
            for old in &known {
                if !schedules.iter().any(|schedule| schedule.name == old.name) {
                    schedule::forget(txn, &old.name);
                }
            }
            let mut records = BTreeMap::new();
            for new in &schedules {
                let (cron, zone) = (new.cron.to_string(), new.zone.name().to_owned());
                let record = match schedule::get(txn, &new.name)? {
                    Some(same) if (&same.cron, &same.zone) == (&cron, &zone) => {
                        if let Some(why) = foresight::ahead(new, same.handled, now) {
                            tracing::warn!(schedule = new.name, why, "a schedule starts nothing for a while");
                        }
                        same
                    }
                    // Due times that another expression would have had are not missed ones.
                    other => {
                        let (last, execution) =
                            other.map_or((None, None), |other| (other.last, other.execution));
                        let name = new.name.clone();
                        let record = ScheduleRecord { name, cron, zone, handled: now, last, execution };
                        schedule::put(txn, &record)?;
                        record
                    }
                };
                records.insert(new.name.clone(), record);
            }
            Ok(records)
        });
        let records = adopted.await?;
        let mut inner = self.timetable.inner();
        inner.records = records;
        inner.adopted = Some(version);
        Ok(())
    }
}
