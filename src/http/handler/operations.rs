//! Health, readiness, metrics, config and the integration's status: what operators and probes ask.

use super::{Services, guard, not_durable, unreadable};
use crate::api::{self, IntegrationStatus, tally};
use crate::guard::{BreakerRecord, BreakerState, Order, SwitchState};
use crate::http::{ApiError, Reply, Request};
use crate::journal::AuditEntry;
use crate::model::{Timestamp, between};
use crate::routing::{Library, Rules};
use crate::telemetry::Gauges;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The most breakers and quarantined targets that the status shows.
const SHOWN: usize = 500;
/// The most breakers and quarantined targets that a scrape looks at, and the most breakers with a series of their own.
const COUNTED: usize = 10_000;
const SERIES: usize = 1000;

/// Whether alerts are taken and executions driven; why not, in a sentence.
fn trouble(services: &Services) -> Option<String> {
    let health = services.records.store().health();
    if health.failed {
        return Some("the store failed for good; runbookd must be started again".to_owned());
    }
    if !health.writer_alive {
        return Some("the store's writer does not answer".to_owned());
    }
    None
}

/// Which alert names select which runbook, as far as names alone say so.
fn mappings(library: &Library, rules: &Rules) -> BTreeMap<String, String> {
    let mut mappings: BTreeMap<String, String> =
        library.alerts().map(|(alert, runbook)| (alert.to_owned(), runbook.to_string())).collect();
    for mapping in rules.mappings.iter().rev() {
        for alert in mapping.matchers.iter().filter_map(|matcher| matcher.demands("alertname")) {
            mappings.insert(alert.to_owned(), mapping.runbook.to_string());
        }
    }
    mappings
}

pub(super) async fn integration_status(services: Arc<Services>, _: Request) -> Result<Reply, ApiError> {
    let trouble = trouble(&services);
    let (board, now) = (services.engine.board().read(), services.clock.now());
    let order = board.strictest(&[], None, now);
    let status = match (&trouble, order.map(|order| order.state)) {
        (Some(_), _) => "error",
        (None, Some(SwitchState::Halted | SwitchState::Aborted)) => "halted",
        (None, Some(SwitchState::Draining)) => "draining",
        (None, _) if services.is_draining() => "draining",
        (None, _) => "enabled",
    };
    let trouble = trouble.or_else(|| order.map(Order::sentence));
    let (library, health) = (services.library(), services.records.store().health());
    let (active_executions, queued_executions, awaiting_approval) =
        tally(&services.engine.counts().by_status);
    let options = services.intake.options();
    let broken = services.broken();
    let broken = broken.iter().map(|(id, problems)| {
        json!({ "id": id, "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>() })
    });
    let last = services.last_webhook.load(Ordering::SeqCst);
    let open = services.records.tripped(SHOWN).await.map_err(|error| unreadable(&error))?;
    let quarantined = services.records.quarantined(None, SHOWN).await.map_err(|error| unreadable(&error))?;
    let storm = services.records.storm(now).await.map_err(|error| unreadable(&error))?;
    Ok(Reply::json(&IntegrationStatus {
        status,
        reason: trouble,
        available_runbooks: library.good().count(),
        active_executions,
        queued_executions,
        awaiting_approval,
        runbook_alert_mappings: mappings(&library, &options.rules),
        last_updated: now.to_string(),
        open_breakers: open.iter().map(api::breaker).collect(),
        quarantined: quarantined.items.iter().map(api::quarantine).collect(),
        storm: options.storm.map_or(Value::Null, |limit| api::storm(limit, &storm, now)),
        freezes: api::freezes(&options.freezes, now),
        flapping_alerts: services.intake.held_as_flapping(),
        orders: api::orders(&board, &services.engine.unsaved_orders(), now),
        broken_runbooks: broken.collect(),
        waiting_escalations: services.records.untold().await.map_err(|error| unreadable(&error))?,
        last_webhook_at: Timestamp::from_millisecond(last).ok().filter(|_| last > 0).map(|at| at.to_string()),
        version: env!("CARGO_PKG_VERSION"),
        instance: services.instance.clone(),
        containment: services.runner.children().containment(),
        store: json!({
            "kind": "sled",
            "size_bytes": health.size_bytes,
            "free_bytes": health.free_bytes,
            "writer_alive": health.writer_alive,
            "failed": health.failed,
        }),
    }))
}

pub(super) async fn config(services: Arc<Services>, _: Request) -> Result<Reply, ApiError> {
    let config = services.config.read().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Reply::json(&json!({ "config": config })))
}

pub(super) async fn health(services: Arc<Services>, _: Request) -> Result<Reply, ApiError> {
    Ok(match trouble(&services) {
        None => Reply::json(&json!({ "status": "healthy" })),
        Some(reason) => Reply::json(&json!({ "status": "unhealthy", "reason": reason })).status(503),
    })
}

pub(super) async fn healthy(_: Arc<Services>, _: Request) -> Result<Reply, ApiError> {
    Ok(Reply::text("runbookd is healthy.\n"))
}

pub(super) async fn ready(services: Arc<Services>, _: Request) -> Result<Reply, ApiError> {
    let starting = !services.ready.load(Ordering::SeqCst);
    let why = match trouble(&services) {
        Some(trouble) => trouble,
        None if services.is_draining() => "runbookd is going.".to_owned(),
        None if starting => "runbookd is recovering.".to_owned(),
        None => return Ok(Reply::text("runbookd is ready.\n")),
    };
    Ok(Reply::text(format!("{why}\n")).status(503))
}

pub(super) async fn metrics(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let (counts, now) = (services.engine.counts(), services.clock.now());
    let gauges = Gauges {
        executions_active: counts.by_status.iter().map(|(status, count)| (*status, *count)).collect(),
        queue_length: tally(&counts.by_status).1,
        queue_oldest_age: counts.oldest_queued.map_or(Duration::ZERO, |since| between(since, now)),
        approvals_pending: tally(&counts.by_status).2,
        store_size_bytes: Some(services.records.store().health().size_bytes),
        kill_switch: kill_switch(&services),
        storm_active: storm_active(&services).await,
        freezes: freezes(&services),
        flapping_alerts: services.intake.held_as_flapping() as u64,
        quarantined_targets: services.records.count_quarantined(COUNTED).await.ok().map(|count| count as u64),
        ..breaker_gauges(&services).await
    };
    let accept = request.headers.get("accept").and_then(|value| value.to_str().ok());
    let (content_type, text) = services.metrics.encode(accept, &gauges);
    Ok(Reply::bytes(content_type, text))
}

/// How many orders stand, by the sort of their scope.
fn kill_switch(services: &Services) -> Vec<(&'static str, u64)> {
    let (board, now) = (services.engine.board().read(), services.clock.now());
    let count = |kind: &str| {
        let standing = board.orders().filter(|order| order.scope.kind() == kind && order.stands(now));
        standing.count() as u64
    };
    ["global", "runbook", "matchers"].map(|kind| (kind, count(kind))).to_vec()
}

/// The freezes of the config, and whether each is in force.
fn freezes(services: &Services) -> Vec<(String, bool)> {
    let (options, now) = (services.intake.options(), services.clock.now());
    let freezes = options.freezes.iter();
    freezes.map(|freeze| (freeze.name.clone(), freeze.ends(now).is_some())).collect()
}

/// Whether there is a storm; unknown while the store cannot be read.
async fn storm_active(services: &Services) -> Option<bool> {
    let Some(limit) = services.intake.options().storm else { return Some(false) };
    let now = services.clock.now();
    let storm = services.records.storm(now).await.ok()?;
    Some(storm.raging(limit, now).is_some())
}

/// The families about breakers; empty while the store cannot be read.
async fn breaker_gauges(services: &Services) -> Gauges {
    let Ok(tripped) = services.records.tripped(COUNTED).await else { return Gauges::default() };
    let library = services.library();
    let literal = guard::literal_keys(&library);
    let mut states: BTreeMap<String, BreakerState> =
        literal.iter().take(SERIES).map(|key| (key.as_str().to_owned(), BreakerState::Closed)).collect();
    let mut counts = BTreeMap::new();
    for pinned in library.good() {
        for state in [BreakerState::Open, BreakerState::HalfOpen] {
            counts.insert((pinned.runbook.id.clone(), state.as_str()), 0_u64);
        }
    }
    for BreakerRecord { key, runbook, templated, breaker, .. } in tripped {
        if !templated && (states.len() < SERIES || states.contains_key(&key)) {
            states.insert(key, breaker.state());
        }
        if let Some(runbook) = runbook {
            *counts.entry((runbook, breaker.state().as_str())).or_default() += 1;
        }
    }
    let number = |state| match state {
        BreakerState::Closed => 1,
        BreakerState::Open => 2,
        BreakerState::HalfOpen => 3,
    };
    Gauges {
        breaker_states: states.into_iter().map(|(key, state)| (key, number(state))).collect(),
        breakers: counts.into_iter().map(|((runbook, state), count)| (runbook, state, count)).collect(),
        ..Gauges::default()
    }
}

pub(super) async fn reload(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Some(reload) = &services.reload else {
        return Err(ApiError::forbidden(
            "lifecycle is off: start runbookd with --web.enable-lifecycle, or send SIGHUP",
        ));
    };
    let entry = AuditEntry {
        at: services.clock.now(),
        user: request.user().to_owned(),
        action: "config.reload",
        target: "config".to_owned(),
        reason: String::new(),
        detail: BTreeMap::new(),
    };
    services.records.note(entry).await.map_err(|error| not_durable(&error))?;
    reload.notify_one();
    Ok(Reply::json(&Value::Object([("status".to_owned(), "reloading".into())].into_iter().collect())))
}
