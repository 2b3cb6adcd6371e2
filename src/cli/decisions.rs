//! `decisions list` and `decisions show`: why an alert did or did not become an execution.
//!
//! May import: nothing of this crate outside this room. Must never: explain by itself; the gates' own sentences are
//! shown.

use super::args::{DecisionsVerb, Shape};
use super::client::Client;
use super::escape::wrap;
use super::quit::{Quit, YES};
use super::screen::{COLUMNS, Screen};
use super::table::Table;
use super::{Environment, executions, field};
use serde_json::Value;

/// Carries out a verb on decisions.
pub(super) async fn run(
    client: &Client,
    verb: &DecisionsVerb,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match verb {
        DecisionsVerb::List(filter) => {
            let since = executions::moment(filter.since.as_deref(), env)?;
            let (limit, cursor) = executions::page(&filter.page);
            let query = [
                ("reason", filter.reason.as_deref().unwrap_or_default()),
                ("verdict", filter.verdict.as_deref().unwrap_or_default()),
                ("alertname", filter.alertname.as_deref().unwrap_or_default()),
                ("runbook", filter.runbook.as_deref().unwrap_or_default()),
                ("since", &since),
                ("limit", &limit),
                ("cursor", cursor),
            ];
            let answer = client.get(&["api", "decisions"], &query).await?;
            if client.shape == Shape::Json {
                screen.line(&answer.pretty())?;
            } else {
                list(&answer.value, screen)?;
            }
        }
        DecisionsVerb::Show { id } => {
            let answer = client.get(&["api", "decisions", id.as_str()], &[]).await?;
            if client.shape == Shape::Json {
                screen.line(&answer.pretty())?;
            } else {
                one(&answer.value, screen)?;
            }
        }
    }
    Ok(YES)
}

fn list(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = Table::default()
        .whole("ID")
        .whole("AT (UTC)")
        .status("VERDICT")
        .whole("REASON")
        .elastic("ALERT", 8)
        .elastic("RUNBOOK", 8)
        .whole("SEEN");
    for item in field::list(value, "decisions") {
        let text = |key| field::text(item, key);
        let at = field::stamp(item, "at");
        table.row([
            text("id"),
            at,
            text("verdict"),
            text("reason"),
            text("alertname"),
            text("runbook"),
            text("seen"),
        ]);
    }
    executions::print_page(&table, value, "no decisions match", screen)
}

fn one(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    screen.line(&format!("Decision    {}", field::text(value, "id")))?;
    content(value, screen)
}

/// A decision without its id: of one that would be made, there is none to be asked for.
pub(super) fn content(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let text = |key| field::text(value, key);
    let verdict = screen.paint(&text("verdict"));
    screen.line(&format!("Verdict     {verdict} ({}: {})", text("reason"), text("message")))?;
    let alert = format!("{}, fingerprint {}", text("alertname"), text("fingerprint"));
    executions::labelled("Alert", &alert, screen)?;
    let seen = match value["seen"].as_u64() {
        Some(times) if times > 1 => {
            format!(", seen {times} times, last {} UTC", field::stamp(value, "last_seen"))
        }
        _ => String::new(),
    };
    screen.line(&format!("At          {} UTC{seen}", field::stamp(value, "at")))?;
    for (title, shown) in [
        ("Runbook", text("runbook")),
        ("Execution", text("execution_id")),
        ("First", text("first")),
        ("Labels", field::pairs(value, "labels")),
    ] {
        executions::labelled(title, &shown, screen)?;
    }
    let mut plan = Table::default().whole("STEP").elastic("WOULD HAVE DONE", 20);
    for step in field::list(value, "plan") {
        plan.row([field::text(step, "step"), field::text(step, "plan")]);
    }
    if !plan.is_empty() {
        screen.line("")?;
        plan.print(0, screen)?;
    }
    gates(value, screen)
}

/// Every gate's answer, what would have to change for those that deny, and the numbers.
fn gates(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut gates = Table::default().whole("GATE").status("ANSWER").elastic("WHY", 20);
    let (mut details, mut fixes) = (Vec::new(), Vec::new());
    // Of a decision without gates, such as on an invalid element, there is one for the whole.
    if field::list(value, "gates").is_empty() && !field::text(value, "fix").is_empty() {
        fixes.push((field::text(value, "reason"), field::text(value, "fix")));
    }
    for gate in field::list(value, "gates") {
        let (name, message) = (field::text(gate, "gate"), field::text(gate, "message"));
        let numbers = field::pairs(gate, "detail");
        if !numbers.is_empty() {
            details.push((name.clone(), numbers));
        }
        let fix = field::text(gate, "fix");
        if !fix.is_empty() {
            fixes.push((name.clone(), fix));
        }
        gates.row([name, field::text(gate, "verdict"), message]);
    }
    if !gates.is_empty() {
        screen.line("")?;
        gates.print(0, screen)?;
    }
    listed("What would have to change", &fixes, screen)?;
    listed("Numbers", &details, screen)
}

/// Lines of names and what is said of each, below a title; nothing where there is none.
pub(super) fn listed(title: &str, lines: &[(String, String)], screen: &mut Screen<'_>) -> Result<(), Quit> {
    if !lines.is_empty() {
        screen.line("")?;
        screen.line(title)?;
    }
    for (name, said) in lines {
        for line in wrap(&format!("{name}: {said}"), COLUMNS - 2) {
            screen.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}
