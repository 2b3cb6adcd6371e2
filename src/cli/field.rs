//! Reading a server's answer tolerantly: a field that is absent or of another type is simply not shown.
//!
//! Every text that leaves here is escaped. May import: `model`. Must never: fail, because a newer server must not
//! break an older client.

use super::escape::visible;
use super::when;
use crate::model::{Timestamp, between};
use serde_json::Value;
use std::time::Duration;

/// A text, number or truth value as escaped text; empty for anything else.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// The field `key` as escaped text; empty where there is none.
pub(super) fn text(value: &Value, key: &str) -> String {
    scalar(&value[key])
}

/// The field `key` as it is sent, for comparing only.
pub(super) fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The elements of the list `key`.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The list of texts `key`, joined.
pub(super) fn words(value: &Value, key: &str) -> String {
    list(value, key).iter().map(compact).collect::<Vec<_>>().join(", ")
}

/// Any value on one line: texts bare, everything else as JSON.
pub(super) fn compact(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        other => visible(&other.to_string()),
    }
}

/// The map `key` as `name="value"` pairs.
pub(super) fn pairs(value: &Value, key: &str) -> String {
    let Some(map) = value[key].as_object() else { return String::new() };
    let pairs = map.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{}={text:?}", visible(name)),
        other => format!("{}={other}", visible(name)),
    });
    // `{:?}` keeps some characters that have no width.
    visible(&pairs.collect::<Vec<_>>().join(" "))
}

/// The time in the field `key`.
pub(super) fn time(value: &Value, key: &str) -> Option<Timestamp> {
    word(value, key).parse().ok()
}

/// The time in the field `key` for people; what is no time is shown as it is.
pub(super) fn stamp(value: &Value, key: &str) -> String {
    time(value, key).map_or_else(|| text(value, key), when::stamp)
}

/// From the time in `from` to that in `to`, where there are both.
pub(super) fn took(value: &Value, from: &str, to: &str) -> Option<Duration> {
    Some(between(time(value, from)?, time(value, to)?))
}

/// One stream of an attempt: what is known of its text, and how many bytes there were.
pub(super) fn stream<'v>(attempt: &'v Value, key: &str) -> (&'v str, u64) {
    let value = &attempt[key];
    let text = value.as_str().or_else(|| value["head"].as_str()).unwrap_or_default();
    let bytes = value["bytes"].as_u64().or_else(|| attempt[format!("{key}_bytes")].as_u64());
    (text, bytes.unwrap_or(text.len() as u64))
}
