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
        "finished" | "step_finished" => field::text(data, "status"),
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
        "started" => format!("must end by {}", until("deadline")),
        "step_skipped" => format!("{}{}", text("step"), after(": ", "why")),
        "step_intended" => format!("{} attempt {}{}", text("step"), text("attempt"), after(": ", "plan")),
        "timer_started" => format!("{} waits until {}", text("step"), until("until")),
        "attempt_finished" => {
            let outcome = text("outcome");
            let code = after(", exit code ", "exit_code") + &after(", signal ", "signal");
            let http = after(", HTTP ", "http_status");
            format!(
                "{} attempt {}: {outcome}{code}{http}{}",
                text("step"),
                text("attempt"),
                after(": ", "error")
            )
        }
        "step_finished" => format!("{}: {}{}", text("step"), text("status"), after(": ", "error")),
        "alert_resolved" => "the alert resolved".to_owned(),
        "stop_requested" => format!("by {}{}", text("actor"), after(": ", "reason")),
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

/// The fields of an event this client does not know.
fn others(data: &Value) -> String {
    let known = ["seq", "at", "kind"];
    let fields = data.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()));
    let shown =
        fields.map(|(name, value)| format!("{}={}", super::escape::visible(name), field::compact(value)));
    shown.collect::<Vec<_>>().join(" ")
}
