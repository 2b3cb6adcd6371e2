//! The gates, one file each. A gate looks at its case and at nothing else.

pub(super) mod aborted;
pub(super) mod attempts_exhausted;
pub(super) mod breaker_open;
pub(super) mod cooldown;
pub(super) mod disabled;
pub(super) mod draining;
pub(super) mod flapping;
pub(super) mod frozen;
pub(super) mod halted;
pub(super) mod invalid_input;
pub(super) mod invalid_target;
pub(super) mod no_runbook;
pub(super) mod not_allowed;
pub(super) mod quarantined;
pub(super) mod repeat;
pub(super) mod resolved;
pub(super) mod shadow;
pub(super) mod stale;
pub(super) mod storm;
pub(super) mod too_many_targets;
pub(super) mod unknown_runbook;

use super::{Answer, Case};
use crate::guard::{Scope, SwitchState};

/// What the kill switch answers as the gate of one of its states.
fn kill_switch(case: &Case<'_>, state: SwitchState) -> Answer {
    let Some(order) = case.order else { return Answer::pass("the kill switch is not thrown") };
    let answer = match order.state == state {
        true => Answer::deny(order.sentence()),
        false => Answer::pass(format!("the kill switch is at {}", order.state.as_str())),
    };
    let answer = answer
        .with("state", order.state.as_str())
        .with("scope", order.scope.key())
        .with("by", order.by.as_str());
    let answer = match &order.scope {
        Scope::Matchers(matchers) => {
            answer.with("matchers", matchers.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        Scope::Global | Scope::File | Scope::Runbook(_) => answer,
    };
    match order.expires_at {
        Some(end) => answer.with("expires_at", end.to_string()),
        None => answer,
    }
}
