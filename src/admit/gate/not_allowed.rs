//! An annotation selects only a runbook that allows it.

use super::super::{Answer, Case};
use crate::routing::Route;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.route {
        Route::NotAllowed { pinned, by } => {
            let id = &pinned.runbook.id;
            Answer::deny(format!(
                "{by} selects {id}, whose [allow] and `alerts` do not name this alert; allow it there or map it in the config"
            ))
        }
        Route::Selected { by, .. } => Answer::pass(format!("{by} may select it")),
        Route::Nothing | Route::Unknown { .. } => Answer::off("no runbook is selected"),
    }
}
