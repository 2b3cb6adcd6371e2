//! Every input has a value that matches its pattern.

use super::super::Denial;
use super::super::{Answer, Case};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.plan {
        Some(Err(Denial::Input(problems))) => Answer::deny(problems.join("; ")),
        Some(_) => Answer::pass("every input has a value that fits"),
        None => Answer::off("no runbook is selected"),
    }
}
