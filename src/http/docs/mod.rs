//! The description of the API: an OpenAPI 3.1 document, made of the route table and of what is told of each route,
//! and the page that reads it.
//!
//! ```text
//! route table (method, path, who may, how large) ─┐
//! told/*.yaml (what for, parameters, schemas)    ─┼─▶ Document ─▶ openapi.json, openapi.yaml ─▶ explorer.html
//! told/story.json (requests with their answers)  ─┘
//! ```
//! A route without a word about it, or a word about no route, is an error that a test finds. May import: its parent.
//! Must never: decide anything; what it says of doors and limits is read from the table.

mod explorer;
mod operation;
mod told;

#[cfg(test)]
mod tests;

use super::route::Route;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use told::{Told, ToldError};

pub(super) use explorer::{page, policy};

const JSON: &str = "application/json";

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
enum DocumentError {
    #[error(transparent)]
    Told(#[from] ToldError),
    #[error("nothing is told of the route {0}")]
    Untold(String),
    #[error("{0} is told of, and is no route")]
    Unrouted(String),
    #[error("{operation} names {what}, which is not there")]
    Missing { operation: String, what: String },
    #[error("two operations are called {0}")]
    Twice(String),
    #[error("the document cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    #[error("the document cannot be written as YAML")]
    Yaml(#[source] Box<serde_saphyr::ser_error::Error>),
}

/// The document as it is served.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) json: Bytes,
    pub(super) yaml: Bytes,
}

/// The routes, and the document once somebody asked for it: a daemon that nobody reads about does not pay for it.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    routes: OnceLock<Vec<Route>>,
    written: OnceLock<Option<Written>>,
}

impl Shelf {
    /// Takes what there is to tell of; the first call counts. Who answers is left out: the handlers hold this shelf.
    pub(super) fn describe(&self, routes: &[Route]) {
        let nobody = super::route::handler(|_| async { Ok(super::Reply::empty()) });
        let routes = routes.iter().map(|route| Route { handler: nobody.clone(), ..route.clone() });
        self.routes.get_or_init(|| routes.collect());
    }

    /// The document, where it has been written already.
    pub(super) fn ready(&self) -> Option<&Written> {
        self.written.get()?.as_ref()
    }

    /// The document; written at the first call, which takes some milliseconds.
    pub(super) fn written(&self) -> Option<&Written> {
        let routes = self.routes.get().map(Vec::as_slice).unwrap_or_default();
        let written = self.written.get_or_init(|| match write(routes) {
            Ok(written) => Some(written),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the API cannot be described");
                None
            }
        });
        written.as_ref()
    }
}

fn write(routes: &[Route]) -> Result<Written, DocumentError> {
    let document = Document::of(routes)?;
    let json = serde_json::to_vec(&document).map_err(DocumentError::Json)?;
    let yaml = serde_saphyr::to_string(&document).map_err(|error| DocumentError::Yaml(Box::new(error)))?;
    Ok(Written { json: json.into(), yaml: yaml.into() })
}

/// Pairs in their own order.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// An OpenAPI document.
#[derive(Debug, Serialize)]
struct Document {
    openapi: &'static str,
    info: Value,
    servers: Value,
    tags: Vec<Value>,
    paths: Ordered<Ordered<operation::Operation>>,
    components: Value,
}

impl Document {
    fn of(routes: &[Route]) -> Result<Self, DocumentError> {
        let told = Told::read()?;
        let mut untold: BTreeMap<&str, (&str, &told::Operation)> = BTreeMap::new();
        for group in &told.groups {
            untold.extend(
                group.operations.iter().map(|(key, told)| (key.as_str(), (group.tag.as_str(), told))),
            );
        }
        let mut ids = BTreeSet::new();
        let mut paths: Vec<(String, Ordered<operation::Operation>)> = Vec::new();
        for route in routes {
            for method in route.methods {
                let key = format!("{} {}", method.as_str(), route.path);
                let (tag, about) =
                    untold.remove(key.as_str()).ok_or_else(|| DocumentError::Untold(key.clone()))?;
                if !ids.insert(about.id.as_str()) {
                    return Err(DocumentError::Twice(about.id.clone()));
                }
                let made = operation::Operation::of(route, *method, tag, about, &told)?;
                let method = method.as_str().to_ascii_lowercase();
                match paths.iter_mut().find(|(path, _)| path == route.path) {
                    Some((_, operations)) => operations.0.push((method, made)),
                    None => paths.push((route.path.to_owned(), Ordered(vec![(method, made)]))),
                }
            }
        }
        if let Some(key) = untold.keys().next() {
            return Err(DocumentError::Unrouted((*key).to_owned()));
        }
        if let Some(example) = told.story.iter().find(|example| !ids.contains(example.operation.as_str())) {
            let what = "no operation of this id".to_owned();
            return Err(DocumentError::Missing { operation: example.operation.clone(), what });
        }
        Ok(Self {
            openapi: "3.1.0",
            info: json!({
                "title": "runbookd",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "Turns alerts into durable, guarded runbook executions",
                "description": told.shared.description,
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            }),
            servers: json!([{ "url": "/", "description": "The server this was read from" }]),
            tags: told
                .groups
                .iter()
                .map(|group| json!({ "name": group.tag, "description": group.description }))
                .collect(),
            paths: Ordered(paths),
            components: json!({
                "schemas": told.schemas,
                "responses": operation::refusals(&told.shared.errors),
                "securitySchemes": told.shared.security,
            }),
        })
    }
}
