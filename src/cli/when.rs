//! Times and durations for people: UTC, short, always of the same width.
//!
//! May import: `model`. Must never: read a clock.

use crate::model::Timestamp;
use std::time::Duration;

/// `2026-08-01 10:00:00`, in UTC.
pub(super) fn stamp(at: Timestamp) -> String {
    at.strftime("%F %T").to_string()
}

/// `10:00:00`, in UTC.
pub(super) fn time_of_day(at: Timestamp) -> String {
    at.strftime("%T").to_string()
}

/// `350ms`, `12.3s`, `2m 3s`, `1h 2m`, `3d 4h`: two units at most.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// What `--since` and `--until` mean: a time, or a duration back from `now`; as the server reads it.
pub(super) fn moment(text: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.to_string());
    }
    let wrong =
        || format!("{text:?} is neither a time (2026-08-01T10:00:00Z) nor a duration back from now (1h)");
    let back = humantime::parse_duration(text).map_err(|_| wrong())?;
    let back = jiff::SignedDuration::try_from(back).map_err(|_| wrong())?;
    now.checked_sub(back).map(|at| at.to_string()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let check = |milliseconds, expected| assert_eq!(span(Duration::from_millis(milliseconds)), expected);
        check(0, "0ms");
        check(350, "350ms");
        check(12_345, "12.3s");
        check(59_999, "59.9s");
        check(123_000, "2m 3s");
        check(3_720_000, "1h 2m");
        check(273_600_000, "3d 4h");
    }

    #[test]
    fn a_moment_is_a_time_or_a_way_back() {
        let now: Timestamp = "2026-08-01T10:00:00Z".parse().unwrap();
        assert_eq!(moment("1h 30m", now).unwrap(), "2026-08-01T08:30:00Z");
        assert_eq!(moment("2026-07-01T02:00:00+02:00", now).unwrap(), "2026-07-01T00:00:00Z");
        for bad in ["", "yesterday", "-1h", "99999999999y", "2026-08-01"] {
            assert!(moment(bad, now).is_err(), "{bad:?}");
        }
    }
}
