//! Asks Prometheus, and judges what it says.
//!
//! [`PromClient`] asks an instant query; [`judge`] is pure. Unknown is never yes: no data, an old sample or NaN
//! satisfies nothing. May import: `model`. Must never: read an unbounded body, or take a clock.

use super::http::{HttpClient, describe};
use crate::model::{Expect, Timestamp};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// A sample older than this says nothing about now, in seconds.
const STALE_AFTER: f64 = 300.0;

/// One series' value at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels; none for a scalar.
    pub labels: BTreeMap<String, String>,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

/// What Prometheus answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryAnswer {
    /// The samples; empty when nothing matches.
    pub samples: Vec<Sample>,
    /// Its warnings, for instance that a part could not be asked.
    pub warnings: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing came back, or not all of it.
    #[error("Prometheus could not be asked: {0}")]
    Unreachable(String),
    /// Time ran out.
    #[error("Prometheus did not answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// It refused, with its own words.
    #[error("Prometheus refused the query: {0}")]
    Refused(String),
    /// It answered something that is no answer.
    #[error("the answer of Prometheus cannot be used: {0}")]
    Unusable(String),
}

/// Why an address is not one of a Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a Prometheus (http://host:port, with a path prefix if it has one)")]
pub struct PromUrlError(String);

/// Asks one Prometheus.
#[derive(Debug, Clone)]
pub struct PromClient {
    client: HttpClient,
    query: Url,
}

impl PromClient {
    /// A client for the Prometheus at `base_url`, a path prefix included.
    ///
    /// # Errors
    /// [`PromUrlError`] when it is not http or https, or has a user, a query or a fragment in it.
    pub fn new(client: HttpClient, base_url: &str) -> Result<Self, PromUrlError> {
        let wrong = || PromUrlError(base_url.to_owned());
        let base = Url::parse(base_url).map_err(|_| wrong())?;
        let is_plain = base.username().is_empty() && base.password().is_none();
        if !matches!(base.scheme(), "http" | "https")
            || !is_plain
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(wrong());
        }
        let query = format!("{}/api/v1/query", base.as_str().trim_end_matches('/'));
        Ok(Self { client, query: Url::parse(&query).map_err(|_| wrong())? })
    }

    /// Evaluates `expression` now. Prometheus is told the same `timeout`.
    ///
    /// # Errors
    /// [`QueryError`]; a matrix or string result is [`QueryError::Unusable`].
    pub async fn query(&self, expression: &str, timeout: Duration) -> Result<QueryAnswer, QueryError> {
        tokio::time::timeout(timeout, self.ask(expression, timeout))
            .await
            .unwrap_or(Err(QueryError::TimedOut(timeout)))
    }

    async fn ask(&self, expression: &str, timeout: Duration) -> Result<QueryAnswer, QueryError> {
        let unreachable = |cause| QueryError::Unreachable(describe(cause, &self.query));
        let limit = format!("{}ms", timeout.as_millis().max(1));
        let mut response = self
            .client
            .inner()
            .post(self.query.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&self.query, &[("query", expression), ("timeout", &limit)]))
            .send()
            .await
            .map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(QueryError::Unusable(format!("it is longer than {ANSWER_MAX} bytes")));
            }
        }
        parse(&body, response.status().as_u16())
    }
}

/// The pairs, encoded as a form; the query part of an address is encoded the same way.
fn form(any: &Url, pairs: &[(&str, &str)]) -> String {
    let mut scratch = any.clone();
    scratch.query_pairs_mut().clear().extend_pairs(pairs);
    scratch.query().unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Wire {
    status: String,
    data: Option<Data>,
    #[serde(default)]
    error: String,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

fn parse(body: &[u8], status: u16) -> Result<QueryAnswer, QueryError> {
    let unusable = |why: String| QueryError::Unusable(why);
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|cause| unusable(format!("status {status}, and the body is not its JSON: {cause}")))?;
    if wire.status != "success" {
        return Err(QueryError::Refused(format!("{}: {}", wire.error_type, wire.error)));
    }
    let data = wire.data.ok_or_else(|| unusable("it has no data".into()))?;
    let wrong = |cause: serde_json::Error| QueryError::Unusable(cause.to_string());
    let series = match data.kind.as_str() {
        "vector" => serde_json::from_value::<Vec<Series>>(data.result).map_err(wrong)?,
        "scalar" => {
            let value = serde_json::from_value(data.result).map_err(wrong)?;
            vec![Series { metric: BTreeMap::new(), value }]
        }
        other => return Err(unusable(format!("the result is a {other}; a vector or scalar is needed"))),
    };
    let samples = series
        .into_iter()
        .map(|Series { metric, value: (at, text) }| {
            let value = text.parse().map_err(|_| unusable(format!("{text:?} is not a value")))?;
            Ok(Sample { labels: metric, at, value })
        })
        .collect::<Result<_, QueryError>>()?;
    Ok(QueryAnswer { samples, warnings: wire.warnings })
}

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
    let now = now.as_millisecond() as f64 / 1000.0;
    let reason = match (expect.is_absent(), samples) {
        (true, []) => "holds",
        (true, _) => "present",
        (false, []) => "no_data",
        // Written so that a time that is no number counts as old.
        _ if !samples.iter().all(|sample| now - sample.at <= STALE_AFTER) => "stale",
        _ if samples.iter().all(|sample| expect.satisfied_by(sample.value)) => "holds",
        _ => "violated",
    };
    Observation { holds: reason == "holds", reason, value: summary(samples) }
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

#[cfg(test)]
mod tests;
