//! What the answers of Prometheus mean for an expectation.
//!
//! Pure. May import: `model`. Must never: take unknown for yes.

use super::{Sample, Series};
use crate::model::{Expect, Timestamp};
use serde_json::json;

/// A sample older than this says nothing about now, in seconds.
const STALE_AFTER: f64 = 300.0;

/// What an answer means for an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whether it holds.
    pub holds: bool,
    /// `holds`, `violated`, `no_data`, `stale` or `present`.
    pub reason: &'static str,
    /// The values seen, for people.
    pub value: String,
}

/// Judges `samples` at the time `now`: every one must satisfy `expect`, and none may be older than five minutes.
pub fn judge(expect: Expect, samples: &[Sample], now: Timestamp) -> Observation {
    let reason = match (expect.is_absent(), samples) {
        (true, []) => "holds",
        (true, _) => "present",
        (false, []) => "no_data",
        _ if !samples.iter().all(|sample| is_fresh(sample.at, now)) => "stale",
        _ if samples.iter().all(|sample| expect.satisfied_by(sample.value)) => "holds",
        _ => "violated",
    };
    Observation { holds: reason == "holds", reason, value: summary(samples) }
}

/// Judges `series` at the time `now`: every point of every one must satisfy `expect`, and none may have ended more
/// than five minutes ago. Also gives one sample of each: the first that violates, else the last.
pub(super) fn judge_range(expect: Expect, series: &[Series], now: Timestamp) -> (Observation, Vec<Sample>) {
    let telling = |one: &Series| {
        let violates = |point: &&(f64, f64)| !expect.satisfied_by(point.1);
        let (at, value) = *one.points.iter().find(violates).or(one.points.last())?;
        Some(Sample { labels: one.labels.clone(), at, value })
    };
    let samples: Vec<Sample> = series.iter().filter_map(telling).collect();
    let ended = |one: &Series| one.points.last().is_some_and(|(at, _)| !is_fresh(*at, now));
    let reason = match (expect.is_absent(), &samples[..]) {
        (true, []) => "holds",
        (true, _) => "present",
        (false, []) => "no_data",
        _ if series.iter().any(ended) => "stale",
        (false, told) if told.iter().all(|sample| expect.satisfied_by(sample.value)) => "holds",
        _ => "violated",
    };
    (Observation { holds: reason == "holds", reason, value: summary(&samples) }, samples)
}

/// Whether a sample of the time `at` says something about `now`. A time that is no number counts as old.
fn is_fresh(at: f64, now: Timestamp) -> bool {
    now.as_millisecond() as f64 / 1000.0 - at <= STALE_AFTER
}

/// The samples as JSON, as many as fit into `room` bytes; `more` counts the others.
pub(super) fn to_json(samples: &[Sample], room: usize) -> String {
    // The frame, with a count as long as it can get.
    let mut left = room.saturating_sub(r#"{"samples":[],"more":18446744073709551615}"#.len());
    let fits = |sample: &Sample| {
        // JSON has no NaN and no infinity; they are told by their names.
        let value =
            if sample.value.is_finite() { json!(sample.value) } else { json!(sample.value.to_string()) };
        let text = json!({ "labels": sample.labels, "at": sample.at, "value": value }).to_string();
        left = left.checked_sub(text.len() + 1)?;
        Some(text)
    };
    let told: Vec<String> = samples.iter().map_while(fits).collect();
    format!(r#"{{"samples":[{}],"more":{}}}"#, told.join(","), samples.len() - told.len())
}

/// The first few samples, in at most a few hundred bytes.
fn summary(samples: &[Sample]) -> String {
    const SHOWN: usize = 3;
    let mut words: Vec<String> = samples.iter().take(SHOWN).map(one).collect();
    if samples.len() > SHOWN {
        words.push(format!("and {} more", samples.len() - SHOWN));
    }
    if words.is_empty() { "no data".into() } else { words.join(", ") }
}

fn one(sample: &Sample) -> String {
    if sample.labels.is_empty() {
        return sample.value.to_string();
    }
    let name = sample.labels.get("__name__").map_or("", String::as_str);
    let labels: Vec<String> = sample
        .labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let mut text: String = format!("{name}{{{}}}", labels.join(",")).chars().take(120).collect();
    text.push_str(&format!(" {}", sample.value));
    text
}
