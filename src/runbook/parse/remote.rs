//! The kinds that ask another program to do something: `promql`, `runbook`, `silence` and `ssh`.

use super::{Around, DAY, inputs, kinds, query, templates};
use crate::document::{Table, Value};
use crate::model::{Labels, Matcher, RunbookId};
use crate::runbook::definition::{Kind, Silence, Ssh};
use crate::runbook::template::{Scope, Template};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn promql(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    let query = table.require("query", "write a PromQL query");
    let query = query.and_then(|value| query::query(&value, scope));
    let expect = query::expect(&mut table, true);
    let range = table.take("range").map(|value| value.duration(SECOND..=30 * DAY));
    table.finish();
    Some(Kind::Promql { query: query?, expect: expect?, range: range.flatten() })
}

pub(super) fn runbook(mut table: Table<'_>, scope: &Scope, around: &Around<'_>) -> Option<Kind> {
    let id =
        table.require("id", "write id = \"name\", the name of its file without .toml").and_then(|value| {
            let id = value.parsed("use letters, digits, _ and -", RunbookId::new)?;
            if id == *around.id {
                value.error("the runbook calls itself", "name another one; to do a step again use `retry`");
                return None;
            }
            around.calls.borrow_mut().push(value.place());
            Some(id)
        });
    let values = table.take("inputs").and_then(Value::table).map(|inner| values(inner, scope));
    table.finish();
    Some(Kind::Runbook { id: id?, inputs: values.unwrap_or_default() })
}

fn values(mut table: Table<'_>, scope: &Scope) -> BTreeMap<String, Template> {
    let mut values = BTreeMap::new();
    for (name, value) in table.take_all() {
        if !inputs::is_name(&name.value) {
            let message = format!("{:?} is not an input's name", name.value);
            value.problems().error(name.span.clone(), value.path(), message, "use [A-Za-z_][A-Za-z0-9_]*");
        }
        if let Some(template) = templates::template(&value, scope) {
            values.insert(name.value, template);
        }
    }
    values
}

pub(super) fn silence(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    let matchers = table.require("matchers", "write matchers = ['instance={{ labels.instance | promql }}']");
    let matchers = matchers.and_then(|value| matchers_of(value, scope));
    let duration = table.require("for", "write for = \"30m\", after which it ends in any case");
    let duration = duration.and_then(|value| value.duration(SECOND..=30 * DAY));
    let help = "write why, for whoever finds the silence";
    let comment = table.require("comment", help);
    let comment = comment.and_then(|value| templates::filled(&value, scope, "the comment is blank", help));
    table.finish();
    Some(Kind::Silence(Silence { matchers: matchers?, duration: duration?, comment: comment? }))
}

/// Those without a template can be read already.
fn matchers_of(value: Value<'_>, scope: &Scope) -> Option<Vec<Template>> {
    const HELP: &str = "write it as in Alertmanager, such as 'team=\"platform\"'";
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.is_empty() {
        problems.error(site, &path, "without a matcher it would silence every alert", HELP);
        return None;
    }
    let mut matchers = Vec::new();
    let mut read = Vec::new();
    for item in &items {
        let Some(template) = templates::template(item, scope) else { continue };
        if template.is_literal() {
            read.extend(item.parsed(HELP, Matcher::parse));
        } else if is_regex(&template) {
            let help = "a value such as `.*` would silence more; prefer = and the filter `promql`";
            item.warning("a value becomes part of a regular expression", help);
        }
        matchers.push(template);
    }
    if read.len() == items.len() && read.iter().all(|matcher| matcher.matches(&Labels::new())) {
        let help = "Alertmanager wants one that a label must be there for, such as 'team=\"platform\"'";
        problems.error(site, &path, "the matchers would silence alerts with no label at all", help);
    }
    (matchers.len() == items.len()).then_some(matchers)
}

fn is_regex(template: &Template) -> bool {
    template.literal_parts().next().is_some_and(|part| {
        let text = &template.source()[part];
        text.find(['=', '!']).is_some_and(|at| ["=~", "!~"].iter().any(|regex| text[at..].starts_with(regex)))
    })
}

pub(super) fn ssh(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    let host = table.require("host", "write host = \"{{ labels.instance }}\"");
    let host = host.and_then(|value| word(&value, scope, "host"));
    let port =
        table.take("port").and_then(|value| value.integer(1..=65535)).and_then(|port| port.try_into().ok());
    let user = table.require("user", "write user = \"deploy\"").and_then(|value| word(&value, scope, "user"));
    let (program, args) = kinds::program_and_args(&mut table, scope);
    let key = table.require("key", "write key = \"name\", of a secret that holds the private key");
    let key = key.and_then(|value| templates::secret_name(&value));
    let help = "write known_hosts = \"/etc/runbookd/known_hosts\", the keys that are accepted";
    let known_hosts = table.require("known_hosts", help).and_then(|value| file(&value));
    let (ok_exit, max_output) = kinds::limits(&mut table);
    table.finish();
    let (host, user, program, key) = (host?, user?, program?, key?);
    let known_hosts = known_hosts?;
    Some(Kind::Ssh(Ssh { host, port, user, program, args, key, known_hosts, ok_exit, max_output }))
}

/// A host or a user: a word that ssh cannot take for an option.
fn word(value: &Value<'_>, scope: &Scope, what: &str) -> Option<Template> {
    let message = format!("the {what} is blank");
    let template = templates::filled(value, scope, &message, "write one word")?;
    let source = template.source();
    let bad = |c: char| c.is_whitespace() || c.is_control() || "@/\\".contains(c);
    for part in template.literal_parts() {
        let option = (part.start == 0 && source.starts_with('-')).then_some(0);
        let found = source[part.clone()].find(bad).map(|at| part.start + at);
        if let Some(at) = option.or(found) {
            let end = at + source[at..].chars().next().map_or(1, char::len_utf8);
            let message = format!("this cannot stand in the name of a {what}");
            value.error_within(Some(at..end), message, "write the bare name; `user` and `port` are keys");
            return None;
        }
    }
    Some(template)
}

fn file(value: &Value<'_>) -> Option<String> {
    let path = templates::literal(value, "the file of accepted host keys is literal")?.value;
    if !path.starts_with('/') || path.ends_with('/') || path.chars().any(char::is_control) {
        value.error("this is not the absolute path of a file", "begin it with /");
        return None;
    }
    Some(path)
}
