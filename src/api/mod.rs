//! The JSON bodies of answers, made from journals, headers and decisions.
//!
//! May import: `model`, `journal`, `store::records` (plain types), `runbook`, `guard`, `report`, `schedule`. Must never: know HTTP or ask
//! for anything; what is shown is what is given. Field names are a promise to scripts.

mod automation;
mod escalation;
mod execution;
mod guard;
mod identity;
mod trigger;

pub use automation::{automation, orders};
pub use escalation::escalation;
pub use execution::{ExecutionView, summary};
pub use guard::{audit_check, breaker, credential, freezes, quarantine, shadow, storm};
pub use identity::{executed, key, refused};
pub use trigger::{config_mapping, dry_run, last_attempts, outcome, schedule, set_mapping};

use crate::model::ExecutionStatus;
use crate::runbook::Pinned;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One page of a list, under its plural. It is written as it is, without a tree of values in between.
pub fn page<'p, T: Serialize>(
    plural: &'static str,
    items: &'p [T],
    next_cursor: Option<&'p str>,
) -> Page<'p, T> {
    Page { plural, items, next_cursor }
}

/// What [`page`] gives.
#[derive(Debug)]
pub struct Page<'p, T> {
    plural: &'static str,
    items: &'p [T],
    next_cursor: Option<&'p str>,
}

impl<T: Serialize> Serialize for Page<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.plural, self.items)?;
        map.serialize_entry("next_cursor", &self.next_cursor)?;
        map.end()
    }
}

/// One runbook in lists.
#[derive(Debug, Clone, Serialize)]
pub struct RunbookLine {
    /// Its id.
    pub id: String,
    /// The file's name.
    pub filename: String,
    /// Its id again, as older clients call it.
    pub name: String,
    /// Where it is read.
    pub path: String,
    /// One line for people.
    pub title: String,
    /// `disabled`, `shadow` or `auto`.
    pub mode: &'static str,
    /// The version that is live.
    pub version: u64,
    /// SHA-256 of that version.
    pub hash: String,
}

impl RunbookLine {
    /// The line of a runbook read from `directory`.
    pub fn of(pinned: &Pinned, directory: &str) -> Self {
        let id = pinned.runbook.id.to_string();
        Self {
            filename: pinned.file_name.clone(),
            name: id.clone(),
            path: format!("{directory}/{}", pinned.file_name),
            title: pinned.runbook.title.clone(),
            mode: pinned.runbook.mode.as_str(),
            version: pinned.version,
            hash: pinned.hash.clone(),
            id,
        }
    }
}

/// One step of a runbook, as shown before it runs.
pub fn runbook_steps(pinned: &Pinned) -> Vec<Value> {
    let steps = pinned.runbook.steps.iter();
    steps
        .map(|step| {
            json!({
                "id": step.id.as_str(),
                "title": step.title,
                "kind": step.kind.as_str(),
                "effect": step.effect.as_str(),
                "timeout": humantime::format_duration(step.timeout).to_string(),
                "when": step.when.as_ref().map(crate::runbook::Expression::source),
            })
        })
        .collect()
}

/// `GET /api/sre/runbooks/integration-status`.
#[derive(Debug, Clone, Serialize)]
pub struct IntegrationStatus {
    /// `enabled`, `draining` or `error`.
    pub status: &'static str,
    /// Why it is not enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Runbooks with a good version.
    pub available_runbooks: usize,
    /// Live executions that have left the queue and wait for nobody.
    pub active_executions: u64,
    /// Live executions in the queue.
    pub queued_executions: u64,
    /// Live executions that wait for a person.
    pub awaiting_approval: u64,
    /// Alert names that select a runbook by themselves.
    pub runbook_alert_mappings: BTreeMap<String, String>,
    /// When this was answered.
    pub last_updated: String,
    /// Breakers that are not closed, 500 at most.
    pub open_breakers: Vec<Value>,
    /// Targets that automation leaves alone, 500 at most.
    pub quarantined: Vec<Value>,
    /// Whether so many episodes begin that nothing is started; null where that guard is off.
    pub storm: Value,
    /// The freezes in force.
    pub freezes: Vec<Value>,
    /// How many alerts are left alone because they flap, as far as they were delivered since the start.
    pub flapping_alerts: usize,
    /// The orders of the kill switch that stand.
    pub orders: Vec<Value>,
    /// Runbook files whose last reading failed.
    pub broken_runbooks: Vec<Value>,
    /// When the last webhook was accepted.
    pub last_webhook_at: Option<String>,
    /// Escalations that no channel has accepted yet.
    pub waiting_escalations: u64,
    /// The program's version.
    pub version: &'static str,
    /// This instance's name.
    pub instance: String,
    /// How everything a step starts is found again: `cgroup` or `processes`.
    pub containment: &'static str,
    /// How the store is.
    pub store: Value,
}

/// The three numbers of executions, from the live ones by status.
pub fn tally(by_status: &BTreeMap<ExecutionStatus, u64>) -> (u64, u64, u64) {
    let of = |status| by_status.get(&status).copied().unwrap_or(0);
    let (queued, waiting) = (of(ExecutionStatus::Queued), of(ExecutionStatus::AwaitingApproval));
    (by_status.values().sum::<u64>() - queued - waiting, queued, waiting)
}
