//! What was done to a target has time to take effect before anything is done to it again.

use super::super::{Answer, Case};
use crate::guard::Cooling;
use humantime::format_duration;

/// Asks.
pub(in crate::admit) fn ask(case: &Case<'_>) -> Answer {
    let created = match case.to_count() {
        Ok(created) => created,
        Err(answer) => return answer,
    };
    let Some(cooldown) = case.guards.settings.cooldown else {
        return Answer::off("turned off: cooldown is false");
    };
    let on = created.target.as_ref().map_or_else(String::new, |target| format!(" on {target}"));
    let wait = format_duration(cooldown);
    let answer = match case.guards.runs.cooling(cooldown, case.guards.counted) {
        Cooling::No(None) => Answer::pass(format!("nothing was started{on} yet")),
        Cooling::No(Some(last)) => {
            Answer::pass(format!("the last start or end{on} was at {last}, more than {wait} ago"))
                .with("last", last.to_string())
        }
        Cooling::Live(ulid) => {
            let id = format!("{}_{ulid}", created.runbook);
            Answer::deny(format!("{id} is not over{on}; {wait} after its end there may be another"))
                .with("execution_id", id)
        }
        Cooling::Until { last, opens_at } => Answer::deny(format!(
            "the last start or end{on} was at {last}; after {wait}, at {opens_at}, there may be another"
        ))
        .with("last", last.to_string())
        .with("until", opens_at.to_string()),
    };
    answer.with("cooldown", wait.to_string())
}
