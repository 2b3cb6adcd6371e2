//! `/api/decisions`: what was decided on every alert, and why.

use super::{Services, unreadable};
use crate::admit;
use crate::api;
use crate::http::{ApiError, Reply, Request};
use crate::model::{Decision, DecisionId};
use crate::store::records::DecisionFilter;
use serde_json::Value;
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
    let items: Vec<Value> = page.items.iter().map(told).collect();
    Ok(Reply::json(&api::page("decisions", &items, page.next_cursor.as_deref())))
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Ok(id) = DecisionId::new(request.param("id")) else { return Err(ApiError::not_found("decision")) };
    let decision = services.records.decision(&id).await.map_err(|error| unreadable(&error))?;
    decision.map(|decision| Reply::json(&told(&decision))).ok_or_else(|| ApiError::not_found("decision"))
}

/// A decision, and what would have to change for it to be another one: of the whole, and of each gate that denies.
pub(super) fn told(decision: &Decision) -> Value {
    let mut value = serde_json::to_value(decision).unwrap_or_default();
    if let Some(fix) = admit::fix_of(decision) {
        value["fix"] = fix.into();
    }
    for (at, report) in decision.gates.iter().enumerate() {
        if let Some(fix) = admit::fix(report, decision) {
            value["gates"][at]["fix"] = fix.into();
        }
    }
    value
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
