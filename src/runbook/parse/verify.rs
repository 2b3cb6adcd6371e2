//! The section `[verify]`: what decides success.

use super::{DAY, MINUTE, templates};
use crate::document::Table;
use crate::model::Expect;
use crate::runbook::definition::{Condition, Verify};
use crate::runbook::template::Scope;
use std::time::Duration;

pub(super) fn read(mut table: Table<'_>, scope: &Scope) -> Option<Verify> {
    let (query, resolved) = (table.has("promql"), table.has("alert_resolved"));
    if query == resolved {
        let message = if query {
            "verify has two conditions: promql, alert_resolved"
        } else {
            "verify has no condition"
        };
        table.error(message, "write either promql and expect, or alert_resolved = true");
    }
    let promql = table.take("promql").and_then(|value| {
        let query = templates::template(&value, scope)?;
        if query.source().trim().is_empty() {
            value.error("the query is blank", "write a PromQL query");
            return None;
        }
        Some(query)
    });
    let alert_resolved = table.take("alert_resolved").and_then(|value| {
        let flag = value.boolean()?;
        if !flag {
            value.error("false asks for nothing", "write alert_resolved = true, or remove it");
        }
        flag.then_some(Condition::AlertResolved)
    });
    let help = "write expect = \"== 1\", with > >= < <= == != and a number, or \"absent\"";
    let expect = if query { table.require("expect", help) } else { table.take("expect") };
    if let Some(value) = expect.as_ref().filter(|_| resolved && !query) {
        value.error("only a query has something to expect", "remove it");
    }
    let expect = expect.and_then(|value| value.parsed(help, Expect::parse));
    let within = table.take("within").and_then(|value| value.duration(Duration::from_millis(10)..=DAY));
    let within = within.unwrap_or(5 * MINUTE);
    let hold = table.take("hold").and_then(|value| {
        let hold = value.duration(Duration::ZERO..=DAY)?;
        if hold > within {
            let message = "it cannot hold for longer than there is time";
            value.error(message, "make `hold` shorter or `within` longer");
        }
        Some(hold)
    });
    table.finish();
    let promql = promql.zip(expect).map(|(query, expect)| Condition::Promql { query, expect });
    let condition = promql.or(alert_resolved)?;
    Some(Verify { condition, within, hold: hold.unwrap_or_default() })
}
