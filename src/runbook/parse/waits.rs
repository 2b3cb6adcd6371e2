//! The kinds that let time pass, or wait for a condition or a person: `wait` and `instruct`.

use super::{DAY, http, query, templates};
use crate::document::{Table, Value};
use crate::runbook::definition::{Kind, Until, UntilCondition};
use crate::runbook::template::Scope;
use std::time::Duration;

/// Between two questions, unless the file says.
const EVERY: Duration = Duration::from_secs(5);

pub(super) fn wait(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    const HELP: &str = "write for = \"30s\", or until = { promql = \"…\", expect = \"== 1\" }";
    match (table.has("for"), table.has("until")) {
        (true, true) => table.error("the wait has two ends: for, until", "keep one of them"),
        (false, false) => table.error("the wait has no end", HELP),
        _ => {}
    }
    let duration = table.take("for").and_then(|value| value.duration(Duration::from_millis(1)..=DAY));
    let until = table.take("until").and_then(Value::table).and_then(|inner| until(inner, scope));
    table.finish();
    duration.map(|duration| Kind::Wait { duration }).or(until.map(Kind::Until))
}

fn until(mut table: Table<'_>, scope: &Scope) -> Option<Until> {
    const CONDITIONS: [&str; 3] = ["promql", "http", "alert_resolved"];
    let given: Vec<&str> = CONDITIONS.into_iter().filter(|condition| table.has(condition)).collect();
    if given.is_empty() {
        table.error("it waits for nothing", "give it one of: promql, http, alert_resolved");
    } else if given.len() > 1 {
        table.error(format!("it waits for several things: {}", given.join(", ")), "keep one of them");
    }
    let asks = table.has("promql");
    let promql = table.take("promql").and_then(|value| query::query(&value, scope));
    let expect = query::expect(&mut table, asks);
    let http = table.take("http").and_then(Value::table).and_then(|inner| http::read_look(inner, scope));
    let resolved = query::alert_resolved(&mut table).then_some(UntilCondition::AlertResolved);
    let every = table.take("every");
    if let Some(value) = every.as_ref().filter(|_| given == ["alert_resolved"]) {
        value.error("nothing is asked: the resolved alert comes by itself", "remove it");
    }
    let every =
        every.and_then(|value| value.duration(Duration::from_millis(100)..=Duration::from_secs(3600)));
    table.finish();
    let promql = promql.zip(expect).map(|(query, expect)| UntilCondition::Promql { query, expect });
    let condition = promql.or(http.map(|http| UntilCondition::Http(Box::new(http)))).or(resolved)?;
    Some(Until { condition, every: every.unwrap_or(EVERY) })
}

pub(super) fn instruct(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    let help = "write what people should do";
    let text = table.require("text", help);
    let text = text.and_then(|value| templates::filled(&value, scope, "the text is blank", help));
    let acknowledge = table.take("acknowledge").and_then(|value| value.boolean()).unwrap_or(false);
    table.finish();
    text.map(|text| Kind::Instruct { text, acknowledge })
}
