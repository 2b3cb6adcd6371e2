//! `/api/decisions`: what was decided on every alert, and why.

use super::{Services, unreadable};
use crate::api;
use crate::http::{ApiError, Reply, Request};
use crate::model::DecisionId;
use crate::store::records::DecisionFilter;
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["reason", "verdict", "alertname", "runbook", "since", "limit", "cursor"])?;
    let filter = DecisionFilter {
        reason: query.filter("reason")?,
        verdict: query.filter("verdict")?,
        alertname: query.get("alertname").map(str::to_owned),
        runbook: query.filter("runbook")?,
        since: query.filter("since")?,
    };
    let cursor = cursor(&request)?;
    let page =
        services.records.decisions(&filter, cursor, query.limit()?).await.map_err(|e| unreadable(&e))?;
    Ok(Reply::json(&api::page("decisions", &page.items, page.next_cursor.as_deref())))
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Ok(id) = DecisionId::new(request.param("id")) else { return Err(ApiError::not_found("decision")) };
    let decision = services.records.decision(&id).await.map_err(|error| unreadable(&error))?;
    decision.map(|decision| Reply::json(&decision)).ok_or_else(|| ApiError::not_found("decision"))
}

/// A cursor is the ULID a page ended at.
pub(super) fn cursor(request: &Request) -> Result<Option<&str>, ApiError> {
    match request.query.get("cursor") {
        Some(text) if DecisionId::new(text).is_err() => {
            Err(ApiError::invalid_field("cursor", "this is no cursor: take next_cursor of an earlier answer"))
        }
        cursor => Ok(cursor),
    }
}
