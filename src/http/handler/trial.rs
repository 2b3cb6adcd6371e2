//! `/api/explain` and `/api/simulate`: what would be decided, and why. Nothing is kept of it.

use super::webhook::refusal;
use super::{Services, unreadable};
use crate::engine::Upstream;
use crate::http::{ApiError, Reply, Request};
use crate::intake::Candidate;
use crate::model::{Decision, DecisionId, Labels, Timestamp};
use crate::routing::ANNOTATION;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
}

pub(super) async fn explain(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&[])?;
    let Explained { labels, annotations } = request.json()?;
    if labels.get("alertname").is_none_or(|name| name.trim().is_empty()) {
        return Err(ApiError::invalid_field("labels.alertname", "an alert has a name: add it"));
    }
    let upstream = services.engine.upstream(&labels).await;
    let decision = services.intake.explain(labels, annotations).await.map_err(refusal)?;
    let decision = decision.ok_or_else(ApiError::internal)?;
    let mut body = serde_json::to_value(&decision).map_err(|_| ApiError::internal())?;
    body["upstream"] = shown(&upstream);
    Ok(Reply::json(&body))
}

fn shown(upstream: &Upstream) -> Value {
    let alertmanager = match &upstream.alertmanager {
        Ok(known) => json!({
            "known": known.known,
            "silenced_by": known.silenced_by,
            "inhibited_by": known.inhibited_by,
            "receivers": known.receivers,
            "unanswered": known.unanswered,
        }),
        Err(why) => json!({ "error": why }),
    };
    let prometheus = match &upstream.prometheus {
        Ok(states) => json!({ "states": states }),
        Err(why) => json!({ "error": why }),
    };
    json!({ "alertmanager": alertmanager, "prometheus": prometheus })
}

#[derive(Deserialize)]
struct Past {
    decision_id: String,
}

pub(super) async fn simulate(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["at", "config"])?;
    let at: Option<Timestamp> = request.query.filter("at")?;
    let candidate = match request.query.get("config") {
        None | Some("" | "current") => None,
        Some("candidate") => Some(candidate(&services).await?),
        Some(_) => return Err(ApiError::invalid_field("config", "write current or candidate")),
    };
    let body = match serde_json::from_slice::<Past>(&request.body) {
        Ok(past) => again(&services, &past.decision_id).await?,
        Err(_) => request.body.to_vec(),
    };
    let decisions = services.intake.simulate(&body, at, candidate).await.map_err(refusal)?;
    Ok(Reply::json(&json!({ "decisions": decisions })))
}

/// What a reload would put in force.
async fn candidate(services: &Arc<Services>) -> Result<Candidate, ApiError> {
    let (services, current) = (Arc::clone(services), services.library());
    let read = tokio::task::spawn_blocking(move || (services.candidate)(&current)).await;
    read.map_err(|_| ApiError::internal())?.map_err(|why| ApiError::invalid_field("config", why))
}

/// The body that would bring about the alert of a past decision. What annotations it had is not kept, but for the one
/// that may have chosen the runbook.
async fn again(services: &Services, id: &str) -> Result<Vec<u8>, ApiError> {
    let none = || ApiError::not_found("decision");
    let id = DecisionId::new(id).map_err(|_| none())?;
    let decision = services.records.decision(&id).await.map_err(|error| unreadable(&error))?;
    let Decision { labels, runbook, at, .. } = decision.ok_or_else(none)?;
    let annotations: Labels = runbook.map(|id| (ANNOTATION.to_owned(), id.to_string())).into_iter().collect();
    let alert = json!({ "status": "firing", "labels": labels, "annotations": annotations, "startsAt": at });
    Ok(json!({ "version": "4", "alerts": [alert] }).to_string().into_bytes())
}
