//! One due time of a schedule, from what is known of it to its decision, in one unit of work.

use super::accept::{Intake, IntakeError};
use super::ruling::{Ground, bound, decision_of, note, planned, start, tell_denied, to_start};
use super::standing::Standing;
use crate::admit::{self, Case, Occasion};
use crate::journal::{Trigger, TriggerKind};
use crate::model::{Alert, AlertStatus, Decision, ExecutionId, Fingerprint, Labels, Reason, Verdict};
use crate::routing;
use crate::schedule::{Due, Schedule};
use crate::store::records::schedule::{self, LastRun, ScheduleRecord};
use crate::store::records::{key, read, transact};
use crate::store::{CommitError, Txn};
use std::sync::{Arc, PoisonError};

/// What came of a due time.
pub(super) struct Occurred {
    /// How far the schedule has been seen to now.
    pub(super) record: ScheduleRecord,
    /// What was decided; nothing where the due time had been seen to already.
    decision: Option<Decision>,
}

impl Intake {
    /// Decides on a due time of `schedule`, durably, all or nothing, and once.
    pub(super) async fn occur(
        &self,
        schedule: &Arc<Schedule>,
        due: Due,
    ) -> Result<ScheduleRecord, IntakeError> {
        let (now, options) = (self.clock.now(), self.options());
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let (switch, ids, of) = (self.board.read(), Arc::clone(&self.ids), Arc::clone(schedule));
        let limit = options.queue_limit;
        // The room is taken before it is known whether it is needed: what is skipped gives it back.
        let room = self.queue.try_add(1, limit);
        let has_room = room.is_ok();
        let occurred = transact(&*self.store, move |txn| {
            let ground = options.ground(&library, &switch, &ids, now);
            occur(txn, &ground, &of, due, has_room)
        })
        .await;
        let has_begun = |decision: &Decision| decision.verdict != Verdict::Skip;
        let started = occurred.as_ref().is_ok_and(|it| it.decision.as_ref().is_some_and(has_begun));
        if has_room && !started {
            self.queue.remove(1);
        }
        let Occurred { record, decision } = occurred.map_err(|cause| match (room, cause) {
            (Err(queued), CommitError::Refused(_)) => IntakeError::QueueFull { queued, wanted: 1, limit },
            (_, cause) => IntakeError::Store(cause),
        })?;
        if let Some(decision) = decision {
            self.metrics.decision_made(decision.verdict, decision.reason);
            tracing::info!(
                schedule = schedule.name,
                due = %due.at,
                verdict = decision.verdict.as_str(),
                reason = decision.reason.as_str(),
                runbook = schedule.runbook.as_str(),
                execution_id = decision.execution_id.as_ref().map(ExecutionId::as_str),
                "schedule decided"
            );
        }
        if started {
            self.wake.notify_one();
        }
        Ok(record)
    }
}

fn occur(
    txn: &mut dyn Txn,
    ground: &Ground<'_>,
    schedule: &Schedule,
    due: Due,
    has_room: bool,
) -> Result<Occurred, CommitError> {
    let before = schedule::get(txn, &schedule.name)?;
    if let Some(record) = before.as_ref().filter(|before| before.handled >= due.at) {
        return Ok(Occurred { record: record.clone(), decision: None });
    }
    let live = before.as_ref().map(|before| schedule::live(txn, before)).transpose()?.flatten();
    let alert = stand_in(schedule, due);
    let by = format!("the schedule {:?}", schedule.name);
    let route = routing::named(ground.library, schedule.runbook.as_str(), by);
    let plan = planned(ground, &route, trigger(schedule, due, &alert.labels), &schedule.inputs);
    let standing = Standing::of_schedule(txn, ground, &route, plan.as_ref())?;
    let (name, overdue) = (&schedule.name, due.overdue);
    let occasion = Occasion { schedule: name, due: due.at, overdue, live: live.as_ref() };
    let ruling = admit::decide(&Case {
        alert: &alert,
        occasion: Some(&occasion),
        episode: None,
        route: &route,
        plan: plan.as_ref(),
        order: ground.switch.strictest(&[&schedule.runbook], Some(&alert.labels), ground.now),
        quarantine: standing.quarantine.as_ref(),
        breaker: standing.breaker.as_ref().map(|record| &record.breaker),
        guards: standing.guards(ground),
        has_alertmanager: ground.has_alertmanager,
        now: ground.now,
        episode_ttl: ground.episode_ttl,
    });
    let started = to_start(&ruling, plan.as_ref());
    if started.is_some() && !has_room {
        return Err(CommitError::Refused("the queue is full".to_owned()));
    }
    let id = started.as_ref().map(|created| created.id.clone());
    let had = live.filter(|_| ruling.reason == Reason::Repeat);
    // It is about no alert, and nobody shall look for one.
    let mut fresh = Decision {
        fingerprint: None,
        alert: None,
        runbook: Some(schedule.runbook.clone()),
        ..decision_of(ground, &alert, &route, ruling, id.clone().or(had))
    };
    let last = before.as_ref().and_then(|before| before.last.as_ref());
    let (decision, seen) = match last {
        Some(last) if stands(txn, last, &fresh)? => (last.decision.clone(), last.seen + 1),
        _ => (fresh.id.clone(), 1),
    };
    if decision == fresh.id {
        fresh.plan = standing.tell_shadow(txn, ground, &route, plan.as_ref(), fresh.reason)?;
    }
    let started = bound(started, &decision);
    note(txn, &fresh, &decision, seen)?;
    // Each due time is asked for by itself and not heard of again, so each counts, also where the decision is an old one.
    tell_denied(txn, None, &route, plan.as_ref(), &fresh, told(schedule, &fresh))?;
    let record = ScheduleRecord {
        name: schedule.name.clone(),
        cron: schedule.cron.to_string(),
        zone: schedule.zone.name().to_owned(),
        handled: due.at,
        last: Some(LastRun { at: due.at, verdict: fresh.verdict, reason: fresh.reason, decision, seen }),
        execution: id.or_else(|| before.and_then(|before| before.execution)),
    };
    schedule::put(txn, &record)?;
    start(txn, ground, &route, started, &standing.settings)?;
    Ok(Occurred { record, decision: Some(fresh) })
}

/// What people are told of a denial.
fn told(schedule: &Schedule, decision: &Decision) -> String {
    format!("the schedule {:?}: {}", schedule.name, decision.message)
}

/// Whether the last decision on the schedule says the same as `fresh`: then it is counted, not stored again.
fn stands(txn: &mut dyn Txn, last: &LastRun, fresh: &Decision) -> Result<bool, CommitError> {
    if fresh.verdict != Verdict::Skip || (last.verdict, last.reason) != (fresh.verdict, fresh.reason) {
        return Ok(false);
    }
    let stored: Option<Decision> = read(txn, &key::decision(&last.decision))?;
    Ok(stored
        .is_some_and(|stored| stored.runbook == fresh.runbook && stored.execution_id == fresh.execution_id))
}

/// What stands where gates expect an alert.
pub(super) fn stand_in(schedule: &Schedule, due: Due) -> Alert {
    let labels: Labels = [("schedule".to_owned(), schedule.name.clone())].into();
    Alert {
        status: AlertStatus::Firing,
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: Labels::new(),
        starts_at: due.at,
        ends_at: None,
        generator_url: String::new(),
        external_url: String::new(),
    }
}

/// That a due time asks for it.
pub(super) fn trigger(schedule: &Schedule, due: Due, labels: &Labels) -> Trigger {
    Trigger {
        kind: TriggerKind::Schedule,
        alertname: None,
        fingerprint: None,
        starts_at: Some(due.at),
        generator_url: String::new(),
        external_url: String::new(),
        labels: labels.clone(),
        annotations: Labels::new(),
        by: format!("schedule:{}", schedule.name),
        reason: None,
        of: None,
    }
}
