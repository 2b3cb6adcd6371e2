//! A resolved alert starts nothing.

use super::super::{Answer, Case};
use crate::model::{AlertStatus, Reason};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    if case.occasion.is_some() {
        return Answer::off("a schedule does not resolve");
    }
    match case.alert.status {
        AlertStatus::Firing => Answer::pass("the alert is firing"),
        AlertStatus::Resolved => Answer::deny(Reason::Resolved.sentence()),
    }
}
