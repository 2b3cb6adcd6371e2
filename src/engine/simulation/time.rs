//! The clock of a simulated world: it follows the paused time of the life in progress, and goes on from life to life.
//!
//! May import: `model`. Must never: go back.

use crate::model::{Clock, Timestamp};
use std::sync::Mutex;
use tokio::time::Instant;

/// Where every world begins, in milliseconds since 1970.
const BEGIN: i64 = 1_800_000_000_000;

/// Milliseconds since the world began.
pub(super) type Moment = u64;

/// The clock.
pub(super) struct WorldClock(Mutex<Reading>);

struct Reading {
    /// What the clock shows at `since`.
    shows: Moment,
    /// When the life in progress began, on its own clock; `None` while there is no life.
    since: Option<Instant>,
}

impl WorldClock {
    /// A clock at the beginning.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Reading { shows: 0, since: None }))
    }

    /// A life begins. Must be called within its runtime.
    pub(super) fn run(&self) {
        self.0.lock().unwrap().since = Some(Instant::now());
    }

    /// The life is over; its last moment stays shown.
    pub(super) fn stand(&self) {
        let mut reading = self.0.lock().unwrap();
        reading.shows = reading.moment();
        reading.since = None;
    }

    /// Lets time pass while there is no life.
    pub(super) fn skip(&self, milliseconds: u64) {
        self.0.lock().unwrap().shows += milliseconds;
    }

    /// Now.
    pub(super) fn moment(&self) -> Moment {
        self.0.lock().unwrap().moment()
    }
}

impl Reading {
    fn moment(&self) -> Moment {
        let since = self.since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap());
        self.shows + since
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(BEGIN + i64::try_from(self.moment()).unwrap()).unwrap()
    }
}

/// The timestamp of a moment of this world.
pub(super) fn at(moment: Moment) -> Timestamp {
    Timestamp::from_millisecond(BEGIN + i64::try_from(moment).unwrap()).unwrap()
}

/// The moment of a timestamp of this world.
pub(super) fn moment_of(at: Timestamp) -> Moment {
    u64::try_from(at.as_millisecond() - BEGIN).unwrap_or(0)
}
