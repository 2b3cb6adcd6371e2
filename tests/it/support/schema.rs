//! JSON Schema, judged by Debian's python3-jsonschema.
//!
//! May import: the standard library, `serde_json`. Must never: take silence for consent; each case has its answer.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The system's own, for which the package is; another in the path may know nothing of it.
const PYTHON: &str = "/usr/bin/python3";

/// What is to be judged, all of it in one process.
#[derive(Default)]
pub(crate) struct Question {
    around: Value,
    cases: Vec<Value>,
}

impl Question {
    /// One whose schemas refer to the components of this OpenAPI document.
    pub(crate) fn of(document: &Value) -> Self {
        Self { around: json!({ "components": document["components"] }), cases: Vec::new() }
    }

    /// One whose schemas stand for themselves.
    pub(crate) fn plain() -> Self {
        Self { around: json!({}), cases: Vec::new() }
    }

    /// Whether `value` is what `schema` says.
    pub(crate) fn value(&mut self, name: &str, schema: &Value, value: &Value) {
        self.cases.push(json!({ "name": name, "schema": schema, "value": value }));
    }

    /// Whether `schema` is a schema.
    pub(crate) fn schema(&mut self, name: &str, schema: &Value) {
        self.cases.push(json!({ "name": name, "schema": schema }));
    }

    /// What is wrong with each case, by its name.
    pub(crate) fn ask(self) -> BTreeMap<String, Vec<String>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/schema.py");
        let mut command = Command::new(PYTHON);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
        let count = self.cases.len();
        let question = json!({ "around": self.around, "cases": self.cases }).to_string();
        child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "no judgement; is the Debian package python3-jsonschema there, which `make test` installs?"
        );
        let answers: BTreeMap<String, Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answers.len(), count, "two cases have one name, or some have no answer");
        answers
    }
}

/// The cases that something is wrong with, as text.
pub(crate) fn complaints(answers: &BTreeMap<String, Vec<String>>) -> String {
    let wrong = answers.iter().filter(|(_, wrong)| !wrong.is_empty());
    wrong.map(|(name, wrong)| format!("{name}:\n  {}\n", wrong.join("\n  "))).collect()
}
