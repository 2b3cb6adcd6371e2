//! Whose consent is needed: the section `[approval]`, and the kind `approve` that starts from it.

use super::{DAY, templates};
use crate::document::{Table, Value};
use crate::runbook::definition::{Approval, Approve};
use crate::runbook::template::Scope;
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
