//! The accept loop: one task per connection, a cap that answers instead of resetting, and an orderly end.
//!
//! May import: nothing of this crate but the edge and its connections. Must never: stop accepting because of one
//! error, or end before requests in progress had their time.

use super::Edge;
use super::connection::{linger, serve};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

/// Connections over the cap that are being answered at the same time; the rest waits in the kernel's queue.
const MAX_REFUSING: usize = 64;
/// How long and how far a refused connection is read, so that its sender sees the answer.
const REFUSE_LINGER: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listening edge.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    edge: Arc<Edge>,
}

enum Slot {
    Serve(OwnedSemaphorePermit),
    Refuse(OwnedSemaphorePermit),
}

impl Server {
    /// A server of `edge` on `listener`.
    pub fn new(listener: TcpListener, edge: Arc<Edge>) -> Self {
        Self { listener, edge }
    }

    /// The address it listens on; with port 0, the real port.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then stops listening at once, ends idle connections and streams, and waits for
    /// requests in progress at most [`super::Limits::drain`]. Returns how many connections were cut off then.
    ///
    /// # Cancel safety
    /// Dropped half-way, no new connection is accepted, and those open go on by themselves.
    pub async fn serve(self, shutdown: CancellationToken) -> usize {
        let Self { listener, edge } = self;
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept_all(&listener, &edge, &connections, &cut) => {}
        }
        drop(listener);
        edge.drain.cancel();
        connections.close();
        edge.handlers.close();
        let done = async {
            connections.wait().await;
            edge.handlers.wait().await;
        };
        if timeout(edge.limits.drain, done).await.is_ok() {
            return 0;
        }
        let late = connections.len();
        tracing::warn!(
            connections = late,
            handlers = edge.handlers.len(),
            "requests were cut off by shutdown"
        );
        cut.cancel();
        connections.wait().await;
        late
    }
}

async fn accept_all(
    listener: &TcpListener,
    edge: &Arc<Edge>,
    connections: &TaskTracker,
    cut: &CancellationToken,
) {
    let serving = Arc::new(Semaphore::new(edge.limits.max_connections));
    let refusing = Arc::new(Semaphore::new(MAX_REFUSING));
    let mut pause = FIRST_PAUSE;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if belongs_to_the_connection(&error) => continue,
            Err(error) => {
                // Out of descriptors or memory: trying again at once would only burn the processor.
                tracing::error!(%error, pause_ms = pause.as_millis() as u64, "accepting a connection failed");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        // Without it an answer may wait 40 ms for the client's delayed acknowledgement; it works without, too.
        stream.set_nodelay(true).ok();
        match slot(&serving, &refusing).await {
            Slot::Serve(permit) => {
                let served = serve(Arc::clone(edge), stream, peer, cut.clone());
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Slot::Refuse(permit) => {
                edge.observer.connection_refused();
                let edge = Arc::clone(edge);
                let cut = cut.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = refuse(stream, &edge) => {}
                        () = cut.cancelled() => {}
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// A place to serve in, else one to refuse in, else whichever comes first.
async fn slot(serving: &Arc<Semaphore>, refusing: &Arc<Semaphore>) -> Slot {
    if let Ok(permit) = Arc::clone(serving).try_acquire_owned() {
        return Slot::Serve(permit);
    }
    if let Ok(permit) = Arc::clone(refusing).try_acquire_owned() {
        return Slot::Refuse(permit);
    }
    tokio::select! {
        biased;
        Ok(permit) = Arc::clone(serving).acquire_owned() => Slot::Serve(permit),
        Ok(permit) = Arc::clone(refusing).acquire_owned() => Slot::Refuse(permit),
        // Neither semaphore is ever closed.
        else => pending().await,
    }
}

/// Errors of one connection that was gone before it was accepted; the next one is fine.
fn belongs_to_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Answers 503 without looking at the request: over the cap there is no room to read one.
async fn refuse(mut stream: TcpStream, edge: &Edge) {
    let body = r#"{"error":"too many connections","code":"too_many_connections"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\nX-Request-Id: {}\r\nX-Content-Type-Options: nosniff\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\r\n{body}",
        body.len(),
        Ulid::generate(),
    );
    let said = timeout(REFUSE_LINGER, stream.write_all(answer.as_bytes())).await;
    if matches!(said, Ok(Ok(()))) {
        timeout(REFUSE_LINGER, linger(&mut stream, &edge.limits)).await.ok();
    }
}
