//! One event of an execution as one line.
//!
//! May import: nothing of this crate outside this room; fields are read by name, so that a newer server's events are
//! shown too. Must never: print more than one line an event.

use super::escape::cut;
use super::screen::{COLUMNS, Screen};
use super::{field, when};
use serde_json::Value;

/// `10:00:01  step_intended      restart attempt 1: /usr/bin/systemctl restart nginx`.
pub(super) fn line(kind: &str, data: &Value, screen: &Screen<'_>) -> String {
    let at = field::time(data, "at").map(when::time_of_day).unwrap_or_else(|| "        ".to_owned());
    let kind = super::escape::visible(kind);
    let head = format!("{at}  {kind:<16}  ");
    let rest = cut(&sentence(&kind, data), COLUMNS.saturating_sub(head.len()));
    let status = match kind.as_str() {
        "finished" | "step_finished" | "part_finished" | "ending" => field::text(data, "status"),
        "attempt_finished" => field::text(data, "outcome"),
        _ => String::new(),
    };
    // The status is a whole word of the sentence; the first place is the one the sentence gives it.
    let rest = match rest.split_once(&status).filter(|_| !status.is_empty()) {
        Some((before, after)) => format!("{before}{}{after}", screen.paint(&status)),
        None => rest,
    };
    format!("{head}{rest}").trim_end().to_owned()
}

fn sentence(kind: &str, data: &Value) -> String {
    let text = |key: &str| field::text(data, key);
    let after = |lead: &str, key: &str| match text(key) {
        none if none.is_empty() => none,
        some => format!("{lead}{some}"),
    };
    let until = |key: &str| field::time(data, key).map(when::time_of_day).unwrap_or_else(|| text(key));
    match kind {
        "created" => {
            let by = field::text(&data["trigger"], "by");
            let target = after(" for ", "target");
            format!("{} version {}{target}, by {by}", text("runbook"), text("version"))
        }
        "approval_requested" | "approved" | "rejected" | "acknowledged" | "paused" | "resumed"
        | "retry_requested" | "modified" | "stop_requested" => by_people(kind, data),
        "started" => format!("must end by {}", until("deadline")),
        "step_skipped" => {
            let by = after(" by ", "actor");
            let why = if by.is_empty() { by } else { by + &after(": ", "reason") };
            format!("{}{}{why}", text("step"), after(": ", "why"))
        }
        "items_listed" => format!("{} for each of: {}", text("step"), field::words(data, "items")),
        "step_intended" => format!("{} attempt {}{}", part(data), text("attempt"), after(": ", "plan")),
        "retry_scheduled" => {
            format!("{} attempt {} at {}", part(data), text("attempt"), until("next_attempt_at"))
        }
        "part_finished" => format!("{}: {}{}", part(data), text("status"), after(": ", "error")),
        "step_observed" => {
            let holds = if data["holds"].as_bool() == Some(true) { "holds" } else { "does not hold" };
            format!("{}: {holds}{}", text("step"), after(": ", "detail"))
        }
        "ending" => {
            let undo =
                if data["rollback"].as_bool() == Some(true) { ", what was done is undone" } else { "" };
            format!("as {}{undo}{}", text("status"), after(": ", "message"))
        }
        "rollback_started" => "what was done is being undone, the last first".to_owned(),
        "timer_started" => format!("{} waits until {}", text("step"), until("until")),
        "attempt_finished" => attempt_finished(data),
        "step_finished" => format!("{}: {}{}", text("step"), text("status"), after(": ", "error")),
        "alert_resolved" => "the alert resolved".to_owned(),
        "deadline_passed" => "the whole timeout passed".to_owned(),
        "verify_started" => format!("may be proved until {}", until("until")),
        "verify_observed" => {
            let holds = if data["holds"].as_bool() == Some(true) { "holds" } else { "does not hold" };
            format!("{holds}{}", after(": ", "detail"))
        }
        "finished" => {
            let why = after(" (", "reason");
            let why = if why.is_empty() { why } else { why + ")" };
            format!("{}{why}{}", text("status"), after(": ", "message"))
        }
        _ => others(data),
    }
}

/// How an attempt ended.
fn attempt_finished(data: &Value) -> String {
    let text = |key: &str| field::text(data, key);
    let after = |lead: &str, key: &str| match text(key) {
        none if none.is_empty() => none,
        some => format!("{lead}{some}"),
    };
    let outcome = text("outcome");
    let code = after(", exit code ", "exit_code") + &after(", signal ", "signal");
    let http = after(", HTTP ", "http_status");
    format!("{} attempt {}: {outcome}{code}{http}{}", part(data), text("attempt"), after(": ", "error"))
}

/// What people are asked and what they do.
fn by_people(kind: &str, data: &Value) -> String {
    let text = |key: &str| field::text(data, key);
    let after = |lead: &str, key: &str| match text(key) {
        none if none.is_empty() => none,
        some => format!("{lead}{some}"),
    };
    let by = format!("{}{}", after("by ", "actor"), after(": ", "reason"));
    match kind {
        "approval_requested" => {
            let until = field::time(data, "until").map(when::time_of_day).unwrap_or_else(|| text("until"));
            // The plan is for `show`; here its first line says what is asked.
            let asked = data["plan"].as_str().and_then(|plan| plan.lines().next()).unwrap_or_default();
            format!("{} until {until}: {}", text("step"), super::escape::visible(asked))
        }
        "approved" | "rejected" | "acknowledged" | "retry_requested" => format!("{} {by}", text("step")),
        "paused" if data["actor"].is_null() => format!("{}{}", text("reason"), after(" (", "code") + ")"),
        "stop_requested" if data["rollback"].as_bool() == Some(true) => format!("with rollback, {by}"),
        "modified" => {
            let names = |key: &str| data[key].as_object().into_iter().flatten().map(|(name, _)| name.clone());
            let changed: Vec<String> = names("inputs").chain(names("args")).collect();
            format!("{} {by}", super::escape::visible(&changed.join(", ")))
        }
        _ => by,
    }
}

/// The step, and which part of it where that is not the step itself.
fn part(data: &Value) -> String {
    let part = &data["part"];
    let role = match field::word(part, "role") {
        "undo" => " undo",
        "probe" => " probe",
        _ => "",
    };
    let item = part["item"].as_u64().map(|item| format!(" item {item}")).unwrap_or_default();
    format!("{}{role}{item}", field::text(data, "step"))
}

/// The fields of an event this client does not know.
fn others(data: &Value) -> String {
    let known = ["seq", "at", "kind"];
    let fields = data.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()));
    let shown =
        fields.map(|(name, value)| format!("{}={}", super::escape::visible(name), field::compact(value)));
    shown.collect::<Vec<_>>().join(" ")
}
