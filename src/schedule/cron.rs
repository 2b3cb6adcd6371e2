//! Cron expressions: five fields as in crontab(5), or six with the seconds first.
//!
//! Own, because it is small and what is read must be said exactly to whoever wrote it. Must never: know a time zone.

use jiff::civil::{Date, DateTime};
use std::fmt;

/// Days looked at before it is certain that none will come. A date falls on a weekday again within 12 years, but 29
/// February 2088 is the last Sunday of its kind before 2128.
const MAX_DAYS: usize = 41 * 366;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// Which wall times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: Box<str>,
    // A bit for each number that fits.
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are restricted: then either suffices.
    either_day: bool,
}

/// What a field may hold.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", low: 0, high: 59, words: &[] },
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of the month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: &MONTHS },
    Field { name: "day of the week", low: 0, high: 7, words: &WEEKDAYS },
];

impl Cron {
    /// Reads `MINUTE HOUR DAY MONTH WEEKDAY`, perhaps with a second before it. A field is `*`, a number, a range
    /// `a-b`, a step `*/n` or `a-b/n`, or several of these with commas; months and weekdays may be names, and 0 and 7
    /// are Sunday. Where neither day begins with `*`, either suffices.
    ///
    /// # Errors
    /// [`CronError`] saying which field is wrong and why, or that no day will ever fit.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (second, rest) = match fields.len() {
            5 => ("0", &fields[..]),
            6 => (fields[0], &fields[1..]),
            count => {
                let why = format!("a cron expression has 5 fields, or 6 with the seconds first, not {count}");
                return Err(CronError(why));
            }
        };
        let read = |at: usize, text: &str| FIELDS[at].read(text);
        let weekdays = read(5, rest[4])?;
        let cron = Self {
            text: fields.join(" ").into(),
            seconds: read(0, second)?,
            minutes: read(1, rest[0])?,
            hours: read(2, rest[1])?,
            days: read(3, rest[2])?,
            months: read(4, rest[3])?,
            // Both ends of the week are Sunday.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !rest[2].starts_with('*') && !rest[4].starts_with('*'),
        };
        match cron.first(DateTime::constant(2096, 3, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err(CronError(format!("no month has such a day: {text:?} would never be due"))),
        }
    }

    /// The first wall time, a whole second, that fits and is not before `from`.
    pub fn first(&self, from: DateTime) -> Option<DateTime> {
        let number = |part: i8| u32::try_from(part).unwrap_or(0);
        let mut date = from.date();
        let mut time = (number(from.hour()), number(from.minute()), number(from.second()));
        for _ in 0..MAX_DAYS {
            if self.fits(date)
                && let Some((hour, minute, second)) = self.first_time(time)
            {
                let part = |number: u32| i8::try_from(number).unwrap_or(0);
                return Some(date.at(part(hour), part(minute), part(second), 0));
            }
            date = date.tomorrow().ok()?;
            time = (0, 0, 0);
        }
        None
    }

    fn fits(&self, date: Date) -> bool {
        let has = |bits: u64, number: i8| bits >> number & 1 == 1;
        if !has(self.months, date.month()) {
            return false;
        }
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first time of a day not before this one.
    fn first_time(&self, (hour, minute, second): (u32, u32, u32)) -> Option<(u32, u32, u32)> {
        let mut at = next(self.hours, hour)?;
        loop {
            let floor = if at == hour { minute } else { 0 };
            let mut found = next(self.minutes, floor);
            while let Some(of_hour) = found {
                let floor = if (at, of_hour) == (hour, minute) { second } else { 0 };
                if let Some(of_minute) = next(self.seconds, floor) {
                    return Some((at, of_hour, of_minute));
                }
                found = next(self.minutes, of_hour + 1);
            }
            at = next(self.hours, at + 1)?;
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The lowest number in `bits` that is not below `floor`.
fn next(bits: u64, floor: u32) -> Option<u32> {
    let left = bits.checked_shr(floor)?;
    (left != 0).then(|| floor + left.trailing_zeros())
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        let wrong = |why: String| {
            let shown: String = part.chars().take(40).collect();
            CronError(format!("the {} {shown:?} {why}", self.name))
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let step = match step {
            None => 1,
            Some(digits) => plain(digits)
                .filter(|step| (1..=self.high).contains(step))
                .ok_or_else(|| wrong(format!("has a step that is not from 1 to {}", self.high)))?,
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((first, last)) => (self.number(first).map_err(wrong)?, self.number(last).map_err(wrong)?),
            None => {
                let number = self.number(range).map_err(wrong)?;
                if part.contains('/') {
                    return Err(wrong(format!(
                        "has a step but no range: write {number}-{}/{step}",
                        self.high
                    )));
                }
                (number, number)
            }
        };
        if first > last {
            return Err(wrong("ends before it begins".to_owned()));
        }
        let step = usize::try_from(step).unwrap_or(1);
        Ok((first..=last).step_by(step).fold(0, |bits, number| bits | 1 << number))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let named = word.and_then(|at| Some(u32::try_from(at).ok()? + self.low));
        let number = named.or_else(|| plain(text));
        number
            .filter(|number| (self.low..=self.high).contains(number))
            .ok_or_else(|| format!("is not from {} to {}", self.low, self.high))
    }
}

/// One or two digits.
fn plain(text: &str) -> Option<u32> {
    let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}
