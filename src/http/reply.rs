//! What a handler answers with, and how it becomes bytes on the wire.
//!
//! Every answer gets the security headers, whatever made it. A stream of events ends when the server drains, and
//! says something every 15 s, so that proxies keep it and a dead client is noticed. May import: nothing of this
//! crate. Must never: build a redirect.

use super::streams::OpenStream;
use super::watch::EndOfReply;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How often an event stream without events says that it lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most bytes of an answer handed to a connection at once, so that it shows whether its client takes them.
const CHUNK: usize = 64 << 10;
/// What every answer says. A page that needs more opens it for itself.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// What a client sends back as `Last-Event-ID`.
    pub id: Option<String>,
    /// Its kind.
    pub event: String,
    /// Its data; line breaks are kept.
    pub data: String,
}

impl Event {
    fn encode(&self) -> Bytes {
        let one_line = |text: &str| text.replace(['\r', '\n', '\0'], " ");
        let mut text = String::new();
        if let Some(id) = &self.id {
            text += &format!("id: {}\n", one_line(id));
        }
        if !self.event.is_empty() {
            text += &format!("event: {}\n", one_line(&self.event));
        }
        for line in self.data.replace("\r\n", "\n").split(['\n', '\r']) {
            text += &format!("data: {line}\n");
        }
        text.push('\n');
        text.into()
    }
}

enum Content {
    Whole(Bytes),
    Stream { chunks: BoxStream<'static, Bytes>, keep_alive: Option<Duration> },
}

/// How an answer is sent.
pub(super) struct Manner {
    /// Not all of the request's body was read: the connection is not used again.
    pub(super) unread: bool,
    /// The client speaks TLS, and shall go on doing so.
    pub(super) https: bool,
}

/// An answer.
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", self.status)
    }
}

impl Reply {
    fn new(content_type: Option<HeaderValue>, content: Content) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        Self { status: StatusCode::OK, headers, content }
    }

    /// 200 without a body.
    pub fn empty() -> Self {
        Self::new(None, Content::Whole(Bytes::new()))
    }

    /// 200 with `value` as JSON. A value that cannot be written (a map whose keys are no strings) is our fault
    /// and becomes a 500.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => Self::new(Some(JSON), Content::Whole(bytes.into())),
            Err(cause) => {
                tracing::error!(%cause, "an answer could not be written as JSON");
                let body = Bytes::from_static(br#"{"error":"an internal error","code":"internal"}"#);
                Self::new(Some(JSON), Content::Whole(body)).status(500)
            }
        }
    }

    /// 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Some(TEXT), Content::Whole(text.into().into()))
    }

    /// 200 with bytes of any type.
    pub fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::new(Some(HeaderValue::from_static(content_type)), Content::Whole(bytes.into()))
    }

    /// 200 with a body of unknown length. It ends with the stream, or when the server drains.
    pub fn stream(content_type: &'static str, chunks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        let content = Content::Stream { chunks: chunks.boxed(), keep_alive: None };
        Self::new(Some(HeaderValue::from_static(content_type)), content)
    }

    /// 200 with server-sent events, and a comment every [`KEEP_ALIVE`] without one.
    pub fn events(events: impl Stream<Item = Event> + Send + 'static) -> Self {
        Self::events_every(events, KEEP_ALIVE)
    }

    /// The same with another interval.
    pub(super) fn events_every(events: impl Stream<Item = Event> + Send + 'static, every: Duration) -> Self {
        let chunks = events.map(|event| event.encode()).boxed();
        let content = Content::Stream { chunks, keep_alive: Some(every) };
        let reply = Self::new(Some(HeaderValue::from_static("text/event-stream")), content);
        // nginx buffers answers unless told otherwise, and an event that waits in a buffer is no event.
        reply.header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))
    }

    /// Sets the status. A redirect or an impossible number becomes 500: Alertmanager would follow a redirect
    /// with a GET and count the alert as delivered.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| !status.is_redirection() && !status.is_informational())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self
    }

    /// Sets a header, in place of an earlier or built-in one.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets a header to a number.
    #[must_use]
    pub fn number(self, name: HeaderName, value: u64) -> Self {
        self.header(name, value.into())
    }

    /// Adds a header to those it has, unless it is no header.
    pub(super) fn or_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.headers.entry(name).or_insert(value);
        }
        self
    }

    /// The status code.
    pub fn status_code(&self) -> u16 {
        self.status.as_u16()
    }

    /// The value of a header, where it is text.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body, where it is not a stream.
    pub fn body_bytes(&self) -> Option<Bytes> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes.clone()),
            Content::Stream { .. } => None,
        }
    }

    /// Whether it is a stream of events.
    pub(super) fn is_events(&self) -> bool {
        matches!(self.content, Content::Stream { keep_alive: Some(_), .. })
    }

    /// Whether its length is not known yet.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.content, Content::Stream { .. })
    }

    /// The same, but a stream also ends when `end` does.
    pub(super) fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        let content = match self.content {
            Content::Stream { chunks, keep_alive } => {
                Content::Stream { chunks: chunks.take_until(end).boxed(), keep_alive }
            }
            whole => whole,
        };
        Self { content, ..self }
    }

    /// The finished response.
    pub(super) fn finish(
        self,
        request_id: &str,
        manner: &Manner,
        stream: Option<OpenStream>,
        drain: &CancellationToken,
        end: EndOfReply,
    ) -> Response<ReplyBody> {
        let shared = end.shares();
        if manner.unread {
            end.leaves_unread();
        }
        end.turn(true);
        let mut response = Response::new(ReplyBody {
            content: match self.content {
                Content::Whole(bytes) => Sending::Whole(bytes),
                Content::Stream { chunks, keep_alive } => Sending::Stream {
                    chunks,
                    drained: Box::pin(drain.clone().cancelled_owned()),
                    keep_alive: keep_alive.map(|every| (every, Box::pin(tokio::time::sleep(every)))),
                },
            },
            end,
            _stream: stream,
        });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if manner.https {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        for (name, value) in self.headers {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        // HTTP/2 has its own way to say that the rest of a body is not wanted.
        if manner.unread && !shared {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

enum Sending {
    Whole(Bytes),
    Stream {
        chunks: BoxStream<'static, Bytes>,
        drained: Pin<Box<WaitForCancellationFutureOwned>>,
        keep_alive: Option<(Duration, Pin<Box<Sleep>>)>,
    },
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (chunks, drained, keep_alive) = match self {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => return Poll::Ready(Some(bytes.split_to(bytes.len().min(CHUNK)))),
            Self::Stream { chunks, drained, keep_alive } => (chunks, drained, keep_alive),
        };
        if drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let chunk = match chunks.poll_next_unpin(cx) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(chunk)) => Some(chunk),
            Poll::Pending => None,
        };
        let Some((every, sleep)) = keep_alive else {
            return chunk.map_or(Poll::Pending, |chunk| Poll::Ready(Some(chunk)));
        };
        let alive = sleep.as_mut().poll(cx).is_ready().then(|| Bytes::from_static(b": alive\n\n"));
        match chunk.or(alive) {
            None => Poll::Pending,
            Some(bytes) => {
                sleep.as_mut().reset(Instant::now() + *every);
                Poll::Ready(Some(bytes))
            }
        }
    }
}

/// The body of an answer; when it is dropped, the answer is written.
pub(super) struct ReplyBody {
    content: Sending,
    end: EndOfReply,
    _stream: Option<OpenStream>,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.content.poll(cx);
        self.end.turn(polled.is_ready());
        polled.map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Sending::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Sending::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Sending::Stream { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reply_can_be_made_a_redirect() {
        for status in [301, 302, 303, 304, 307, 308, 100, 101, 0, 9999] {
            assert_eq!(Reply::empty().status(status).status_code(), 500, "{status}");
        }
        assert_eq!(Reply::empty().status(202).status_code(), 202);
    }

    #[test]
    fn an_event_keeps_its_lines_and_cannot_forge_another() {
        let event = Event {
            id: Some("7\nevent: end".into()),
            event: "step\r\ndata: x".into(),
            data: "one\ntwo\r\nthree\rid: 9".into(),
        };
        let text = String::from_utf8(event.encode().to_vec()).unwrap();
        assert_eq!(
            text,
            "id: 7 event: end\nevent: step  data: x\ndata: one\ndata: two\ndata: three\ndata: id: 9\n\n"
        );
    }
}
