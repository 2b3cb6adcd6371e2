//! `GET /api/runbooks/{id}/history`: what was done with a runbook, and who was not allowed to.

use super::{Services, decisions::cursor, runbooks, unreadable};
use crate::api;
use crate::http::{ApiError, Forbidden, Reply, Request};
use crate::identity::Refusal;
use crate::journal::Event;
use crate::model::{ExecutionId, RunbookId};
use crate::store::records::{ExecutionFilter, Header};
use std::sync::Arc;

/// Executions and refusals, newest first: both have ULIDs, whose order is that of time.
pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    let id = runbooks::id(&request)?;
    let (cursor, limit) = (cursor(&request)?, request.query.limit()?);
    let records = &services.records;
    if services.library().get(&id).is_none()
        && records.version(&id, 1).await.map_err(|error| unreadable(&error))?.is_none()
    {
        return Err(ApiError::not_found("runbook"));
    }
    let filter = ExecutionFilter { runbook: Some(id.clone()), ..ExecutionFilter::default() };
    let executions = records.executions(&filter, cursor, limit).await.map_err(|error| unreadable(&error))?;
    let refusals = records.refusals(&id, cursor, limit).await.map_err(|error| unreadable(&error))?;
    let mut entries = Vec::new();
    for header in &executions.items {
        let (by, reason) = asked(&services, header).await?;
        entries.push((header.id.ulid().to_owned(), api::executed(header, &by, reason.as_deref())));
    }
    entries.extend(refusals.items.iter().map(|record| (record.id.clone(), api::refused(record))));
    entries.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    // A page of one list may end before the other's does: nothing behind its end is known yet.
    let ends = [&executions.next_cursor, &refusals.next_cursor];
    let end = ends.into_iter().flatten().max().cloned();
    entries.retain(|(ulid, _)| end.as_ref().is_none_or(|end| ulid >= end));
    let more = end.is_some() || entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().map(|(ulid, _)| ulid.clone()).or(end).filter(|_| more);
    let items: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Reply::json(&api::page("history", &items, next.as_deref())))
}

/// Who asked for an execution, and why.
async fn asked(services: &Services, header: &Header) -> Result<(String, Option<String>), ApiError> {
    let first = services.records.journal(&header.id, 0, 1).await.map_err(|error| unreadable(&error))?;
    Ok(match first.into_iter().next().map(|entry| entry.event) {
        Some(Event::Created(created)) => (created.trigger.by, created.trigger.reason),
        _ => (String::new(), None),
    })
}

/// What a runbook's history notes of a refused request: nothing where it only reads, or is about no runbook.
pub fn refusal_of(refused: Forbidden<'_>) -> Option<Refusal> {
    if refused.reads {
        return None;
    }
    let (runbook, execution) = if refused.route.starts_with("/api/runbooks/{id}") {
        let stem = refused.about.strip_suffix(".toml").or_else(|| refused.about.strip_suffix(".md"));
        (RunbookId::new(stem.unwrap_or(refused.about)).ok()?, None)
    } else if refused.route.starts_with("/api/executions/{id}/") {
        let id = ExecutionId::new(refused.about).ok()?;
        (RunbookId::new(id.runbook()).ok()?, Some(id.to_string()))
    } else {
        return None;
    };
    let operation = match refused.route.rsplit('/').next().unwrap_or_default() {
        "validate" => "validate",
        "control" => "control",
        "stop" => "stop",
        _ => "execute",
    };
    Some(Refusal {
        runbook,
        operation,
        user: refused.who.subject.clone(),
        roles: refused.who.roles.clone(),
        client: refused.client,
        request_id: refused.request_id.to_owned(),
        execution,
        why: refused.why.to_owned(),
    })
}
