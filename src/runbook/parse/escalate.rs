//! Who is told: the section `[escalate]`, and the kind `notify`.
//!
//! Whether there is a notifier or a policy of a name is known only with the config; here only its shape is.

use super::templates;
use crate::document::{Table, Value};
use crate::model::is_word;
use crate::runbook::definition::{Kind, Notify};
use crate::runbook::template::Scope;

/// The most names in one list.
const MAX_NAMES: usize = 16;
const HELP: &str = "write the name of a section [notifiers.NAME] or [policies.NAME] of the config";

/// Reads `[escalate]`.
pub(super) fn read(mut table: Table<'_>) -> Option<Vec<String>> {
    let to = table.require("to", "write to = [\"oncall\"], or to = [] to tell nobody").and_then(names);
    table.finish();
    to
}

/// Reads the kind `notify`.
pub(super) fn notify(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    let to = table.require("to", "write to = [\"oncall\"]").and_then(|value| {
        let (place, problems) = (value.span(), value.problems());
        let path = value.path().to_owned();
        let names = names(value)?;
        if names.is_empty() {
            problems.error(place, &path, "the message goes to nobody", HELP);
            return None;
        }
        Some(names)
    });
    let help = "write what people should know";
    let message = table.require("message", help);
    let message = message.and_then(|value| templates::filled(&value, scope, "the message is blank", help));
    table.finish();
    Some(Kind::Notify(Notify { to: to?, message: message? }))
}

fn names(value: Value<'_>) -> Option<Vec<String>> {
    let (place, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.len() > MAX_NAMES {
        problems.error(place, &path, format!("at most {MAX_NAMES} names"), "put several into a policy");
        return None;
    }
    let count = items.len();
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = templates::literal(&item, HELP) else { continue };
        if !is_word(&name.value) {
            item.error("this is not the name of a notifier or a policy", HELP);
        } else if names.contains(&name.value) {
            item.error(format!("{:?} stands here twice", name.value), "name each once");
        } else {
            names.push(name.value);
        }
    }
    // With one left out, somebody else than was meant would be told, or nobody.
    (names.len() == count).then_some(names)
}
