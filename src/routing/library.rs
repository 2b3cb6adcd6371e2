//! The runbooks that are live now, as routing sees them.

use crate::model::RunbookId;
use crate::runbook::Pinned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One runbook of the directory.
#[derive(Debug, Clone)]
pub enum Listed {
    /// Its last good version.
    Good(Arc<Pinned>),
    /// Its file was never good.
    Broken,
}

/// The runbooks by id and by the alerts that select them.
#[derive(Debug, Clone, Default)]
pub struct Library {
    runbooks: BTreeMap<RunbookId, Listed>,
    by_alert: BTreeMap<String, Arc<Pinned>>,
}

impl Library {
    /// A library of these. Where two runbooks name one alert, the first by id has it.
    pub fn new(runbooks: BTreeMap<RunbookId, Listed>) -> Self {
        let mut by_alert = BTreeMap::new();
        for listed in runbooks.values() {
            let Listed::Good(pinned) = listed else { continue };
            for alert in &pinned.runbook.alerts {
                by_alert.entry(alert.clone()).or_insert_with(|| Arc::clone(pinned));
            }
        }
        Self { runbooks, by_alert }
    }

    /// What is known of `id`.
    pub fn get(&self, id: &RunbookId) -> Option<&Listed> {
        self.runbooks.get(id)
    }

    /// Why what leads to `id` starts nothing; `None` where there is such a runbook.
    pub fn lacks(&self, id: &RunbookId) -> Option<String> {
        match self.get(id) {
            Some(Listed::Good(_)) => None,
            Some(Listed::Broken) => Some(format!("the runbook {id} cannot be read")),
            None => Some(format!("there is no runbook {id}")),
        }
    }

    /// The runbook whose `alerts` name this alert.
    pub fn for_alert(&self, alertname: &str) -> Option<&Arc<Pinned>> {
        self.by_alert.get(alertname)
    }

    /// Which alert names select which runbook by `alerts`.
    pub fn alerts(&self) -> impl Iterator<Item = (&str, &RunbookId)> {
        self.by_alert.iter().map(|(alert, pinned)| (alert.as_str(), &pinned.runbook.id))
    }

    /// The good ones, by id.
    pub fn good(&self) -> impl Iterator<Item = &Arc<Pinned>> {
        self.runbooks.values().filter_map(|listed| match listed {
            Listed::Good(pinned) => Some(pinned),
            Listed::Broken => None,
        })
    }
}
