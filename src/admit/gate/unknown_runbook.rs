//! What is selected must exist and be readable.

use super::super::{Answer, Case};
use crate::routing::Route;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.route {
        Route::Unknown { name, by, .. } if name.trim().is_empty() => {
            Answer::deny(format!("{by} is empty; name a runbook or remove it"))
        }
        Route::Unknown { name, by, broken: true } => {
            Answer::deny(format!("{by} names {name:?}, and its file was never good; correct the file"))
                .with("name", name.as_str())
        }
        Route::Unknown { name, by, broken: false } => {
            Answer::deny(format!("{by} names {name:?}, and there is no such runbook"))
                .with("name", name.as_str())
        }
        Route::Nothing => Answer::off("no runbook is selected"),
        Route::Selected { pinned, .. } | Route::NotAllowed { pinned, .. } => {
            Answer::pass(format!("{} exists, version {}", pinned.runbook.id, pinned.version))
                .with("version", pinned.version)
        }
    }
}
