//! The journal of an execution as a stream of server-sent events, the same for every watcher.

use super::{Services, header};
use crate::http::{ApiError, Event as SseEvent, Reply, Request};
use crate::journal::{Entry, Event};
use crate::model::ExecutionId;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Journal entries read at once.
const STRIDE: usize = 512;

/// The journal as a stream, from the start or behind `Last-Event-ID`, until the execution is over.
pub(in crate::http::handler) async fn events(
    services: Arc<Services>,
    request: Request,
) -> Result<Reply, ApiError> {
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
    // An event's own time gives way to the name it has in the execution: `at` is when a thing was recorded.
    if let (Event::RetryScheduled { .. }, Some(event)) = (&entry.event, data.as_object_mut())
        && let Some(at) = event.remove("at")
    {
        event.insert("next_attempt_at".to_owned(), at);
    }
    data["seq"] = entry.seq.into();
    data["at"] = entry.at.to_string().into();
    SseEvent { id: Some(entry.seq.to_string()), event: entry.event.kind().to_owned(), data: data.to_string() }
}
