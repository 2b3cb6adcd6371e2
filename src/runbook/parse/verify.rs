//! The section `[verify]`: what decides success.

use super::{DAY, MINUTE, query};
use crate::document::Table;
use crate::runbook::definition::{Condition, Verify};
use crate::runbook::template::Scope;
use std::time::Duration;

pub(super) fn read(mut table: Table<'_>, scope: &Scope) -> Option<Verify> {
    let (asks, resolved) = (table.has("promql"), table.has("alert_resolved"));
    if asks == resolved {
        let message = if asks {
            "verify has two conditions: promql, alert_resolved"
        } else {
            "verify has no condition"
        };
        table.error(message, "write either promql and expect, or alert_resolved = true");
    }
    let promql = table.take("promql").and_then(|value| query::query(&value, scope));
    let alert_resolved = query::alert_resolved(&mut table).then_some(Condition::AlertResolved);
    let expect = query::expect(&mut table, asks);
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
