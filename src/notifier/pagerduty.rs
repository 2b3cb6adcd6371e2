//! PagerDuty, by its Events API v2: a message is an incident, and its key ends it again.

use super::{Occasion, TRY_WITHIN, Try, judge};
use crate::model::Secret;
use crate::report::{Failure, cut, one_line};
use crate::step::HttpClient;
use serde_json::{Map, Value, json};

/// Where events go unless the config says otherwise.
const ENDPOINT: &str = "https://events.pagerduty.com/v2/enqueue";
/// How long a summary may be, in characters.
const SUMMARY_MAX: usize = 1024;
/// How long a key may be, in bytes.
const KEY_MAX: usize = 255;

/// A service of PagerDuty.
#[derive(Debug)]
pub struct PagerDuty {
    /// The client.
    pub client: HttpClient,
    /// The integration's key.
    pub routing_key: Secret,
    /// Where events go; [`ENDPOINT`] where absent.
    pub url: Option<String>,
}

impl PagerDuty {
    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Result<(), Failure> {
        let body = payload(attempt, self.routing_key.expose()).to_string().into_bytes();
        let headers = [("content-type", "application/json")];
        let url = self.url.as_deref().unwrap_or(ENDPOINT);
        judge(self.client.post(url, &headers, body, TRY_WITHIN, attempt.now).await, &[&self.routing_key])
    }
}

pub(super) fn payload(attempt: &Try<'_>, routing_key: &str) -> Value {
    let Try { letter, occasion, key, .. } = attempt;
    let dedup_key = &key[..key.floor_char_boundary(KEY_MAX)];
    if *occasion == Occasion::Resolve {
        return json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key });
    }
    let fact = |name: &str| letter.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let mut details: Map<String, Value> =
        letter.facts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    details.insert("text".to_owned(), cut(&letter.body, 3000).into());
    let links: Vec<Value> = letter
        .links
        .iter()
        .map(|link| json!({ "href": link.href, "text": format!("The {}", link.text) }))
        .collect();
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "runbookd",
        "payload": {
            "summary": one_line(&letter.subject, SUMMARY_MAX),
            "source": fact("target").or_else(|| fact("runbook")).map_or("runbookd", String::as_str),
            "severity": if letter.is_critical { "critical" } else { "warning" },
            "timestamp": letter.at.to_string(),
            "component": fact("runbook"),
            "class": fact("reason").or_else(|| fact("cause")),
            "custom_details": details,
        },
        "links": links,
    });
    if let Some(link) = letter.link() {
        event["client_url"] = link.into();
    }
    event
}
