//! `runbooks list`, `runbooks show` and `runbooks shadow`.
//!
//! May import: nothing of this crate outside this room. Must never: read a runbook file; the server's answer is shown.

use super::args::{RunbooksVerb, Shape};
use super::client::Client;
use super::escape::wrap;
use super::executions::labelled;
use super::field;
use super::manual;
use super::quit::{Quit, YES};
use super::screen::{COLUMNS, Screen};
use super::table::Table;
use serde_json::Value;

/// Carries out a verb on runbooks.
pub(super) async fn run(client: &Client, verb: &RunbooksVerb, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    type Show = fn(&Value, &mut Screen<'_>) -> Result<(), Quit>;
    let (answer, show): (_, Show) = match verb {
        RunbooksVerb::List => (client.get(&["api", "runbooks"], &[]).await?, list),
        RunbooksVerb::Execute(begin) => return manual::run(client, begin, screen).await,
        RunbooksVerb::Show { id } => (client.get(&["api", "runbooks", id.as_str()], &[]).await?, one),
        RunbooksVerb::Shadow { id } => {
            (client.get(&["api", "runbooks", id.as_str(), "shadow"], &[]).await?, shadow)
        }
    };
    if client.shape == Shape::Json {
        screen.line(&answer.pretty())?;
    } else {
        show(&answer.value, screen)?;
    }
    Ok(YES)
}

fn list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default().whole("ID").whole("MODE").whole("VERSION").elastic("TITLE", 20);
    for item in field::list(value, "runbooks") {
        let text = |key| field::text(item, key);
        table.row([text("id"), text("mode"), text("version"), text("title")]);
    }
    if table.is_empty() {
        screen.message("the server has no runbooks");
        return Ok(());
    }
    table.print(0, screen)
}

fn shadow(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let text = |key| field::text(value, key);
    labelled(
        "Runbook",
        &format!("{} version {}, mode {}", text("runbook"), text("version"), text("mode")),
        screen,
    )?;
    let not_asked = field::words(value, "not_asked");
    if value["since"].is_null() {
        screen.message(
            "nothing was counted for this version: no alert came for it while it was in shadow mode",
        );
    } else {
        tally(value, screen)?;
        if !not_asked.is_empty() {
            screen.line("")?;
            let told = format!("{not_asked}: in earnest these would be asked, and would deny some of it");
            labelled("Not asked", &told, screen)?;
        }
    }
    let previous = &value["previous"];
    if previous.is_object() {
        screen.line("")?;
        labelled("Before", &format!("version {}", field::text(previous, "version")), screen)?;
        tally(previous, screen)?;
    }
    Ok(())
}

/// What was counted for one version.
fn tally(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    labelled("Since", &format!("{} UTC", field::stamp(value, "since")), screen)?;
    labelled("Would have", &format!("run {} times", field::text(value, "would_have_run")), screen)?;
    let mut table = Table::default().whole("DENIED BY").whole("TIMES");
    for (code, times) in value["denied"].as_object().into_iter().flatten() {
        table.row([super::escape::visible(code), field::scalar(times)]);
    }
    if !table.is_empty() {
        screen.line("")?;
        table.print(0, screen)?;
    }
    Ok(())
}

fn one(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    for (title, key) in [
        ("Runbook", "id"),
        ("Title", "title"),
        ("Mode", "mode"),
        ("Version", "version"),
        ("Hash", "hash"),
        ("File", "path"),
        ("Target", "target"),
        ("Timeout", "timeout"),
    ] {
        labelled(title, &field::text(value, key), screen)?;
    }
    labelled("Alerts", &field::words(value, "alerts"), screen)?;
    if let Some(description) = value["description"].as_str().filter(|text| !text.trim().is_empty()) {
        screen.line("")?;
        for line in super::escape::visible_lines(description.trim()).lines() {
            for part in wrap(line, COLUMNS - 2) {
                screen.line(format!("  {part}").trim_end())?;
            }
        }
    }
    let mut steps = Table::default().whole("STEP").whole("KIND").whole("EFFECT").elastic("TITLE", 20);
    for step in field::list(value, "steps") {
        let text = |key| field::text(step, key);
        steps.row([text("id"), text("kind"), text("effect"), text("title")]);
    }
    if !steps.is_empty() {
        screen.line("")?;
        steps.print(0, screen)?;
    }
    Ok(())
}
