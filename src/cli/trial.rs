//! `explain` and `simulate`: what would be decided, and why.
//!
//! May import: nothing of this crate outside this room. Must never: decide by itself; the server does, as it always does.

use super::args::{Shape, WhichAlert, WhichBody, once};
use super::client::Client;
use super::escape::wrap;
use super::quit::{NO, Quit, YES};
use super::screen::{COLUMNS, Screen};
use super::table::Table;
use super::{decisions, field};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;

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
            decisions::content(&answer.value, screen)?;
            upstream(&answer.value["upstream"], screen)?;
        }
    }
    Ok(if answer.value["verdict"] == "skip" { NO } else { YES })
}

fn upstream(value: &Value, screen: &mut Screen<'_>) -> Result<(), Quit> {
    screen.line("")?;
    beside("Prometheus", &rules(&value["prometheus"]), screen)?;
    beside("Alertmanager", &known(&value["alertmanager"]), screen)?;
    let (webhook, alertmanager) = (&value["webhook"], &value["alertmanager"]);
    let heard = match (webhook["last_seen"].is_null(), webhook["firing"] == true) {
        (false, true) => format!("the last one came at {} UTC", field::stamp(webhook, "last_seen")),
        (false, false) => {
            format!("the last one, at {} UTC, said that it has ended", field::stamp(webhook, "last_seen"))
        }
        (true, _) if alertmanager["known"] == true => format!(
            "none has come for these labels: Alertmanager sends them to {}, and runbookd hears only of what goes to its own receiver",
            field::words(alertmanager, "receivers")
        ),
        (true, _) => "none has come for these labels".to_owned(),
    };
    beside("Webhooks", &heard, screen)
}

fn beside(title: &str, text: &str, screen: &mut Screen<'_>) -> Result<(), Quit> {
    for (index, line) in wrap(text, COLUMNS - 14).iter().enumerate() {
        screen.line(&format!("{:<14}{line}", if index == 0 { title } else { "" }))?;
    }
    Ok(())
}

/// What the rules of Prometheus say.
fn rules(value: &Value) -> String {
    let error = field::text(value, "error");
    if !error.is_empty() {
        return format!("cannot be asked: {error}");
    }
    let (states, beyond) = (field::words(value, "states"), field::words(value, "beyond"));
    match (states.is_empty(), beyond.is_empty()) {
        (false, true) => return format!("a rule is {states}"),
        (false, false) => return format!("a rule is {states}; it does not have: {beyond}"),
        (true, _) => {}
    }
    let near = field::list(value, "near").iter().map(|near| {
        let differs: Vec<String> = field::list(near, "differs").iter().map(difference).collect();
        format!("; one is {} where {}", field::text(near, "state"), differs.join(" and "))
    });
    format!("no alerting rule holds for these labels{}", near.collect::<String>())
}

fn difference(value: &Value) -> String {
    let given = match value["given"].is_null() {
        true => "not given".to_owned(),
        false => format!("given {:?}", field::text(value, "given")),
    };
    format!("{} is {:?} ({given})", field::text(value, "label"), field::text(value, "rule"))
}

/// What Alertmanager knows.
fn known(value: &Value) -> String {
    let error = field::text(value, "error");
    if !error.is_empty() {
        return format!("cannot be asked: {error}");
    }
    if value["known"] == true {
        let mute = [("silenced by", "silenced_by"), ("inhibited by", "inhibited_by")];
        let mute = mute.iter().filter(|(_, key)| !field::list(value, key).is_empty());
        let mute: String = mute.map(|(how, key)| format!(", {how} {}", field::words(value, key))).collect();
        return format!("knows it{mute}; it goes to {}", field::words(value, "receivers"));
    }
    let containing = field::list(value, "containing");
    if containing.is_empty() {
        return "does not know it".to_owned();
    }
    let each: Vec<String> =
        containing.iter().map(|labels| field::pairs(&json!({ "labels": labels }), "labels")).collect();
    let more = match value["containing_more"].as_u64() {
        Some(more) if more > 0 => format!(" and {more} more"),
        _ => String::new(),
    };
    format!(
        "does not know it with these labels alone; give all labels of one of these: {}{more}",
        each.join("; ")
    )
}

fn body(file: &Path) -> Result<Value, Quit> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(MAX_FILE).read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)),
    };
    read.map_err(|error| Quit::no(format!("{}: {error}", file.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| Quit::no(format!("{}: this is no JSON: {error}", file.display())))
}

/// Simulates a webhook body from a file, or from stdin, or the alert of a past decision.
pub(super) async fn simulate(
    client: &Client,
    asked: &WhichBody,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let body = match (&asked.decision, &asked.file) {
        (Some(id), _) => json!({ "decision_id": id }),
        (None, Some(file)) => body(file)?,
        (None, None) => return Err(Quit::Usage("name a FILE, or a decision with --decision".to_owned())),
    };
    let at = asked.at.as_deref().unwrap_or_default();
    let config = if asked.candidate { "candidate" } else { "" };
    let answer = client.post_with(&["api", "simulate"], &[("at", at), ("config", config)], &body).await?;
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => {
            table(&answer.value, asked.candidate, screen)?;
            remarks(&answer.value, asked, screen);
        }
    }
    Ok(YES)
}

fn table(value: &Value, by_candidate: bool, screen: &mut Screen<'_>) -> Result<(), Quit> {
    let mut table = match by_candidate {
        true => Table::default().whole("NOW").whole("THEN"),
        false => Table::default().status("VERDICT").whole("REASON"),
    };
    table = table.elastic("ALERT", 8).elastic("RUNBOOK", 8).elastic("WHY", 20);
    let mut fixes: Vec<(String, String)> = Vec::new();
    for item in field::list(value, "decisions") {
        let text = |key| field::text(item, key);
        let [first, second] = match by_candidate {
            true => [&item["now"], item]
                .map(|it| format!("{} {}", field::text(it, "verdict"), field::text(it, "reason"))),
            false => [text("verdict"), text("reason")],
        };
        table.row([first, second, text("alertname"), text("runbook"), text("message")]);
        let (reason, fix) = (text("reason"), text("fix"));
        if !fix.is_empty() && !fixes.iter().any(|(known, _)| *known == reason) {
            fixes.push((reason, fix));
        }
    }
    table.print(0, screen)?;
    decisions::listed("What would have to change", &fixes, screen)
}

/// What is to be known of the whole.
fn remarks(value: &Value, asked: &WhichBody, screen: &mut Screen<'_>) {
    let decisions = field::list(value, "decisions");
    if asked.candidate {
        let changed = decisions.iter().filter(|decision| decision["changed"] == true).count();
        screen.message(&format!("{changed} of {} decisions would change", decisions.len()));
    }
    let broken = field::words(value, "broken_runbooks");
    if !broken.is_empty() {
        screen.message(&format!("broken on the disk, so their last good version is taken: {broken}"));
    }
    let missing = field::text(&value["replayed"], "missing");
    if !missing.is_empty() {
        screen.message(&format!("not all of that alert is known: {missing}"));
    }
    let asks =
        |decision: &Value| field::list(decision, "gates").iter().any(|gate| gate["verdict"] == "later");
    if decisions.iter().any(|decision| decision["verdict"] != "skip" && asks(decision)) {
        screen.message("what asks Alertmanager and Prometheus is asked when it begins, and may still deny");
    }
    if asked.at.is_some() {
        screen.message("counts, breakers and orders are those of now");
    }
}
