//! What a template can see: labels, annotations, inputs, steps, execution, alert and item.
//!
//! Pure data, cheap to clone. Must never: hold a secret or anything of the daemon's own environment.

use crate::model::Labels;
use minijinja::Value;
use minijinja::value::{Serde, ValueKind};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The values of one rendering.
#[derive(Debug, Clone)]
pub struct Context(Value);

impl Context {
    /// A context in which nothing is known but what the builder is given.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    pub(super) fn value(&self) -> Value {
        self.0.clone()
    }

    /// The first part of `path` that is not there, and the names that are there instead of it.
    pub(super) fn missing(&self, path: &[String]) -> Option<(usize, Vec<String>)> {
        let mut value = self.value();
        for (index, part) in path.iter().enumerate() {
            let inner = value.get_attr(part).unwrap_or_default();
            if inner.is_undefined() {
                let map = Some(&value).filter(|value| value.kind() == ValueKind::Map);
                let names = map.and_then(|map| map.try_iter().ok()).into_iter().flatten();
                let names = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
                return Some((index, names));
            }
            value = inner;
        }
        None
    }
}

/// Gathers the parts of a [`Context`]. `labels`, `annotations` and `inputs` are empty maps unless given;
/// the rest is undefined unless given.
#[derive(Debug, Default)]
pub struct ContextBuilder {
    labels: Labels,
    annotations: Labels,
    inputs: BTreeMap<String, String>,
    further: BTreeMap<&'static str, Json>,
}

impl ContextBuilder {
    /// The alert's labels, or those of the caller.
    pub fn labels(mut self, labels: &Labels) -> Self {
        self.labels.clone_from(labels);
        self
    }

    /// The alert's annotations, or those of the caller.
    pub fn annotations(mut self, annotations: &Labels) -> Self {
        self.annotations.clone_from(annotations);
        self
    }

    /// The resolved inputs.
    pub fn inputs(mut self, inputs: &BTreeMap<String, String>) -> Self {
        self.inputs.clone_from(inputs);
        self
    }

    /// What is known of each step that has ended: an object of step id to
    /// `{ok, status, exit_code, http_status, stdout, json, items}`. Texts should be bounded: one operation of a template may
    /// read a whole text, and fuel counts operations.
    pub fn steps(mut self, steps: Json) -> Self {
        self.further.insert("steps", steps);
        self
    }

    /// `{id, target, runbook, version, started_at}`.
    pub fn execution(mut self, execution: Json) -> Self {
        self.further.insert("execution", execution);
        self
    }

    /// `{name, status, starts_at, fingerprint, generator_url}`.
    pub fn alert(mut self, alert: Json) -> Self {
        self.further.insert("alert", alert);
        self
    }

    /// The item of a `for_each` that is worked on.
    pub fn item(mut self, item: &str) -> Self {
        self.further.insert("item", Json::String(item.to_owned()));
        self
    }

    /// The context.
    pub fn build(self) -> Context {
        let maps = [("labels", self.labels), ("annotations", self.annotations), ("inputs", self.inputs)];
        let maps = maps.into_iter().map(|(name, map)| (name, Value::from(map)));
        let further = self.further.iter().map(|(name, json)| (*name, Value::from(Serde(json))));
        Context(Value::from_pairs(maps.chain(further)))
    }
}
