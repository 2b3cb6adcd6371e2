//! `/api/breakers` and `/api/quarantine`: what automation keeps away from, and the people who decide otherwise.

use super::{Services, not_durable, unreadable};
use crate::api;
use crate::guard::{BreakerKey, BreakerRecord};
use crate::http::{ApiError, Reply, Request};
use crate::model::{RunbookId, Target};
use crate::routing::{Library, Listed};
use crate::store::records::Person;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

pub(super) async fn breakers(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["state", "limit", "cursor"])?;
    let (state, cursor) = (query.filter("state")?, cursor(&request)?);
    let page =
        services.records.breakers(state, cursor, query.limit()?).await.map_err(|error| unreadable(&error))?;
    let items: Vec<Value> = page.items.iter().map(api::breaker).collect();
    Ok(Reply::json(&api::page("breakers", &items, page.next_cursor.as_deref())))
}

pub(super) async fn reset(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let (key, person) = (request.param("key"), person(&request, false)?);
    let now = services.clock.now();
    let record = services.records.reset_breaker(key, person, now).await.map_err(|e| not_durable(&e))?;
    match record {
        Some(record) => {
            tracing::warn!(breaker = key, user = request.user(), "breaker reset");
            Ok(Reply::json(&api::breaker(&record)))
        }
        // Closed and without a failure it is not kept; then it is as the person wants it.
        None => {
            let record = healthy(&services, key).ok_or_else(|| ApiError::not_found("breaker"))?;
            Ok(Reply::json(&api::breaker(&record)))
        }
    }
}

pub(super) async fn open(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let (key, person) = (request.param("key"), person(&request, false)?);
    let (fresh, now) = (healthy(&services, key), services.clock.now());
    let record =
        services.records.open_breaker(key, fresh, person, now).await.map_err(|error| not_durable(&error))?;
    let record = record.ok_or_else(|| ApiError::not_found("breaker"))?;
    tracing::warn!(breaker = key, user = request.user(), "breaker opened until it is reset");
    Ok(Reply::json(&api::breaker(&record)))
}

/// The breaker `text` of which nothing is kept, where a runbook that is live would use it. The keys that steps make of
/// what alerts say are known only once something is kept of them.
fn healthy(services: &Services, text: &str) -> Option<BreakerRecord> {
    let (library, options) = (services.library(), services.intake.options());
    let (key, runbook) = match text.strip_prefix("runbook:") {
        Some(rest) => {
            let (id, target) = rest.split_once(':').map_or((rest, None), |(id, target)| (id, Some(target)));
            let target = target.map(Target::new).transpose().ok()?;
            let Some(Listed::Good(pinned)) = library.get(&RunbookId::new(id).ok()?) else { return None };
            let runbook = &pinned.runbook;
            // With a target, there is one for each of them and none for all.
            let is_used = runbook.target.is_some() == target.is_some();
            is_used.then(|| (BreakerKey::of_runbook(&runbook.id, target.as_ref()), runbook.id.clone()))?
        }
        None => {
            let key = literal_keys(&library).into_iter().find(|key| key.as_str() == text)?;
            let runbook = key.runbook()?.clone();
            (key, runbook)
        }
    };
    let Some(Listed::Good(pinned)) = library.get(&runbook) else { return None };
    Some(BreakerRecord::blank(&key, options.breakers.or_default(&pinned.runbook.breaker)))
}

/// The keys that stand literally in runbooks, or belong to one without a target: as many as people wrote.
pub(super) fn literal_keys(library: &Library) -> Vec<BreakerKey> {
    let of_runbook = |runbook: &crate::runbook::Runbook| {
        let own = runbook.target.is_none().then(|| BreakerKey::of_runbook(&runbook.id, None));
        let named = runbook.steps.iter().filter_map(|step| step.breaker.as_ref());
        let named = named.filter(|template| template.is_literal());
        let named = named.filter_map(|text| BreakerKey::of_step(&runbook.id, text.source(), false).ok());
        own.into_iter().chain(named).collect::<Vec<_>>()
    };
    library.good().flat_map(|pinned| of_runbook(&pinned.runbook)).collect()
}

pub(super) async fn quarantined(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    let (cursor, limit) = (cursor(&request)?, request.query.limit()?);
    let page = services.records.quarantined(cursor, limit).await.map_err(|error| unreadable(&error))?;
    let items: Vec<Value> = page.items.iter().map(api::quarantine).collect();
    Ok(Reply::json(&api::page("quarantine", &items, page.next_cursor.as_deref())))
}

pub(super) async fn clear(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Person { user, reason } = person(&request, true)?;
    let none = || ApiError::not_found("a quarantine of this target");
    let target = Target::new(request.param("target")).map_err(|_| none())?;
    let now = services.clock.now();
    let cleared = services.records.clear_quarantine(&target, &user, &reason, now).await;
    let cleared = cleared.map_err(|error| not_durable(&error))?.ok_or_else(none)?;
    tracing::warn!(cleared = target.as_str(), user, reason, "quarantine cleared");
    Ok(Reply::json(&api::quarantine(&cleared)))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    reason: String,
}

/// Who asks, and why.
pub(super) fn person(request: &Request, needs_reason: bool) -> Result<Person, ApiError> {
    let body: Body = if request.body.is_empty() { Body::default() } else { request.json()? };
    let reason = request.words(&body.reason);
    if needs_reason && reason.is_empty() {
        return Err(ApiError::invalid_field("reason", "say why, for the audit log"));
    }
    Ok(Person { user: request.user().to_owned(), reason })
}

/// A cursor of these lists is a hash.
fn cursor(request: &Request) -> Result<Option<&str>, ApiError> {
    let is_hash = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match request.query.get("cursor") {
        Some(text) if !is_hash(text) => {
            Err(ApiError::invalid_field("cursor", "this is no cursor: take next_cursor of an earlier answer"))
        }
        cursor => Ok(cursor),
    }
}
