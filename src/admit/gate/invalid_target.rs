//! The target is one thing: never empty, never a pattern.

use super::super::Denial;
use super::super::{Answer, Case};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    match case.plan {
        Some(Err(Denial::Target(problem))) => Answer::deny(problem.as_str()),
        Some(Err(Denial::Input(_))) => Answer::off("not known without valid inputs"),
        Some(Ok(created)) => match &created.target {
            Some(target) => Answer::pass(format!("the target is {target}")).with("target", target.as_str()),
            None => Answer::pass("nothing in the runbook is changing, it needs no target"),
        },
        None => Answer::off("no runbook is selected"),
    }
}
