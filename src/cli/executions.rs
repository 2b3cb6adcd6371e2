//! `executions list` and `output`; `show` is in `timeline`, `follow` in its own file, what people do in `control`.
//!
//! May import: `model`. Must never: leave out a page without saying so.

use super::args::{ExecutionFilter, ExecutionsVerb, Output, Page, Shape, StepPart};
use super::client::Client;
use super::escape::{visible_lines, wrap};
use super::quit::{Quit, YES};
use super::screen::{COLUMNS, Screen};
use super::table::Table;
use super::{Environment, control, field, follow, timeline, when};
use serde_json::Value;

/// Carries out a verb on executions.
pub(super) async fn run(
    client: &Client,
    verb: &ExecutionsVerb,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match verb {
        ExecutionsVerb::List(filter) => list(client, filter, env, screen).await,
        ExecutionsVerb::Show { id } => {
            let answer = client.get(&["api", "executions", id.as_str()], &[]).await?;
            match client.shape {
                Shape::Json => screen.line(&answer.pretty())?,
                Shape::Table => timeline::print(&answer.value, env.clock.now(), screen)?,
            }
            Ok(YES)
        }
        ExecutionsVerb::Follow { id } => follow::run(client, id, &follow::PACE, screen).await,
        ExecutionsVerb::Output(wanted) => output(client, wanted, screen).await,
        act => control::run(client, act, screen).await,
    }
}

async fn list(
    client: &Client,
    filter: &ExecutionFilter,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let since = moment(filter.since.as_deref(), env)?;
    let until = moment(filter.until.as_deref(), env)?;
    let (limit, cursor) = page(&filter.page);
    let query = [
        ("status", filter.status.as_deref().unwrap_or_default()),
        ("runbook", filter.runbook.as_deref().unwrap_or_default()),
        ("alertname", filter.alertname.as_deref().unwrap_or_default()),
        ("target", filter.target.as_deref().unwrap_or_default()),
        ("since", &since),
        ("until", &until),
        ("limit", &limit),
        ("cursor", cursor),
    ];
    let answer = client.get(&["api", "executions"], &query).await?;
    if client.shape == Shape::Json {
        screen.line(&answer.pretty())?;
        return Ok(YES);
    }
    let mut table = Table::default()
        .whole("ID")
        .status("STATUS")
        .whole("CREATED (UTC)")
        .whole("TOOK")
        .elastic("TARGET", 10);
    for item in field::list(&answer.value, "executions") {
        let text = |key| field::text(item, key);
        let took = field::took(item, "started_at", "finished_at").map(when::span).unwrap_or_default();
        table.row([text("id"), text("status"), field::stamp(item, "created_at"), took, text("target")]);
    }
    print_page(&table, &answer.value, "no executions match", screen)?;
    Ok(YES)
}

async fn last_attempt(client: &Client, wanted: &Output) -> Result<u32, Quit> {
    let step = wanted.step.as_str();
    let execution = client.get(&["api", "executions", wanted.id.as_str()], &[]).await?.value;
    let steps = field::list(&execution, "steps");
    let Some(found) = steps.iter().find(|found| field::word(found, "id") == step) else {
        let known: Vec<String> = steps.iter().map(|step| field::text(step, "id")).collect();
        return Err(Quit::no(format!("the execution has no step {step}; it has: {}", known.join(", "))));
    };
    let holder = if wanted.part == Some(StepPart::Undo) { &found["undo"] } else { found };
    let is_wanted = |attempt: &&Value| {
        attempt["item_index"].as_u64() == wanted.item.map(u64::from)
            && attempt["probe"].as_bool().unwrap_or(false) == (wanted.part == Some(StepPart::Probe))
    };
    let attempts = field::list(holder, "attempts");
    let numbers = attempts.iter().filter(is_wanted).filter_map(|attempt| attempt["attempt"].as_u64());
    match numbers.max().and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(number),
        // Of a list each item has attempts of its own.
        None if wanted.item.is_none() && attempts.iter().any(|attempt| attempt["item_index"].is_u64()) => {
            Err(Quit::no(format!("the step {step} is done for each item of a list: say which with --item")))
        }
        None if attempts.is_empty() => Err(Quit::no(format!("the step {step} has not run"))),
        None => Err(Quit::no(format!("no such part of the step {step} has run"))),
    }
}

async fn output(client: &Client, wanted: &Output, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let attempt = match wanted.attempt {
        Some(attempt) => attempt,
        None => last_attempt(client, wanted).await?,
    };
    let attempt = attempt.to_string();
    let stream = if wanted.stderr { "stderr" } else { "stdout" };
    let path = ["api", "executions", wanted.id.as_str(), "output", wanted.step.as_str(), &attempt, stream];
    let item = wanted.item.map(|item| item.to_string()).unwrap_or_default();
    let query = [("part", wanted.part.map(StepPart::as_str).unwrap_or_default()), ("item", &item)];
    let mut response = client.open(&path, &query, "text/plain", None).await?;
    // Bytes that were cut in the middle of a character wait for the rest of it.
    let mut rest = Vec::new();
    while let Some(chunk) = client.next(&mut response).await? {
        if !screen.is_terminal() {
            // A file or another program wants what was written, not what is safe to look at.
            screen.bytes(&chunk)?;
            continue;
        }
        rest.extend_from_slice(&chunk);
        let whole = complete(&rest);
        screen.text(&visible_lines(&String::from_utf8_lossy(&rest[..whole])))?;
        rest.drain(..whole);
        screen.flush()?;
    }
    screen.text(&visible_lines(&String::from_utf8_lossy(&rest)))?;
    Ok(YES)
}

/// How many of the first bytes end with a whole character and not inside a line end of two bytes.
fn complete(bytes: &[u8]) -> usize {
    let start = (1..=bytes.len().min(4)).map(|back| bytes.len() - back).find(|at| bytes[*at] & 0xc0 != 0x80);
    let Some(start) = start else { return bytes.len() };
    let wanted = match bytes[start] {
        b'\r' => 2,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if bytes.len() - start < wanted { start } else { bytes.len() }
}

/// The parameter for a `--since` or `--until`; empty where there is none.
pub(super) fn moment(text: Option<&str>, env: &Environment) -> Result<String, Quit> {
    text.map_or(Ok(String::new()), |text| when::moment(text, env.clock.now()).map_err(Quit::Usage))
}

/// The parameters of a page; empty where there is none.
pub(super) fn page(page: &Page) -> (String, &str) {
    let limit = page.limit.map(|limit| limit.to_string()).unwrap_or_default();
    (limit, page.cursor.as_deref().unwrap_or_default())
}

/// Prints a list, and on stderr where it goes on or that there is nothing.
pub(super) fn print_page(
    table: &Table,
    value: &Value,
    nothing: &str,
    screen: &mut Screen<'_>,
) -> Result<(), Quit> {
    if table.is_empty() {
        screen.message(nothing);
    } else {
        table.print(0, screen)?;
    }
    screen.flush()?;
    let next = field::text(value, "next_cursor");
    if !next.is_empty() {
        screen.message(&format!("there are more: go on with --cursor {next}"));
    }
    Ok(())
}

/// One fact under a title, in as many lines as it needs; nothing for an empty one.
pub(super) fn labelled(title: &str, text: &str, screen: &mut Screen<'_>) -> Result<(), Quit> {
    if text.is_empty() {
        return Ok(());
    }
    for (index, line) in wrap(text, COLUMNS - 12).iter().enumerate() {
        screen.line(&format!("{:<12}{line}", if index == 0 { title } else { "" }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_waits_for_its_rest() {
        let check = |text: &[u8], expected| assert_eq!(complete(text), expected, "{text:?}");
        check("aü".as_bytes(), 3);
        check(&"aü".as_bytes()[..2], 1);
        check(&"a数".as_bytes()[..3], 1);
        check("a\r".as_bytes(), 1);
        check("a\r\n".as_bytes(), 3);
        check(b"a\xff", 2);
        check(b"\x80\x80\x80\x80\x80", 5);
        check(b"", 0);
    }
}
