//! `/api/audit`: who changed what, and whether the log is whole.

use super::{Services, unreadable};
use crate::api;
use crate::http::{ApiError, Reply, Request};
use crate::store::records::AuditFilter;
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["user", "action", "target", "since", "limit", "cursor"])?;
    let text = |name| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let filter = AuditFilter {
        user: text("user"),
        action: text("action"),
        target: text("target"),
        since: query.filter("since")?,
    };
    // A cursor is the number of the record a page ended at.
    let cursor = query.get("cursor");
    if cursor.is_some_and(|text| text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit())) {
        let message = "this is no cursor: take next_cursor of an earlier answer";
        return Err(ApiError::invalid_field("cursor", message));
    }
    let page = services.records.audit(&filter, cursor, query.limit()?).await.map_err(|e| unreadable(&e))?;
    Ok(Reply::json(&api::page("audit", &page.items, page.next_cursor.as_deref())))
}

pub(super) async fn verify(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&[])?;
    let check = services.records.verify_audit().await.map_err(|error| unreadable(&error))?;
    if let Some(broken) = &check.broken {
        tracing::error!(%broken, "the audit log is broken");
    }
    Ok(Reply::json(&api::audit_check(&check)))
}
