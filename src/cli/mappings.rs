//! `mappings`: what leads alerts to runbooks by their labels.
//!
//! May import: nothing of this crate outside this room. Must never: cut a matcher, because it is there to be copied.

use super::args::{MappingsVerb, Shape};
use super::client::{Answer, Client};
use super::executions::{page, print_page};
use super::field;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::table::Table;
use serde_json::{Value, json};

/// Carries out a verb on mappings.
pub(super) async fn run(client: &Client, verb: &MappingsVerb, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    match verb {
        MappingsVerb::List { page: wanted } => {
            let (limit, cursor) = page(wanted);
            let query = [("limit", limit.as_str()), ("cursor", cursor)];
            let answer = client.get(&["api", "mappings"], &query).await?;
            match client.shape {
                Shape::Json => screen.line(&answer.pretty())?,
                Shape::Table => list(&answer.value, screen)?,
            }
        }
        MappingsVerb::Set { name, matchers, runbook, reason } => {
            let body = json!({ "matchers": matchers, "runbook": runbook.as_str(), "reason": reason });
            told(client, &client.put(&["api", "mappings", name], &body).await?, "set", screen)?;
        }
        MappingsVerb::Delete { name, reason } => {
            let body = json!({ "reason": reason });
            told(client, &client.delete(&["api", "mappings", name], &body).await?, "deleted", screen)?;
        }
    }
    Ok(YES)
}

fn told(client: &Client, answer: &Answer, what: &str, screen: &mut Screen<'_>) -> Result<(), Quit> {
    match client.shape {
        Shape::Json => screen.line(&answer.pretty()),
        Shape::Table => screen.line(&format!("{} {what}", field::text(&answer.value, "name"))),
    }
}

fn list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default()
        .whole("ORDER")
        .whole("ORIGIN")
        .elastic("NAME", 8)
        .whole("RUNBOOK")
        .whole("MATCHERS")
        .whole("PROBLEM");
    for item in field::list(value, "mappings") {
        let text = |key| field::text(item, key);
        table.row([
            text("order"),
            text("origin"),
            text("name"),
            text("runbook"),
            field::words(item, "matchers"),
            text("problem"),
        ]);
    }
    print_page(&table, value, "the server has no mappings", screen)
}
