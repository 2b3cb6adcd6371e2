//! Step 2 of an alert's way: which runbook, and who says so.
//!
//! Pure. May import: `model`, `runbook`. Must never: ask the store, the clock or the network. The places
//! that can select a runbook are asked in the configured order and the first that speaks decides; what it
//! selects may still be unknown or not allowed, and then nothing further is tried, because a mapping that
//! is wrong must be seen and not papered over by the next one.

mod library;

pub use library::{Library, Listed};

use crate::model::{Alert, Matcher, RunbookId};
use crate::runbook::Pinned;
use std::sync::Arc;

/// The annotation by which an alert names its runbook.
pub const ANNOTATION: &str = "automation_runbook";

/// A place that can select a runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The mappings: first those that people set over the API, then `[[mappings]]` of the config file.
    Config,
    /// The alert's `automation_runbook` annotation.
    Annotation,
    /// `alerts` of a runbook.
    Runbook,
}

/// A rule of the config file, or one that people set over the API.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Its name.
    pub name: String,
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// What it selects.
    pub runbook: RunbookId,
}

/// The rules of selection.
#[derive(Debug, Clone)]
pub struct Rules {
    /// First match wins.
    pub mappings: Vec<Mapping>,
    /// Who is asked, in order.
    pub order: Vec<Source>,
}

/// What was selected.
#[derive(Debug, Clone)]
pub enum Route {
    /// A runbook, allowed.
    Selected {
        /// The runbook, in the version that is live now.
        pinned: Arc<Pinned>,
        /// Who selected it, for people.
        by: String,
    },
    /// Nothing selects a runbook.
    Nothing,
    /// Something selects a runbook that is not there or cannot be read.
    Unknown {
        /// The name given.
        name: String,
        /// Who gave it, for people.
        by: String,
        /// Whether there is such a file, and it was never good.
        broken: bool,
    },
    /// The runbook does not let this alert select it.
    NotAllowed {
        /// The runbook.
        pinned: Arc<Pinned>,
        /// Who selected it, for people.
        by: String,
    },
}

impl Route {
    /// The runbook that was named, if it exists.
    pub fn pinned(&self) -> Option<&Arc<Pinned>> {
        match self {
            Self::Selected { pinned, .. } | Self::NotAllowed { pinned, .. } => Some(pinned),
            Self::Nothing | Self::Unknown { .. } => None,
        }
    }
}

/// Which runbook `alert` selects.
pub fn route(alert: &Alert, rules: &Rules, library: &Library) -> Route {
    rules.order.iter().find_map(|source| ask(*source, alert, rules, library)).unwrap_or(Route::Nothing)
}

fn ask(source: Source, alert: &Alert, rules: &Rules, library: &Library) -> Option<Route> {
    match source {
        Source::Config => {
            let holds = |mapping: &&Mapping| mapping.matchers.iter().all(|m| m.matches(&alert.labels));
            let mapping = rules.mappings.iter().find(holds)?;
            Some(named(library, mapping.runbook.as_str(), format!("the mapping {:?}", mapping.name)))
        }
        Source::Annotation => {
            let name = alert.annotations.get(ANNOTATION)?;
            let by = format!("the annotation {ANNOTATION}");
            Some(match named(library, name, by) {
                Route::Selected { pinned, by } if !allows(&pinned, alert) => Route::NotAllowed { pinned, by },
                other => other,
            })
        }
        Source::Runbook => {
            let pinned = library.for_alert(alert.alertname())?;
            Some(Route::Selected { pinned: Arc::clone(pinned), by: "the runbook's `alerts`".to_owned() })
        }
    }
}

/// The route to the runbook that `by` names.
pub fn named(library: &Library, name: &str, by: String) -> Route {
    let listed = RunbookId::new(name).ok().and_then(|id| library.get(&id));
    match listed {
        Some(Listed::Good(pinned)) => Route::Selected { pinned: Arc::clone(pinned), by },
        Some(Listed::Broken) => Route::Unknown { name: name.to_owned(), by, broken: true },
        None => Route::Unknown { name: name.chars().take(80).collect(), by, broken: false },
    }
}

/// Whether the runbook lets `alert` select it by annotation.
fn allows(pinned: &Pinned, alert: &Alert) -> bool {
    let runbook = &pinned.runbook;
    let by_matchers =
        runbook.allow.as_ref().is_some_and(|allow| allow.iter().all(|m| m.matches(&alert.labels)));
    by_matchers || runbook.alerts.iter().any(|name| name == alert.alertname())
}

#[cfg(test)]
mod tests;
