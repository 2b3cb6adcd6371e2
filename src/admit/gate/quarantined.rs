//! A target on which a rollback failed is left to people until one of them clears it.

use super::super::{Answer, Case, Denial};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let target = match case.plan {
        Some(Ok(created)) => created.target.as_ref(),
        Some(Err(Denial::Input(_) | Denial::Target(_))) => {
            return Answer::off("the target is not known, see invalid_input and invalid_target");
        }
        None => return Answer::off("no runbook is selected"),
    };
    match (target, case.quarantine) {
        (None, _) => Answer::off("the runbook has no target"),
        (Some(target), None) => Answer::pass(format!("{target} is not quarantined")),
        (Some(target), Some(quarantine)) => Answer::deny(format!(
            "{target} is quarantined since {} by {}: {}; a person must clear it",
            quarantine.at, quarantine.execution, quarantine.reason
        ))
        .with("target", target.as_str())
        .with("since", quarantine.at.to_string())
        .with("runbook", quarantine.runbook.as_str())
        .with("execution_id", quarantine.execution.as_str()),
    }
}
