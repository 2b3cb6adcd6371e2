//! What a person may do to an execution: reads the request, asks the engine, says what came of it.

use super::super::NOT_DURABLE;
use super::{Services, header, not_found};
use crate::engine::VerbError;
use crate::engine::verb::{Actor, Ask, Verb};
use crate::http::handler::escalations::acknowledge_of;
use crate::http::handler::{check_claims, refuse, unreadable};
use crate::http::{ApiError, FieldError, Reply, Request};
use crate::model::StepId;
use crate::store::records::Person;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// When one that found no room may come again.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    action: String,
    #[serde(default)]
    reason: String,
    step: Option<String>,
    hash: Option<String>,
    inputs: Option<BTreeMap<String, String>>,
    args: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Stop {
    #[serde(default)]
    reason: String,
}

pub(in crate::http::handler) async fn control(
    services: Arc<Services>,
    request: Request,
) -> Result<Reply, ApiError> {
    carry_out(services, request, read).await
}

pub(in crate::http::handler) async fn stop(
    services: Arc<Services>,
    request: Request,
) -> Result<Reply, ApiError> {
    carry_out(services, request, |request| {
        // A stop must not fail for want of a body.
        let body: Stop = if request.body.is_empty() { Stop::default() } else { request.json()? };
        Ok(Ask::new(Verb::Stop, actor(request), request.words(&body.reason)))
    })
    .await
}

/// Who asks. An open server's `anonymous` has every permission but no role, so that an approval which wants one
/// refuses what nobody can vouch for.
fn actor(request: &Request) -> Actor {
    let roles = request.principal.as_ref().map(|who| who.roles.iter().cloned().collect());
    Actor { subject: request.user().to_owned(), roles: roles.unwrap_or_default() }
}

/// What is asked, with everything wrong in it named at once.
fn read(request: &Request) -> Result<Ask, ApiError> {
    let body: Control = request.json()?;
    let Some(verb) = Verb::parse(&body.action) else {
        let known: Vec<&str> = Verb::ALL.into_iter().map(Verb::as_str).collect();
        let shown: String = body.action.chars().take(40).collect();
        let message = format!("{shown:?} is not an action; known: {}", known.join(", "));
        return Err(ApiError::invalid_field("action", message));
    };
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(FieldError { path: path.to_owned(), message });
    // Whoever sends a key that the action does not have, means something else than what would be done.
    let given = [
        ("step", body.step.is_some()),
        ("hash", body.hash.is_some()),
        ("inputs", body.inputs.is_some()),
        ("args", body.args.is_some()),
    ];
    for (key, _) in given.iter().filter(|(key, given)| *given && !takes(verb, key)) {
        wrong(key, format!("the action {} has no {key}", verb.as_str()));
    }
    let step = body.step.as_deref().map(StepId::new).transpose();
    let step = step.unwrap_or_else(|error| {
        wrong("step", error.to_string());
        None
    });
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    Ok(Ask {
        step,
        hash: body.hash,
        inputs: body.inputs.unwrap_or_default(),
        args: body.args,
        ..Ask::new(verb, actor(request), request.words(&body.reason))
    })
}

fn takes(verb: Verb, key: &str) -> bool {
    match verb {
        Verb::Stop | Verb::Rollback | Verb::Pause | Verb::Resume => false,
        Verb::Approve | Verb::Reject => matches!(key, "step" | "hash"),
        Verb::Acknowledge | Verb::Retry | Verb::Skip => key == "step",
        Verb::Modify => key != "hash",
    }
}

/// Whether it exists and this person may is told before what is wrong with the request.
async fn carry_out(
    services: Arc<Services>,
    request: Request,
    read: impl FnOnce(&Request) -> Result<Ask, ApiError>,
) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    check_claims(&services, &request, &header.runbook, Some(header.version)).await?;
    let ask = read(&request)?;
    // Of an execution that is over, what is left to acknowledge is what people were told of it; of one that asks for
    // nothing, too.
    let acknowledges = ask.verb == Verb::Acknowledge && ask.step.is_none();
    let person = Person { user: ask.actor.subject.clone(), reason: ask.reason.clone() };
    let is_over = header.status.is_final();
    if acknowledges && is_over && acknowledge_of(&services, &header.id, person.clone()).await? {
        return Ok(Reply::json(&json!({ "id": header.id, "status": header.status })).status(202));
    }
    let done = services.engine.control(&header.id, ask).await;
    if let (true, Err(VerbError::Conflict { status, .. })) = (acknowledges, &done)
        && acknowledge_of(&services, &header.id, person).await?
    {
        return Ok(Reply::json(&json!({ "id": header.id, "status": status })).status(202));
    }
    let done = done.map_err(|error| refusal(&services, &request, error))?;
    Ok(Reply::json(&json!({ "id": done.id, "status": done.status })).status(202))
}

fn refusal(services: &Services, request: &Request, error: VerbError) -> ApiError {
    match error {
        VerbError::Unknown(_) => not_found(),
        VerbError::Conflict { .. } => ApiError::conflict("wrong_state", error.to_string()),
        VerbError::NotDurable(_) => ApiError::unavailable(NOT_DURABLE, error.to_string(), AGAIN),
        VerbError::Invalid(why) => ApiError::invalid_field("", why),
        VerbError::Forbidden(why) => refuse(services, request, why),
        VerbError::QueueFull => ApiError::unavailable("queue_full", error.to_string(), AGAIN),
        VerbError::Read(error) => unreadable(&error),
    }
}
