//! Reading a body: bounded in bytes, in silence, in total time, and in what all bodies hold together.
//!
//! May import: nothing of this crate but the edge's own limits. Must never: be called before the sender is known
//! to be allowed, or allocate by what a sender only announces.

use super::{ApiError, Limits};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// At most so much is allocated at once on the word of `Content-Length`.
const MAX_FIRST_ALLOCATION: u64 = 64 << 10;

/// A share of the memory of all bodies, and of the requests of a connection; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    total: Arc<AtomicU64>,
    bytes: u64,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(super) fn new(total: &Arc<AtomicU64>, slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { total: Arc::clone(total), bytes: 0, _slot: slot }
    }

    fn grow(&mut self, by: u64, most: u64) -> Result<(), ApiError> {
        let before = self.total.fetch_add(by, Ordering::Relaxed);
        self.bytes += by;
        if before + by > most {
            return Err(ApiError::overloaded("too many large requests at the same time"));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn too_large(limit: u64) -> ApiError {
    ApiError::too_large(format!("the body is larger than {limit} bytes"))
}

/// Refuses a body whose announced length is over `limit`, before a byte of it is read.
pub(super) fn check_announced(body: &Incoming, limit: u64) -> Result<(), ApiError> {
    if body.size_hint().lower() > limit { Err(too_large(limit)) } else { Ok(()) }
}

/// Reads and throws away what a refused sender still sends on its stream, within the bounds of lingering. HTTP/2
/// lets a server answer and then reset the stream, but curl before 8.6 then reports the reset and not the answer.
pub(super) async fn discard(mut body: Incoming, limits: &Limits) {
    let end = Instant::now() + limits.linger;
    let mut left = limits.linger_bytes;
    while let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        if left == 0 {
            return;
        }
    }
}

/// The whole body, at most `limit` bytes.
pub(super) async fn read(
    body: &mut Incoming,
    limit: u64,
    limits: &Limits,
    held: &mut Held,
) -> Result<Bytes, ApiError> {
    let end = Instant::now() + limits.body_total;
    let announced = body.size_hint().exact();
    let mut whole = BytesMut::new();
    loop {
        let due = end.min(Instant::now() + limits.body_stall);
        let frame = timeout_at(due, body.frame()).await.map_err(|_| ApiError::request_timeout())?;
        let data = match frame {
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                // Trailers mean nothing here.
                Err(_) => continue,
            },
            Some(Err(_)) => return Err(ApiError::malformed("the body is broken or ended early")),
        };
        let size = (whole.len() + data.len()) as u64;
        if size > limit {
            return Err(too_large(limit));
        }
        held.grow(data.len() as u64, limits.body_memory)?;
        if whole.is_empty() && announced == Some(size) {
            return Ok(data);
        }
        if whole.capacity() == 0 {
            whole.reserve(announced.unwrap_or(0).min(limit).min(MAX_FIRST_ALLOCATION) as usize);
        }
        whole.extend_from_slice(&data);
    }
}
