//! One operation: what the route table says of it and what people told, in OpenAPI's words.
//!
//! Who may use it, how large a body may be and what can be refused before a handler is asked is said by the table, so
//! that it cannot be told wrong. May import: the route table. Must never: be more lenient than the table.

use super::told::{self, Example, Told};
use super::{DocumentError, JSON};
use crate::http::route::{Access, BodyLimit, Method, Route};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// An operation object.
#[derive(Debug, Serialize)]
pub(super) struct Operation {
    tags: [String; 1],
    summary: String,
    description: String,
    #[serde(rename = "operationId")]
    id: String,
    /// The permission, or `open`, `own_pages`, `signed_in`, `webhook`.
    #[serde(rename = "x-permission")]
    permission: &'static str,
    #[serde(rename = "x-max-body-bytes", skip_serializing_if = "Option::is_none")]
    max_body: Option<u64>,
    #[serde(rename = "x-trailing-slash", skip_serializing_if = "std::ops::Not::not")]
    trailing_slash: bool,
    security: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Value>,
    #[serde(rename = "requestBody", skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    responses: Map<String, Value>,
}

impl Operation {
    pub(super) fn of(
        route: &Route,
        method: Method,
        tag: &str,
        about: &told::Operation,
        told: &Told,
    ) -> Result<Self, DocumentError> {
        let story: Vec<&Example> =
            told.story.iter().filter(|example| example.operation == about.id).collect();
        let max_body = match route.limit {
            BodyLimit::Json(bytes) => Some(bytes),
            BodyLimit::None | BodyLimit::Webhook => None,
        };
        let door = door(route);
        let description = match about.description.as_str() {
            "" => door.to_owned(),
            description => format!("{description}\n\n{door}"),
        };
        Ok(Self {
            tags: [tag.to_owned()],
            summary: about.summary.clone(),
            description,
            id: about.id.clone(),
            permission: permission(route),
            max_body,
            trailing_slash: route.trailing_slash,
            security: security(route),
            parameters: parameters(about, told, &story)?,
            body: about.body.as_ref().map(|schema| body(about, schema, &story)),
            responses: responses(route, method, about, told, &story)?,
        })
    }
}

/// Who may, in one word.
fn permission(route: &Route) -> &'static str {
    match route.access {
        Access::Open => "open",
        Access::OwnPages => "own_pages",
        Access::SignedIn => "signed_in",
        Access::Webhook => "webhook",
        Access::Needs(permission) => permission.as_str(),
    }
}

/// Who may, in a sentence.
fn door(route: &Route) -> &'static str {
    use crate::auth::Permission::{Admin, Audit, Edit, Execute, Read, Secrets};
    match route.access {
        Access::Open if route.is_for_users() => {
            "Open; where users are named in `--web.config.file`, to them and to whoever has the permission `read`."
        }
        Access::Open => "Open to everybody.",
        Access::OwnPages => "Open, but not to the pages of other sites.",
        Access::SignedIn => "For whoever is known, whatever their permissions.",
        Access::Webhook => "For holders of a webhook credential, and nobody else.",
        Access::Needs(Read) => "Needs the permission `read`.",
        Access::Needs(Execute) => "Needs the permission `execute`.",
        Access::Needs(Edit) => "Needs the permission `edit`.",
        Access::Needs(Secrets) => "Needs the permission `secrets`.",
        Access::Needs(Audit) => "Needs the permission `audit`.",
        Access::Needs(Admin) => "Needs the permission `admin`.",
    }
}

/// Which credentials are looked at; one of them suffices, an empty one is none.
fn security(route: &Route) -> Vec<Value> {
    use crate::auth::Permission::Read;
    let names: &[&str] = match route.access {
        Access::Open if route.is_for_users() => &["", "token", "key", "session", "user"],
        Access::Open | Access::OwnPages => &[],
        Access::Webhook => &["webhook_bearer", "webhook_basic", "webhook_certificate"],
        Access::Needs(Read) => &["token", "key", "session", "user"],
        Access::SignedIn | Access::Needs(_) => &["token", "key", "session"],
    };
    names.iter().map(|name| if name.is_empty() { json!({}) } else { json!({ *name: [] }) }).collect()
}

/// A schema, or the place of the one of this name.
fn schema(schema: &Value) -> Value {
    match schema {
        Value::String(name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
        schema => schema.clone(),
    }
}

fn parameters(about: &told::Operation, told: &Told, story: &[&Example]) -> Result<Vec<Value>, DocumentError> {
    let missing = |what: &str| DocumentError::Missing { operation: about.id.clone(), what: what.to_owned() };
    let mut known = BTreeSet::new();
    let mut all = Vec::new();
    for parameter in &about.parameters {
        let mut parameter = match parameter {
            Value::String(name) => told.shared.parameters.get(name).ok_or_else(|| missing(name))?.clone(),
            parameter => parameter.clone(),
        };
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        let examples: Map<String, Value> = story
            .iter()
            .filter_map(|example| Some((example.name.clone(), example.parameters.get(&name)?)))
            .map(|(key, value)| (key, json!({ "value": value })))
            .collect();
        if !examples.is_empty() {
            parameter["examples"] = examples.into();
        }
        known.insert(name);
        all.push(parameter);
    }
    let mut used = story.iter().flat_map(|example| example.parameters.keys());
    used.find(|name| !known.contains(*name)).map_or(Ok(all), |name| Err(missing(name)))
}

fn body(about: &told::Operation, told: &Value, story: &[&Example]) -> Value {
    let mut content = json!({ "schema": schema(told) });
    let examples: Map<String, Value> = story
        .iter()
        .filter_map(|example| Some((example.name.clone(), json!({ "value": example.body.as_ref()? }))))
        .collect();
    if !examples.is_empty() {
        content["examples"] = examples.into();
    }
    json!({ "required": !about.body_optional, "content": { JSON: content } })
}

fn responses(
    route: &Route,
    method: Method,
    about: &told::Operation,
    told: &Told,
    story: &[&Example],
) -> Result<Map<String, Value>, DocumentError> {
    let mut all = Map::new();
    for (status, answer) in &about.answers {
        let told = match (&answer.page, &answer.of) {
            (Some(plural), Some(of)) => page(plural, of),
            _ => schema(&answer.schema),
        };
        let content = json!({ answer.media.as_str(): { "schema": told } });
        all.insert(status.clone(), json!({ "description": answer.description, "content": content }));
    }
    for status in refused(route, method, about) {
        all.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{}", name(status)) }));
    }
    for example in story {
        let status = example.status.to_string();
        let missing =
            || DocumentError::Missing { operation: about.id.clone(), what: format!("an answer {status}") };
        let response = all.get_mut(&status).ok_or_else(missing)?;
        let Some(answer) = &example.answer else { continue };
        if response.get("$ref").is_some() {
            // What is shared has no room for an example of one operation.
            *response = refusal(told.shared.errors.get(&status).ok_or_else(missing)?);
        }
        let content = response["content"].as_object_mut().and_then(|content| content.values_mut().next());
        content.ok_or_else(missing)?["examples"][&example.name] = json!({ "value": answer });
    }
    Ok(all)
}

/// The statuses of refusals: those of the handler, and those that come before it.
fn refused(route: &Route, method: Method, about: &told::Operation) -> BTreeSet<u16> {
    let mut statuses: BTreeSet<u16> = about.errors.iter().copied().collect();
    // Every request can be so broken that nobody can read it, and every handler has a bug that nobody knows of.
    statuses.extend([400, 500]);
    match route.access {
        Access::Open if !route.is_for_users() => {}
        Access::Open => statuses.extend([401, 403]),
        Access::OwnPages => statuses.extend([403]),
        Access::SignedIn | Access::Needs(_) | Access::Webhook => statuses.extend([401, 403]),
    }
    if route.limit != BodyLimit::None {
        statuses.extend([413, 415]);
    }
    // Refused credentials are counted everywhere.
    let is_counted = matches!(route.access, Access::SignedIn | Access::Needs(_));
    if is_counted || route.budget(method).is_some() {
        statuses.insert(429);
    }
    let answered = |status: &u16| about.answers.contains_key(&status.to_string());
    statuses.into_iter().filter(|status| !answered(status)).collect()
}

/// A page of a list.
fn page(plural: &str, of: &str) -> Value {
    json!({
        "type": "object",
        "required": [plural, "next_cursor"],
        "additionalProperties": false,
        "properties": {
            plural: { "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } },
            "next_cursor": { "$ref": "#/components/schemas/NextCursor" },
        },
    })
}

/// The shared refusals, under their names.
pub(super) fn refusals(errors: &BTreeMap<String, Value>) -> Value {
    errors
        .iter()
        .map(|(status, told)| (format!("Refused{status}"), refusal(told)))
        .collect::<Map<_, _>>()
        .into()
}

fn name(status: u16) -> String {
    format!("Refused{status}")
}

fn refusal(told: &Value) -> Value {
    let mut response = told.clone();
    response["content"] = json!({ JSON: { "schema": { "$ref": "#/components/schemas/Error" } } });
    response
}
