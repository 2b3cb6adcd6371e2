//! `executions follow`: one line an event until the end, through restarts of the server.
//!
//! A connection that is lost is opened again with the last event's id, so nothing is missed and nothing shown twice.
//! May import: `model`. Must never: spin on a server that hangs up at once, or call an execution good that it did not
//! see succeed.

use super::args::Shape;
use super::client::{Client, Failed, MAX_ANSWER};
use super::quit::Quit;
use super::screen::Screen;
use super::sse::{Decoder, Event};
use super::{field, json, tell, yes_or_no};
use crate::model::ExecutionId;
use serde_json::Value;
use std::time::Duration;

/// How a lost connection is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Before the first try; doubled at each further one.
    pub(super) first: Duration,
    /// The longest wait.
    pub(super) longest: Duration,
    /// How many tries in a row may fail.
    pub(super) tries: u32,
}

/// About two minutes: longer than a restart, shorter than a person's patience.
pub(super) const PACE: Pace =
    Pace { first: Duration::from_millis(500), longest: Duration::from_secs(5), tries: 28 };

/// The longest pause a server may ask for: a whole window of its limit, and a little.
const MOST_WANTED: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Seen {
    /// What the server calls the last event.
    id: Option<String>,
    /// Its place in the journal.
    seq: u64,
    /// The final status, once it is known.
    status: Option<String>,
    /// The steps that tell people to do something.
    instructs: Vec<String>,
    /// What a person must do now.
    awaited: Option<String>,
    ended: bool,
}

/// Follows `id`. No, unless it succeeded.
pub(super) async fn run(
    client: &Client,
    id: &ExecutionId,
    pace: &Pace,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let mut seen = Seen::default();
    let mut failures = 0;
    let mut connected = false;
    loop {
        let before = seen.seq;
        let mut wanted = Duration::ZERO;
        let lost = match stream(client, id, &mut seen, &mut connected, screen).await {
            Ok(()) if seen.ended => break,
            // Nothing leads out of a final status, so the end need not be heard.
            Ok(()) | Err(Failed::Lost(_) | Failed::TooOften(..)) if seen.status.is_some() => break,
            Ok(()) => Quit::Unreachable {
                message: "the server ends the stream before the execution ends".to_owned(),
                hint: "is it draining? `runbookd status` tells".to_owned(),
            },
            Err(Failed::Lost(quit)) if connected => quit,
            // Also the first time: whoever asks for a page too often still wants to see how it ends.
            Err(Failed::TooOften(quit, after)) if after <= MOST_WANTED => {
                wanted = after;
                quit
            }
            Err(failed) => return Err(failed.into()),
        };
        failures = if seen.seq > before { 1 } else { failures + 1 };
        if failures > pace.tries {
            return Err(lost);
        }
        if !wanted.is_zero() {
            screen
                .message(&format!("the server was asked too often; trying again in {} s", wanted.as_secs()));
        } else if failures == 1 {
            screen.message("the connection is lost, trying again");
        }
        let pause = pace.longest.min(pace.first * 2_u32.saturating_pow((failures - 1).min(16)));
        tokio::time::sleep(pause.max(wanted)).await;
    }
    let status = match seen.status {
        Some(status) => status,
        None => {
            let execution = client.get(&["api", "executions", id.as_str()], &[]).await?;
            field::word(&execution.value, "status").to_owned()
        }
    };
    Ok(yes_or_no(status == "succeeded"))
}

/// One connection, to its end or to the end of the execution.
async fn stream(
    client: &Client,
    id: &ExecutionId,
    seen: &mut Seen,
    connected: &mut bool,
    screen: &mut Screen<'_>,
) -> Result<(), Failed> {
    let path = ["api", "executions", id.as_str(), "events"];
    let mut response = client.open(&path, &[], "text/event-stream", seen.id.as_deref()).await?;
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return Err(Failed::Final(client.stranger("it is not a stream of events")));
    }
    *connected = true;
    let mut decoder = Decoder::new(MAX_ANSWER);
    while !seen.ended {
        let Some(bytes) = client.next(&mut response).await.map_err(Failed::Lost)? else { break };
        let events = decoder.push(&bytes);
        for event in events.map_err(|_| Failed::Final(client.stranger("an event is too long")))? {
            show(&event, id, client.shape, seen, screen).map_err(Failed::Final)?;
        }
        screen.flush().map_err(Failed::Final)?;
        // Only now: what is long over came in the same piece as what followed it.
        if let (Some(awaited), Shape::Table) = (seen.awaited.take(), client.shape) {
            screen.message(&awaited);
        }
    }
    Ok(())
}

/// What a person must do after this event, if they must.
fn awaited(id: &ExecutionId, kind: &str, data: &Value, instructs: &[String]) -> Option<String> {
    let (step, hash) = (field::text(data, "step"), field::text(data, "hash"));
    let verb = "runbookd executions";
    match kind {
        "approval_requested" => Some(format!(
            "consent is awaited; read `{verb} show {id}`, then\n  {verb} approve {id} --step {step} --hash {hash}\n  {verb} reject {id} --step {step}"
        )),
        "timer_started" if instructs.contains(&step) => {
            Some(format!("an acknowledgement is awaited:\n  {verb} acknowledge {id} --step {step}"))
        }
        "paused" if data["actor"].is_null() => Some(format!(
            "a person must decide:\n  {verb} retry {id} --step STEP\n  {verb} skip {id} --step STEP\n  {verb} stop {id}, or rollback {id}"
        )),
        _ => None,
    }
}

fn show(
    event: &Event,
    id: &ExecutionId,
    shape: Shape,
    seen: &mut Seen,
    screen: &mut Screen<'_>,
) -> Result<(), Quit> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let kind = match event.kind.as_str() {
        "" => field::word(&data, "kind"),
        kind => kind,
    };
    if kind == "end" {
        seen.ended = true;
        if let Some(status) = data["status"].as_str() {
            seen.status.get_or_insert_with(|| status.to_owned());
        }
        return Ok(());
    }
    let seq = data["seq"].as_u64().or_else(|| event.id.as_deref()?.parse().ok()).unwrap_or(seen.seq + 1);
    if seq <= seen.seq {
        return Ok(());
    }
    (seen.seq, seen.id) = (seq, event.id.clone().or_else(|| Some(seq.to_string())));
    if kind == "finished" {
        seen.status = data["status"].as_str().map(str::to_owned);
    }
    if kind == "created" {
        let instructs =
            field::list(&data, "steps").iter().filter(|step| field::word(step, "kind") == "instruct");
        seen.instructs = instructs.map(|step| field::text(step, "id")).collect();
    }
    seen.awaited = awaited(id, kind, &data, &seen.instructs);
    match shape {
        Shape::Json if data.is_object() => screen.line(&json::one_line(&event.data)),
        Shape::Json => Ok(()),
        Shape::Table => {
            let line = tell::line(kind, &data, screen);
            screen.line(&line)
        }
    }
}
