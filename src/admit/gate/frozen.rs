//! In a freeze automation starts nothing.

use super::super::{Answer, Case};
use crate::guard::freeze::{in_force, thaws};

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let freezes = case.guards.freezes;
    let Some(until) = thaws(freezes, case.now) else {
        return Answer::pass("no freeze is in force");
    };
    let names: Vec<&str> = in_force(freezes, case.now).map(|(freeze, _)| freeze.name.as_str()).collect();
    let named: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    Answer::deny(format!("frozen by {} until {until}", named.join(" and ")))
        .with("freezes", names)
        .with("until", until.to_string())
}
