//! `/api/mappings`: which alert starts which runbook, by its labels.

use super::guard::person;
use super::{Services, not_durable};
use crate::api;
use crate::http::{ApiError, FieldError, Reply, Request};
use crate::intake::{MappingError, NewMapping, SetMapping};
use crate::model::{Matcher, RunbookId};
use crate::routing::Mapping;
use crate::store::records::Person;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&["limit", "cursor"])?;
    // A cursor is the place behind which to go on.
    let behind = request.query.filter::<usize>("cursor")?.unwrap_or(0);
    let limit = request.query.limit()?;
    let ((set, of_config), library) = (services.intake.mappings(), services.library());
    let count = set.len() + of_config.len();
    let items: Vec<Value> = (behind..count.min(behind.saturating_add(limit)))
        .map(|at| match set.get(at) {
            Some(SetMapping { record, .. }) => {
                api::set_mapping(record, at + 1, library.lacks(&record.runbook).as_deref())
            }
            None => {
                let Mapping { name, matchers, runbook } = &of_config[at - set.len()];
                api::config_mapping(name, matchers, runbook, at + 1, library.lacks(runbook).as_deref())
            }
        })
        .collect();
    let next = behind + items.len();
    let cursor = (next < count && !items.is_empty()).then(|| next.to_string());
    Ok(Reply::json(&api::page("mappings", &items, cursor.as_deref())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    matchers: Vec<String>,
    runbook: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn set(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let set = services.intake.set_mapping(read(&request)?).await.map_err(refusal)?;
    tracing::warn!(
        mapping = set.record.name,
        runbook = set.record.runbook.as_str(),
        user = set.record.by,
        reason = set.record.reason,
        "mapping set"
    );
    Ok(Reply::json(&shown(&services, &set)))
}

/// The mapping with the place it has now.
fn shown(services: &Services, set: &SetMapping) -> Value {
    let (all, _) = services.intake.mappings();
    let place = all.iter().position(|other| other.record.name == set.record.name);
    let problem = services.library().lacks(&set.record.runbook);
    api::set_mapping(&set.record, place.map_or(0, |at| at + 1), problem.as_deref())
}

pub(super) async fn delete(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let (name, Person { user, reason }) = (request.param("name"), person(&request, false)?);
    let old = services.intake.delete_mapping(name, &user, &reason).await.map_err(refusal)?;
    tracing::warn!(mapping = name, user, reason, "mapping deleted");
    let problem = services.library().lacks(&old.record.runbook);
    Ok(Reply::json(&api::set_mapping(&old.record, 0, problem.as_deref())))
}

/// What is wanted, with everything wrong in it named at once.
fn read(request: &Request) -> Result<NewMapping, ApiError> {
    let body: Body = request.json()?;
    let mut errors = Vec::new();
    let mut wrong = |path: String, message: String| errors.push(FieldError { path, message });
    let name = request.param("name");
    if !(1..=128).contains(&name.len()) || name.contains(|c: char| c == '/' || c.is_control()) {
        let message = "a name has 1 to 128 bytes and no / or control character";
        wrong("name".to_owned(), message.to_owned());
    }
    if body.matchers.is_empty() {
        let message = "a mapping without matchers would take every alert";
        wrong("matchers".to_owned(), message.to_owned());
    }
    let mut matchers = Vec::new();
    for (at, text) in body.matchers.iter().enumerate() {
        match Matcher::parse(text) {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => wrong(format!("matchers[{at}]"), error.to_string()),
        }
    }
    let runbook =
        RunbookId::new(&body.runbook).map_err(|error| wrong("runbook".to_owned(), error.to_string()));
    let reason = request.words(&body.reason);
    match runbook {
        Ok(runbook) if errors.is_empty() => {
            Ok(NewMapping { name: name.to_owned(), matchers, runbook, by: request.user().to_owned(), reason })
        }
        _ => Err(ApiError::invalid(errors)),
    }
}

fn refusal(error: MappingError) -> ApiError {
    match &error {
        MappingError::UnknownRunbook(_) => ApiError::invalid_field("runbook", error.to_string()),
        MappingError::TooLarge(_) => ApiError::invalid_field("matchers", error.to_string()),
        MappingError::TooMany => ApiError::conflict("too_many_mappings", error.to_string()),
        MappingError::Unknown { in_config: true, .. } => ApiError::conflict("in_config", error.to_string()),
        MappingError::Unknown { .. } => ApiError::not_found("mapping"),
        MappingError::Store(cause) => not_durable(cause),
    }
}
