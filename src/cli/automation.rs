//! `halt`, `drain`, `abort`, `unhalt`: the kill switch.
//!
//! May import: `model`. Must never: ask twice before it stops something.

use super::Environment;
use super::args::{Shape, Switch};
use super::client::Client;
use super::field;
use super::quit::{NO, Quit, YES};
use super::screen::Screen;
use crate::model::after;
use serde_json::{Value, json};

/// Orders `state`.
pub(super) async fn run(
    client: &Client,
    state: &str,
    order: &Switch,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let mut body = json!({ "state": state, "reason": order.reason });
    if let Some(runbook) = &order.runbook {
        body["scope"] = json!({ "runbook": runbook.as_str() });
    } else if !order.matchers.is_empty() {
        body["scope"] = json!({ "matchers": order.matchers });
    }
    if let Some(time) = order.time {
        body["expires_at"] = after(env.clock.now(), time).to_string().into();
    }
    let answer = client.put(&["api", "automation"], &body).await?;
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => show(&answer.value, screen)?,
    }
    screen.flush()?;
    let warning = field::text(&answer.value, "warning");
    if !warning.is_empty() {
        screen.message(&warning);
    }
    // Taken back for everything, something else may still hold it.
    let still = state == "running" && body["scope"].is_null() && answer.value["state"] != "running";
    if still {
        screen.message(&format!("still not running: {}", field::text(&answer.value, "reason")));
    }
    Ok(if still { NO } else { YES })
}

fn show(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let state = screen.paint(&field::text(value, "state"));
    screen.line(&format!("automation is {state}"))?;
    for order in field::list(value, "orders") {
        let line = sentence(order, screen);
        screen.line(&format!("  {line}"))?;
    }
    Ok(())
}

/// An order: of what, how far, until when, by whom and why.
pub(super) fn sentence(order: &Value, screen: &Screen<'_>) -> String {
    let until = match field::stamp(order, "expires_at") {
        end if end.is_empty() => String::new(),
        end => format!(" until {end}"),
    };
    let (what, state) = (scope(order), screen.paint(&field::text(order, "state")));
    let (by, why) = (field::text(order, "by"), field::text(order, "reason"));
    format!("{what}: {state}{until}, by {by}: {why}")
}

fn scope(order: &Value) -> String {
    let scope = &order["scope"];
    match (scope["runbook"].as_str(), scope["matchers"].as_array(), scope["file"].as_bool()) {
        (Some(id), ..) => format!("runbook {id}"),
        (_, Some(matchers), _) => matchers.iter().map(field::compact).collect::<Vec<_>>().join(", "),
        (.., Some(true)) => "everything, by a file".to_owned(),
        _ => "everything".to_owned(),
    }
}
