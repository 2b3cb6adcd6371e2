//! `/api/escalations`: what people were told, and who took it; and whether a notifier works.

use super::{Services, check_claims, decisions::cursor, guard::person, not_durable, unreadable};
use crate::api;
use crate::http::{ApiError, Reply, Request};
use crate::journal::AuditEntry;
use crate::model::ExecutionId;
use crate::report::EscalationId;
use crate::step::Note;
use crate::store::records::{EscalationFilter, Person};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["state", "runbook", "limit", "cursor"])?;
    let filter = EscalationFilter { standing: query.filter("state")?, runbook: query.filter("runbook")? };
    let (cursor, limit) = (cursor(&request)?, query.limit()?);
    let page =
        services.records.escalations(&filter, cursor, limit).await.map_err(|error| unreadable(&error))?;
    let items: Vec<Value> = page.items.iter().map(api::escalation).collect();
    Ok(Reply::json(&api::page("escalations", &items, page.next_cursor.as_deref())))
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let none = || ApiError::not_found("escalation");
    let id = EscalationId::parse(request.param("id")).ok_or_else(none)?;
    let one = services.records.escalation(&id).await.map_err(|error| unreadable(&error))?;
    Ok(Reply::json(&api::escalation(&one.ok_or_else(none)?)))
}

pub(super) async fn acknowledge(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let none = || ApiError::not_found("escalation");
    let id = EscalationId::parse(request.param("id")).ok_or_else(none)?;
    let told =
        services.records.escalation(&id).await.map_err(|error| unreadable(&error))?.ok_or_else(none)?;
    // The same as the action `acknowledge` on its execution, so the same people may.
    check_claims(&services, &request, &told.runbook, None).await?;
    let person = person(&request, false)?;
    let (user, reason) = (person.user.clone(), person.reason.clone());
    let taken = services.records.acknowledge_escalation(&id, person, services.clock.now()).await;
    let taken = taken.map_err(|error| not_durable(&error))?.ok_or_else(none)?;
    tracing::warn!(escalation = %id, runbook = %taken.runbook, user, reason, "escalation acknowledged");
    Ok(Reply::json(&api::escalation(&taken)))
}

/// Tells a notifier that this is a test: at once, and not again where it fails.
pub(super) async fn test(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let name = request.param("name").to_owned();
    let messenger = services.runner.messenger().filter(|messenger| messenger.knows(&name));
    let messenger = messenger.cloned().ok_or_else(|| ApiError::not_found("notifier"))?;
    let Person { user, reason } = person(&request, false)?;
    let at = services.clock.now();
    let entry = AuditEntry {
        at,
        user: user.clone(),
        action: "notifier.test",
        target: name.clone(),
        reason: reason.clone(),
        detail: BTreeMap::new(),
    };
    services.records.note(entry).await.map_err(|error| not_durable(&error))?;
    tracing::warn!(notifier = name, user, reason, "a notifier is tested");
    let note = Note {
        to: vec![name.clone()],
        message: format!("This is a test of {name}, asked for by {user}: nothing is wrong.\n{reason}"),
        execution: None,
        key: format!("test.{name}.{}", at.as_millisecond()),
    };
    let error = messenger.tell(note).await.err().map(|refusal| refusal.why);
    Ok(Reply::json(&json!({ "notifier": name, "accepted": error.is_none(), "error": error })))
}

/// Whether a person took an escalation of `execution`, now or before.
pub(super) async fn acknowledge_of(
    services: &Services,
    execution: &ExecutionId,
    person: Person,
) -> Result<bool, ApiError> {
    let (user, reason) = (person.user.clone(), person.reason.clone());
    let now = services.clock.now();
    let taken = services.records.acknowledge_escalations_of(execution, person, now).await;
    let (count, taken) = taken.map_err(|error| not_durable(&error))?;
    if count > 0 {
        tracing::warn!(execution_id = %execution, user, reason, "escalation acknowledged");
    }
    Ok(taken)
}
