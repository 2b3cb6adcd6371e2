//! `executions show`: what was done, step by step, for a person at 3 a.m.
//!
//! First what it is and how it stands, then each step with its attempts: what was executed, how it ended, what went
//! wrong, the first lines it wrote. May import: `model`. Must never: hide an attempt, or print a stranger's text as it is.

use super::executions::labelled;
use super::quit::Quit;
use super::screen::{COLUMNS, Screen};
use super::{escape, field, people, when};
use crate::model::{Reason, Timestamp, between};
use serde_json::Value;

/// Lines shown of one stream of an attempt.
const OUTPUT_LINES: usize = 5;
/// Lines shown of a plan or an error.
const TEXT_LINES: usize = 6;
/// Where the facts about an attempt begin.
const INDENT: usize = 7;

/// Prints the execution in `value`.
pub(super) fn print(value: &Value, now: Timestamp, screen: &mut Screen<'_>) -> Result<(), Quit> {
    head(value, now, screen)?;
    screen.line("")?;
    screen.line("Steps (times in UTC)")?;
    for (index, item) in field::list(value, "steps").iter().enumerate() {
        step(value, index + 1, item, screen)?;
    }
    verify(&value["verify"], screen)?;
    let escalations = field::list(value, "escalations");
    if !escalations.is_empty() {
        screen.line("")?;
    }
    for (index, message) in escalations.iter().enumerate() {
        labelled(if index == 0 { "Escalated" } else { "" }, &told(message), screen)?;
    }
    Ok(())
}

/// One message to people: through what, what became of it, and why it was sent.
fn told(message: &Value) -> String {
    let text = |key| field::text(message, key);
    let (by, cause) = (text("notifier"), text("cause"));
    let by = if by.is_empty() { "nobody".to_owned() } else { by };
    let attempts = message["attempts"].as_u64().filter(|attempts| *attempts > 1);
    let attempts = attempts.map(|attempts| format!("{attempts} attempts")).unwrap_or_default();
    let at = format!("{} UTC", field::stamp(message, "at"));
    let state = format!("{by}: {} ({cause})", text("state"));
    joined(&[state, at, attempts, text("error")], ", ")
}

fn head(value: &Value, now: Timestamp, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let text = |key| field::text(value, key);
    screen.line(&format!("Execution   {}", text("id")))?;
    let mut status = screen.paint(&text("status"));
    if let Some(reason) = Some(text("reason")).filter(|reason| !reason.is_empty()) {
        let sentence = Reason::parse(&reason).map(Reason::sentence);
        status += &sentence.map_or_else(|| format!(" ({reason})"), |why| format!(" ({reason}: {why})"));
    }
    screen.line(&format!("Status      {status}"))?;
    labelled("Message", &text("message"), screen)?;
    people::head(value, screen)?;
    let version = format!("{} version {}", text("runbook"), text("version"));
    labelled("Runbook", &joined(&[version, text("title")], ": "), screen)?;
    labelled("Target", &text("target"), screen)?;
    labelled("Trigger", &trigger(&value["trigger"]), screen)?;
    let created = field::stamp(value, "created_at");
    if !created.is_empty() {
        screen.line(&format!("Created     {created} UTC"))?;
    }
    if let Some(started) = field::time(value, "started_at") {
        let waited = field::took(value, "created_at", "started_at").map(when::span);
        let waited = waited.map(|waited| format!(", after {waited} in the queue")).unwrap_or_default();
        screen.line(&format!("Started     {} UTC{waited}", when::stamp(started)))?;
        match field::time(value, "finished_at") {
            Some(end) => {
                let took = when::span(between(started, end));
                screen.line(&format!("Finished    {} UTC, took {took}", when::stamp(end)))?;
            }
            None => {
                let so_far = when::span(between(started, now));
                let deadline = field::stamp(value, "deadline");
                let deadline =
                    if deadline.is_empty() { deadline } else { format!(", must end by {deadline} UTC") };
                screen.line(&format!("Running     for {so_far}{deadline}"))?;
            }
        }
    } else if let Some(end) = field::time(value, "finished_at") {
        screen.line(&format!("Finished    {} UTC, never started", when::stamp(end)))?;
    }
    labelled("Labels", &field::pairs(&value["trigger"], "labels"), screen)?;
    labelled("Inputs", &field::pairs(value, "inputs"), screen)
}

fn trigger(trigger: &Value) -> String {
    let text = |key| field::text(trigger, key);
    let by = Some(text("by")).filter(|by| !by.is_empty()).map(|by| format!("by {by}")).unwrap_or_default();
    let of = Some(text("of")).filter(|of| !of.is_empty()).map(|of| format!("of {of}")).unwrap_or_default();
    let what = joined(&[text("kind"), text("alertname")], " ");
    let fingerprint = text("fingerprint");
    let fingerprint = if fingerprint.is_empty() { fingerprint } else { format!("fingerprint {fingerprint}") };
    let reason = text("reason");
    let reason = if reason.is_empty() { reason } else { format!("reason: {reason}") };
    joined(&[what, of, by, fingerprint, reason], ", ")
}

fn step(execution: &Value, number: usize, step: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let text = |key| field::text(step, key);
    let id = text("id");
    let title = Some(text("title")).filter(|title| *title != id).unwrap_or_default();
    let about = joined(&[text("kind"), text("effect")], ", ");
    let reason = Some(text("reason")).or_else(|| Some(text("skip"))).filter(|why| !why.is_empty());
    let reason = reason.map(|why| format!(" ({why})")).unwrap_or_default();
    screen.line("")?;
    let status = screen.paint(&text("status"));
    screen.line(&format!("{number:>3}. {id}  {status}{reason}  [{about}]"))?;
    if !title.is_empty() {
        screen.line(&format!("     {}", escape::cut(&title, COLUMNS - 5)))?;
    }
    paragraph("error", &text("error"), screen)?;
    people::step(execution, step, screen)?;
    let attempts = field::list(step, "attempts");
    for one in attempts {
        attempt(one, screen)?;
    }
    if let (Some(last), true) = (attempts.last(), attempts.iter().any(is_longer)) {
        let (execution, number) = (field::text(execution, "id"), field::text(last, "attempt"));
        let line = format!("more     runbookd executions output {execution} {id} {number}");
        screen.line(&format!("{}{line}", " ".repeat(INDENT)))?;
    }
    let undo = &step["undo"];
    if undo.is_object() {
        let status = screen.paint(&field::text(undo, "status"));
        screen.line(&format!("     undo  {status}"))?;
        for one in field::list(undo, "attempts") {
            attempt(one, screen)?;
        }
    }
    Ok(())
}

fn attempt(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let text = |key| field::text(value, key);
    let mut facts = Vec::new();
    for (name, key) in [("exit code", "exit_code"), ("signal", "signal"), ("HTTP", "http_status")] {
        let fact = text(key);
        if !fact.is_empty() {
            facts.push(format!("{name} {fact}"));
        }
    }
    if let Some(answer) = value["answer"].as_bool() {
        facts.push(if answer { "answer yes" } else { "answer no" }.to_owned());
    }
    if let Some(took) = field::took(value, "started_at", "finished_at") {
        facts.push(format!("took {}", when::span(took)));
    }
    let item = Some(text("item")).filter(|item| !item.is_empty()).map(|item| format!(" for {item}"));
    let outcome = match text("outcome") {
        none if none.is_empty() => screen.paint("running"),
        outcome => screen.paint(&outcome),
    };
    let at = field::time(value, "started_at").map(when::time_of_day).unwrap_or_else(|| text("started_at"));
    let what = if value["probe"].as_bool() == Some(true) { "probe attempt" } else { "attempt" };
    let mut line = format!("     {at}  {what} {}{}  {outcome}", text("attempt"), item.unwrap_or_default());
    if !facts.is_empty() {
        line += &format!("  {}", facts.join(", "));
    }
    screen.line(&line)?;
    paragraph("did", &text("plan"), screen)?;
    paragraph("child", &text("execution_id"), screen)?;
    paragraph("error", &text("error"), screen)?;
    for name in ["stdout", "stderr"] {
        let (written, bytes) = field::stream(value, name);
        for (index, line) in written.lines().take(OUTPUT_LINES).enumerate() {
            let name = if index == 0 { name } else { "" };
            let line = escape::cut(&escape::visible(line), COLUMNS - INDENT - 9);
            screen.line(format!("{}{name:<6} | {line}", " ".repeat(INDENT)).trim_end())?;
        }
        if written.lines().count() > OUTPUT_LINES || bytes > written.len() as u64 {
            screen.line(&format!("{}       | ... {bytes} bytes in all", " ".repeat(INDENT)))?;
        }
    }
    Ok(())
}

/// Whether an attempt wrote more than is shown.
fn is_longer(attempt: &Value) -> bool {
    ["stdout", "stderr"].into_iter().any(|name| {
        let (written, bytes) = field::stream(attempt, name);
        bytes > written.len() as u64 || written.lines().count() > OUTPUT_LINES
    })
}

fn verify(verify: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    if !verify.is_object() {
        return Ok(());
    }
    let text = |key| field::text(verify, key);
    let state = match (text("status"), verify["holds"].as_bool()) {
        (status, _) if !status.is_empty() => status,
        (_, Some(true)) => "holds".to_owned(),
        (_, Some(false)) => "does not hold".to_owned(),
        (_, None) => match field::time(verify, "holds_since") {
            Some(since) => format!("holds since {} UTC", when::time_of_day(since)),
            None => "does not hold".to_owned(),
        },
    };
    screen.line("")?;
    let until = field::stamp(verify, "until");
    let until = if until.is_empty() { until } else { format!(", until {until} UTC") };
    screen.line(&format!("Verify      {}{until}", screen.paint(&state)))?;
    labelled("", &text("detail"), screen)
}

/// A text of several lines under an attempt, wrapped, with `name` before the first, cut where it is long.
pub(super) fn paragraph(name: &str, text: &str, screen: &mut Screen<'_>) -> Result<(), Quit> {
    paragraph_of(name, text, TEXT_LINES, screen)
}

/// A text as [`paragraph`] shows it, of so many lines at most.
pub(super) fn paragraph_of(name: &str, text: &str, most: usize, screen: &mut Screen<'_>) -> Result<(), Quit> {
    if text.is_empty() {
        return Ok(());
    }
    // What follows a name begins below what `stdout | ` leads to.
    let lines = escape::wrap(text, COLUMNS - INDENT - 9 - 4);
    for (index, line) in lines.iter().take(most).enumerate() {
        let name = if index == 0 { name } else { "" };
        let more = if index + 1 == most && lines.len() > most { " ..." } else { "" };
        screen.line(format!("{}{name:<9}{line}{more}", " ".repeat(INDENT)).trim_end())?;
    }
    Ok(())
}

/// The parts that are not empty.
fn joined(parts: &[String], between: &str) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(between)
}
