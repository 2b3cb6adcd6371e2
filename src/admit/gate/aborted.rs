//! At `aborted` nothing starts.

use super::super::{Answer, Case};
use super::kill_switch;
use crate::guard::SwitchState;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    kill_switch(case, SwitchState::Aborted)
}
