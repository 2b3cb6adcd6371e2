//! `escalations`: what people were told, and taking it.
//!
//! May import: nothing of this crate outside this room. Must never: cut an id, because it is there to be copied.

use super::args::{EscalationsVerb, Shape};
use super::client::Client;
use super::executions::{page, print_page};
use super::field;
use super::quit::{NO, Quit, YES};
use super::screen::Screen;
use super::table::Table;
use serde_json::{Value, json};

/// Shows an answer to a person.
type Show = fn(&Value, &mut Screen<'_>) -> Result<(), Quit>;

/// Carries out a verb on escalations.
pub(super) async fn run(
    client: &Client,
    verb: &EscalationsVerb,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let (answer, table): (_, Show) = match verb {
        EscalationsVerb::List { state, runbook, page: wanted } => {
            let (limit, cursor) = page(wanted);
            let query = [
                ("state", state.as_deref().unwrap_or_default()),
                ("runbook", runbook.as_deref().unwrap_or_default()),
                ("limit", &limit),
                ("cursor", cursor),
            ];
            (client.get(&["api", "escalations"], &query).await?, list)
        }
        EscalationsVerb::Acknowledge { id, reason } => {
            let path = ["api", "escalations", id, "acknowledge"];
            (client.post(&path, &json!({ "reason": reason })).await?, one)
        }
        EscalationsVerb::Test { name, reason } => {
            let path = ["api", "notifiers", name, "test"];
            (client.post(&path, &json!({ "reason": reason })).await?, tested)
        }
    };
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => table(&answer.value, screen)?,
    }
    Ok(if answer.value["accepted"] == false { NO } else { YES })
}

fn tested(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let name = field::text(value, "notifier");
    let error = field::text(value, "error");
    screen.line(&if error.is_empty() { format!("{name} took the test message") } else { error })
}

fn list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default()
        .whole("ID")
        .whole("AT (UTC)")
        .status("STATE")
        .whole("CAUSE")
        .elastic("RUNBOOK", 8)
        .whole("REASON")
        .elastic("TOLD", 16);
    for item in field::list(value, "escalations") {
        let text = |key| field::text(item, key);
        let told = field::list(item, "deliveries").iter().map(|delivery| {
            let (tries, error) = (field::text(delivery, "attempts"), field::text(delivery, "error"));
            let state = field::text(delivery, "state");
            let often =
                if state == "waiting" && tries != "0" { format!(" ({tries} tries)") } else { String::new() };
            let why = if error.is_empty() { String::new() } else { format!(": {error}") };
            format!("{} {state}{often}{why}", field::text(delivery, "notifier"))
        });
        let told = told.collect::<Vec<_>>().join(", ");
        table.row([
            text("id"),
            field::stamp(item, "at"),
            text("state"),
            text("cause"),
            text("runbook"),
            text("reason"),
            told,
        ]);
    }
    print_page(&table, value, "nobody was told anything", screen)
}

fn one(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let state = screen.paint(&field::text(value, "state"));
    screen.line(format!("{} {state}", field::text(value, "id")).trim())
}
