//! `explain` and `simulate`: what would be decided, and why.
//!
//! May import: nothing of this crate outside this room. Must never: decide by itself; the server does, as it always does.

use super::args::{Shape, WhichAlert, WhichBody, once};
use super::client::Client;
use super::quit::{NO, Quit, YES};
use super::screen::Screen;
use super::table::Table;
use super::{decisions, field};
use serde_json::{Value, json};
use std::io::Read as _;

/// The largest file that is sent.
const MAX_FILE: u64 = 32 << 20;

/// Explains one label set; exit code 1 where nothing would start.
pub(super) async fn explain(
    client: &Client,
    asked: &WhichAlert,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let labels = once(asked.labels.clone(), "label").map_err(Quit::Usage)?;
    let annotations = once(asked.annotations.clone(), "--annotation").map_err(Quit::Usage)?;
    let body = json!({ "labels": labels, "annotations": annotations });
    let answer = client.post(&["api", "explain"], &body).await?;
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => {
            decisions::one(&answer.value, screen)?;
            upstream(&answer.value["upstream"], screen)?;
        }
    }
    Ok(if answer.value["verdict"] == "skip" { NO } else { YES })
}

fn upstream(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    screen.line("")?;
    let (prometheus, alertmanager) = (&value["prometheus"], &value["alertmanager"]);
    let states = match field::text(prometheus, "error") {
        why if !why.is_empty() => format!("cannot be asked: {why}"),
        _ => match field::words(prometheus, "states") {
            states if states.is_empty() => "no alerting rule holds for these labels".to_owned(),
            states => format!("a rule is {states}"),
        },
    };
    screen.line(&format!("Prometheus    {states}"))?;
    let known = match field::text(alertmanager, "error") {
        why if !why.is_empty() => format!("cannot be asked: {why}"),
        _ if alertmanager["known"] != true => "does not know it".to_owned(),
        _ => {
            let mute = [("silenced by", "silenced_by"), ("inhibited by", "inhibited_by")];
            let mute = mute.iter().filter(|(_, key)| !field::list(alertmanager, key).is_empty());
            let mute: String =
                mute.map(|(how, key)| format!(", {how} {}", field::words(alertmanager, key))).collect();
            format!("knows it{mute}; it goes to {}", field::words(alertmanager, "receivers"))
        }
    };
    screen.line(&format!("Alertmanager  {known}"))
}

/// Simulates a webhook body from a file, or from stdin.
pub(super) async fn simulate(
    client: &Client,
    asked: &WhichBody,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let mut text = String::new();
    let read = match asked.file.to_str() {
        Some("-") => std::io::stdin().take(MAX_FILE).read_to_string(&mut text),
        _ => std::fs::File::open(&asked.file).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)),
    };
    read.map_err(|error| Quit::no(format!("{}: {error}", asked.file.display())))?;
    let body: Value = serde_json::from_str(&text)
        .map_err(|error| Quit::no(format!("{}: this is no JSON: {error}", asked.file.display())))?;
    let at = asked.at.as_deref().unwrap_or_default();
    let config = if asked.candidate { "candidate" } else { "" };
    let answer = client.post_with(&["api", "simulate"], &[("at", at), ("config", config)], &body).await?;
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => {
            let mut table = Table::default()
                .status("VERDICT")
                .whole("REASON")
                .elastic("ALERT", 8)
                .elastic("RUNBOOK", 8)
                .elastic("WHY", 20);
            for item in field::list(&answer.value, "decisions") {
                table.row(
                    ["verdict", "reason", "alertname", "runbook", "message"]
                        .map(|key| field::text(item, key)),
                );
            }
            table.print(0, screen)?;
        }
    }
    Ok(YES)
}
