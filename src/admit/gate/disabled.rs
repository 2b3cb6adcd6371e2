//! A disabled runbook is never started.

use super::super::{Answer, Case};
use crate::model::Reason;
use crate::runbook::Mode;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.route.pinned().map(|pinned| pinned.runbook.mode) {
        Some(Mode::Disabled) => Answer::deny(Reason::Disabled.sentence()),
        Some(mode) => {
            Answer::pass(format!("the runbook's mode is {}", mode.as_str())).with("mode", mode.as_str())
        }
        None => Answer::off("no runbook is selected"),
    }
}
