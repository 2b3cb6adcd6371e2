//! `/api/schedules`: what runs by the clock, when next, and what became of the last time.

use super::Services;
use crate::api;
use crate::http::{ApiError, Reply, Request};
use crate::intake::Scheduled;
use serde_json::Value;
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    // A cursor is the place behind which to go on.
    let behind = request.query.filter::<usize>("cursor")?.unwrap_or(0);
    let limit = request.query.limit()?;
    let all = services.intake.schedules();
    let shown = all.iter().skip(behind).take(limit);
    let items: Vec<Value> = shown
        .map(|Scheduled { schedule, record, next_at, problem }| {
            api::schedule(schedule, record.as_ref(), *next_at, problem.as_deref())
        })
        .collect();
    let next = behind.saturating_add(items.len());
    let cursor = (next < all.len() && !items.is_empty()).then(|| next.to_string());
    Ok(Reply::json(&api::page("schedules", &items, cursor.as_deref())))
}
