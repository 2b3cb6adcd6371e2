//! Which phase a connection is in, and how long it may stay there.
//!
//! hyper's own `header_read_timeout` is also the keep-alive limit, so it cannot be 10 s for a head and 75 s for
//! a pause, and HTTP/2 has neither. Both are off; a [`Watch`] shared by the socket, the service and the answer
//! knows the phase instead. May import: nothing of this crate but the edge. Must never: close anything itself.

use super::Limits;
use super::places::Place;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, nothing sent yet; or only a handshake.
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
    /// HTTP/2: heads are cut out of frames, and several requests may be in progress.
    framed: bool,
    /// Requests in progress, and since when the client has not asked for more of the answer; `None` while it is
    /// our turn.
    replies: BTreeMap<u64, Option<Instant>>,
    next: u64,
}

/// What the raw head of a request said of the length of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// One thing.
    Clear,
    /// Both `Content-Length` and `Transfer-Encoding`.
    Ambiguous,
    /// It came right behind another request, where its bytes could not be told from a body's.
    Unseen,
}

/// The phase of a connection.
pub(super) struct Watch {
    state: Mutex<State>,
    /// A deadline may have come nearer.
    pub(super) changed: Notify,
    pub(super) place: Place,
}

impl Watch {
    pub(super) fn new(place: Place) -> Arc<Self> {
        let state = State {
            phase: Phase::Fresh,
            since: Instant::now(),
            blocked: None,
            scan: HeadScan::default(),
            unread: false,
            framed: false,
            replies: BTreeMap::new(),
            next: 0,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), place })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is HTTP/2: whole heads are told by the frames, and the time for the first one runs on.
    pub(super) fn framed(&self) {
        self.state().framed = true;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().phase == Phase::Busy
    }

    pub(super) fn is_framed(&self) -> bool {
        self.state().framed
    }

    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        match state.phase {
            _ if state.framed => return,
            Phase::Busy => return,
            Phase::Head => {}
            Phase::Fresh | Phase::Idle => {
                // The head's time runs from accepting the connection, or from the first byte of a later request.
                if state.phase == Phase::Idle {
                    state.since = Instant::now();
                    self.place.waiting();
                }
                state.phase = Phase::Head;
                state.scan = HeadScan::default();
                self.changed.notify_one();
            }
        }
        state.scan.feed(bytes);
    }

    /// A whole head is there. Also what its raw bytes said of the length of its body.
    pub(super) fn begin(self: &Arc<Self>) -> (EndOfReply, Framing) {
        let mut state = self.state();
        if state.phase != Phase::Busy {
            state.phase = Phase::Busy;
            self.place.busy();
        }
        let scan = std::mem::take(&mut state.scan);
        let framing = match scan.done {
            _ if state.framed => Framing::Clear,
            true if scan.two_lengths() => Framing::Ambiguous,
            true => Framing::Clear,
            false => Framing::Unseen,
        };
        let number = state.next;
        state.next += 1;
        state.replies.insert(number, None);
        (EndOfReply { watch: Arc::clone(self), number }, framing)
    }

    fn end(&self, number: u64) {
        let mut state = self.state();
        state.replies.remove(&number);
        if state.replies.is_empty() {
            state.phase = Phase::Idle;
            state.since = Instant::now();
            self.place.resting();
        }
        self.changed.notify_one();
    }

    pub(super) fn written(&self, pending: bool) {
        let mut state = self.state();
        if pending != state.blocked.is_some() {
            state.blocked = pending.then(Instant::now);
            self.changed.notify_one();
        }
    }

    /// When the connection has to be closed, as things stand.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Fresh | Phase::Head => Some(state.since + limits.head),
            Phase::Idle => Some(state.since + limits.idle),
            Phase::Busy => None,
        };
        // Over HTTP/1.1 the socket tells it; over HTTP/2 a client can keep the socket moving and an answer waiting.
        let waiting = state.replies.values().filter(|_| state.framed).flatten().min();
        let write = state.blocked.iter().chain(waiting).min().map(|since| *since + limits.write_stall);
        phase.into_iter().chain(write).min()
    }

    /// Between requests, and all answers are on their way: nothing is lost by closing now.
    pub(super) fn quiet(&self) -> bool {
        let state = self.state();
        matches!(state.phase, Phase::Fresh | Phase::Idle) && state.blocked.is_none()
    }

    /// Whether some request was answered before all of its body was read.
    pub(super) fn unread(&self) -> bool {
        self.state().unread
    }

    /// Whether no request was ever complete.
    pub(super) fn never_spoke(&self) -> bool {
        self.state().next == 0
    }
}

/// Dropped with the body of an answer, that is when all of it is written: the connection is idle again, unless it
/// has other requests in progress.
pub(super) struct EndOfReply {
    watch: Arc<Watch>,
    number: u64,
}

impl EndOfReply {
    /// Says that the client may still be sending the body of the request.
    pub(super) fn leaves_unread(&self) {
        self.watch.state().unread = true;
    }

    /// Says whose turn it is: the client's, to take what is there, or ours, to say more.
    pub(super) fn turn(&self, of_client: bool) {
        let mut state = self.watch.state();
        if state.framed {
            state.replies.insert(self.number, of_client.then(Instant::now));
            self.watch.changed.notify_one();
        }
    }

    /// Whether this is one of several requests on its connection, so that the answer cannot end it.
    pub(super) fn shares(&self) -> bool {
        self.watch.state().framed
    }
}

impl Drop for EndOfReply {
    fn drop(&mut self) {
        self.watch.end(self.number);
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
