//! `/api/keys`: API keys, each shown once.

use super::{Services, decisions::cursor, not_durable, refuse, unreadable};
use crate::api;
use crate::auth::Principal;
use crate::http::{ApiError, Reply, Request};
use crate::identity::{KeyError, NewKey};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    roles: Vec<String>,
    expires_in: Option<String>,
}

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    let (cursor, limit) = (cursor(&request)?, request.query.limit()?);
    let page = services.identity.keys(who(&request)?, cursor, limit).await;
    let page = page.map_err(|error| refusal(&services, &request, error))?;
    let now = services.clock.now();
    let items: Vec<Value> = page.items.iter().map(|record| api::key(record, now)).collect();
    Ok(Reply::json(&api::page("keys", &items, page.next_cursor.as_deref())))
}

pub(super) async fn create(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let body: Body = request.json()?;
    let expires_in = body.expires_in.as_deref().map(humantime::parse_duration).transpose();
    let expires_in = expires_in.map_err(|error| {
        ApiError::invalid_field("expires_in", format!("{error}; write a duration such as \"30days\""))
    })?;
    let wish = NewKey { name: body.name, roles: body.roles, expires_in };
    let made = services.identity.make_key(who(&request)?, wish).await;
    let (record, key) = made.map_err(|error| refusal(&services, &request, error))?;
    tracing::warn!(key = record.id, name = record.name, user = record.owner, "API key made");
    let mut view = api::key(&record, services.clock.now());
    view["key"] = key.expose().into();
    Ok(Reply::json(&view).status(201))
}

pub(super) async fn revoke(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let revoked = services.identity.revoke_key(who(&request)?, request.param("id")).await;
    let record = revoked.map_err(|error| refusal(&services, &request, error))?;
    let (key, user) = (record.id.as_str(), request.user());
    tracing::warn!(key, name = record.name, owner = record.owner, user, "API key revoked");
    Ok(Reply::json(&api::key(&record, services.clock.now())))
}

/// The table lets nobody else here.
fn who(request: &Request) -> Result<&Principal, ApiError> {
    request.principal.as_ref().ok_or_else(ApiError::internal)
}

fn refusal(services: &Services, request: &Request, error: KeyError) -> ApiError {
    match &error {
        KeyError::Open => ApiError::conflict("open_server", error.to_string()),
        KeyError::ByKey | KeyError::NotYours(_) => refuse(services, request, error.to_string()),
        KeyError::Invalid { path, message } => ApiError::invalid_field(*path, message),
        KeyError::TooMany => ApiError::conflict("too_many_keys", error.to_string()),
        KeyError::Unknown => ApiError::not_found("key"),
        KeyError::NoRandomness(cause) => {
            tracing::error!(%cause, "no key could be made");
            ApiError::internal()
        }
        KeyError::Read(cause) => unreadable(cause),
        KeyError::Store(cause) => not_durable(cause),
    }
}
