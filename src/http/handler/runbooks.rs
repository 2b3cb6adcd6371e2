//! `/api/runbooks`: what could run.

use super::{Services, unreadable};
use crate::admit::late;
use crate::api::{self, RunbookLine};
use crate::http::{ApiError, Reply, Request};
use crate::model::RunbookId;
use crate::routing::Listed;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    let (library, limit) = (services.library(), request.query.limit()?);
    let after = request.query.get("cursor").unwrap_or("");
    let mut lines: Vec<RunbookLine> = library
        .good()
        .filter(|pinned| pinned.runbook.id.as_str() > after)
        .take(limit + 1)
        .map(|pinned| RunbookLine::of(pinned, &services.runbooks_dir))
        .collect();
    let more = lines.len() > limit;
    lines.truncate(limit);
    let cursor = lines.last().filter(|_| more).map(|line| line.id.clone());
    Ok(Reply::json(&api::page("runbooks", &lines, cursor.as_deref())))
}

/// `<id>.toml` and `<id>.md` work as id.
pub(super) fn id(request: &Request) -> Result<RunbookId, ApiError> {
    let text = request.param("id");
    let stem = text.strip_suffix(".toml").or_else(|| text.strip_suffix(".md")).unwrap_or(text);
    RunbookId::new(stem).map_err(|_| ApiError::not_found("runbook"))
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let id = id(&request)?;
    let library = services.library();
    let broken = services.broken().remove(&id);
    let problems: Vec<String> = broken.iter().flatten().map(ToString::to_string).collect();
    let Some(Listed::Good(pinned)) = library.get(&id) else {
        if broken.is_some() {
            let view = json!({ "id": id, "name": id, "broken": true, "problems": problems });
            return Ok(Reply::json(&view));
        }
        return Err(ApiError::not_found("runbook"));
    };
    let stored = services.records.version(&id, pinned.version).await.map_err(|error| unreadable(&error))?;
    let runbook = &pinned.runbook;
    let mut view = serde_json::to_value(RunbookLine::of(pinned, &services.runbooks_dir)).unwrap_or_default();
    view["description"] = runbook.description.as_str().into();
    view["alerts"] = json!(runbook.alerts);
    view["timeout"] = humantime::format_duration(runbook.timeout).to_string().into();
    view["required_claims"] = json!(runbook.required_claims);
    view["steps"] = api::runbook_steps(pinned).into();
    view["content"] = stored.map_or(Value::Null, |stored| stored.text.into());
    view["broken"] = broken.is_some().into();
    view["problems"] = json!(problems);
    Ok(Reply::json(&view))
}

pub(super) async fn versions(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let id = id(&request)?;
    let stored = services.records.versions(&id).await.map_err(|error| unreadable(&error))?;
    if stored.is_empty() {
        return Err(ApiError::not_found("runbook"));
    }
    let items: Vec<Value> = stored
        .iter()
        .map(|stored| json!({ "version": stored.version, "hash": stored.hash, "filename": stored.file_name, "at": stored.at, "content": stored.text }))
        .collect();
    Ok(Reply::json(&api::page("versions", &items, None)))
}

/// Of a runbook that was never in shadow mode, nothing is counted.
pub(super) async fn shadow(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let id = id(&request)?;
    let library = services.library();
    let Some(Listed::Good(pinned)) = library.get(&id) else { return Err(ApiError::not_found("runbook")) };
    let tally = services.records.shadow(&id).await.map_err(|error| unreadable(&error))?;
    let options = services.intake.options();
    let confirm = pinned.runbook.guard.settings.over(&options.guard).confirm;
    // In shadow mode nothing begins, so nobody else is asked.
    let not_asked = late::asked(&pinned.runbook, confirm, options.has_alertmanager);
    Ok(Reply::json(&api::shadow(pinned, tally.as_ref(), &not_asked)))
}
