//! The accept loop: one task per connection, a place for each, and an orderly end.
//!
//! May import: nothing of this crate but the edge and its connections. Must never: stop accepting because of one
//! error, or end before requests in progress had their time.

use super::Edge;
use super::connection::serve;
use super::places::Places;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is said at once where there is no room to read a request. The header fields are those of every answer.
pub(super) const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Content-Length: 62\r\nRetry-After: 1\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n\
    Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\r\n\
    {\"error\":\"too many connections\",\"code\":\"too_many_connections\"}";
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listening edge.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    edge: Arc<Edge>,
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
    let places = Places::new(edge.limits.max_connections, edge.limits.max_connections_per_peer);
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
        match places.take(peer.ip(), edge.trusted.trusts(peer.ip().to_canonical())) {
            Some(place) => {
                connections.spawn(serve(Arc::clone(edge), stream, peer, place, cut.clone()));
            }
            None => {
                edge.observer.connection_refused();
                // Through TLS nothing could be said without a handshake, for which there is no room.
                if edge.tls.is_none() {
                    stream.try_write(REFUSAL.as_bytes()).ok();
                }
            }
        }
    }
}

/// Errors of one connection that was gone before it was accepted; the next one is fine.
fn belongs_to_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
