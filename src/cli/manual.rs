//! `runbooks execute`: a runbook by hand, on the server.
//!
//! May import: `model`. Must never: ask a second time for what a person asked for once.

use super::args::{Begin, Shape};
use super::client::Client;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::table::Table;
use super::{field, follow};
use crate::model::{ExecutionId, StepId};
use serde_json::{Value, json};

/// Asks for it, and follows it where that is wanted.
pub(super) async fn run(client: &Client, begin: &Begin, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let mut body = json!({ "reason": begin.reason, "dry_run": begin.dry_run });
    for (name, given) in begin.given().map_err(Quit::Usage)? {
        if !given.is_empty() {
            body[name] = json!(given);
        }
    }
    if begin.from.is_some() || begin.to.is_some() {
        let id = |step: &Option<StepId>| step.as_ref().map(|step| step.as_str().to_owned());
        body["steps"] = json!({ "from": id(&begin.from), "to": id(&begin.to) });
    }
    let answer = client.post(&["api", "runbooks", begin.id.as_str(), "execute"], &body).await?;
    if client.shape == Shape::Json {
        screen.line(&answer.pretty())?;
    } else if begin.dry_run {
        plan(&answer.value, screen)?;
    } else {
        screen.line(&field::text(&answer.value, "execution_id"))?;
    }
    if !begin.wait {
        return Ok(YES);
    }
    screen.flush()?;
    match ExecutionId::new(field::word(&answer.value, "execution_id")) {
        Ok(id) => follow::run(client, &id, &follow::PACE, screen).await,
        Err(_) => Err(client.stranger("it names no execution")),
    }
}

fn plan(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    for (title, key) in [("Runbook", "runbook"), ("Version", "version"), ("Target", "target")] {
        super::executions::labelled(title, &field::text(value, key), screen)?;
    }
    super::executions::labelled("Inputs", &field::pairs(value, "inputs"), screen)?;
    let mut steps = Table::default().whole("STEP").whole("KIND").whole("EFFECT").elastic("PLAN", 20);
    for step in field::list(value, "steps") {
        let text = |key| field::text(step, key);
        let plan = match (step["left_out"].as_bool(), text("when")) {
            (Some(true), _) => "left out".to_owned(),
            (_, when) if when.is_empty() => text("plan"),
            (_, when) => format!("when {when}: {}", text("plan")),
        };
        steps.row([text("id"), text("kind"), text("effect"), plan]);
    }
    screen.line("")?;
    steps.print(0, screen)
}
