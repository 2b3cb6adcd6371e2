//! Bytes to alerts, tolerantly: Alertmanager v4 of any version, and Grafana's superset.
//!
//! The body must be a JSON object with a list `alerts`; everything else may be missing or new. Each element
//! is judged by itself, so a bad one never hides the others. The body's own `status`, `commonLabels` and
//! `groupKey` are not read: they are computed after truncation, or not unique.

use crate::model::{Alert, AlertStatus, Fingerprint, Labels, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Nesting beyond this is refused before anything is built from it.
const MAX_DEPTH: usize = 32;
/// Alerts in one body.
const MAX_ALERTS: usize = 10_000;
/// Labels of one alert.
const MAX_LABELS: usize = 256;
/// Bytes of one label's name or value.
const MAX_LABEL: usize = 64 << 10;
/// Bytes of one annotation.
const MAX_ANNOTATION: usize = 1 << 20;

/// Why a body is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBody {
    /// Not JSON, or not an object.
    #[error("the body is not a JSON object: {0}")]
    Json(String),
    /// Nested too deeply.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// No `alerts`.
    #[error("the body has no `alerts`: this is not an Alertmanager webhook, or its payload was replaced")]
    NoAlerts,
    /// Too many.
    #[error("the body has {0} alerts, the limit is {MAX_ALERTS}: group by more labels")]
    TooManyAlerts(usize),
}

/// A decoded body.
#[derive(Debug)]
pub struct Body {
    /// One for each element of `alerts`, in order.
    pub alerts: Vec<Element>,
    /// How many alerts the sender left out; then nothing follows from what is absent.
    pub truncated: u64,
}

/// One element of `alerts`.
#[derive(Debug)]
pub enum Element {
    /// An alert that can be decided on.
    Alert(Box<Alert>),
    /// Something else.
    Invalid {
        /// What is wrong.
        why: String,
        /// Its bytes, to know it again.
        raw: Box<[u8]>,
        /// Its labels as far as they could be read.
        labels: Labels,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'b> {
    #[serde(borrow)]
    alerts: Option<Vec<&'b RawValue>>,
    #[serde(default)]
    truncated_alerts: Value,
}

/// Decodes a body received at `now`.
///
/// # Errors
/// [`MalformedBody`] when nothing of it can be used.
pub fn decode(body: &[u8], now: Timestamp) -> Result<Body, MalformedBody> {
    if depth(body) > MAX_DEPTH {
        return Err(MalformedBody::TooDeep);
    }
    // A list would be read as the fields in order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(MalformedBody::Json("it does not begin with {".to_owned()));
    }
    let wire: Wire<'_> =
        serde_json::from_slice(body).map_err(|error| MalformedBody::Json(error.to_string()))?;
    let alerts = wire.alerts.ok_or(MalformedBody::NoAlerts)?;
    if alerts.len() > MAX_ALERTS {
        return Err(MalformedBody::TooManyAlerts(alerts.len()));
    }
    let truncated = wire.truncated_alerts.as_u64().unwrap_or(0);
    Ok(Body { alerts: alerts.into_iter().map(|raw| element(raw, now)).collect(), truncated })
}

/// The deepest nesting of `body`, without building anything.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn element(raw: &RawValue, now: Timestamp) -> Element {
    let bytes = raw.get().as_bytes();
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return invalid(error.to_string(), bytes, Labels::new()),
    };
    let labels = match labels(&value) {
        Ok(labels) => labels,
        Err(why) => return invalid(why, bytes, Labels::new()),
    };
    match alert(&value, labels.clone(), now) {
        Ok(alert) => Element::Alert(Box::new(alert)),
        Err(why) => invalid(why, bytes, labels),
    }
}

fn invalid(why: String, bytes: &[u8], mut labels: Labels) -> Element {
    // What is kept of a refused element must be small, whatever a stranger sent.
    labels.retain(|name, value| name.len() + value.len() <= 1024);
    while labels.len() > 64 {
        labels.pop_last();
    }
    Element::Invalid { why, raw: bytes.into(), labels }
}

fn labels(value: &Value) -> Result<Labels, String> {
    let object = value.as_object().ok_or("it is not an object")?;
    let map = match object.get("labels") {
        Some(Value::Object(map)) => map,
        _ => return Err("its labels are not a map".to_owned()),
    };
    if map.len() > MAX_LABELS {
        return Err(format!("it has {} labels, the limit is {MAX_LABELS}", map.len()));
    }
    let mut labels = Labels::new();
    for (name, value) in map {
        let text = value.as_str().ok_or_else(|| format!("its label {name:?} is not a text"))?;
        if name.len() > MAX_LABEL || text.len() > MAX_LABEL {
            let short: String = name.chars().take(80).collect();
            return Err(format!("its label {short:?} is longer than {MAX_LABEL} bytes"));
        }
        // A label without a value is no label, as in Prometheus.
        if !text.is_empty() {
            labels.insert(name.clone(), text.to_owned());
        }
    }
    Ok(labels)
}

fn alert(value: &Value, labels: Labels, now: Timestamp) -> Result<Alert, String> {
    if !labels.contains_key("alertname") {
        return Err("it has no label alertname".to_owned());
    }
    let status = match value.get("status").and_then(Value::as_str) {
        Some("firing") => AlertStatus::Firing,
        Some("resolved") => AlertStatus::Resolved,
        other => {
            let word: String = other.unwrap_or_default().chars().take(80).collect();
            return Err(format!("its status {word:?} is neither firing nor resolved"));
        }
    };
    let starts_at = match value.get("startsAt") {
        None | Some(Value::Null) => now,
        Some(text) => {
            text.as_str().and_then(|text| text.parse().ok()).ok_or("its startsAt is not an RFC 3339 time")?
        }
    };
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    // Year 1 is how the wire says "not yet".
    let ends_at = text("endsAt")
        .and_then(|text| text.parse::<Timestamp>().ok())
        .filter(|at| *at > Timestamp::UNIX_EPOCH && status == AlertStatus::Resolved);
    let fingerprint = text("fingerprint").and_then(|text| Fingerprint::try_from(text.to_owned()).ok());
    Ok(Alert {
        status,
        starts_at,
        ends_at,
        annotations: annotations(value)?,
        generator_url: text("generatorURL").unwrap_or_default().chars().take(8192).collect(),
        fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&labels)),
        labels,
    })
}

fn annotations(value: &Value) -> Result<Labels, String> {
    let Some(map) = value.get("annotations").and_then(Value::as_object) else { return Ok(Labels::new()) };
    let mut annotations = Labels::new();
    for (name, value) in map {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if name.len() > MAX_LABEL || text.len() > MAX_ANNOTATION {
            let short: String = name.chars().take(80).collect();
            return Err(format!("its annotation {short:?} is longer than {MAX_ANNOTATION} bytes"));
        }
        annotations.insert(name.clone(), text);
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(element: &str) -> Element {
        let body = format!("{{\"alerts\":[{element}]}}");
        decode(body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap().alerts.remove(0)
    }

    fn refused(element: &str, expected: &str) {
        match one(element) {
            Element::Invalid { why, .. } => assert_eq!(why, expected, "{element}"),
            Element::Alert(alert) => panic!("{element} was taken as {alert:?}"),
        }
    }

    #[test]
    fn elements_are_judged_one_by_one() {
        refused("5", "it is not an object");
        refused("null", "it is not an object");
        refused("{}", "its labels are not a map");
        refused(r#"{"labels":null}"#, "its labels are not a map");
        refused(r#"{"labels":{"alertname":5}}"#, "its label \"alertname\" is not a text");
        refused(r#"{"status":"firing","labels":{"a":"b"}}"#, "it has no label alertname");
        refused(r#"{"status":"firing","labels":{"alertname":""}}"#, "it has no label alertname");
        refused(r#"{"labels":{"alertname":"A"}}"#, "its status \"\" is neither firing nor resolved");
        refused(
            r#"{"status":"Firing","labels":{"alertname":"A"}}"#,
            "its status \"Firing\" is neither firing nor resolved",
        );
        refused(
            r#"{"status":"firing","labels":{"alertname":"A"},"startsAt":"yesterday"}"#,
            "its startsAt is not an RFC 3339 time",
        );
        let long =
            format!(r#"{{"status":"firing","labels":{{"alertname":"A","x":"{}"}}}}"#, "x".repeat(2 << 20));
        refused(&long, "its label \"x\" is longer than 65536 bytes");
    }

    #[test]
    fn a_lone_surrogate_is_refused_by_itself() {
        let body = br#"{"alerts":[{"status":"firing","labels":{"alertname":"\ud800"}},
            {"status":"firing","labels":{"alertname":"B"}}]}"#;
        let alerts = decode(body, Timestamp::UNIX_EPOCH).unwrap().alerts;
        assert!(matches!(&alerts[0], Element::Invalid { .. }));
        assert!(matches!(&alerts[1], Element::Alert(alert) if alert.alertname() == "B"));
    }

    #[test]
    fn what_is_missing_gets_its_default_and_year_one_is_no_end() {
        let Element::Alert(alert) =
            one(r#"{"status":"firing","labels":{"alertname":"A","empty":""},"annotations":{"n":7},
                "endsAt":"0001-01-01T00:00:00Z"}"#)
        else {
            panic!("refused")
        };
        assert_eq!(alert.ends_at, None);
        assert_eq!(alert.starts_at, Timestamp::UNIX_EPOCH);
        assert_eq!(alert.annotations["n"], "7");
        assert_eq!(alert.labels.len(), 1);
    }

    #[test]
    fn bodies_that_are_no_webhook_are_refused_whole() {
        let check = |body: &str, expected: MalformedBody| {
            assert_eq!(decode(body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_err(), expected, "{body}");
        };
        check("{}", MalformedBody::NoAlerts);
        check(r#"{"alerts":null}"#, MalformedBody::NoAlerts);
        check(&"[".repeat(100_000), MalformedBody::TooDeep);
        check("[[1]]", MalformedBody::Json("it does not begin with {".to_owned()));
        assert!(matches!(decode(b"\xff", Timestamp::UNIX_EPOCH), Err(MalformedBody::Json(_))));
        let many = format!("{{\"alerts\":[{}]}}", vec!["0"; MAX_ALERTS + 1].join(","));
        check(&many, MalformedBody::TooManyAlerts(MAX_ALERTS + 1));
        assert!(decode(br#"{"alerts":[],"version":"9","new":{"x":[1]}}"#, Timestamp::UNIX_EPOCH).is_ok());
    }
}
