//! What people wrote about the routes, in the files beside this one, as it is read.
//!
//! A file for each group of operations, one for the objects in their bodies, one for what many share, and the story:
//! requests with their answers, in the order in which they can be sent. May import: nothing of this crate. Must
//! never: say who may use a route, or how large a body it takes; the route table does.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The groups, in the order in which they are read.
const GROUPS: [&str; 8] = [
    include_str!("told/alerts.yaml"),
    include_str!("told/executions.yaml"),
    include_str!("told/runbooks.yaml"),
    include_str!("told/automation.yaml"),
    include_str!("told/guards.yaml"),
    include_str!("told/secrets.yaml"),
    include_str!("told/people.yaml"),
    include_str!("told/operation.yaml"),
];
const SCHEMAS: &str = include_str!("told/schemas.yaml");
const SHARED: &str = include_str!("told/shared.yaml");
const STORY: &str = include_str!("told/story.json");

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToldError {
    #[error("a file of the API's description is no such YAML")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    #[error("the examples of the API's description are no such JSON")]
    Json(#[from] serde_json::Error),
}

/// All of it.
pub(super) struct Told {
    pub(super) groups: Vec<Group>,
    pub(super) schemas: Value,
    pub(super) shared: Shared,
    pub(super) story: Vec<Example>,
}

impl Told {
    pub(super) fn read() -> Result<Self, ToldError> {
        Ok(Self {
            groups: GROUPS.into_iter().map(yaml).collect::<Result<_, _>>()?,
            schemas: yaml(SCHEMAS)?,
            shared: yaml(SHARED)?,
            story: serde_json::from_str(STORY)?,
        })
    }
}

fn yaml<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, ToldError> {
    serde_saphyr::from_str(text).map_err(|error| ToldError::Yaml(Box::new(error)))
}

/// Operations that belong together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) tag: String,
    pub(super) description: String,
    /// By `METHOD path`.
    pub(super) operations: BTreeMap<String, Operation>,
}

/// What is told of one method of one route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) summary: String,
    #[serde(default)]
    pub(super) description: String,
    /// As OpenAPI has them, or the name of a shared one.
    #[serde(default)]
    pub(super) parameters: Vec<Value>,
    /// A schema, or the name of one.
    #[serde(default)]
    pub(super) body: Option<Value>,
    #[serde(default)]
    pub(super) body_optional: bool,
    /// By status.
    pub(super) answers: BTreeMap<String, Answer>,
    /// Refusals beside those of the door and of the body.
    #[serde(default)]
    pub(super) errors: Vec<u16>,
}

/// An answer that is no refusal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    #[serde(default = "one_page")]
    pub(super) description: String,
    #[serde(default = "json")]
    pub(super) media: String,
    /// A schema, or the name of one.
    #[serde(default)]
    pub(super) schema: Value,
    /// Of a list: the name its items stand under.
    #[serde(default)]
    pub(super) page: Option<String>,
    /// Of a list: the name of its items' schema.
    #[serde(default)]
    pub(super) of: Option<String>,
}

fn one_page() -> String {
    "One page".to_owned()
}

fn json() -> String {
    super::JSON.to_owned()
}

/// What many operations share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    pub(super) description: String,
    pub(super) parameters: BTreeMap<String, Value>,
    /// By status.
    pub(super) errors: BTreeMap<String, Value>,
    pub(super) security: BTreeMap<String, Value>,
}

/// One request and what it is answered with: a test sends each of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    /// The operation's id.
    pub(super) operation: String,
    /// One line; also the key under which its parts stand in the document.
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) body: Option<Value>,
    pub(super) status: u16,
    /// Absent where it is long, or the same on no two machines.
    #[serde(default)]
    pub(super) answer: Option<Value>,
}
