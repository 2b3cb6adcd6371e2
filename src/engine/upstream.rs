//! What Prometheus and Alertmanager say of an alert now, for people who ask why nothing happened.
//!
//! May import: `admit` (what Alertmanager knows). Must never: decide by it.

use super::Engine;
use crate::admit::late::Confirmation;
use crate::model::{Labels, quoted};

/// What both say; an error is a sentence.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Of Alertmanager.
    pub alertmanager: Result<Confirmation, String>,
    /// The states of the rules that Prometheus evaluates for these labels: `pending` or `firing`; none where no rule
    /// holds.
    pub prometheus: Result<Vec<String>, String>,
}

impl Engine {
    /// Asks both.
    pub async fn upstream(&self, labels: &Labels) -> Upstream {
        let world = &self.shared.world;
        let matchers: Vec<String> = labels
            .iter()
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        let query = format!("ALERTS{{{}}}", matchers.join(","));
        let (alertmanager, answer) = tokio::join!(world.confirm(labels.clone()), world.query(query));
        let prometheus = answer.map(|answer| {
            let states = answer.samples.iter().filter_map(|sample| sample.labels.get("alertstate").cloned());
            let mut states: Vec<String> = states.collect();
            states.sort();
            states.dedup();
            states
        });
        Upstream { alertmanager, prometheus }
    }
}
