//! In shadow mode everything is decided and nothing is run.

use super::super::{Answer, Case};
use crate::runbook::Mode;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.route.pinned().map(|pinned| pinned.runbook.mode) {
        Some(Mode::Shadow) => {
            Answer::deny("the runbook's mode is shadow: it would have run").with("mode", "shadow")
        }
        Some(mode) => Answer::pass(format!("the runbook's mode is {}", mode.as_str())),
        None => Answer::off("no runbook is selected"),
    }
}
