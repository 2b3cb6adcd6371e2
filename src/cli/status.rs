//! `status`: how the server is, on one page.
//!
//! May import: `model`. Must never: judge; a halted server is an answer too.

use super::args::Shape;
use super::client::Client;
use super::escape::{visible, wrap};
use super::quit::{Quit, YES};
use super::screen::{COLUMNS, Screen};
use super::table::Table;
use super::{Environment, automation, field, when};
use crate::model::between;
use serde_json::Value;

/// Shows the integration status.
pub(super) async fn run(client: &Client, env: &Environment, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let answer = client.get(&["api", "sre", "runbooks", "integration-status"], &[]).await?;
    if client.shape == Shape::Json {
        screen.line(&answer.pretty())?;
        return Ok(YES);
    }
    let value = &answer.value;
    let status = screen.paint(&field::text(value, "status"));
    let reason = field::text(value, "reason");
    screen
        .line(&format!("Status           {status}{}", or_empty(&reason, |reason| format!(" ({reason})"))))?;
    let instance = or_empty(&field::text(value, "instance"), |name| format!(", instance {name}"));
    screen.line(&format!("Version          {}{instance}", field::text(value, "version")))?;
    screen.line(&format!("Runbooks         {} available", count(value, "available_runbooks")))?;
    screen.line(&format!(
        "Executions       {} active, {} queued, {} awaiting approval",
        count(value, "active_executions"),
        count(value, "queued_executions"),
        count(value, "awaiting_approval"),
    ))?;
    let last = match field::time(value, "last_webhook_at") {
        Some(at) => format!("{} UTC, {} ago", when::stamp(at), when::span(between(at, env.clock.now()))),
        None => "none since the start".to_owned(),
    };
    screen.line(&format!("Last webhook     {last}"))?;
    held_back(value, screen)?;
    let untold = value["waiting_escalations"].as_u64().unwrap_or(0);
    if untold > 0 {
        screen.line(&format!(
            "Not told yet     {untold} escalations; see `runbookd escalations list --state open`"
        ))?;
    }
    for (title, key) in [
        ("Open breakers ", "open_breakers"),
        ("Quarantined   ", "quarantined"),
        ("Broken runbooks", "broken_runbooks"),
    ] {
        if !field::list(value, key).is_empty() {
            let lines = wrap(&named(value, key), COLUMNS - 17);
            screen.line(&format!("{title:<17}{}", lines.join(&format!("\n{:17}", ""))))?;
        }
    }
    if value["store"].as_object().is_some_and(|store| !store.is_empty()) {
        screen.line(&format!("Store            {}", field::pairs(value, "store")))?;
    }
    mappings(value, screen)?;
    Ok(YES)
}

/// What keeps automation from starting something: orders, a storm, freezes, alerts that flap.
fn held_back(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    for order in field::list(value, "orders") {
        let since = field::stamp(order, "at");
        let line = format!("{} (since {since} UTC)", automation::sentence(order, screen));
        screen.line(&format!("Kill switch      {line}"))?;
    }
    if value["storm"]["active"] == true {
        let storm = &value["storm"];
        let (rate, until) = (field::text(storm, "episodes_per_minute"), field::stamp(storm, "until"));
        screen.line(&format!(
            "Storm            {rate} episodes began in a minute; calm at {until} UTC at the earliest"
        ))?;
    }
    for freeze in field::list(value, "freezes") {
        let (name, until) = (field::text(freeze, "name"), field::stamp(freeze, "until"));
        screen.line(&format!("Frozen           {name}, until {until} UTC"))?;
    }
    match value["flapping_alerts"].as_u64() {
        None | Some(0) => {}
        Some(1) => screen.line("Flapping         1 alert is left alone")?,
        Some(count) => screen.line(&format!("Flapping         {count} alerts are left alone"))?,
    }
    Ok(())
}

fn mappings(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default().elastic("ALERT", 20).whole("RUNBOOK");
    for (alert, runbook) in value["runbook_alert_mappings"].as_object().into_iter().flatten() {
        table.row([visible(alert), field::compact(runbook)]);
    }
    if table.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    table.print(0, screen)
}

/// A list whose elements are names, or objects that have one.
fn named(value: &Value, key: &str) -> String {
    let name = |item: &Value| {
        ["id", "key", "target", "name"]
            .iter()
            .map(|key| field::text(item, key))
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| field::compact(item))
    };
    field::list(value, key).iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A number, or how many elements a list has.
fn count(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Array(list) => list.len().to_string(),
        other => Some(field::scalar(other)).filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned()),
    }
}

fn or_empty(text: &str, show: impl Fn(&str) -> String) -> String {
    if text.is_empty() { String::new() } else { show(text) }
}
