//! Whose consent is needed: the section `[approval]`, the kind `approve` that starts from it, and the step that comes
//! first in mode `approve`.

use super::{DAY, templates};
use crate::document::{Problems, Table, Value};
use crate::model::{Effect, StepId};
use crate::runbook::definition::{Approval, Approve, Kind, OnFailure, Retry, Step};
use crate::runbook::template::{Scope, Template};
use std::time::Duration;

/// The section; its keys are the defaults of every `approve`.
pub(super) fn section(mut table: Table<'_>) -> Approval {
    let approval = terms(&mut table, &Approval::default());
    table.finish();
    approval
}

/// The kind.
pub(super) fn approve(mut table: Table<'_>, scope: &Scope, defaults: &Approval) -> Option<Approve> {
    let help = "write what is asked, such as message = \"Restart {{ labels.instance }}?\"";
    let message = table.require("message", help);
    let message = message.and_then(|value| templates::filled(&value, scope, "the message is blank", help));
    let approval = terms(&mut table, defaults);
    table.finish();
    message.map(|message| Approve { message, approval })
}

fn terms(table: &mut Table<'_>, defaults: &Approval) -> Approval {
    let count = table.take("count").and_then(|value| value.integer(1..=20));
    let roles = table.take("roles").and_then(roles);
    let expires = table.take("expires").and_then(|value| value.duration(Duration::from_secs(1)..=30 * DAY));
    let not_requester = table.take("not_requester").and_then(|value| value.boolean());
    Approval {
        count: count.and_then(|count| count.try_into().ok()).unwrap_or(defaults.count),
        roles: roles.unwrap_or_else(|| defaults.roles.clone()),
        expires: expires.unwrap_or(defaults.expires),
        not_requester: not_requester.unwrap_or(defaults.not_requester),
    }
}

fn roles(value: Value<'_>) -> Option<Vec<String>> {
    let mut roles = Vec::new();
    for item in value.array()? {
        let Some(role) = templates::literal(&item, "a role is literal") else { continue };
        if role.value.trim().is_empty() || role.value.chars().any(char::is_control) {
            item.error("this is not a role", "write a role of [auth.roles], or a built-in one");
        } else {
            roles.push(role.value);
        }
    }
    Some(roles)
}

/// The id of the step that comes first in mode `approve`.
const FIRST: &str = "approval";

/// Puts a step before all others that asks for consent to all of them.
pub(super) fn ask_first(steps: &mut Vec<Step>, title: &str, terms: &Approval, problems: &Problems) {
    let Ok(id) = StepId::new(FIRST) else { return };
    if steps.iter().any(|step| step.id == id) {
        let message =
            format!("in mode \"approve\" a step `{FIRST}` comes before all others, and here is another one");
        problems.error(0..0, "steps", message, "give the step another id");
        return;
    }
    for step in steps.iter_mut() {
        step.after.iter_mut().for_each(|position| *position += 1);
        if step.after.is_empty() && !step.is_finally {
            step.after.push(0);
        }
    }
    // A title holds no template; one that looks like it is left out of the question.
    let message = Template::parse(&format!("May {title:?} run?")).or_else(|_| Template::parse("May it run?"));
    let Ok(message) = message else { return };
    let first = Step {
        id,
        title: "May it run?".to_owned(),
        kind: Kind::Approve(Approve { message, approval: terms.clone() }),
        effect: Effect::ReadOnly,
        when: None,
        after: Vec::new(),
        timeout: terms.expires,
        total_timeout: None,
        retry: Retry::default(),
        on_failure: OnFailure::Stop,
        probe: None,
        breaker: None,
        irreversible: false,
        is_finally: false,
        for_each: None,
        undo: None,
    };
    steps.insert(0, first);
}
