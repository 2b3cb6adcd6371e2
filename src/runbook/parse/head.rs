//! The keys at the top of the file, `[allow]` and `[required_claims]`.

use super::{DAY, MINUTE, templates};
use crate::document::{Sited, Table, Value};
use crate::model::{Matcher, RunbookId, Target, is_word};
use crate::runbook::definition::{Mode, OnResolved};
use crate::runbook::template::{Scope, Template};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the top of the file says.
pub(super) struct Head {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) mode: Mode,
    pub(super) alerts: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) on_resolved: OnResolved,
    pub(super) breaker: Option<Sited<String>>,
    pub(super) allow: Option<Vec<Matcher>>,
    pub(super) required_claims: BTreeMap<String, Vec<String>>,
}

pub(super) fn read(id: &RunbookId, root: &mut Table<'_>) -> Head {
    let title = root.take("title").and_then(|value| one_line(&value));
    let description = root.take("description").and_then(|value| value.string());
    Head {
        title: title.unwrap_or_else(|| id.to_string()),
        description: description.map(|text| text.value).unwrap_or_default(),
        mode: mode(root),
        alerts: root.take("alerts").and_then(|value| texts(value, "name an alert")).unwrap_or_default(),
        timeout: root
            .take("timeout")
            .and_then(|value| value.duration(Duration::from_secs(1)..=30 * DAY))
            .unwrap_or(15 * MINUTE),
        on_resolved: root
            .take("on_resolved")
            .and_then(|value| {
                value.one_of(&[
                    ("finish", OnResolved::Finish),
                    ("continue", OnResolved::Continue),
                    ("stop", OnResolved::Stop),
                    ("rollback", OnResolved::Rollback),
                ])
            })
            .unwrap_or(OnResolved::Finish),
        breaker: root.take("breaker").and_then(|value| breaker(&value)),
        allow: root.take("allow").and_then(Value::table).and_then(allow),
        required_claims: root.take("required_claims").and_then(Value::table).map(claims).unwrap_or_default(),
    }
}

/// A text for one line of a list.
pub(super) fn one_line(value: &Value<'_>) -> Option<String> {
    let text = templates::literal(value, "write a plain title")?.value;
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > 200 {
        value.error("a title is one line of 1 to 200 characters", "shorten it, or use `description`");
        return None;
    }
    Some(text)
}

/// The name of a profile. Whether there is one of this name is known only with the config.
fn breaker(value: &Value<'_>) -> Option<Sited<String>> {
    let help = "write default, aggressive, tolerant or the name of a section [breakers.NAME] of the config";
    let name = templates::literal(value, help)?;
    if !is_word(&name.value) {
        value.error("this is not the name of a breaker profile", help);
        return None;
    }
    Some(name)
}

fn mode(root: &mut Table<'_>) -> Mode {
    let Some(value) = root.take("mode") else {
        let message = "the mode is not set, so the runbook is only shown, never run";
        root.problems().warning(0..0, "mode", message, "write mode = \"shadow\" or mode = \"auto\"");
        return Mode::Shadow;
    };
    let words = [
        ("disabled", Mode::Disabled),
        ("shadow", Mode::Shadow),
        ("approve", Mode::Approve),
        ("auto", Mode::Auto),
    ];
    value.one_of(&words).unwrap_or(Mode::Shadow)
}

/// A list of texts none of which is blank.
fn texts(value: Value<'_>, help: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for item in value.array()? {
        match item.string() {
            Some(text) if text.value.trim().is_empty() => item.error("the text is blank", help),
            Some(text) => texts.push(text.value),
            None => {}
        }
    }
    Some(texts)
}

fn allow(mut table: Table<'_>) -> Option<Vec<Matcher>> {
    let value = table.require("matchers", "write matchers = ['team=\"platform\"']");
    table.finish();
    let value = value?;
    let site = value.span();
    let path = value.path().to_owned();
    let problems = value.problems();
    let items = value.array()?;
    if items.is_empty() {
        let message = "no matchers would let every alert select this runbook";
        problems.error(site, &path, message, "write at least one matcher, or remove [allow]");
        return None;
    }
    let help = "write it as in Alertmanager, such as 'team=\"platform\"'";
    Some(items.iter().filter_map(|item| item.parsed(help, Matcher::parse)).collect())
}

/// Each claim's accepted values. What cannot be read here must deny, so it is an error.
fn claims(mut table: Table<'_>) -> BTreeMap<String, Vec<String>> {
    table.take_all().into_iter().map(|(name, value)| (name.value, claim(value))).collect()
}

fn claim(value: Value<'_>) -> Vec<String> {
    let help = "write a list of texts, or one text with commas between the values";
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let values: Vec<String> = if value.is_string() {
        let text = value.string().map(|text| text.value).unwrap_or_default();
        text.split(',').map(|part| part.trim().to_owned()).collect()
    } else if value.is_array() {
        value.strings().into_iter().flatten().map(|text| text.value.trim().to_owned()).collect()
    } else {
        value.error("a claim's values are texts", help);
        return Vec::new();
    };
    if values.is_empty() || values.iter().any(String::is_empty) {
        problems.error(site, &path, "a claim needs values, none of them blank", help);
    }
    values
}

/// What the runbook acts on.
pub(super) fn target(value: &Value<'_>, scope: &Scope) -> Option<Template> {
    one_thing(value, scope, "target")
}

/// The name of one thing: a target or a lock. Where it stands, no execution exists yet.
pub(super) fn one_thing(value: &Value<'_>, scope: &Scope, what: &str) -> Option<Template> {
    let template = templates::template(value, scope)?;
    let source = template.source();
    for part in template.literal_parts() {
        if let Some(at) = source[part.clone()].find(['*', '?']) {
            let at = part.start + at;
            let help = "name one thing; a pattern could mean all of them";
            value.error_within(Some(at..at + 1), format!("a {what} cannot contain a wildcard"), help);
            return None;
        }
    }
    let literal: String = template.literal_parts().map(|part| &source[part]).collect();
    if !template.has_tags() && literal.trim().is_empty() {
        value.error(
            format!("the {what} is blank"),
            "name what the runbook acts on, such as \"{{ labels.instance }}\"",
        );
        return None;
    }
    if template.is_literal() && Target::new(&literal).is_err() {
        value.error(format!("this is not a {what}"), "1 to 1024 bytes, without control characters");
        return None;
    }
    Some(template)
}
