//! One connection: which phase it is in, how long each phase may last, and how it ends.
//!
//! hyper's own `header_read_timeout` is also the keep-alive limit, so it cannot be 10 s for a head and 75 s for
//! a pause. It is off; a [`Watch`] shared by the socket, the service and the answer knows the phase instead.
//! May import: nothing of this crate but the edge. Must never: close under an answer without draining first.

use super::Limits;
use super::edge::{Arrival, Edge};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bytes hyper may buffer of one connection: heads over our own limits still get our own answer, up to this.
const MAX_BUFFER: usize = 128 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, nothing sent yet.
    Fresh,
    /// Some of a head has arrived.
    Head,
    /// A request is being read, handled or answered.
    Busy,
    /// Answered, nothing new sent yet.
    Idle,
}

struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client takes nothing of what is written.
    blocked: Option<Instant>,
    scan: HeadScan,
    /// A request was answered before all of its body was read.
    unread: bool,
}

/// The phase of a connection.
struct Watch {
    state: Mutex<State>,
    /// A deadline may have come nearer.
    changed: Notify,
}

impl Watch {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            phase: Phase::Fresh,
            since: now,
            blocked: None,
            scan: HeadScan::default(),
            unread: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        match state.phase {
            Phase::Busy => return,
            Phase::Head => {}
            Phase::Fresh | Phase::Idle => {
                // The head's time runs from accepting the connection, or from the first byte of a later request.
                if state.phase == Phase::Idle {
                    state.since = Instant::now();
                }
                state.phase = Phase::Head;
                state.scan = HeadScan::default();
                self.changed.notify_one();
            }
        }
        state.scan.feed(bytes);
    }

    /// A whole head is there. Whether it announced the length of its body in two ways.
    fn begin(&self) -> bool {
        let mut state = self.state();
        state.phase = Phase::Busy;
        std::mem::take(&mut state.scan).two_lengths()
    }

    fn end(&self) {
        let mut state = self.state();
        state.phase = Phase::Idle;
        state.since = Instant::now();
        self.changed.notify_one();
    }

    fn written(&self, pending: bool) {
        let mut state = self.state();
        if pending != state.blocked.is_some() {
            state.blocked = pending.then(Instant::now);
            self.changed.notify_one();
        }
    }

    /// When the connection has to be closed, as things stand.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Fresh | Phase::Head => Some(state.since + limits.head),
            Phase::Idle => Some(state.since + limits.idle),
            Phase::Busy => None,
        };
        let write = state.blocked.map(|since| since + limits.write_stall);
        phase.into_iter().chain(write).min()
    }

    /// Between requests, and all answers are on their way: nothing is lost by closing now.
    fn quiet(&self) -> bool {
        let state = self.state();
        matches!(state.phase, Phase::Fresh | Phase::Idle) && state.blocked.is_none()
    }
}

/// Dropped with the body of an answer, that is when all of it is written: the connection is idle again.
pub(super) struct EndOfReply(Arc<Watch>);

impl EndOfReply {
    /// Says that the client may still be sending the body of the request.
    pub(super) fn leaves_unread(&self) {
        self.0.state().unread = true;
    }
}

impl Drop for EndOfReply {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Looks for `Content-Length` and `Transfer-Encoding` in the raw bytes of a head. hyper follows RFC 9112 when
/// both are there (the encoding counts, the connection is closed) but hides the length from us, and we refuse.
#[derive(Default)]
struct HeadScan {
    line: Vec<u8>,
    started: bool,
    length: bool,
    encoding: bool,
    done: bool,
}

impl HeadScan {
    const LENGTH: &[u8] = b"content-length:";
    const ENCODING: &[u8] = b"transfer-encoding:";

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.done {
                return;
            }
            match byte {
                b'\n' => {
                    self.length |= self.line == Self::LENGTH;
                    self.encoding |= self.line == Self::ENCODING;
                    // Empty lines before the request line are allowed, and end nothing.
                    self.done = self.started && self.line.is_empty();
                    self.started |= !self.line.is_empty();
                    self.line.clear();
                }
                b'\r' => {}
                // The name is enough: at the colon the line is known to be one of the two, or not.
                _ if self.line.last() == Some(&b':') => {}
                _ if self.line.len() <= Self::ENCODING.len() => self.line.push(byte.to_ascii_lowercase()),
                _ => {}
            }
        }
    }

    fn two_lengths(&self) -> bool {
        self.length && self.encoding
    }
}

/// The socket, telling the [`Watch`] what moves.
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.watch.received(new);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch.written(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch.written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves `stream` until either side has enough of it. `cut` ends it at once; the edge's `drain` ends it after
/// the request in progress.
pub(super) async fn serve(edge: Arc<Edge>, stream: TcpStream, peer: SocketAddr, cut: CancellationToken) {
    let watch = Watch::new();
    let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch) });
    let service = {
        let (edge, watch) = (Arc::clone(&edge), Arc::clone(&watch));
        service_fn(move |request| {
            let arrival = Arrival { peer, two_lengths: watch.begin(), end: EndOfReply(Arc::clone(&watch)) };
            let edge = Arc::clone(&edge);
            // Boxed, because the connection is polled by reference and must be `Unpin`.
            Box::pin(async move { Ok::<_, Infallible>(edge.answer(arrival, request).await) })
        })
    };
    let mut connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, service);
    let mut draining = false;
    let ended = loop {
        if draining && watch.quiet() {
            return;
        }
        let deadline = watch.deadline(&edge.limits);
        tokio::select! {
            biased;
            // Also writes what is left of the last answer, and closes our side.
            ended = &mut connection => break ended,
            () = cut.cancelled() => return,
            () = watch.changed.notified() => {}
            () = edge.drain.cancelled(), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = until(deadline) => {
                if watch.deadline(&edge.limits).is_some_and(|deadline| deadline <= Instant::now()) {
                    return;
                }
            }
        }
    };
    let unreadable = ended.err().filter(hyper::Error::is_parse);
    if let Some(error) = &unreadable {
        edge.unreadable(if error.is_parse_too_large() { 431 } else { 400 }, peer);
    }
    if unreadable.is_none() && !watch.state().unread {
        return;
    }
    let mut stream = connection.into_parts().io.into_inner().stream;
    tokio::select! {
        () = linger(&mut stream, &edge.limits) => {}
        () = cut.cancelled() => {}
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Closes our side, then reads and throws away what the other still sends, within bounds: closing with unread
/// bytes would reset the connection, and the answer with it.
pub(super) async fn linger(stream: &mut TcpStream, limits: &Limits) {
    let end = Instant::now() + limits.linger;
    let mut left = limits.linger_bytes;
    let mut buffer = vec![0; 16 << 10];
    let mut drain = pin!(async {
        if stream.shutdown().await.is_err() {
            return;
        }
        while let Ok(read) = stream.read(&mut buffer).await {
            left = left.saturating_sub(read as u64);
            if read == 0 || left == 0 {
                return;
            }
        }
    });
    // Too late or done: either way the connection is dropped next.
    timeout_at(end, drain.as_mut()).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expected: bool) {
        let mut whole = HeadScan::default();
        whole.feed(head.as_bytes());
        let mut bytewise = HeadScan::default();
        for byte in head.as_bytes() {
            bytewise.feed(&[*byte]);
        }
        assert_eq!((whole.two_lengths(), bytewise.two_lengths()), (expected, expected), "{head:?}");
    }

    #[test]
    fn a_head_with_two_lengths_is_found_in_any_order_and_spelling() {
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true);
        check("POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\nX: y\r\ncontent-length:5\r\n\r\n", true);
        check("\r\n\r\nPOST / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n", true);
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nTransfer-Encoding: chunked\r\n", false);
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\nX: Transfer-Encoding: chunked\r\n\r\n", false);
        check("POST / HTTP/1.1\r\nContent-Lengthy: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false);
        check("POST / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false);
    }
}
