//! `/api/executions`: what ran, what runs, and how to stop it.

use super::{Services, claims_allow, decisions::cursor, unreadable};
use crate::api::{self, ExecutionView};
use crate::engine::VerbError;
use crate::engine::verb::Actor;
use crate::http::{ApiError, Event as SseEvent, Reply, Request};
use crate::journal::{Entry, Event, Output, State};
use crate::model::{ExecutionId, Part, StepId};
use crate::runbook::{self, Runbook};
use crate::step::OutputStream;
use crate::store::records::{ExecutionFilter, Header};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Journal entries read at once.
const STRIDE: usize = 512;
/// A journal longer than this is not shown; no runbook can make one.
const JOURNAL_MAX: usize = 100_000;

pub(super) async fn list(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let query = &request.query;
    query.only(&["status", "runbook", "alertname", "target", "since", "until", "limit", "cursor"])?;
    let filter = ExecutionFilter {
        status: query.filter("status")?,
        runbook: query.filter("runbook")?,
        alertname: query.get("alertname").map(str::to_owned),
        target: query.get("target").map(str::to_owned),
        since: query.filter("since")?,
        until: query.filter("until")?,
    };
    let cursor = cursor(&request)?;
    let page =
        services.records.executions(&filter, cursor, query.limit()?).await.map_err(|e| unreadable(&e))?;
    let items: Vec<_> = page.items.iter().map(api::summary).collect();
    Ok(Reply::json(&api::page("executions", &items, page.next_cursor.as_deref())))
}

fn not_found() -> ApiError {
    ApiError::not_found("execution")
}

async fn header(services: &Services, request: &Request) -> Result<Header, ApiError> {
    let id = ExecutionId::new(request.param("id")).map_err(|_| not_found())?;
    let header = services.records.header(id.ulid()).await.map_err(|error| unreadable(&error))?;
    header.filter(|header| header.id == id).ok_or_else(not_found)
}

async fn state(services: &Services, id: &ExecutionId) -> Result<State, ApiError> {
    let entries = services.records.journal(id, 0, JOURNAL_MAX).await.map_err(|error| unreadable(&error))?;
    State::replay(entries).map_err(|error| {
        tracing::error!(execution_id = %id, %error, "the journal cannot be read");
        ApiError::internal()
    })
}

pub(super) async fn show(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    Ok(Reply::json(&ExecutionView::of(&state(&services, &header.id).await?)))
}

/// The claims are those of the runbook as it is now, and where it is gone, of the version that runs.
async fn check_claims(services: &Services, request: &Request, header: &Header) -> Result<(), ApiError> {
    let runbook: Option<Runbook> = match services.library().get(&header.runbook) {
        Some(crate::routing::Listed::Good(pinned)) => Some(pinned.runbook.clone()),
        _ => {
            let stored = services.records.version(&header.runbook, header.version).await;
            let stored = stored.map_err(|error| unreadable(&error))?;
            stored.and_then(|stored| runbook::parse(&header.runbook, &stored.file_name, &stored.text).runbook)
        }
    };
    claims_allow(services, runbook.as_ref(), request)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    action: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn control(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let body: Control = request.json()?;
    match body.action.as_str() {
        "stop" => end(services, request, body.reason).await,
        other => {
            let message = format!(
                "{:?} is not an action of this version; known: stop",
                other.chars().take(40).collect::<String>()
            );
            Err(ApiError::invalid_field("action", message))
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Stop {
    #[serde(default)]
    reason: String,
}

pub(super) async fn stop(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    // A stop must not fail for want of a body.
    let body: Stop = if request.body.is_empty() { Stop::default() } else { request.json()? };
    end(services, request, body.reason).await
}

async fn end(services: Arc<Services>, request: Request, reason: String) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    check_claims(&services, &request, &header).await?;
    let reason: String = reason.chars().take(1000).collect();
    let actor = Actor { subject: request.user().to_owned(), roles: Default::default() };
    let done = services.engine.stop(&header.id, actor, &reason).await.map_err(|error| match error {
        VerbError::Unknown(_) => not_found(),
        VerbError::Conflict { .. } => ApiError::conflict("wrong_state", error.to_string()),
        VerbError::NotDurable(_) => {
            ApiError::unavailable("store_unavailable", error.to_string(), Duration::from_secs(5))
        }
        VerbError::Invalid(why) => ApiError::invalid_field("", why),
        VerbError::Forbidden(why) => ApiError::forbidden(why),
        VerbError::QueueFull => {
            ApiError::unavailable("queue_full", error.to_string(), Duration::from_secs(5))
        }
        VerbError::Read(error) => unreadable(&error),
    })?;
    Ok(Reply::json(&json!({ "id": done.id, "status": done.status })).status(202))
}

/// The journal as a stream, from the start or behind `Last-Event-ID`, until the execution is over.
pub(super) async fn events(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    let last = request.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = match last {
        // The client has seen the last one.
        Some("end") => return Ok(Reply::empty()),
        Some(text) => text.parse().map_err(|_| ApiError::malformed("Last-Event-ID is not a number"))?,
        None => 0,
    };
    Ok(Reply::events(follow(services, header.id, after)))
}

struct Follow {
    services: Arc<Services>,
    id: ExecutionId,
    after: u64,
    ready: VecDeque<Entry>,
    news: broadcast::Receiver<ExecutionId>,
    over: bool,
    said_end: bool,
}

fn follow(services: Arc<Services>, id: ExecutionId, after: u64) -> impl Stream<Item = SseEvent> {
    // Listening begins before the first reading, so that nothing falls between the two.
    let news = services.engine.news();
    let follow = Follow { services, id, after, ready: VecDeque::new(), news, over: false, said_end: false };
    stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        Some((event, follow))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                self.after = entry.seq;
                self.over |= matches!(entry.event, Event::Finished { .. });
                return Some(sse(&entry));
            }
            if self.over {
                if std::mem::replace(&mut self.said_end, true) {
                    return None;
                }
                let data = json!({ "id": self.id }).to_string();
                return Some(SseEvent { id: Some("end".to_owned()), event: "end".to_owned(), data });
            }
            if !self.read().await {
                return None;
            }
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn read(&mut self) -> bool {
        match self.services.records.journal(&self.id, self.after, STRIDE).await {
            Ok(entries) => {
                self.ready = entries.into();
                // A client that has seen the last event gets only the end.
                if self.ready.is_empty() && !self.over {
                    let header = self.services.records.header(self.id.ulid()).await.ok().flatten();
                    self.over =
                        header.is_some_and(|header| header.status.is_final() && header.seq <= self.after);
                }
                true
            }
            Err(error) => {
                tracing::error!(execution_id = %self.id, %error, "the journal cannot be read");
                false
            }
        }
    }

    async fn wait(&mut self) {
        if self.over {
            return;
        }
        loop {
            match self.news.recv().await {
                Ok(id) if id == self.id => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => {
                    return tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn sse(entry: &Entry) -> SseEvent {
    let mut data = serde_json::to_value(&entry.event).unwrap_or_default();
    // How an attempt ended is told beside which one it was.
    if let Some(Value::Object(result)) = data.get_mut("result").map(Value::take)
        && let Some(event) = data.as_object_mut()
    {
        event.remove("result");
        event.extend(result);
    }
    data["seq"] = entry.seq.into();
    data["at"] = entry.at.to_string().into();
    SseEvent { id: Some(entry.seq.to_string()), event: entry.event.kind().to_owned(), data: data.to_string() }
}

/// One stream of one attempt, whole or as far as it is.
pub(super) async fn output(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    let nothing = || ApiError::not_found("output");
    let step = StepId::new(request.param("step")).map_err(|_| nothing())?;
    let attempt: u32 = request.param("attempt").parse().map_err(|_| nothing())?;
    let stream = match request.param("stream") {
        "stdout" => OutputStream::Stdout,
        "stderr" => OutputStream::Stderr,
        _ => return Err(nothing()),
    };
    if let Some(live) = services.runner.live(&header.id, &step, Part::MAIN, attempt) {
        return Ok(Reply::stream("text/plain; charset=utf-8", while_it_runs(live, stream)));
    }
    let state = state(&services, &header.id).await?;
    let index = state.index_of(&step).ok_or_else(nothing)?;
    // Of an interrupted attempt and its re-run, which share a number, the later one.
    let ended = state.steps[index]
        .attempts
        .iter()
        .rev()
        .find(|ended| ended.attempt == attempt)
        .ok_or_else(nothing)?;
    let kept: &Output = match stream {
        OutputStream::Stdout => &ended.result.stdout,
        OutputStream::Stderr => &ended.result.stderr,
    };
    match &kept.file {
        None => Ok(Reply::text(kept.head.clone())),
        Some(name) => {
            let path = services.outputs.join(name);
            let file = tokio::fs::File::open(&path).await.map_err(|_| nothing())?;
            Ok(Reply::stream("text/plain; charset=utf-8", chunks(file)))
        }
    }
}

/// What an attempt in progress has written so far; a client asks again for more.
fn while_it_runs(live: crate::step::LiveOutput, which: OutputStream) -> impl Stream<Item = bytes::Bytes> {
    stream::unfold((live, 0_u64), move |(live, offset)| async move {
        let piece = live.read(which, offset, 64 << 10).ok()?;
        let next = piece.start + piece.bytes.len() as u64;
        if piece.bytes.is_empty() { None } else { Some((piece.bytes.into(), (live, next))) }
    })
}

fn chunks(file: tokio::fs::File) -> impl Stream<Item = bytes::Bytes> {
    use tokio::io::AsyncReadExt as _;
    stream::unfold(file, |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(64 << 10);
        match file.read_buf(&mut chunk).await {
            Ok(read) if read > 0 => Some((chunk.freeze(), file)),
            _ => None,
        }
    })
}
