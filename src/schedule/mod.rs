//! Schedules: what runs by the clock, and when exactly that is.
//!
//! Pure: times come in as arguments, the only outside knowledge is the table of time zones. `cron` reads an expression
//! and walks wall times, this file turns them into instants and says which of them is due. May import: `model`.
//! Must never: ask for the time, or know what a schedule starts.

mod cron;
#[cfg(test)]
mod tests;

pub use cron::{Cron, CronError};

use crate::model::{RunbookId, Timestamp, after, between};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run that was missed is made up for at most so long afterwards, where nobody says otherwise.
pub const MAX_CATCH_UP: Duration = Duration::from_secs(3600);

/// A time zone by its name in the IANA table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: Box<str>,
    zone: TimeZone,
}

/// Why a text is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time zone of the IANA table")]
pub struct ZoneError(String);

impl Zone {
    /// The zone called `name`, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`ZoneError`] when there is none.
    pub fn named(name: &str) -> Result<Self, ZoneError> {
        let unknown = || ZoneError(name.chars().take(80).collect());
        let zone = TimeZone::get(name).map_err(|_| unknown())?;
        // Its name as the table spells it.
        let name = zone.iana_name().ok_or_else(unknown)?.into();
        Ok(Self { name, zone })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When clocks there first show `wall`, or the first instant after that where they skip it.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(wall).ok()
            }
            AmbiguousOffset::Gap { before, .. } => {
                // By the offset from before the leap it lies behind the leap, and no other one is between.
                let behind =
                    before.to_timestamp(wall).ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
                self.zone.preceding(behind).next().map(|leap| leap.timestamp())
            }
        }
    }
}

/// One of `[[schedules]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Unique among the schedules.
    pub name: String,
    /// When.
    pub cron: Cron,
    /// By whose clocks.
    pub zone: Zone,
    /// What.
    pub runbook: RunbookId,
    /// With which inputs.
    pub inputs: BTreeMap<String, String>,
    /// How late a run that was missed may still be; `None` for its period, an hour at most.
    pub catch_up: Option<Duration>,
}

/// What is to be done about a schedule now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The latest due time that has come.
    pub at: Timestamp,
    /// The first one that has come and was not seen to; earlier than `at` where several were missed.
    pub first: Timestamp,
    /// How late it may be, where it is later than that.
    pub overdue: Option<Duration>,
}

impl Schedule {
    /// The first due time later than `moment`; `None` at the end of time.
    ///
    /// A wall time that clocks skip is due at the next instant there is, and one that they show twice is due the first
    /// time only. Two that fall together are one.
    pub fn next(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.zone.to_datetime(Timestamp::from_second(moment.as_second()).ok()?);
        loop {
            // Instants never go back while wall times go on, so the first that is later is the next one.
            wall = self.cron.first(wall.checked_add(SignedDuration::from_secs(1)).ok()?)?;
            let instant = self.zone.instant(wall)?;
            if instant > moment {
                return Some(instant);
            }
        }
    }

    /// What of it is due at `now`, when all due times up to `handled` have been seen to.
    pub fn due(&self, handled: Timestamp, now: Timestamp) -> Option<Due> {
        let comes = |from: Timestamp| self.next(from).filter(|at| *at <= now);
        let first = comes(handled)?;
        // The last one before now is the next one after the latest moment that has one: halved out, because there may
        // be a day of seconds between.
        let (mut low, mut high) = (handled.as_second(), now.as_second());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match Timestamp::from_second(middle).ok().and_then(comes) {
                Some(_) => low = middle,
                None => high = middle,
            }
        }
        let at = Timestamp::from_second(low).ok().and_then(comes).unwrap_or(first).max(first);
        let grace = self.grace(at);
        Some(Due { at, first, overdue: (now > after(at, grace)).then_some(grace) })
    }

    /// Whether a due time that is still to come at `now` has been seen to: a clock that was ahead leaves that behind.
    pub fn was_ahead(&self, handled: Timestamp, now: Timestamp) -> bool {
        self.next(now).is_some_and(|coming| coming <= handled)
    }

    /// How late the run due at `at` may be.
    pub fn grace(&self, at: Timestamp) -> Duration {
        let period = || self.next(at).map_or(MAX_CATCH_UP, |next| between(at, next));
        self.catch_up.unwrap_or_else(|| period().min(MAX_CATCH_UP))
    }
}
