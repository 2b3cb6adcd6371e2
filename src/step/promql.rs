//! Asks Prometheus, and judges what it says.
//!
//! [`PromClient`] asks a query for now or for a range; `judge` holds the pure judges, `kind` makes an attempt of
//! both. Unknown is never yes: no data, an old sample or NaN satisfies nothing.
//! May import: `model`. Must never: read an unbounded body, or take the time from the other side.

mod judge;
mod kind;

pub use judge::{Observation, judge};
pub(super) use kind::run;

use super::http::{HttpClient, describe, retry_after};
use crate::model::Timestamp;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// A range is asked at so many points, but never closer than one a second.
const POINTS: u64 = 100;

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

/// One series over time.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    /// Time in seconds since 1970, and value; in the order of time.
    points: Vec<(f64, f64)>,
}

/// An answer before it is read, with what its head says.
struct Reply {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
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
    range: Url,
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
        let below = |path: &str| {
            let base = base.as_str().trim_end_matches('/');
            Url::parse(&format!("{base}/api/v1/{path}")).map_err(|_| wrong())
        };
        Ok(Self { client, query: below("query")?, range: below("query_range")? })
    }

    /// Evaluates `expression` now. Prometheus is told the same `timeout`.
    ///
    /// # Errors
    /// [`QueryError`]; a matrix or string result is [`QueryError::Unusable`].
    pub async fn query(&self, expression: &str, timeout: Duration) -> Result<QueryAnswer, QueryError> {
        let asking = async {
            let Reply { status, body, .. } = self.ask_now(expression, timeout, Timestamp::UNIX_EPOCH).await?;
            parse(&body, status)
        };
        tokio::time::timeout(timeout, asking).await.unwrap_or(Err(QueryError::TimedOut(timeout)))
    }

    /// Asks for now. `now` only tells how far off a date in `Retry-After` is.
    async fn ask_now(
        &self,
        expression: &str,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<Reply, QueryError> {
        self.ask(&self.query, &[("query", expression), ("timeout", &milliseconds(timeout))], now).await
    }

    /// Asks for the `range` before `now`, whose last point is `now` itself.
    async fn ask_range(
        &self,
        expression: &str,
        range: Duration,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<Reply, QueryError> {
        let range = u64::try_from(range.as_millis()).unwrap_or(u64::MAX);
        let step = range.div_ceil(POINTS).max(1000);
        // A whole number of steps, so that the last one falls on the end and says how things are now.
        let start = after_the_epoch(now).saturating_sub(range / step * step);
        let second = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let pairs = [
            ("query", expression),
            ("start", &second(start)),
            ("end", &second(after_the_epoch(now))),
            ("step", &second(step)),
            ("timeout", &milliseconds(timeout)),
        ];
        self.ask(&self.range, &pairs, now).await
    }

    async fn ask(&self, url: &Url, pairs: &[(&str, &str)], now: Timestamp) -> Result<Reply, QueryError> {
        let unreachable = |cause| QueryError::Unreachable(describe(cause, url));
        let mut response = self
            .client
            .inner()
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(url, pairs))
            .send()
            .await
            .map_err(unreachable)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after::of(response.headers(), now));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(QueryError::Unusable(format!("it is longer than {ANSWER_MAX} bytes")));
            }
        }
        Ok(Reply { status, retry_after, body })
    }
}

/// Milliseconds since 1970; nothing that is asked lies before.
fn after_the_epoch(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

fn milliseconds(timeout: Duration) -> String {
    format!("{}ms", timeout.as_millis().max(1))
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
struct WireVector {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
struct WireMatrix {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

fn unusable(why: impl std::fmt::Display) -> QueryError {
    QueryError::Unusable(why.to_string())
}

/// The data of a successful answer, and its warnings.
fn read(body: &[u8], status: u16) -> Result<(Data, Vec<String>), QueryError> {
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|cause| unusable(format!("status {status}, and the body is not its JSON: {cause}")))?;
    if wire.status != "success" {
        return Err(QueryError::Refused(format!("{}: {}", wire.error_type, wire.error)));
    }
    Ok((wire.data.ok_or_else(|| unusable("it has no data"))?, wire.warnings))
}

fn number(text: &str) -> Result<f64, QueryError> {
    text.parse().map_err(|_| unusable(format!("{text:?} is not a value")))
}

/// The answer for now.
fn parse(body: &[u8], status: u16) -> Result<QueryAnswer, QueryError> {
    let (data, warnings) = read(body, status)?;
    let vector = match data.kind.as_str() {
        "vector" => serde_json::from_value::<Vec<WireVector>>(data.result).map_err(unusable)?,
        "scalar" => {
            let value = serde_json::from_value(data.result).map_err(unusable)?;
            vec![WireVector { metric: BTreeMap::new(), value }]
        }
        other => return Err(unusable(format!("the result is a {other}; a vector or scalar is needed"))),
    };
    let sample =
        |WireVector { metric, value: (at, text) }| Ok(Sample { labels: metric, at, value: number(&text)? });
    let samples = vector.into_iter().map(sample).collect::<Result<_, QueryError>>()?;
    Ok(QueryAnswer { samples, warnings })
}

/// The answer for a range.
fn parse_range(body: &[u8], status: u16) -> Result<Vec<Series>, QueryError> {
    let (data, _) = read(body, status)?;
    if data.kind != "matrix" {
        return Err(unusable(format!("the result is a {}; a matrix is needed", data.kind)));
    }
    let matrix: Vec<WireMatrix> = serde_json::from_value(data.result).map_err(unusable)?;
    let series = |WireMatrix { metric, values }| {
        let points = values.into_iter().map(|(at, text)| Ok((at, number(&text)?)));
        Ok(Series { labels: metric, points: points.collect::<Result<_, QueryError>>()? })
    };
    matrix.into_iter().map(series).collect()
}

#[cfg(test)]
mod tests;
