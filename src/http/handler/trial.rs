//! `/api/explain` and `/api/simulate`: what would be decided, and why. Nothing is kept of it.

use super::decisions::told;
use super::webhook::refusal;
use super::{Services, unreadable};
use crate::admit::late;
use crate::engine::Upstream;
use crate::http::{ApiError, Reply, Request};
use crate::intake::{Element, Explained, Heard, decode, replayed};
use crate::model::{Decision, DecisionId, Labels, RunbookId, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The last moment that can be asked for. Ids and calendars end soon after.
const LAST: &str = "9998-12-31T23:59:59Z";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
}

pub(super) async fn explain(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&[])?;
    let Asked { labels, annotations } = request.json()?;
    if labels.get("alertname").is_none_or(|name| name.trim().is_empty()) {
        return Err(ApiError::invalid_field("labels.alertname", "an alert has a name: add it"));
    }
    let explained = services.intake.explain(&labels, &annotations).await.map_err(refusal)?;
    let Explained { mut decision, questions, heard } =
        explained.map_err(|why| ApiError::invalid_field("labels", format!("no webhook takes it: {why}")))?;
    let mut upstream = services.engine.upstream(&decision.labels, questions.as_ref()).await;
    late::settle(&mut decision, upstream.gates.take());
    let mut body = told(&decision);
    body["upstream"] = shown(&upstream, heard);
    Ok(Reply::json(&body))
}

fn shown(upstream: &Upstream, heard: Option<Heard>) -> Value {
    let alertmanager = match &upstream.alertmanager {
        Ok(known) => json!({
            "known": known.known,
            "silenced_by": known.silenced_by,
            "inhibited_by": known.inhibited_by,
            "receivers": known.receivers,
            "unanswered": known.unanswered,
            "containing": known.containing,
            "containing_more": known.more,
        }),
        Err(why) => json!({ "error": why }),
    };
    let prometheus = match &upstream.prometheus {
        Ok(rules) => json!(rules),
        Err(why) => json!({ "error": why }),
    };
    let webhook = json!({
        "last_seen": heard.map(|heard| heard.at),
        "firing": heard.is_some_and(|heard| heard.is_open),
    });
    json!({ "alertmanager": alertmanager, "prometheus": prometheus, "webhook": webhook })
}

/// Only to tell a past decision's id from a webhook's body.
#[derive(Deserialize)]
struct Names {
    decision_id: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    decision_id: String,
}

pub(super) async fn simulate(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["at", "config"])?;
    request.require_json()?;
    let now = services.clock.now();
    let at = moment(&request)?.unwrap_or(now);
    let by_candidate = match request.query.get("config") {
        None | Some("" | "current") => false,
        Some("candidate") => true,
        Some(_) => return Err(ApiError::invalid_field("config", "write current or candidate")),
    };
    let mut body = json!({ "at": at, "counted_at": at.max(now) });
    let names = serde_json::from_slice::<Names>(&request.body);
    let elements = if names.is_ok_and(|names| names.decision_id.is_some()) {
        let Past { decision_id } = request.json()?;
        let (element, replayed) = again(&services, &decision_id).await?;
        body["replayed"] = replayed;
        vec![element]
    } else {
        decode(&request.body, at).map_err(|error| refusal(error.into()))?.alerts
    };
    let elements = Arc::new(elements);
    let ask = |candidate| services.intake.simulate(Arc::clone(&elements), at, candidate);
    let now = ask(None).await.map_err(refusal)?;
    body["decisions"] = if by_candidate {
        let read = (services.candidate)().await.map_err(|why| ApiError::invalid_field("config", why))?;
        body["broken_runbooks"] = read.broken.iter().map(RunbookId::as_str).collect();
        let then = ask(Some(read.candidate)).await.map_err(refusal)?;
        now.iter().zip(&then).map(|(now, then)| compared(now, then)).collect()
    } else {
        now.iter().map(told).collect()
    };
    Ok(Reply::json(&body))
}

/// `at`, where it is given.
fn moment(request: &Request) -> Result<Option<Timestamp>, ApiError> {
    let at: Option<Timestamp> = request.query.filter("at")?;
    let last = LAST.parse().unwrap_or(Timestamp::MAX);
    match at {
        Some(at) if at < Timestamp::UNIX_EPOCH || at > last => {
            Err(ApiError::invalid_field("at", format!("write a time from 1970 to {LAST}")))
        }
        at => Ok(at),
    }
}

/// The decision `then`, which would be made in the place of `now`.
fn compared(now: &Decision, then: &Decision) -> Value {
    let essence = |decision: &Decision| {
        json!({
            "verdict": decision.verdict,
            "reason": decision.reason,
            "message": decision.message,
            "runbook": decision.runbook,
        })
    };
    // Not the sentence: it names times and versions, and an untouched runbook can have another.
    let is_same = (now.verdict, now.reason, &now.runbook) == (then.verdict, then.reason, &then.runbook)
        && now.plan == then.plan;
    let mut value = told(then);
    value["changed"] = (!is_same).into();
    value["now"] = essence(now);
    value
}

/// The alert of a past decision, and what is to be said of it.
async fn again(services: &Services, id: &str) -> Result<(Element, Value), ApiError> {
    let none = || ApiError::not_found("decision");
    let id = DecisionId::new(id).map_err(|_| none())?;
    let decision = services.records.decision(&id).await.map_err(|error| unreadable(&error))?;
    let decision = decision.ok_or_else(none)?;
    let element = replayed(&decision).ok_or_else(|| {
        let why =
            "that decision was on no alert that is kept: on a schedule's due time, or on an invalid element";
        ApiError::invalid_field("decision_id", why)
    })?;
    let missing = match &decision.alert {
        None => Some(
            "an earlier version kept its labels only: it is taken to have begun when it was decided, and had no annotations",
        ),
        Some(alert) if alert.annotations_cut => {
            Some("its annotations were too long to be kept, but for a short automation_runbook")
        }
        Some(_) => None,
    };
    let replayed =
        json!({ "decision_id": id, "at": decision.at, "complete": missing.is_none(), "missing": missing });
    Ok((element, replayed))
}
