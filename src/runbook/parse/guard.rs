//! The section `[guard]`: what keeps automation from doing too much with this runbook.

use super::{head, query};
use crate::document::{Table, Value};
use crate::guard;
use crate::runbook::definition::{Guard, MaxUnhealthy, Precheck, Unhealthy};
use crate::runbook::template::Scope;

/// `before` knows what is known before the execution exists, `first` what is known before its first step.
pub(super) fn read(mut table: Table<'_>, before: &Scope, first: &Scope) -> Guard {
    let guard = Guard {
        settings: guard::overrides(&mut table),
        max_unhealthy: table
            .take("max_unhealthy")
            .and_then(Value::table)
            .and_then(|table| max_unhealthy(table, first)),
        precheck: table.take("precheck").and_then(Value::table).and_then(|table| precheck(table, first)),
        lock: table.take("lock").and_then(|value| head::one_thing(&value, before, "lock")),
    };
    table.finish();
    guard
}

fn precheck(mut table: Table<'_>, scope: &Scope) -> Option<Precheck> {
    let promql = table.require("promql", "write a PromQL query");
    let promql = promql.and_then(|value| query::query(&value, scope));
    let expect = query::expect(&mut table, true);
    table.finish();
    Some(Precheck { query: promql?, expect: expect? })
}

fn max_unhealthy(mut table: Table<'_>, scope: &Scope) -> Option<MaxUnhealthy> {
    let promql = table.require("promql", "write a PromQL query that counts what is unhealthy");
    let promql = promql.and_then(|value| query::query(&value, scope));
    let limit = table.require("limit", "write limit = \"30%\" or a number");
    let limit = limit.and_then(|value| Some((unhealthy(&value)?, value)));
    let of = table.take("of").map(|value| (value.place(), value.table()));
    let has_of = of.is_some();
    match (&limit, &of) {
        (Some((Unhealthy::Percent(_), value)), None) => {
            let help = "add of = { promql = \"…\" } that counts all of them, or write a number";
            value.error("a percentage of what?", help);
        }
        (Some((Unhealthy::Count(_), _)), Some((place, _))) => {
            let help = "remove it, or write a percentage";
            let severity = crate::document::Severity::Error;
            table.problems().add(place.problem(severity, "a number is not a part of anything", help));
        }
        _ => {}
    }
    let of = of.and_then(|(_, table)| table).and_then(|mut table| {
        let promql = table.require("promql", "write a PromQL query that counts all of them");
        let promql = promql.and_then(|value| query::query(&value, scope));
        table.finish();
        promql
    });
    table.finish();
    let (limit, _) = limit?;
    (has_of == of.is_some()).then_some(MaxUnhealthy { query: promql?, limit, of })
}

fn unhealthy(value: &Value<'_>) -> Option<Unhealthy> {
    const HELP: &str = "write a percentage up to 100%, such as \"30%\", or a number without quotes";
    if !value.is_string() {
        return value.number(0.0..=1e9).map(Unhealthy::Count);
    }
    value.parsed(HELP, |text| {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0);
        percent.map(Unhealthy::Percent).ok_or_else(|| format!("{text:?} is not a percentage"))
    })
}

/// Complains of a lock that nothing holds, given where it stands.
pub(super) fn idle_lock(place: &crate::document::Place) -> crate::document::Problem {
    let help = "remove it, or give the steps their real `effect`";
    let message = "no step is changing, so nothing holds the lock";
    place.problem(crate::document::Severity::Warning, message, help)
}
