//! `breakers` and `quarantine`: what automation keeps away from, and letting it act again.
//!
//! May import: nothing of this crate outside this room. Must never: cut a key or a target, because it is there to be
//! copied.

use super::args::{Breaker, BreakersVerb, QuarantineVerb, Shape};
use super::client::{Answer, Client};
use super::executions::{page, print_page};
use super::field;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::table::Table;
use serde_json::{Value, json};

/// Carries out a verb on breakers.
pub(super) async fn breakers(
    client: &Client,
    verb: &BreakersVerb,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let (verb, Breaker { key, reason }) = match verb {
        BreakersVerb::List { state, page: wanted } => {
            let (limit, cursor) = page(wanted);
            let state = state.as_deref().unwrap_or_default();
            let query = [("state", state), ("limit", &limit), ("cursor", cursor)];
            let answer = client.get(&["api", "breakers"], &query).await?;
            return shown(client, &answer, breaker_list, screen);
        }
        BreakersVerb::Reset(breaker) => ("reset", breaker),
        BreakersVerb::Open(breaker) => ("open", breaker),
    };
    let answer = client.post(&["api", "breakers", key, verb], &json!({ "reason": reason })).await?;
    shown(client, &answer, one_breaker, screen)
}

/// Carries out a verb on quarantined targets.
pub(super) async fn quarantine(
    client: &Client,
    verb: &QuarantineVerb,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match verb {
        QuarantineVerb::List { page: wanted } => {
            let (limit, cursor) = page(wanted);
            let query = [("limit", limit.as_str()), ("cursor", cursor)];
            let answer = client.get(&["api", "quarantine"], &query).await?;
            shown(client, &answer, quarantine_list, screen)
        }
        QuarantineVerb::Clear { target, reason } => {
            let path = ["api", "quarantine", target];
            let answer = client.delete(&path, &json!({ "reason": reason })).await?;
            shown(client, &answer, cleared, screen)
        }
    }
}

fn shown(
    client: &Client,
    answer: &Answer,
    table: fn(&Value, &mut Screen<'_>) -> Result<(), Quit>,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => table(&answer.value, screen)?,
    }
    Ok(YES)
}

fn breaker_list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default()
        .status("STATE")
        .whole("FAILURES")
        .whole("OPENED (UTC)")
        .whole("TRIES AT (UTC)")
        .whole("PROFILE")
        .whole("KEY");
    for item in field::list(value, "breakers") {
        let text = |key| field::text(item, key);
        let retry = match item["forced"].as_bool() {
            Some(true) => "when it is reset".to_owned(),
            _ => field::stamp(item, "retry_at"),
        };
        table.row([
            text("state"),
            text("failures"),
            field::stamp(item, "opened_at"),
            retry,
            text("profile"),
            text("key"),
        ]);
    }
    print_page(&table, value, "no breaker has a failure on record", screen)
}

fn one_breaker(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let state = screen.paint(&field::text(value, "state"));
    screen.line(format!("{} {state}", field::text(value, "key")).trim())
}

fn quarantine_list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table =
        Table::default().whole("SINCE (UTC)").whole("TARGET").whole("EXECUTION").elastic("REASON", 20);
    for item in field::list(value, "quarantine") {
        let text = |key| field::text(item, key);
        table.row([field::stamp(item, "at"), text("target"), text("execution_id"), text("reason")]);
    }
    print_page(&table, value, "no target is quarantined", screen)
}

fn cleared(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    screen.line(&format!("{} cleared", field::text(value, "target")))
}
