//! `Retry-After`: how long an answer asks to wait.
//!
//! Pure. May import: `model`. Must never: let the other side put a try off for more than a day.

use crate::model::{Timestamp, between};
use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// The longest wait that is passed on.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the header says at the time `now`, in seconds or as a date; nothing when it says neither.
pub(in super::super) fn of(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number has: as long as it can get.
        text.parse().map_or(MAX, Duration::from_secs)
    } else {
        between(now, date(text)?)
    };
    Some(wait.min(MAX))
}

/// A date in one of the three forms that HTTP knows.
fn date(text: &str) -> Option<Timestamp> {
    let plain = |format: &str| {
        let civil: DateTime = strtime::parse(format, text).ok()?.to_datetime().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
        .or_else(|| plain("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| plain("%a %b %e %H:%M:%S %Y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<u64>) {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let headers: HeaderMap = [(RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
        assert_eq!(of(&headers, now), expected.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn seconds_and_every_form_of_a_date_are_read_and_a_day_is_the_most() {
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("86401", Some(86_400));
        check("99999999999999999999999999", Some(86_400));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(30));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(30));
        check("Sun Nov  6 08:49:37 1994", Some(30));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("Thu, 31 Dec 9998 23:59:59 GMT", Some(86_400));
        for none in ["", "-1", "1.5", "+3", "soon", "1 2", "Sun, 06 Nov"] {
            check(none, None);
        }
        assert_eq!(of(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
