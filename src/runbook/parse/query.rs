//! A question to Prometheus, as the verify, a step or a wait asks it.

use super::templates;
use crate::document::{Table, Value};
use crate::model::Expect;
use crate::runbook::template::{Scope, Template};

/// How an expectation is written.
pub(super) const EXPECT_HELP: &str =
    "write expect = \"== 1\", with > >= < <= == != and a number, or \"absent\"";

/// The query.
pub(super) fn query(value: &Value<'_>, scope: &Scope) -> Option<Template> {
    templates::filled(value, scope, "the query is blank", "write a PromQL query")
}

/// The key `expect`, which only a query has.
pub(super) fn expect(table: &mut Table<'_>, is_query: bool) -> Option<Expect> {
    let value = if is_query { table.require("expect", EXPECT_HELP)? } else { table.take("expect")? };
    if !is_query {
        value.error("only a query has something to expect", "remove it");
    }
    value.parsed(EXPECT_HELP, Expect::parse)
}

/// The key `alert_resolved`, which says something only when true.
pub(super) fn alert_resolved(table: &mut Table<'_>) -> bool {
    let Some(value) = table.take("alert_resolved") else { return false };
    let flag = value.boolean();
    if flag == Some(false) {
        value.error("false asks for nothing", "write alert_resolved = true, or remove it");
    }
    flag == Some(true)
}
