//! How many streams of events one caller may hold open, and all together.
//!
//! A stream costs a connection, a task and a subscription for as long as its client likes. May import: nothing of
//! this crate. Must never: grow with callers that hold none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams of one caller.
const MAX_OF_ONE: usize = 16;
/// Streams of all.
const MAX_OF_ALL: usize = 256;

/// The streams that are open, by caller.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// One open stream; closed when dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Streams,
    caller: String,
}

impl Streams {
    fn open_now(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more stream of `caller`; the number that may not be exceeded when there are too many.
    pub(super) fn open(&self, caller: String) -> Result<OpenStream, u32> {
        let mut open = self.open_now();
        if open.values().sum::<usize>() >= MAX_OF_ALL {
            return Err(MAX_OF_ALL as u32);
        }
        let of_one = open.entry(caller.clone()).or_default();
        if *of_one >= MAX_OF_ONE {
            return Err(MAX_OF_ONE as u32);
        }
        *of_one += 1;
        Ok(OpenStream { streams: self.clone(), caller })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.open_now();
        if let Some(of_one) = open.get_mut(&self.caller) {
            *of_one -= 1;
            if *of_one == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t17_one_caller_holds_so_many_streams_and_all_together_no_more_than_a_bound() {
        let streams = Streams::default();
        let mut of_ada: Vec<_> = (0..MAX_OF_ONE).map(|_| streams.open("ada".into()).unwrap()).collect();
        assert_eq!(streams.open("ada".into()).unwrap_err(), 16);
        of_ada.pop();
        of_ada.push(streams.open("ada".into()).unwrap());
        let rest: Vec<_> = (0..1000).filter_map(|number| streams.open(number.to_string()).ok()).collect();
        assert_eq!(rest.len(), MAX_OF_ALL - MAX_OF_ONE);
        drop((of_ada, rest));
        assert!(streams.open_now().is_empty());
    }
}
