//! `schedules`: what runs by the clock.
//!
//! May import: nothing of this crate outside this room. Must never: compute a time by itself; the server's are shown.

use super::args::{SchedulesVerb, Shape};
use super::client::Client;
use super::executions::{page, print_page};
use super::field;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::table::Table;
use serde_json::Value;

/// Carries out a verb on schedules.
pub(super) async fn run(client: &Client, verb: &SchedulesVerb, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let SchedulesVerb::List { page: wanted } = verb;
    let (limit, cursor) = page(wanted);
    let query = [("limit", limit.as_str()), ("cursor", cursor)];
    let answer = client.get(&["api", "schedules"], &query).await?;
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => list(&answer.value, screen)?,
    }
    Ok(YES)
}

fn list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default()
        .elastic("NAME", 8)
        .whole("CRON")
        .whole("ZONE")
        .elastic("RUNBOOK", 8)
        .whole("NEXT (UTC)")
        .whole("LAST (UTC)")
        .whole("WHY")
        .whole("PROBLEM");
    for item in field::list(value, "schedules") {
        let text = |key| field::text(item, key);
        table.row([
            text("name"),
            text("cron"),
            text("zone"),
            text("runbook"),
            field::stamp(item, "next_at"),
            field::stamp(item, "last_at"),
            text("last_reason"),
            text("problem"),
        ]);
    }
    print_page(&table, value, "the server has no schedules", screen)
}
