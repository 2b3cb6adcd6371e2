//! The gates, one file each. A gate looks at its case and at nothing else.

pub(super) mod attempts_exhausted;
pub(super) mod breaker_open;
pub(super) mod cooldown;
pub(super) mod disabled;
pub(super) mod flapping;
pub(super) mod frozen;
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
