//! One element of a body, from episode to decision, within the request's unit of work.

use std::collections::BTreeMap;

use super::announcement::Announcement;
use super::decode::Element;
use super::standing::Standing;
use crate::admit::{self, Case, Denial, Request, Ruling};
use crate::guard::{BreakerKey, Freeze, KillSwitch, Order, Profiles, Settings, StormLimit};
use crate::journal::{Created, Trigger, TriggerKind};
use crate::model::{
    Alert, AlertStatus, DecidedAlert, Decision, DecisionId, Episode, EpisodeKey, ExecutionId, Reason,
    Timestamp, Verdict,
};
use crate::report;
use crate::routing::{self, Library, Route, Rules};
use crate::runbook::{Mode, Pinned};
use crate::store::Ids;
use crate::store::records::guards::{self, Book};
use crate::store::records::{self, Header, Rejected, Signal, breaker, key, outbox, read, to_bytes};
use crate::store::{CommitError, Txn};
use std::sync::Arc;
use std::time::Duration;

/// What a decision rests on, fixed for one request.
pub(super) struct Ground<'g> {
    pub(super) rules: &'g Rules,
    pub(super) library: &'g Library,
    pub(super) breakers: &'g Profiles,
    pub(super) switch: &'g KillSwitch,
    pub(super) guard: &'g Settings,
    pub(super) storm: Option<StormLimit>,
    pub(super) freezes: &'g [Freeze],
    pub(super) has_alertmanager: bool,
    pub(super) ids: &'g Ids,
    pub(super) now: Timestamp,
    /// When counts and breakers are looked at: `now`, but never before what they hold, as a trial of the past would.
    pub(super) counted: Timestamp,
    pub(super) episode_ttl: Duration,
    pub(super) queue_deadline: Duration,
    pub(super) instance: &'g str,
}

/// Decides one element and writes what follows from it; gives the decision as it is now, also where an earlier one
/// stands.
pub(super) fn rule(
    txn: &mut dyn Txn,
    ground: &Ground<'_>,
    element: &Element,
) -> Result<(Announcement, Decision), CommitError> {
    match element {
        Element::Alert(alert) => rule_alert(txn, ground, alert),
        Element::Invalid { why, raw, labels } => {
            let key = key::rejected(raw);
            let fresh = Decision {
                id: DecisionId::of(ground.ids.next(ground.now)),
                at: ground.now,
                verdict: Verdict::Skip,
                reason: Reason::InvalidAlert,
                message: format!("the element is not an alert that can be decided on: {why}"),
                alertname: labels.get("alertname").cloned().unwrap_or_default(),
                fingerprint: None,
                labels: labels.clone(),
                alert: None,
                runbook: None,
                execution_id: None,
                first: None,
                plan: Vec::new(),
                seen: 1,
                last_seen: ground.now,
                gates: Vec::new(),
            };
            let before: Option<Rejected> = read(txn, &key)?;
            let (decision, seen) = match before {
                Some(before) => (before.decision, before.seen + 1),
                None => (fresh.id.clone(), 1),
            };
            note(txn, &fresh, &decision, seen)?;
            txn.put(key, to_bytes(&Rejected { decision, seen })?);
            Ok((Announcement::of(&fresh, None), fresh))
        }
    }
}

fn rule_alert(
    txn: &mut dyn Txn,
    ground: &Ground<'_>,
    alert: &Alert,
) -> Result<(Announcement, Decision), CommitError> {
    let key = key::episode(&EpisodeKey::of(alert));
    let before: Option<Episode> = read(txn, &key)?;
    let route = routing::route(alert, ground.rules, ground.library);
    let plan = planned(ground, &route, trigger(alert), &BTreeMap::new());
    let standing = Standing::of(txn, ground, alert, before.as_ref(), &route, plan.as_ref())?;
    let case = Case {
        alert,
        occasion: None,
        episode: before.as_ref(),
        route: &route,
        plan: plan.as_ref(),
        order: covering(ground, alert, &route),
        quarantine: standing.quarantine.as_ref(),
        breaker: standing.breaker.as_ref().map(|record| &record.breaker),
        guards: standing.guards(ground),
        has_alertmanager: ground.has_alertmanager,
        now: ground.now,
        episode_ttl: ground.episode_ttl,
    };
    let ruling = admit::decide(&case);
    let open = case.open_episode();
    let late = before.as_ref().is_some_and(|before| is_late(alert, before));
    let started = to_start(&ruling, plan.as_ref());
    let had = before.as_ref().and_then(|episode| episode.execution.clone()).filter(|_| !late);
    let had = had.filter(|_| matches!(ruling.reason, Reason::Repeat | Reason::Resolved));
    let execution = started.as_ref().map(|created| created.id.clone()).or(had);
    let mut fresh = decision_of(ground, alert, &route, ruling, execution);
    let continued = open.is_some() || alert.status == AlertStatus::Resolved || fresh.reason == Reason::Stale;
    let (decision, seen) = match &before {
        Some(before) if continued && stands(txn, before, &fresh)? => {
            (before.decision.clone(), before.seen + 1)
        }
        _ => (fresh.id.clone(), 1),
    };
    if decision == fresh.id && !open.is_some_and(|open| open.would_have_run) {
        fresh.plan = standing.tell_shadow(txn, ground, &route, plan.as_ref(), fresh.reason)?;
    }
    let started = bound(started, &decision);
    note(txn, &fresh, &decision, seen)?;
    let over = late || fresh.reason == Reason::Stale;
    let lived =
        live_on(before.as_ref().map(|before| (before, over, open.is_some())), alert, ground.now, &fresh);
    let after = Episode {
        execution: started.as_ref().map(|created| created.id.clone()).or(lived.execution),
        decision,
        verdict: fresh.verdict,
        reason: fresh.reason,
        seen,
        would_have_run: lived.would_have_run || fresh.reason == Reason::Shadow,
        changes: standing.changes,
        ..lived
    };
    tell_ended(txn, before.as_ref(), &after, alert, ground.now)?;
    // Repeats of a standing denial are no news.
    if seen == 1 {
        tell_denied(txn, Some(alert), &route, plan.as_ref(), &fresh, fresh.message.clone())?;
    }
    txn.put(key, to_bytes(&after)?);
    start(txn, ground, &route, started, &standing.settings)?;
    Ok((Announcement::of(&fresh, Some(alert)), fresh))
}

/// The strictest order of the kill switch that covers what the alert selects.
fn covering<'g>(ground: &Ground<'g>, alert: &Alert, route: &Route) -> Option<&'g Order> {
    let runbook = route.pinned().map(|pinned| &pinned.runbook.id);
    ground.switch.strictest(runbook.as_slice(), Some(&alert.labels), ground.now)
}

/// Counts a denial that people are told of, in the commit that makes it; `told` is what they read of why.
pub(super) fn tell_denied(
    txn: &mut dyn Txn,
    alert: Option<&Alert>,
    route: &Route,
    plan: Option<&Result<Created, Denial>>,
    decision: &Decision,
    told: String,
) -> Result<(), CommitError> {
    let called = report::calls_for_people(decision.reason);
    // What only watches tells nobody.
    let tells = |pinned: &&Arc<Pinned>| called && pinned.runbook.mode != Mode::Shadow;
    let Some(pinned) = route.pinned().filter(tells) else { return Ok(()) };
    let target = plan.and_then(|plan| plan.as_ref().ok()?.target.as_ref());
    let denial = report::Denial {
        runbook: pinned.runbook.id.clone(),
        title: pinned.runbook.title.clone(),
        reason: decision.reason,
        message: told,
        target: target.map(ToString::to_string),
        alertname: alert.map(|alert| report::cut(alert.alertname(), 200)),
        source_url: alert.map(|alert| alert.generator_url.clone()).unwrap_or_default(),
        alert_url: alert
            .map(|alert| report::alert_url(&alert.external_url, &alert.labels))
            .unwrap_or_default(),
        to: pinned.runbook.escalate_to.clone(),
        execution: None,
        episode: alert.map(EpisodeKey::of),
        at: decision.at,
    };
    outbox::denied(txn, &denial)
}

/// The execution that the ruling lets begin.
pub(super) fn to_start(ruling: &Ruling, plan: Option<&Result<Created, Denial>>) -> Option<Created> {
    match (ruling.verdict, plan) {
        (Verdict::Execute | Verdict::Approve, Some(Ok(created))) => Some(created.clone()),
        _ => None,
    }
}

/// The execution, bound to the decision that makes it.
pub(super) fn bound(created: Option<Created>, decision: &DecisionId) -> Option<Created> {
    created.map(|created| Created { decision: Some(decision.clone()), ..created })
}

/// Makes the execution, if there is one to make, and counts it.
pub(super) fn start(
    txn: &mut dyn Txn,
    ground: &Ground<'_>,
    route: &Route,
    created: Option<Created>,
    settings: &Settings,
) -> Result<(), CommitError> {
    let Some(created) = created else { return Ok(()) };
    take_probe(txn, ground, route, &created)?;
    guards::started(txn, Book::Real, &created, settings, ground.counted)?;
    records::create(txn, created, ground.now)
}

/// An execution that starts while its breaker is half-open is the one its breaker waits for, from this commit on.
pub(super) fn take_probe(
    txn: &mut dyn Txn,
    ground: &Ground<'_>,
    route: &Route,
    created: &Created,
) -> Result<(), CommitError> {
    let name = route.pinned().map_or("default", |pinned| pinned.runbook.breaker.as_str());
    let key = BreakerKey::of_runbook(&created.runbook, created.target.as_ref());
    let profile = ground.breakers.or_default(name);
    // The gate has asked the same question of the same record.
    breaker::admit(txn, &key, profile, created.id.as_str(), ground.counted).map(drop)
}

/// The record of what was ruled.
pub(super) fn decision_of(
    ground: &Ground<'_>,
    alert: &Alert,
    route: &Route,
    ruling: Ruling,
    execution_id: Option<ExecutionId>,
) -> Decision {
    let Ruling { verdict, reason, message, gates } = ruling;
    Decision {
        id: DecisionId::of(ground.ids.next(ground.now)),
        at: ground.now,
        verdict,
        reason,
        message,
        alertname: alert.alertname().to_owned(),
        fingerprint: Some(alert.fingerprint),
        labels: alert.labels.clone(),
        alert: Some(DecidedAlert::of(alert, routing::ANNOTATION)),
        runbook: route.pinned().map(|pinned| pinned.runbook.id.clone()),
        execution_id,
        first: None,
        plan: Vec::new(),
        seen: 1,
        last_seen: ground.now,
        gates,
    }
}

/// The execution it would become, or why it cannot; nothing where no runbook was named.
pub(super) fn planned(
    ground: &Ground<'_>,
    route: &Route,
    trigger: Trigger,
    given: &BTreeMap<String, String>,
) -> Option<Result<Created, Denial>> {
    let pinned = route.pinned()?;
    let ulid = ground.ids.next(ground.now);
    Some(admit::plan(Request {
        pinned,
        trigger,
        given: given.clone(),
        env: Default::default(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, ulid),
        queue_deadline: ground.queue_deadline,
        // The low half of the ULID's random bits.
        seed: (ulid.random() & u128::from(u64::MAX)) as u64,
        instance: ground.instance,
        now: ground.now,
    }))
}

/// What becomes of the episode; `before` comes with whether this delivery is about an earlier one, and whether
/// it is still open.
fn live_on(
    before: Option<(&Episode, bool, bool)>,
    alert: &Alert,
    now: Timestamp,
    fresh: &Decision,
) -> Episode {
    match before {
        Some((before, true, _)) => before.clone(),
        Some((before, false, _)) if alert.status == AlertStatus::Resolved => ended(before, alert, now),
        Some((before, false, true)) => Episode { last_seen: now, ..before.clone() },
        Some((_, false, false)) | None => opened(alert, now, fresh),
    }
}

/// Whether the decision `before` points at says the same as `fresh`.
fn stands(txn: &mut dyn Txn, before: &Episode, fresh: &Decision) -> Result<bool, CommitError> {
    if (before.verdict, before.reason) != (fresh.verdict, fresh.reason) {
        return Ok(false);
    }
    let stored: Option<Decision> = read(txn, &key::decision(&before.decision))?;
    Ok(stored
        .is_some_and(|stored| stored.runbook == fresh.runbook && stored.execution_id == fresh.execution_id))
}

/// Stores the decision, or counts it where the standing one says the same.
pub(super) fn note(
    txn: &mut dyn Txn,
    fresh: &Decision,
    standing: &DecisionId,
    seen: u64,
) -> Result<(), CommitError> {
    let key = key::decision(standing);
    if *standing == fresh.id {
        txn.put(key, to_bytes(fresh)?);
        return Ok(());
    }
    if let Some(mut stored) = read::<Decision>(txn, &key)? {
        stored.seen = seen;
        stored.last_seen = fresh.at;
        txn.put(key, to_bytes(&stored)?);
    }
    Ok(())
}

/// Whether `alert` tells the end of an episode before `before`, as another peer does that was slow: it began
/// before this one, and it was over when this one began. Taken for this one's end, it would let the next repeat
/// start a second execution.
pub(super) fn is_late(alert: &Alert, before: &Episode) -> bool {
    alert.status == AlertStatus::Resolved
        && before.resolved_at.is_none()
        && alert.starts_at < before.starts_at
        && alert.ends_at.is_some_and(|ended| ended <= before.starts_at)
}

/// When a resolved alert ended. Never later than now, or a sender's clock would make the next firings stale.
fn end_of(alert: &Alert, now: Timestamp) -> Timestamp {
    alert.ends_at.unwrap_or(now).min(now)
}

/// `before`, ended by a resolved `alert`, or by one more of them.
fn ended(before: &Episode, alert: &Alert, now: Timestamp) -> Episode {
    let end = end_of(alert, now);
    let (starts_at, resolved_at) = match before.resolved_at {
        // The end of an episode of which nothing else was delivered: its firing, if it comes, is late too.
        Some(earlier) if end > earlier => (before.starts_at.max(alert.starts_at), end),
        Some(earlier) => (before.starts_at, earlier),
        None => (before.starts_at, end),
    };
    Episode { starts_at, resolved_at: Some(resolved_at), last_seen: now, ..before.clone() }
}

/// A new episode; one that is over at once where the first delivery says so.
fn opened(alert: &Alert, now: Timestamp, decision: &Decision) -> Episode {
    Episode {
        starts_at: alert.starts_at,
        opened_at: now,
        last_seen: now,
        resolved_at: (alert.status == AlertStatus::Resolved).then(|| end_of(alert, now)),
        execution: None,
        decision: decision.id.clone(),
        verdict: decision.verdict,
        reason: decision.reason,
        seen: 1,
        changes: Vec::new(),
        would_have_run: false,
    }
}

/// The execution of an episode that has just ended.
fn ended_execution<'e>(before: Option<&'e Episode>, after: &Episode) -> Option<&'e ExecutionId> {
    let before = before?;
    let ended_now = before.resolved_at.is_none() && after.resolved_at.is_some();
    before.execution.as_ref().filter(|_| ended_now)
}

/// Where an episode is over: its execution hears of it, and so does what was told of its denials.
fn tell_ended(
    txn: &mut dyn Txn,
    before: Option<&Episode>,
    after: &Episode,
    alert: &Alert,
    now: Timestamp,
) -> Result<(), CommitError> {
    if let Some(id) = ended_execution(before, after) {
        tell_resolved(txn, id, now)?;
    }
    match after.resolved_at {
        Some(_) => outbox::ended(txn, &EpisodeKey::of(alert)),
        None => Ok(()),
    }
}

/// Leaves word for a live execution that its alert resolved; the engine takes it in its own commit. Of one that is
/// over, nobody else need be told.
fn tell_resolved(txn: &mut dyn Txn, id: &ExecutionId, now: Timestamp) -> Result<(), CommitError> {
    let header: Option<Header> = read(txn, &key::header(id.ulid()))?;
    if header.is_some_and(|header| !header.status.is_final()) {
        txn.put(key::resolved(id.ulid()), to_bytes(&Signal::Resolved)?);
        return Ok(());
    }
    outbox::resolved(txn, id, now)
}

pub(super) fn trigger(alert: &Alert) -> Trigger {
    Trigger {
        kind: TriggerKind::Alert,
        alertname: Some(alert.alertname().to_owned()),
        fingerprint: Some(alert.fingerprint),
        starts_at: Some(alert.starts_at),
        generator_url: alert.generator_url.clone(),
        external_url: alert.external_url.clone(),
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        by: format!("alert:{}", alert.alertname()),
        reason: None,
        of: None,
    }
}
