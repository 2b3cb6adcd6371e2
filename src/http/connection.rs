//! One connection: the handshake, which HTTP it speaks, and how it ends.
//!
//! TLS if there is a certificate; then HTTP/2 where it was agreed on, or where the client begins with its preface;
//! else HTTP/1.1. All of it under the deadlines of [`Watch`], and until the connection has to give way.
//! May import: nothing of this crate but the edge. Must never: close under an answer without draining first.

use super::Limits;
use super::edge::{Arrival, Edge};
use super::places::Place;
use super::reply::ReplyBody;
use super::server::REFUSAL;
use super::stream::Stream;
use super::watch::Watch;
use bytes::{Buf as _, BytesMut};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bytes hyper may buffer of one connection: heads over our own limits still get our own answer, up to this.
const MAX_BUFFER: usize = 128 << 10;
/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one HTTP/2 connection in progress, also those its client has given up. Alertmanager needs one.
const MAX_STREAMS: u32 = 64;
/// What an HTTP/2 client may send of a body before it is read, by stream and in all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Streams that are opened only to be reset, and our own resets of faulty ones: more of them end the connection.
const MAX_RESETS: usize = 32;
/// How often an HTTP/2 client that says nothing is asked whether it lives, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
/// How long a client may take to agree that an HTTP/2 connection without requests ends.
const GOAWAY: Duration = Duration::from_secs(1);

/// The socket, telling the [`Watch`] what moves.
struct Watched {
    stream: Stream,
    /// Already read, to see which HTTP it is.
    first: BytesMut,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.first.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let part = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..part]);
            self.first.advance(part);
            Poll::Ready(Ok(()))
        };
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
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes what is written into a buffer of its own; whether the client takes it shows here.
        if self.stream.is_tls() {
            self.watch.written(polled.is_pending());
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What one connection is served with.
struct Session {
    edge: Arc<Edge>,
    watch: Arc<Watch>,
    peer: SocketAddr,
    cut: CancellationToken,
    give_way: CancellationToken,
}

/// Serves `stream` until either side has enough of it. `cut` ends it at once; the edge's `drain` ends it after
/// the request in progress; the place's `give_way` ends it between requests.
pub(super) async fn serve(
    edge: Arc<Edge>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    cut: CancellationToken,
) {
    let give_way = place.give_way.clone();
    let watch = Watch::new(place);
    let session = Session { edge, watch, peer, cut, give_way };
    let opened = Box::pin(session.open(stream));
    let Some((io, is_h2)) = session.bounded(opened).await.flatten() else { return };
    if is_h2 {
        session.watch.framed();
        session.serve_h2(io).await;
    } else {
        session.serve_h1(io).await;
    }
}

impl Session {
    /// `work`, unless its time ends first, or the connection's.
    async fn bounded<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        let mut work = pin!(work);
        loop {
            let deadline = self.watch.deadline(&self.edge.limits);
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.cut.cancelled() => return None,
                () = self.give_way.cancelled() => return None,
                () = self.edge.drain.cancelled() => return None,
                () = self.watch.changed.notified() => {}
                () = until(deadline) => return None,
            }
        }
    }

    /// The handshake, and as many bytes as show which HTTP it is; `None` where there is none.
    async fn open(&self, stream: TcpStream) -> Option<(Watched, bool)> {
        let mut stream = match &self.edge.tls {
            None => Stream::Plain(stream),
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => Stream::Tls(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, peer = %self.peer, "a TLS handshake failed");
                    return None;
                }
            },
        };
        let mut first = BytesMut::new();
        let is_h2 = match stream.agreed() {
            Some(b"h2") => true,
            _ if stream.is_tls() || !self.edge.limits.http2 => false,
            _ => loop {
                if first.len() >= PREFACE.len() {
                    break first.starts_with(PREFACE);
                }
                if !PREFACE.starts_with(&first) {
                    break false;
                }
                match stream.read_buf(&mut first).await {
                    // Whoever closes or fails after some bytes is told by the one who reads requests.
                    Ok(0) | Err(_) => break false,
                    Ok(_) => {}
                }
            },
        };
        Some((Watched { stream, first, watch: Arc::clone(&self.watch) }, is_h2))
    }

    fn service(
        &self,
        io: &Watched,
        places: Option<Arc<Semaphore>>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<ReplyBody>,
        Error = Infallible,
        Future = BoxFuture<'static, Result<Response<ReplyBody>, Infallible>>,
    > + use<> {
        let (edge, watch, peer) = (Arc::clone(&self.edge), Arc::clone(&self.watch), self.peer);
        let secure = io.stream.is_tls();
        let names: Arc<[String]> =
            io.stream.client_certificate().map_or_else(Vec::new, super::tls::names).into();
        service_fn(move |request| {
            let (end, framing) = watch.begin();
            let arrival = Arrival {
                peer,
                framing,
                end,
                secure,
                names: Arc::clone(&names),
                reserve: watch.place.reserve,
                // One that is given up goes on in its handler; it counts until that ends.
                slot: places.as_ref().map(|places| Arc::clone(places).try_acquire_owned()),
            };
            let edge = Arc::clone(&edge);
            // Boxed, because the connection is polled by reference and must be `Unpin`.
            let answer: BoxFuture<'static, _> =
                Box::pin(async move { Ok(edge.answer(arrival, request).await) });
            answer
        })
    }

    /// Polls `connection` to its end; `None` when it was cut, or its time was over.
    async fn drive<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        wind_down: fn(Pin<&mut C>),
    ) -> Option<Result<(), E>>
    where
        C: Future<Output = Result<(), E>>,
    {
        let (edge, watch) = (&self.edge, &self.watch);
        let mut draining: Option<Instant> = None;
        loop {
            let grace = if watch.is_framed() { GOAWAY } else { Duration::ZERO };
            let over = draining.filter(|_| watch.quiet()).map(|since| since + grace);
            if over.is_some_and(|over| over <= Instant::now()) {
                return None;
            }
            let deadline = watch.deadline(&edge.limits).into_iter().chain(over).min();
            tokio::select! {
                biased;
                // Also writes what is left of the last answer, and closes our side.
                ended = &mut connection => return Some(ended),
                () = self.cut.cancelled() => return None,
                // A request that began in the same moment is answered first.
                () = self.give_way.cancelled(), if draining.is_none() => {
                    if !watch.is_busy() {
                        return None;
                    }
                    draining = Some(Instant::now());
                    wind_down(connection.as_mut());
                }
                () = watch.changed.notified() => {}
                () = edge.drain.cancelled(), if draining.is_none() => {
                    draining = Some(Instant::now());
                    wind_down(connection.as_mut());
                }
                () = until(deadline) => {
                    if watch.deadline(&edge.limits).is_some_and(|deadline| deadline <= Instant::now()) {
                        return None;
                    }
                }
            }
        }
    }

    async fn serve_h1(&self, io: Watched) {
        let service = self.service(&io, None);
        let mut connection = http1::Builder::new()
            .half_close(true)
            .header_read_timeout(None)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(io), service);
        let ended = self.drive(Pin::new(&mut connection), http1::Connection::graceful_shutdown).await;
        let mut stream = match ended {
            None if self.give_way.is_cancelled() && self.watch.never_spoke() => {
                // Perhaps it was only slow; then it is told why.
                connection.into_parts().io.into_inner().stream.try_say(REFUSAL);
                return;
            }
            None => return,
            Some(ended) => {
                let unreadable = ended.err().filter(hyper::Error::is_parse);
                if let Some(error) = &unreadable {
                    self.edge.unreadable(if error.is_parse_too_large() { 431 } else { 400 }, self.peer);
                }
                if unreadable.is_none() && !self.watch.unread() {
                    return;
                }
                connection.into_parts().io.into_inner().stream
            }
        };
        self.watch.place.waiting();
        tokio::select! {
            () = linger(&mut stream, &self.edge.limits) => {}
            () = self.cut.cancelled() => {}
            () = self.give_way.cancelled() => {}
        }
    }

    async fn serve_h2(&self, io: Watched) {
        let service = self.service(&io, Some(Arc::new(Semaphore::new(MAX_STREAMS as usize))));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_header_list_size(MAX_BUFFER as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .serve_connection(TokioIo::new(io), service);
        let connection = pin!(connection);
        if let Some(Err(error)) = self.drive(connection, http2::Connection::graceful_shutdown).await {
            tracing::debug!(%error, peer = %self.peer, "an HTTP/2 connection ended");
        }
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
async fn linger(stream: &mut Stream, limits: &Limits) {
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
