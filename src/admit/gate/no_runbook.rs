//! Something must select a runbook.

use super::super::{Answer, Case};
use crate::routing::Route;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.route {
        Route::Selected { pinned, by } | Route::NotAllowed { pinned, by } => {
            let id = &pinned.runbook.id;
            Answer::pass(format!("{by} selects {id}")).with("runbook", id.as_str())
        }
        Route::Unknown { name, by, .. } => Answer::pass(format!("{by} names {name:?}")),
        Route::Nothing => Answer::deny(
            "no mapping matches, the alert has no automation_runbook annotation, and no runbook names it in `alerts`",
        ),
    }
}
