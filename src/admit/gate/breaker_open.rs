//! What failed too often on a target is not tried there again before its time, and then once.

use super::super::{Answer, Case, Denial};
use crate::guard::{Admission, BreakerKey, BreakerState};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let created = match case.plan {
        Some(Ok(created)) => created,
        Some(Err(Denial::Input(_) | Denial::Target(_))) => {
            return Answer::off("the target is not known, see invalid_input and invalid_target");
        }
        None => return Answer::off("no runbook is selected"),
    };
    let key = BreakerKey::of_runbook(&created.runbook, created.target.as_ref());
    let Some(breaker) = case.breaker else {
        return Answer::pass(format!("the breaker {} is closed", key.as_str()))
            .with("key", key.as_str())
            .with("state", BreakerState::Closed.as_str())
            .with("failures", 0);
    };
    let key = key.as_str();
    let (state, failures) = (breaker.state(), breaker.failures());
    let answer = match breaker.would_admit(created.id.as_str(), case.guards.counted) {
        Admission::Yes if state == BreakerState::Closed => {
            Answer::pass(format!("the breaker {key} is closed, {failures} failures in a row"))
        }
        Admission::Yes => Answer::pass(format!("the breaker {key} lets one through, to try")),
        Admission::No { retry_at: None } => {
            Answer::deny(format!("the breaker {key} was opened by a person, and must be reset by one"))
        }
        Admission::No { retry_at: Some(retry_at) } if state == BreakerState::HalfOpen => {
            let probe = breaker.probe().unwrap_or("another execution");
            Answer::deny(format!("the breaker {key} is half-open and waits for {probe}"))
                .with("retry_at", retry_at.to_string())
                .with("probe", probe)
        }
        Admission::No { retry_at: Some(retry_at) } => Answer::deny(format!(
            "the breaker {key} is open after {failures} failures in a row, it lets one through at {retry_at}"
        ))
        .with("retry_at", retry_at.to_string()),
    };
    let answer = answer.with("key", key).with("state", state.as_str()).with("failures", failures);
    match breaker.opened_at() {
        Some(at) => answer.with("opened_at", at.to_string()),
        None => answer,
    }
}
