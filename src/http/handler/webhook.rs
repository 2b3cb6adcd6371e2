//! `POST /api/sre/alerts/webhook`: alerts in, decisions out, and 200 only after all of it is durable.

use super::Services;
use crate::http::{ApiError, Reply, Request};
use crate::intake::{Announcement, IntakeError, MalformedBody};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What other senders are told to wait; Alertmanager uses its own backoff.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn accept(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.require_json()?;
    if services.is_draining() || !services.ready.load(Ordering::SeqCst) {
        return Err(ApiError::unavailable(
            "not_ready",
            "runbookd is starting or going; send it again",
            RETRY_AFTER,
        ));
    }
    let accepted = services.intake.accept(&request.body).await.map_err(refusal)?;
    services.last_webhook.store(accepted.received_at.as_millisecond(), Ordering::SeqCst);
    let started: Vec<_> = accepted.decisions.iter().filter_map(Announcement::started).collect();
    Ok(Reply::json(&json!({
        "status": "processed",
        "webhook_received_at": accepted.received_at,
        "alerts_processed": accepted.decisions.len(),
        "runbooks_triggered": started.len(),
        "execution_ids": started,
        "decisions": accepted.decisions,
    })))
}

/// Never 429: Alertmanager retries 5xx within seconds and everything else only at its next group interval.
pub(super) fn refusal(error: IntakeError) -> ApiError {
    match &error {
        IntakeError::Malformed(MalformedBody::TooManyAlerts(_)) | IntakeError::TrialTooLarge { .. } => {
            ApiError::too_large(error.to_string())
        }
        IntakeError::Malformed(_) => ApiError::malformed(error.to_string()),
        IntakeError::QueueFull { .. } => {
            tracing::warn!(%error, "webhook refused");
            ApiError::unavailable("queue_full", error.to_string(), RETRY_AFTER)
        }
        IntakeError::Store(cause) => {
            tracing::error!(%cause, "webhook refused: the store did not take it");
            ApiError::unavailable(
                "store_unavailable",
                "the alerts could not be made durable; send them again",
                RETRY_AFTER,
            )
        }
    }
}
