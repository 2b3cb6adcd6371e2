//! The numbers of the edge, in one place; tests make them short.
//!
//! May import: nothing of this crate. Must never: read the configuration itself.

use std::time::Duration;

/// Limits of connections, heads and bodies. The defaults are the documented values.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at the same time. For one more the longest silent gives way; where none is silent, it is
    /// answered 503 and closed.
    pub max_connections: usize,
    /// Of those, from one address.
    pub max_connections_per_peer: usize,
    /// Whether HTTP/2 is served.
    pub http2: bool,
    /// From accepting a connection, or from the first byte of a later request, to the end of its head.
    pub head: Duration,
    /// Between an answer and the first byte of the next request. Alertmanager keeps connections for 35 s and more.
    pub idle: Duration,
    /// Longest silence inside a body.
    pub body_stall: Duration,
    /// Longest time for a whole body.
    pub body_total: Duration,
    /// Longest time in which the client takes nothing of an answer.
    pub write_stall: Duration,
    /// Bytes of all header fields together; more is 431.
    pub max_headers: usize,
    /// Bytes of the request target; more is 414.
    pub max_uri: usize,
    /// Bytes of a webhook body; more is 413.
    pub max_webhook_body: u64,
    /// Bytes of all bodies held at the same time; a request that would exceed it gets 503.
    pub body_memory: u64,
    /// How long what a refused sender still sends is read and thrown away, so that it sees the answer and not a
    /// reset (which Alertmanager would retry at once, with the same megabytes).
    pub linger: Duration,
    /// How many bytes of it.
    pub linger_bytes: u64,
    /// How long requests in progress may take after shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_peer: 512,
            http2: true,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_stall: Duration::from_secs(30),
            body_total: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            max_headers: 32 << 10,
            max_uri: 8 << 10,
            max_webhook_body: 32 << 20,
            body_memory: 256 << 20,
            linger: Duration::from_secs(5),
            linger_bytes: 64 << 20,
            drain: Duration::from_secs(30),
        }
    }
}
