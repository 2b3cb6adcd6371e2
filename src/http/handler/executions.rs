//! `/api/executions`: what ran and what runs; what people do to it, its events and its outputs are below.

mod control;
mod events;
mod output;

pub(super) use control::{control, stop};
pub(super) use events::events;
pub(super) use output::output;

use super::{Services, decisions::cursor, unreadable};
use crate::api::{self, ExecutionView};
use crate::http::{ApiError, Reply, Request};
use crate::journal::State;
use crate::model::ExecutionId;
use crate::store::records::{ExecutionFilter, Header};
use std::sync::Arc;

/// A journal longer than this is not shown; no runbook can make one.
const JOURNAL_MAX: usize = 100_000;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["status", "runbook", "alertname", "target", "since", "until", "limit", "cursor"])?;
    let filter = ExecutionFilter {
        status: query.filter("status")?,
        runbook: query.filter("runbook")?,
        alertname: query.get("alertname").map(str::to_owned),
        target: query.get("target").map(str::to_owned),
        since: query.filter("since")?,
        until: query.filter("until")?,
    };
    let cursor = cursor(&request)?;
    let page =
        services.records.executions(&filter, cursor, query.limit()?).await.map_err(|e| unreadable(&e))?;
    let items: Vec<_> = page.items.iter().map(api::summary).collect();
    Ok(Reply::json(&api::page("executions", &items, page.next_cursor.as_deref())))
}

fn not_found() -> ApiError {
    ApiError::not_found("execution")
}

async fn header(services: &Services, request: &Request) -> Result<Header, ApiError> {
    let id = ExecutionId::new(request.param("id")).map_err(|_| not_found())?;
    let header = services.records.header(id.ulid()).await.map_err(|error| unreadable(&error))?;
    header.filter(|header| header.id == id).ok_or_else(not_found)
}

async fn state(services: &Services, id: &ExecutionId) -> Result<State, ApiError> {
    let entries = services.records.journal(id, 0, JOURNAL_MAX).await.map_err(|error| unreadable(&error))?;
    State::replay(entries).map_err(|error| {
        tracing::error!(execution_id = %id, %error, "the journal cannot be read");
        ApiError::internal()
    })
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    let state = state(&services, &header.id).await?;
    let told = services.records.escalations_of(&header.id).await.map_err(|error| unreadable(&error))?;
    Ok(Reply::json(&ExecutionView::of(&state).with_escalations(&told)))
}
