//! What an execution waits for people for, and what they said: a part of `executions show`.
//!
//! May import: `model`. Must never: cut the plan that a person is to consent to.

use super::executions::labelled;
use super::quit::Quit;
use super::screen::Screen;
use super::timeline::{paragraph, paragraph_of};
use super::{escape, field, when};
use crate::model::Reason;
use serde_json::Value;

/// Why it is held, and who stopped it.
pub(super) fn head(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let paused = &value["paused"];
    if paused.is_object() {
        let code = field::text(paused, "code");
        let code = Reason::parse(&code).map(|code| format!(" ({code}: {})", code.sentence()));
        let since = field::stamp(paused, "at");
        labelled(
            "Paused",
            &format!("since {since} UTC, {}{}", said(paused), code.unwrap_or_default()),
            screen,
        )?;
    }
    let stop = &value["stop"];
    if stop.is_object() {
        let what = if stop["rollback"].as_bool() == Some(true) { "with rollback, " } else { "" };
        labelled("Stopped", &format!("{what}{} at {} UTC", said(stop), field::stamp(stop, "at")), screen)?;
    }
    Ok(())
}

/// `by ada: wrong host`, or the reason alone where no person is behind it.
fn said(saying: &Value) -> String {
    let (actor, reason) = (field::text(saying, "actor"), field::text(saying, "reason"));
    match (actor.is_empty(), reason.is_empty()) {
        (true, _) => reason,
        (false, true) => format!("by {actor}"),
        (false, false) => format!("by {actor}: {reason}"),
    }
}

/// What a step waits for, and what people did about it.
pub(super) fn step(execution: &Value, step: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let list = |key: &str| field::words(step, key);
    paragraph("items", &list("items"), screen)?;
    if step["args"].is_array() {
        paragraph("args", &format!("changed to {}", field::compact(&step["args"])), screen)?;
    }
    if step["skipped_by"].is_object() {
        paragraph("skipped", &said(&step["skipped_by"]), screen)?;
    }
    let is_waiting = field::word(step, "status") == "waiting";
    if let (true, Some(until)) = (is_waiting, field::time(step, "until")) {
        paragraph("waits", &format!("until {} UTC", when::stamp(until)), screen)?;
        paragraph("saw", &field::text(step, "observed"), screen)?;
    }
    if let Some(next) = field::time(step, "next_attempt_at") {
        paragraph("again", &format!("at {} UTC", when::stamp(next)), screen)?;
    }
    approval(execution, step, is_waiting, screen)?;
    let acknowledged = &step["acknowledged"];
    if acknowledged.is_object() {
        paragraph("done", &format!("acknowledged {}", said(acknowledged)), screen)
    } else if is_waiting && field::word(step, "kind") == "instruct" {
        act("acknowledge", execution, step, "", screen)
    } else {
        Ok(())
    }
}

fn approval(execution: &Value, step: &Value, is_waiting: bool, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let approval = &step["approval"];
    if !approval.is_object() {
        return Ok(());
    }
    for (index, line) in field::word(approval, "plan").lines().enumerate() {
        let name = if index == 0 { "asks" } else { "" };
        paragraph_of(name, &escape::visible(line), usize::MAX, screen)?;
    }
    for given in field::list(approval, "given") {
        paragraph("approved", &said(given), screen)?;
    }
    if approval["refused"].is_object() {
        paragraph("refused", &said(&approval["refused"]), screen)?;
    } else if is_waiting {
        let hash = format!(" --hash {}", field::text(approval, "hash"));
        act("approve", execution, step, &hash, screen)?;
        act("reject", execution, step, "", screen)?;
    }
    Ok(())
}

/// How to do it, on a line that can be copied whole.
fn act(verb: &str, execution: &Value, step: &Value, more: &str, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let (id, step) = (field::text(execution, "id"), field::text(step, "id"));
    screen.line(&format!("       then     runbookd executions {verb} {id} --step {step}{more}"))
}
