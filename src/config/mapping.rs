//! `[[mappings]]`: which runbook an alert starts, by its labels. The first match wins.
//!
//! May import: `model`, `document`. Must never: know which runbooks exist; `Config::check_runbooks` is told.

use super::source::{Source, Sources, show_list};
use crate::document::{Place, Problem, Severity, Table, Value};
use crate::model::{Labels, Matcher, RunbookId};
use std::collections::BTreeSet;

/// One of `[[mappings]]`, in the order of the file.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Unique among the mappings.
    pub name: String,
    /// At least one; all must hold.
    pub matchers: Vec<Matcher>,
    /// What to execute.
    pub runbook: RunbookId,
    place: Place,
}

impl Mapping {
    /// Whether an alert with `labels` selects it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
    }

    /// The problem that its runbook does not exist.
    pub(super) fn unknown_runbook(&self) -> Problem {
        let Self { name, runbook, place, .. } = self;
        let message =
            format!("the mapping {name:?} selects the runbook {:?}, which does not exist", runbook.as_str());
        place.problem(
            Severity::Error,
            message,
            format!("add {runbook}.toml to the runbooks, or correct the name"),
        )
    }

    fn show(&self) -> String {
        let matchers = show_list(self.matchers.iter().map(ToString::to_string));
        format!("{}: {matchers} -> {}", self.name, self.runbook)
    }
}

/// Reads all mappings; wrong ones are noted and left out.
pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Vec<Mapping> {
    let mut names = BTreeSet::new();
    let values = root.take("mappings").and_then(Value::array).unwrap_or_default();
    let from = if values.is_empty() { Source::Default } else { Source::File };
    let mappings: Vec<Mapping> = values.into_iter().filter_map(|value| read_one(value, &mut names)).collect();
    if mappings.is_empty() {
        sources.item("mappings", "", from);
    }
    for (index, mapping) in mappings.iter().enumerate() {
        sources.item(format!("mappings[{index}]"), mapping.show(), Source::File);
    }
    mappings
}

fn read_one(value: Value<'_>, names: &mut BTreeSet<String>) -> Option<Mapping> {
    let mut table = value.table()?;
    let name = table.require("name", "give the mapping a name of its own, such as name = \"errors\"");
    let matchers = table.require("matchers", "write matchers = ['alertname=\"HighErrorRate\"']");
    let runbook = table.require("runbook", "write the id of a runbook: the name of its file without .toml");
    let name = name.and_then(|value| {
        let name = value.parsed("write 1 to 128 characters without / and control characters", check_name)?;
        if !names.insert(name.clone()) {
            value.error(format!("another mapping is called {name:?}"), "give each mapping a name of its own");
        }
        Some(name)
    });
    let matchers = matchers.and_then(read_matchers);
    let runbook = runbook.and_then(|value| {
        let id = value.parsed("write the name of the runbook's file without .toml", RunbookId::new)?;
        Some((id, value.place()))
    });
    table.finish();
    let (runbook, place) = runbook?;
    Some(Mapping { name: name?, matchers: matchers?, runbook, place })
}

fn read_matchers(value: Value<'_>) -> Option<Vec<Matcher>> {
    let place = value.place();
    let problems = value.problems();
    let items = value.array()?;
    if items.is_empty() {
        let help = "write at least one, such as 'alertname=\"HighErrorRate\"'";
        problems.add(place.problem(
            Severity::Error,
            "a mapping without matchers would take every alert",
            help,
        ));
        return None;
    }
    let help = "write it as in Alertmanager, such as 'severity=~\"critical|page\"'";
    let count = items.len();
    let matchers: Vec<Matcher> = items.iter().filter_map(|item| item.parsed(help, Matcher::parse)).collect();
    // With one left out, the others would match more than was meant.
    (matchers.len() == count).then_some(matchers)
}

fn check_name(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_control()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name for a mapping"))
}
