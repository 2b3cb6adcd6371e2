//! What the edge tells the rest of the program about itself, and how often it says the same thing in the log.
//!
//! Metrics live elsewhere: whoever builds the edge gives an [`Observer`]. May import: `auth` (the reason word, the caller).
//! Must never: use a label that a stranger chooses.

use crate::auth::{Failure, Principal};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The route label of a request that matched none.
pub const UNMATCHED: &str = "none";
/// How often one refused sender is logged.
const QUIET: Duration = Duration::from_secs(60);
/// How many senders are remembered for that.
const MAX_SENDERS: usize = 1024;

/// A request that was refused for what its sender may do.
#[derive(Debug, Clone, Copy)]
pub struct Forbidden<'r> {
    /// Who asked.
    pub who: &'r Principal,
    /// The route.
    pub route: &'static str,
    /// The runbook or the execution it is about, as the path has it.
    pub about: &'r str,
    /// Whether it only reads.
    pub reads: bool,
    /// From where.
    pub client: IpAddr,
    /// The request.
    pub request_id: &'r str,
    /// Why not.
    pub why: &'r str,
}

/// Told about each request. Called on the way of every answer: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request was answered. `route` is a path of the table or [`UNMATCHED`], `method` a known method or
    /// `other`; `duration` is from the end of the head to the answer's head.
    fn request(&self, route: &'static str, method: &'static str, code: u16, duration: Duration);
    /// A caller was refused.
    fn auth_failure(&self, reason: Failure);
    /// A known caller may not do this to a runbook. Called beside [`Observer::auth_failure`].
    fn forbidden(&self, _: Forbidden<'_>) {}
    /// A handler panicked; its request was answered 500.
    fn handler_panic(&self);
    /// A request on `route`, a path of the table, was one too many of its caller and answered 429.
    fn rate_limited(&self, _route: &'static str) {}
    /// A connection over the cap was answered 503 and closed.
    fn connection_refused(&self) {}
}

/// An observer that does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn request(&self, _: &'static str, _: &'static str, _: u16, _: Duration) {}
    fn auth_failure(&self, _: Failure) {}
    fn handler_panic(&self) {}
}

/// Lets one line per status, sender and minute through: Alertmanager repeats what was refused for good at every
/// group interval, for as long as the group lives.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(u16, Option<IpAddr>), Seen>>);

#[derive(Debug)]
struct Seen {
    said: Instant,
    since: u64,
}

impl Refusals {
    /// `Some(n)` when a line is due, `n` refusals having been passed over since the last one.
    pub(super) fn due(&self, status: u16, sender: IpAddr, now: Instant) -> Option<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (status, Some(sender));
        if !known.contains_key(&key) && known.len() >= MAX_SENDERS {
            known.retain(|_, seen| now.saturating_duration_since(seen.said) < QUIET);
            if known.len() >= MAX_SENDERS {
                // Too many senders to tell apart: they share one line per status.
                key.1 = None;
            }
        }
        match known.get_mut(&key) {
            Some(seen) if now.saturating_duration_since(seen.said) < QUIET => {
                seen.since += 1;
                None
            }
            Some(seen) => {
                seen.said = now;
                Some(std::mem::take(&mut seen.since))
            }
            None => {
                known.insert(key, Seen { said: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_refused_sender_is_logged_once_a_minute_with_the_number_passed_over() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let due = |status, sender: u32, seconds| {
            let sender = Ipv4Addr::from_bits(sender).into();
            refusals.due(status, sender, start + Duration::from_secs(seconds))
        };
        assert_eq!(due(400, 1, 0), Some(0));
        assert_eq!(due(400, 1, 1), None);
        assert_eq!(due(400, 1, 59), None);
        assert_eq!(due(401, 1, 59), Some(0));
        assert_eq!(due(400, 2, 59), Some(0));
        assert_eq!(due(400, 1, 60), Some(2));
        assert_eq!(due(400, 1, 61), None);
    }

    #[test]
    fn many_senders_share_one_line_and_no_more_memory() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said = (0..5000u32)
            .filter(|sender| refusals.due(401, Ipv4Addr::from_bits(*sender).into(), start).is_some())
            .count();
        assert_eq!(said, MAX_SENDERS + 1);
        assert!(refusals.0.lock().unwrap().len() <= MAX_SENDERS + 1);
        let later = start + QUIET;
        assert_eq!(refusals.due(401, Ipv4Addr::from_bits(9000).into(), later), Some(0));
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }
}
