//! Asks Alertmanager, by its API v2, about silences. Several addresses are the members of one cluster.
//!
//! Silences spread through a cluster by themselves, so one member is told and all are asked. May import: `model`.
//! Must never: read an unbounded body, make a silence twice, or put a credential into a sentence.

use super::http::{HttpClient, describe, retry_after};
use crate::model::{Labels, Secret, Timestamp, quoted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// The largest answer that is read, in bytes: some tens of thousands of silences.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// How long one member may take, so that a dead one does not use up the time in which another could answer.
const MEMBER_WITHIN: Duration = Duration::from_secs(10);

/// How much of a refusal is passed on, in characters.
const WORDS_MAX: usize = 400;
/// How many alerts that only contain the labels asked for are told.
const CONTAINING_MAX: usize = 5;
/// How much of a query is there to have less to read, in bytes.
const FILTERS_MAX: usize = 3000;

/// Who we say we are in `createdBy`.
const CREATED_BY: &str = "runbookd";

/// Why a client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertmanagerUrlError {
    /// Not an address.
    #[error(
        "{0:?} is not the address of an Alertmanager (http://host:port, with a path prefix if it has one)"
    )]
    Url(String),
    /// Not a header.
    #[error(
        "the header {0:?} cannot be sent: its name or its value has a character that no header can carry"
    )]
    Header(String),
    /// A credential that cannot be sent.
    #[error("the credential has a character in it that no header can carry")]
    Credential,
}

/// What proves who we are.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `Authorization: Bearer`.
    Bearer(Secret),
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertmanagerError {
    /// No connection was made, so nothing was sent.
    #[error("Alertmanager could not be reached: {0}")]
    NotReached(String),
    /// Something was sent, and what became of it is not known.
    #[error("Alertmanager did not answer: {0}")]
    NoAnswer(String),
    /// It answered, and not with success.
    #[error("Alertmanager answered {status}: {words}")]
    Refused {
        /// The status.
        status: u16,
        /// What it asks to wait before the next try.
        retry_after: Option<Duration>,
        /// Its own words, cut.
        words: String,
    },
    /// It answered something that is no answer.
    #[error("the answer of Alertmanager cannot be used: {0}")]
    Unusable(String),
}

/// Asks the Alertmanagers of one cluster.
#[derive(Debug, Clone)]
pub struct AlertmanagerClient {
    client: HttpClient,
    /// Each ends with a slash.
    members: Vec<Url>,
    headers: HeaderMap,
}

/// A silence to be made.
#[derive(Debug)]
pub(super) struct NewSilence {
    /// As the API wants them: name, value, isRegex, isEqual.
    pub(super) matchers: Vec<Value>,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) comment: String,
}

/// A silence that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) id: String,
    /// Which members know it, by position.
    pub(super) at: Vec<usize>,
}

#[derive(Deserialize)]
struct WireSilence {
    id: String,
    #[serde(default)]
    comment: String,
    #[serde(default, rename = "createdBy")]
    created_by: String,
    status: WireStatus,
}

/// What the members know of one alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertStanding {
    /// Whether any knows it.
    pub known: bool,
    /// The silences that mute it.
    pub silenced_by: Vec<String>,
    /// The alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// Who is told of it.
    pub receivers: Vec<String>,
    /// How many members did not answer.
    pub unanswered: usize,
    /// Other alerts that have all these labels and more, a few.
    pub containing: Vec<Labels>,
    /// How many more of those there are.
    pub more: usize,
}

#[derive(Deserialize)]
struct WireAlert {
    labels: Labels,
    status: WireAlertStatus,
    #[serde(default)]
    receivers: Vec<WireReceiver>,
}

#[derive(Deserialize)]
struct WireReceiver {
    name: String,
}

#[derive(Deserialize)]
struct WireAlertStatus {
    #[serde(default, rename = "silencedBy")]
    silenced_by: Vec<String>,
    #[serde(default, rename = "inhibitedBy")]
    inhibited_by: Vec<String>,
}

#[derive(Deserialize)]
struct WireStatus {
    state: String,
}

#[derive(Deserialize)]
struct WireMade {
    #[serde(rename = "silenceID")]
    id: String,
}

impl AlertmanagerClient {
    /// A client for the members at `urls`, path prefixes included. `headers` go with every request.
    ///
    /// # Errors
    /// [`AlertmanagerUrlError`] naming what cannot be used.
    pub fn new(
        client: HttpClient,
        urls: &[String],
        credential: Option<&Credential>,
        headers: &[(String, String)],
    ) -> Result<Self, AlertmanagerUrlError> {
        let members = urls.iter().map(|url| member(url)).collect::<Result<_, _>>()?;
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let wrong = || AlertmanagerUrlError::Header(name.clone());
            let checked = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            all.insert(checked, value);
        }
        if let Some(credential) = credential {
            let text = match credential {
                Credential::Bearer(token) => format!("Bearer {}", token.expose()),
                Credential::Basic { user, password } => {
                    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
                }
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| AlertmanagerUrlError::Credential)?;
            value.set_sensitive(true);
            all.insert(AUTHORIZATION, value);
        }
        Ok(Self { client, members, headers: all })
    }

    /// The silences made for `key` that have not ended, by what all members know. The second value has the errors
    /// of members that did not say.
    ///
    /// # Errors
    /// The first member's, when none said anything.
    pub(super) async fn find(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<(Vec<Found>, Vec<AlertmanagerError>), AlertmanagerError> {
        let asked = join_all(self.members.iter().map(|member| self.silences_of(member, key, now))).await;
        let mut found: Vec<Found> = Vec::new();
        let mut errors = Vec::new();
        for (position, answer) in asked.into_iter().enumerate() {
            match answer {
                Err(error) => errors.push(error),
                Ok(ids) => ids.into_iter().for_each(|id| match found.iter_mut().find(|it| it.id == id) {
                    Some(known) => known.at.push(position),
                    None => found.push(Found { id, at: vec![position] }),
                }),
            }
        }
        if errors.len() < self.members.len() {
            return Ok((found, errors));
        }
        Err(errors
            .into_iter()
            .next()
            .unwrap_or_else(|| AlertmanagerError::NotReached("no address is configured".into())))
    }

    /// Makes a silence for `key`, at the first member that can be reached, and gives its id. Not idempotent: look
    /// with [`Self::find`] first.
    ///
    /// # Errors
    /// Of the member that took the request; when none could be reached, the last one's.
    pub(super) async fn make(
        &self,
        new: &NewSilence,
        key: &str,
        now: Timestamp,
    ) -> Result<String, AlertmanagerError> {
        let body = serde_json::json!({
            "matchers": new.matchers,
            "startsAt": new.starts_at.to_string(),
            "endsAt": new.ends_at.to_string(),
            "createdBy": CREATED_BY,
            "comment": format!("{}{}", new.comment, mark(key)),
        });
        let mut last = AlertmanagerError::NotReached("no address is configured".into());
        for member in &self.members {
            match self.ask(Method::POST, member, "silences", Some(&body), now).await {
                Ok(answer) => {
                    let made: WireMade = serde_json::from_slice(&answer)
                        .map_err(|cause| AlertmanagerError::Unusable(cause.to_string()))?;
                    return Ok(made.id);
                }
                // Only a member that cannot have taken it is passed over; any other might have.
                Err(error @ AlertmanagerError::NotReached(_)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Ends a silence, at a member that knows it. One that is unknown there, or has ended, is as good as ended.
    ///
    /// # Errors
    /// The last member's, when none did it.
    pub(super) async fn expire(&self, silence: &Found, now: Timestamp) -> Result<(), AlertmanagerError> {
        let path = format!("silence/{}", silence.id);
        let mut last = AlertmanagerError::NotReached("no address is configured".into());
        for member in silence.at.iter().filter_map(|position| self.members.get(*position)) {
            match self.ask(Method::DELETE, member, &path, None, now).await {
                Ok(_) | Err(AlertmanagerError::Refused { status: 404, .. }) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What all members know of the alert with exactly these labels, united.
    ///
    /// # Errors
    /// The first member's, when none answered.
    pub async fn standing(
        &self,
        labels: &Labels,
        now: Timestamp,
    ) -> Result<AlertStanding, AlertmanagerError> {
        let asked = join_all(self.members.iter().map(|member| self.alerts_with(member, labels, now))).await;
        let mut standing = AlertStanding::default();
        let (mut errors, mut containing) = (Vec::new(), BTreeSet::new());
        for answer in asked {
            let (found, others) = match answer {
                Ok(alerts) => alerts.into_iter().partition(|alert| alert.labels == *labels),
                Err(error) => {
                    errors.push(error);
                    <(Vec<_>, Vec<_>)>::default()
                }
            };
            containing.extend(others.into_iter().map(|alert: WireAlert| alert.labels));
            for WireAlert { status, receivers, .. } in found {
                standing.known = true;
                standing.receivers.extend(receivers.into_iter().map(|receiver| receiver.name));
                standing.silenced_by.extend(status.silenced_by);
                standing.inhibited_by.extend(status.inhibited_by);
            }
        }
        for by in [&mut standing.silenced_by, &mut standing.inhibited_by, &mut standing.receivers] {
            by.sort();
            by.dedup();
        }
        standing.more = containing.len().saturating_sub(CONTAINING_MAX);
        standing.containing = containing.into_iter().take(CONTAINING_MAX).collect();
        standing.unanswered = errors.len();
        if standing.unanswered < self.members.len() {
            return Ok(standing);
        }
        Err(errors
            .into_iter()
            .next()
            .unwrap_or_else(|| AlertmanagerError::NotReached("no address is configured".into())))
    }

    /// The alerts that have all of `labels`.
    async fn alerts_with(
        &self,
        member: &Url,
        labels: &Labels,
        now: Timestamp,
    ) -> Result<Vec<WireAlert>, AlertmanagerError> {
        let mut query = reqwest::Url::parse("http://query.invalid/")
            .map_err(|cause| AlertmanagerError::Unusable(cause.to_string()))?;
        {
            let mut pairs = query.query_pairs_mut();
            for state in ["active", "silenced", "inhibited", "unprocessed"] {
                pairs.append_pair(state, "true");
            }
            // Only to have less to read: what comes is compared again.
            let mut room = FILTERS_MAX;
            let name = labels.get_key_value("alertname");
            for (name, value) in
                name.into_iter().chain(labels.iter().filter(|(name, _)| *name != "alertname"))
            {
                let filter = format!("{name}={}", quoted(value));
                // Another name than one of Prometheus is refused in a filter, and with it the whole question.
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
                if plain && filter.len() <= room {
                    room -= filter.len();
                    pairs.append_pair("filter", &filter);
                }
            }
        }
        let path = format!("alerts?{}", query.query().unwrap_or_default());
        let body = self.ask(Method::GET, member, &path, None, now).await?;
        let all: Vec<WireAlert> = serde_json::from_slice(&body)
            .map_err(|cause| AlertmanagerError::Unusable(format!("the list of alerts: {cause}")))?;
        let has_all =
            |alert: &WireAlert| labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value));
        Ok(all.into_iter().filter(has_all).collect())
    }

    async fn silences_of(
        &self,
        member: &Url,
        key: &str,
        now: Timestamp,
    ) -> Result<Vec<String>, AlertmanagerError> {
        // Known to newer versions only; older ones tell the expired ones too.
        let body = self.ask(Method::GET, member, "silences?expired=false", None, now).await?;
        let all: Vec<WireSilence> = serde_json::from_slice(&body)
            .map_err(|cause| AlertmanagerError::Unusable(format!("the list of silences: {cause}")))?;
        let mark = mark(key);
        let is_ours = |silence: &WireSilence| {
            silence.created_by == CREATED_BY
                && silence.comment.ends_with(&mark)
                && silence.status.state != "expired"
        };
        // The id becomes part of a path.
        let is_plain =
            |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        Ok(all.into_iter().filter(is_ours).map(|silence| silence.id).filter(|id| is_plain(id)).collect())
    }

    async fn ask(
        &self,
        method: Method,
        member: &Url,
        path: &str,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Vec<u8>, AlertmanagerError> {
        let url = member
            .join(&format!("api/v2/{path}"))
            .map_err(|cause| AlertmanagerError::NotReached(cause.to_string()))?;
        let client = self.client.inner();
        let mut request =
            client.request(method, url.clone()).headers(self.headers.clone()).timeout(MEMBER_WITHIN);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let lost = |cause: reqwest::Error| {
            let is_connect = cause.is_connect();
            let words = describe(cause, &url);
            if is_connect { AlertmanagerError::NotReached(words) } else { AlertmanagerError::NoAnswer(words) }
        };
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        let retry_after = retry_after::of(response.headers(), now);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(AlertmanagerError::Unusable(format!("it is longer than {ANSWER_MAX} bytes")));
            }
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let words = String::from_utf8_lossy(&bytes).trim().chars().take(WORDS_MAX).collect();
        Err(AlertmanagerError::Refused { status: status.as_u16(), retry_after, words })
    }
}

/// By what a silence of ours is known: the end of its comment, which no text before it can imitate.
fn mark(key: &str) -> String {
    format!(" [runbookd {key}]")
}

fn member(text: &str) -> Result<Url, AlertmanagerUrlError> {
    let wrong = || AlertmanagerUrlError::Url(text.to_owned());
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|_| wrong())?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let fits = matches!(url.scheme(), "http" | "https")
        && is_plain
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none();
    if fits { Ok(url) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests;
