//! Bytes to alerts, tolerantly: Alertmanager v4 of any version, and Grafana's superset.
//!
//! The body must be a JSON object with a list `alerts`; everything else may be missing or new. Each element
//! is judged by itself, so a bad one never hides the others. The body's own `status`, `commonLabels` and
//! `groupKey` are not read: they are computed after truncation, or not unique.

use crate::model::{Alert, AlertStatus, Fingerprint, Labels, Timestamp};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// Nesting beyond this is refused before anything is built from it.
const MAX_DEPTH: usize = 32;
/// Alerts in one body.
const MAX_ALERTS: usize = 10_000;
/// The longest address of an Alertmanager that is kept, in bytes; half of one leads elsewhere.
const MAX_URL: usize = 1000;
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

/// The fields of a JSON object, unread: what is wrong with one that nobody asks for is no reason to refuse.
type Fields<'b> = BTreeMap<String, &'b RawValue>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'b> {
    #[serde(borrow)]
    alerts: Option<Elements<'b>>,
    #[serde(borrow)]
    truncated_alerts: Option<&'b RawValue>,
    #[serde(borrow, rename = "externalURL")]
    external_url: Option<&'b RawValue>,
    /// Grafana has it, and no page of an Alertmanager behind its address.
    org_id: Option<IgnoredAny>,
}

/// The elements of `alerts`: as many as are allowed, and how many there are.
struct Elements<'b> {
    taken: Vec<&'b RawValue>,
    count: usize,
}

impl<'b, 'de: 'b> Deserialize<'de> for Elements<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of alerts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut taken = Vec::new();
                while taken.len() < MAX_ALERTS
                    && let Some(element) = list.next_element()?
                {
                    taken.push(element);
                }
                // Two bytes make an element; what is refused anyway must not take memory for each.
                let mut count = taken.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Elements { taken, count })
            }
        }
        deserializer.deserialize_seq(Each)
    }
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
    if alerts.count > MAX_ALERTS {
        return Err(MalformedBody::TooManyAlerts(alerts.count));
    }
    let truncated = wire.truncated_alerts.and_then(|raw| raw.get().parse().ok()).unwrap_or(0);
    let external_url = wire.external_url.filter(|_| wire.org_id.is_none()).and_then(text);
    let external_url = external_url.filter(|url| url.len() <= MAX_URL).unwrap_or_default();
    let element = |raw: &RawValue| {
        let mut element = element(raw, now);
        if let Element::Alert(alert) = &mut element {
            alert.external_url.clone_from(&external_url);
        }
        element
    };
    Ok(Body { alerts: alerts.taken.into_iter().map(element).collect(), truncated })
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

/// The alert with these labels and annotations that begins to fire at `now`, by the rules for one of a body.
///
/// # Errors
/// What is wrong with it.
pub(super) fn fires(labels: &Labels, annotations: &Labels, now: Timestamp) -> Result<Alert, String> {
    let alert = serde_json::json!({ "status": "firing", "labels": labels, "annotations": annotations });
    let raw = serde_json::value::to_raw_value(&alert).map_err(|error| error.to_string())?;
    match element(&raw, now) {
        Element::Alert(alert) => Ok(*alert),
        Element::Invalid { why, .. } => Err(why),
    }
}

fn element(raw: &RawValue, now: Timestamp) -> Element {
    let bytes = raw.get().as_bytes();
    match fields(raw).and_then(|fields| Ok((labels(&fields)?, fields))) {
        Ok((labels, fields)) => match alert(&fields, labels.clone(), now) {
            Ok(alert) => Element::Alert(Box::new(alert)),
            Err(why) => invalid(why, bytes, labels),
        },
        Err(why) => invalid(why, bytes, Labels::new()),
    }
}

fn fields(raw: &RawValue) -> Result<Fields<'_>, String> {
    if !is_object(raw) {
        return Err("it is not an object".to_owned());
    }
    serde_json::from_str(raw.get()).map_err(|error| format!("it cannot be read: {error}"))
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn invalid(why: String, bytes: &[u8], mut labels: Labels) -> Element {
    // What is kept of a refused element must be small, whatever a stranger sent.
    labels.retain(|name, value| name.len() + value.len() <= 1024);
    while labels.len() > 64 {
        labels.pop_last();
    }
    Element::Invalid { why, raw: bytes.into(), labels }
}

fn labels(fields: &Fields<'_>) -> Result<Labels, String> {
    let raw = fields.get("labels").filter(|raw| is_object(raw)).ok_or("its labels are not a map")?;
    let map: Fields<'_> =
        serde_json::from_str(raw.get()).map_err(|error| format!("its labels cannot be read: {error}"))?;
    if map.len() > MAX_LABELS {
        return Err(format!("it has {} labels, the limit is {MAX_LABELS}", map.len()));
    }
    let mut labels = Labels::new();
    for (name, raw) in map {
        let text = text(raw).ok_or_else(|| format!("its label {:?} is not a text", short(&name)))?;
        if name.len() > MAX_LABEL || text.len() > MAX_LABEL {
            return Err(format!("its label {:?} is longer than {MAX_LABEL} bytes", short(&name)));
        }
        // A label without a value is no label, as in Prometheus.
        if !text.is_empty() {
            labels.insert(name, text);
        }
    }
    Ok(labels)
}

/// A text; `None` for anything else, also for one with half a surrogate pair.
fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A stranger's text for a sentence that is stored.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn alert(fields: &Fields<'_>, labels: Labels, now: Timestamp) -> Result<Alert, String> {
    if !labels.contains_key("alertname") {
        return Err("it has no label alertname".to_owned());
    }
    let text = |key: &str| fields.get(key).and_then(|raw| text(raw));
    let status = match text("status").as_deref() {
        Some("firing") => AlertStatus::Firing,
        Some("resolved") => AlertStatus::Resolved,
        other => {
            let word = short(other.unwrap_or_default());
            return Err(format!("its status {word:?} is neither firing nor resolved"));
        }
    };
    let starts_at = match fields.get("startsAt").filter(|raw| raw.get() != "null") {
        None => now,
        Some(_) => text("startsAt")
            .and_then(|text| text.parse().ok())
            .ok_or("its startsAt is not an RFC 3339 time")?,
    };
    // Year 1 is how the wire says "not yet".
    let ends_at = text("endsAt")
        .and_then(|text| text.parse::<Timestamp>().ok())
        .filter(|at| *at > Timestamp::UNIX_EPOCH && status == AlertStatus::Resolved);
    let fingerprint = text("fingerprint").and_then(|text| Fingerprint::try_from(text).ok());
    Ok(Alert {
        status,
        starts_at,
        ends_at,
        annotations: annotations(fields)?,
        external_url: String::new(),
        generator_url: text("generatorURL").unwrap_or_default().chars().take(8192).collect(),
        fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&labels)),
        labels,
    })
}

fn annotations(fields: &Fields<'_>) -> Result<Labels, String> {
    let Some(raw) = fields.get("annotations").filter(|raw| is_object(raw)) else { return Ok(Labels::new()) };
    let map: Fields<'_> = serde_json::from_str(raw.get())
        .map_err(|error| format!("its annotations cannot be read: {error}"))?;
    let mut annotations = Labels::new();
    for (name, raw) in map.into_iter().filter(|(_, raw)| raw.get() != "null") {
        let text = match raw.get().starts_with('"') {
            true => text(raw)
                .ok_or_else(|| format!("its annotation {:?} is not a text that can be read", short(&name)))?,
            // Numbers and the like as they are written.
            false => raw.get().to_owned(),
        };
        if name.len() > MAX_LABEL || text.len() > MAX_ANNOTATION {
            return Err(format!("its annotation {:?} is longer than {MAX_ANNOTATION} bytes", short(&name)));
        }
        annotations.insert(name, text);
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests;
