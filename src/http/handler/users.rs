//! `/api/users`: signing in, up and out; and `/dev-login`.
//!
//! Signing in answers with a bearer token for programs, and sets it as a cookie for browsers.

use super::{Services, not_durable, refuse, unreadable};
use crate::http::{ApiError, RateLimit, Reply, Request, cookie};
use crate::identity::{LoginError, SignedIn};
use crate::model::Secret;
use hyper::header::SET_COOKIE;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// When one that found no room may come again.
const AGAIN: Duration = Duration::from_secs(2);
/// Whom the development sign-in takes a caller for that does not say.
const DEV_SUBJECT: &str = "dev-user-1";
const DEV_ROLE: &str = "developer";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signup {
    username: String,
    password: String,
    roles: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Dev {
    subject: Option<String>,
    roles: Option<Vec<String>>,
}

pub(super) async fn login(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let body: Login = request.json()?;
    let password = Secret::new(&body.password);
    let signed_in = services.identity.login(&body.username, &password, request.client).await;
    let signed_in = signed_in.map_err(refusal)?;
    tracing::info!(user = signed_in.subject, client = %request.client, "signed in");
    Ok(welcome(&request, &signed_in))
}

pub(super) async fn signup(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let body: Signup = request.json()?;
    if let Some(role) = body.roles.iter().flatten().find(|role| *role != "viewer") {
        let role: String = role.chars().take(64).collect();
        return Err(refuse(
            &services,
            &request,
            format!("who signs up is a viewer; {role:?} is given by others"),
        ));
    }
    let password = Secret::new(&body.password);
    let signed_in = services.identity.signup(&body.username, &password, request.client).await;
    let signed_in = signed_in.map_err(refusal)?;
    tracing::warn!(user = signed_in.subject, client = %request.client, "signed up");
    Ok(welcome(&request, &signed_in).status(201))
}

pub(super) async fn logout(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let Some(who) = &request.principal else { return Err(ApiError::internal()) };
    if !services.identity.logout(who).await.map_err(refusal)? {
        let message = "this is no session: a token ends by itself, a key is deleted";
        return Err(ApiError::conflict("no_session", message));
    }
    let reply = Reply::json(&json!({ "signed_out": true }));
    Ok(with_cookie(reply, &request, "", Duration::ZERO))
}

pub(super) async fn dev_login(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let body: Dev = if request.body.is_empty() { Dev::default() } else { request.json()? };
    let subject = body.subject.unwrap_or_else(|| DEV_SUBJECT.to_owned());
    let roles = body.roles.unwrap_or_else(|| vec![DEV_ROLE.to_owned()]);
    let (token, expires_at) =
        services.identity.dev_token(&subject, &roles).ok_or_else(|| ApiError::not_found("this path"))?;
    tracing::warn!(
        user = subject,
        roles = roles.join(","),
        "a token was made for whoever asked: dev_login is on"
    );
    Ok(Reply::json(&json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_at": expires_at,
        "subject": subject,
        "roles": roles,
    })))
}

fn welcome(request: &Request, signed_in: &SignedIn) -> Reply {
    let token = signed_in.token.expose();
    let reply = Reply::json(&json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_at": signed_in.expires_at,
        "subject": signed_in.subject,
        "roles": signed_in.roles,
    }));
    with_cookie(reply, request, token, signed_in.left)
}

/// Where a cookie would go over the network in the clear, none is set; the token is in the answer.
fn with_cookie(reply: Reply, request: &Request, value: &str, left: Duration) -> Reply {
    match cookie::set(value, left, request.https, request.peer.ip()) {
        Some(cookie) => reply.header(SET_COOKIE, cookie),
        None => reply,
    }
}

fn refusal(error: LoginError) -> ApiError {
    match &error {
        LoginError::Off(why) => ApiError::absent(*why),
        LoginError::Limited(wait) => {
            let limit = crate::auth::LoginLimiter::BURST;
            ApiError::rate_limited(RateLimit { limit, remaining: 0, reset: *wait })
        }
        LoginError::Wrong => ApiError::wrong_password(error.to_string()),
        LoginError::Invalid { path, message } => ApiError::invalid_field(*path, message),
        LoginError::Taken => ApiError::conflict("taken", error.to_string()),
        LoginError::Full => ApiError::conflict("too_many_accounts", error.to_string()),
        LoginError::Busy(_) => ApiError::unavailable("busy", error.to_string(), AGAIN),
        LoginError::NoRandomness(cause) => {
            tracing::error!(%cause, "no session could be made");
            ApiError::internal()
        }
        LoginError::Read(cause) => unreadable(cause),
        LoginError::Store(cause) => not_durable(cause),
    }
}
