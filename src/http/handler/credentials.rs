//! `/api/credentials`: secrets that people store. They go in and never come out.

use super::guard::person;
use super::{Services, not_durable, unreadable};
use crate::api;
use crate::http::{ApiError, FieldError, Reply, Request};
use crate::model::{Secret, is_word};
use crate::secret::Redactor;
use crate::store::records::Person;
use crate::store::records::credential::{CredentialKind, CredentialRecord, MAX_CREDENTIALS};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The longest secret, in bytes.
const MAX_SECRET: usize = 32 << 10;
/// Nothing changes by itself where the key is missing.
const NO_HURRY: Duration = Duration::from_secs(3600);

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    // A cursor is the place behind which to go on.
    let behind = request.query.filter::<usize>("cursor")?.unwrap_or(0);
    let limit = request.query.limit()?;
    let all = services.records.credentials().await.map_err(|error| unreadable(&error))?;
    let items: Vec<Value> =
        all.iter().skip(behind).take(limit).map(|record| shown(&services, record)).collect();
    let next = behind.saturating_add(items.len());
    let cursor = (next < all.len() && !items.is_empty()).then(|| next.to_string());
    Ok(Reply::json(&api::page("credentials", &items, cursor.as_deref())))
}

fn shown(services: &Services, record: &CredentialRecord) -> Value {
    api::credential(record, services.secrets.is_open(&record.name))
}

/// Values of any type, so that no message about a type repeats one.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    name: Value,
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    secret: Value,
    #[serde(default)]
    reason: Value,
}

struct New {
    name: String,
    kind: CredentialKind,
    secret: Secret,
    reason: String,
}

pub(super) async fn create(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let New { name, kind, secret, reason } = read(&request)?;
    if services.secrets.is_of_config(&name) {
        let message = format!("the config has a section [secrets.{name}], which counts");
        return Err(ApiError::conflict("in_config", message));
    }
    // Held to the end, so that what is in force is what was stored last; and for the key not to change meanwhile.
    let vault = services.vault.lock().await;
    if !vault.has_key() {
        let message = "credentials cannot be stored: set [vault] key in the config";
        return Err(ApiError::unavailable("vault_not_configured", message, NO_HURRY));
    }
    let known = services.records.credentials().await.map_err(|error| unreadable(&error))?;
    if known.len() >= MAX_CREDENTIALS && !known.iter().any(|record| record.name == name) {
        let message = format!("{MAX_CREDENTIALS} credentials are stored already: delete some");
        return Err(ApiError::conflict("too_many_credentials", message));
    }
    let now = services.clock.now();
    let token = vault.seal(&secret, now).map_err(|error| {
        tracing::error!(%error, "a credential was not stored");
        ApiError::internal()
    })?;
    let (by, id) = (request.user().to_owned(), CredentialRecord::id_of(&name));
    let record = CredentialRecord { id, name, kind, token, by, created_at: now, updated_at: now };
    let put = services.records.put_credential(record, &reason).await;
    let (record, replaced) = put.map_err(|error| not_durable(&error))?;
    services.secrets.put_stored(&record.name, Some(secret));
    tracing::warn!(credential = record.name, user = record.by, reason, "credential set");
    Ok(Reply::json(&shown(&services, &record)).status(if replaced { 200 } else { 201 }))
}

pub(super) async fn delete(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Person { user, reason } = person(&request, false)?;
    let _alone = services.vault.lock().await;
    let now = services.clock.now();
    let deleted = services.records.delete_credential(request.param("id"), &user, &reason, now).await;
    let deleted = deleted.map_err(|error| not_durable(&error))?;
    let record = deleted.ok_or_else(|| ApiError::not_found("this credential"))?;
    services.secrets.put_stored(&record.name, None);
    tracing::warn!(credential = record.name, user, reason, "credential deleted");
    Ok(Reply::json(&shown(&services, &record)))
}

/// What is wanted, with everything wrong in it named at once, and nothing of the secret.
fn read(request: &Request) -> Result<New, ApiError> {
    let body: Body = request.json()?;
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: &str| {
        errors.push(FieldError { path: path.to_owned(), message: message.to_owned() });
    };
    let name = body.name.as_str().filter(|name| is_word(name));
    if name.is_none() {
        wrong("name", "write 1 to 64 of A-Z a-z 0-9 _ -");
    }
    let kind = body.kind.as_str().and_then(CredentialKind::parse);
    if kind.is_none() {
        wrong("type", "must be one of: ssh, api");
    }
    let secret = body.secret.as_str().map(Secret::new);
    let why = match secret.as_ref().map(Secret::expose) {
        None => Some("write the secret as a text"),
        Some(text) if text.trim().is_empty() => Some("is empty"),
        Some(text) if text.len() > MAX_SECRET => Some("is longer than 32 KiB"),
        Some(text) if text.contains('\0') => Some("holds a NUL byte"),
        Some(text) if kind == Some(CredentialKind::Ssh) && !is_private_key(text) => {
            Some("is no private key: send the whole file, from -----BEGIN to its last line")
        }
        Some(_) => None,
    };
    if let Some(why) = why {
        wrong("secret", why);
    }
    if !(body.reason.is_string() || body.reason.is_null()) {
        wrong("reason", "must be a text");
    }
    match (name, kind, secret) {
        (Some(name), Some(kind), Some(secret)) if errors.is_empty() => {
            let reason = request.words(body.reason.as_str().unwrap_or_default());
            let reason = Redactor::new([&secret]).text(&reason).into_owned();
            Ok(New { name: name.to_owned(), kind, secret, reason })
        }
        _ => Err(ApiError::invalid(errors)),
    }
}

fn is_private_key(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default();
    first.starts_with("-----BEGIN ") && first.ends_with("PRIVATE KEY-----")
}
