//! Failpoints for the crash tests: a debug build kills itself at the commit it is told to. A release has none of it.
//!
//! `RUNBOOKD_FAILPOINT=append:17:before` (or `after`) is SIGKILL right before (after) the 17th commit of this process
//! that appends to a journal; a number that is never reached only counts them, on stderr. May import: `store`'s own
//! types. Must never: do anything where the variable is not set.

use super::overlay::Writes;
use rustix::process::{Signal, getpid, kill_process};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// On which side of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Nothing of it is durable.
    Before,
    /// It is durable and nobody was told.
    After,
}

/// Called on both sides of a commit of `writes`; does not return from the one that is meant.
pub(super) fn pass(writes: &Writes, side: Side) {
    static MEANT: OnceLock<Option<(u64, Side)>> = OnceLock::new();
    static APPENDS: AtomicU64 = AtomicU64::new(0);
    let Some((number, meant)) = MEANT.get_or_init(|| parse(&std::env::var("RUNBOOKD_FAILPOINT").ok()?))
    else {
        return;
    };
    if !writes.keys().any(|key| key.starts_with(b"j/")) {
        return;
    }
    if side == Side::Before {
        let count = APPENDS.fetch_add(1, Ordering::SeqCst) + 1;
        eprintln!("failpoint: append {count}");
    }
    if (APPENDS.load(Ordering::SeqCst), side) == (*number, *meant) {
        // If it could not be killed it must not go on either: the test would prove nothing.
        kill_process(getpid(), Signal::KILL).ok();
        std::process::abort();
    }
}

fn parse(text: &str) -> Option<(u64, Side)> {
    let (number, side) = text.strip_prefix("append:")?.split_once(':')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((number.parse().ok()?, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_number_and_a_side() {
        assert_eq!(parse("append:17:before"), Some((17, Side::Before)));
        assert_eq!(parse("append:1:after"), Some((1, Side::After)));
        for bad in ["", "append", "append:x:after", "append:1:beside", "commit:1:after"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
