//! `/api/automation`: the kill switch.

use super::{NOT_DURABLE, Services};
use crate::api;
use crate::engine::{OrderError, Posted};
use crate::guard::{Order, Scope, SwitchState};
use crate::http::{ApiError, Reply, Request};
use crate::model::{Matcher, RunbookId, Timestamp};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The most matchers of a scope.
const MAX_MATCHERS: usize = 20;
/// The longest of them, in bytes.
const MAX_MATCHER: usize = 200;

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&[])?;
    Ok(answer(&services, &[]))
}

fn answer(services: &Services, warnings: &[String]) -> Reply {
    let (board, unsaved) = (services.engine.board().read(), services.engine.unsaved_orders());
    let mut body = api::automation(&board, &unsaved, services.clock.now());
    if !warnings.is_empty() {
        body["warning"] = warnings.join("; ").into();
    }
    Reply::json(&body)
}

/// What whoever ordered it may not have meant.
fn warnings(services: &Services, order: &Order, posted: &Posted) -> Vec<String> {
    let unknown = match &order.scope {
        Scope::Runbook(id) if services.library().get(id).is_none() => {
            Some(format!("there is no runbook {id} now; the order counts for one that comes by that name"))
        }
        _ => None,
    };
    match posted {
        Posted::Durable if order.state > SwitchState::Running => unknown.into_iter().collect(),
        Posted::Durable => Vec::new(),
        Posted::InForce(why) => {
            unknown.into_iter().chain([format!("it counts now, but is not durable yet: {why}")]).collect()
        }
        Posted::Nothing => {
            let scope = match &order.scope {
                Scope::Global | Scope::File => "everything".to_owned(),
                scope => scope.key(),
            };
            vec![format!("nothing was taken back: no order of {scope} stands")]
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    state: String,
    #[serde(default)]
    scope: Option<BodyScope>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BodyScope {
    #[serde(default)]
    runbook: Option<String>,
    #[serde(default)]
    matchers: Option<Vec<String>>,
}

pub(super) async fn set(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let order = read(&request, services.clock.now())?;
    tracing::warn!(
        scope = order.scope.key(),
        state = order.state.as_str(),
        user = order.by,
        reason = order.reason,
        "kill switch ordered"
    );
    match services.engine.post(order.clone()).await {
        Ok(posted) => {
            if matches!(posted, Posted::InForce(_)) {
                // Its record is written with the order, as soon as the store takes it.
                services.metrics.audit_write_failed();
            }
            Ok(answer(&services, &warnings(&services, &order, &posted)))
        }
        Err(error @ OrderError::TooMany) => Err(ApiError::conflict("too_many_orders", error.to_string())),
        Err(error @ OrderError::NotDurable(_)) => {
            Err(ApiError::unavailable(NOT_DURABLE, error.to_string(), Duration::from_secs(5)))
        }
    }
}

fn read(request: &Request, now: Timestamp) -> Result<Order, ApiError> {
    let Body { state, scope, reason, expires_at } = request.json()?;
    let invalid = |path: &str, message: &str| ApiError::invalid_field(path, message);
    let state = SwitchState::parse(&state)
        .ok_or_else(|| invalid("state", "must be one of: running, draining, halted, aborted"))?;
    let reason = request.words(&reason);
    if reason.is_empty() {
        return Err(invalid("reason", "say why, for those who find it so at night"));
    }
    let expires_at = match expires_at {
        None => None,
        Some(text) => {
            let at: Timestamp = text
                .parse()
                .map_err(|_| invalid("expires_at", "must be a time such as 2026-08-01T10:00:00Z"))?;
            if at <= now {
                return Err(invalid("expires_at", "must lie in the future"));
            }
            (state > SwitchState::Running).then_some(at)
        }
    };
    let by = request.user().to_owned();
    Ok(Order { scope: scope_of(scope.unwrap_or_default())?, state, by, reason, at: now, expires_at })
}

fn scope_of(scope: BodyScope) -> Result<Scope, ApiError> {
    let invalid = |path: &str, message: String| ApiError::invalid_field(path, message);
    match (scope.runbook, scope.matchers) {
        (None, None) => Ok(Scope::Global),
        (Some(_), Some(_)) => Err(invalid("scope", "takes a runbook or matchers, not both".to_owned())),
        (Some(id), None) => {
            // It may be one that is not there any more, or not there yet.
            RunbookId::new(&id)
                .map(Scope::Runbook)
                .map_err(|error| invalid("scope.runbook", error.to_string()))
        }
        (None, Some(texts)) => {
            if texts.is_empty() || texts.len() > MAX_MATCHERS {
                // No matcher would match everything, which somebody may not have meant.
                return Err(invalid("scope.matchers", format!("takes 1 to {MAX_MATCHERS} matchers")));
            }
            let read = |text: &String| match text.len() > MAX_MATCHER {
                true => Err(invalid("scope.matchers", format!("a matcher is at most {MAX_MATCHER} bytes"))),
                false => Matcher::parse(text).map_err(|error| invalid("scope.matchers", error.to_string())),
            };
            texts.iter().map(read).collect::<Result<_, _>>().map(Scope::Matchers)
        }
    }
}
