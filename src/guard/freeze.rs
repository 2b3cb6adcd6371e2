//! Freezes: times in which automation starts nothing. A freeze beats everything; what runs may finish.
//!
//! Weekly ones are told by the clock on the wall of their zone. Where that clock jumps ahead over a border, the border
//! is the jump; where it shows a border twice, the freeze begins at the first and ends at the second: in doubt it is
//! frozen.

use crate::model::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, ToSpan as _};

/// How many freezes that follow one another without a gap are looked through for when it ends.
const CHAIN: usize = 64;

/// One of `[[freezes]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    /// What people call it.
    pub name: String,
    /// When.
    pub window: Window,
    /// Whether people may start something meanwhile.
    pub allow_manual: bool,
}

/// When it is frozen; the end is never part of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// Once.
    Once {
        /// The first moment.
        from: Timestamp,
        /// The first moment behind it.
        until: Timestamp,
    },
    /// Each week.
    Weekly(Weekly),
}

/// A part of some days, by the clock on the wall.
#[derive(Debug, Clone, PartialEq)]
pub struct Weekly {
    /// The days on which it begins.
    pub days: Vec<Weekday>,
    /// When it begins.
    pub from: Time,
    /// When it ends: the same day if that is later than `from`, else the next; midnight is the end of the day.
    pub until: Time,
    /// Whose wall.
    pub zone: TimeZone,
}

impl Freeze {
    /// When it ends, if it is in force at `now`.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.window {
            Window::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Window::Weekly(weekly) => weekly.ends(now),
        }
    }
}

impl Weekly {
    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.clone()).date();
        // Yesterday's may go on past midnight, and clocks that are set at midnight can make a day of it.
        let near = (-2_i64..=1).filter_map(|days| today.checked_add(days.days()).ok());
        let windows = near.filter(|day| self.days.contains(&day.weekday())).filter_map(|day| self.on(day));
        windows.filter(|(from, until)| *from <= now && now < *until).map(|(_, until)| until).max()
    }

    /// The window that begins on `day`.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.until > self.from { day } else { day.tomorrow().ok()? };
        let (from, _) = self.borders(day, self.from)?;
        let (_, until) = self.borders(last, self.until)?;
        Some((from, until))
    }

    /// The first and the last moment at which the clock on the wall shows this, or jumps over it.
    fn borders(&self, day: Date, time: Time) -> Option<(Timestamp, Timestamp)> {
        let shown = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
        match shown.offset() {
            AmbiguousOffset::Unambiguous { .. } => shown.unambiguous().ok().map(|at| (at, at)),
            AmbiguousOffset::Fold { .. } => Some((shown.earlier().ok()?, shown.later().ok()?)),
            AmbiguousOffset::Gap { .. } => {
                // One reading lies before the jump, so the next change of the zone is the jump.
                let before = shown.earlier().ok()?.checked_sub(Span::new().milliseconds(1)).ok()?;
                let jump = self.zone.following(before).next()?.timestamp();
                Some((jump, jump))
            }
        }
    }
}

/// The freezes in force at `now`, each with its own end.
pub fn in_force<'f>(
    freezes: &'f [Freeze],
    now: Timestamp,
) -> impl Iterator<Item = (&'f Freeze, Timestamp)> + 'f {
    freezes.iter().filter_map(move |freeze| Some((freeze, freeze.ends(now)?)))
}

/// When none of `freezes` is in force any more, from `now` on; `None` while none is.
pub fn thaws(freezes: &[Freeze], now: Timestamp) -> Option<Timestamp> {
    let latest = |at| in_force(freezes, at).map(|(_, ends)| ends).max();
    let mut end = latest(now)?;
    for _ in 0..CHAIN {
        match latest(end) {
            Some(later) => end = later,
            None => break,
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests;
