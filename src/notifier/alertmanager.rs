//! An Alertmanager, by its API v2: a message is the alert `RunbookdExecutionFailed`, routed like any other.
//!
//! It ends by itself a day later, so that nothing of what is forgotten stays for ever, and at once when it is resolved.

use super::{Occasion, TRY_WITHIN, Try, judge};
use crate::model::{Secret, after};
use crate::report::{Failure, cut};
use crate::step::HttpClient;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The alert's name.
const ALERTNAME: &str = "RunbookdExecutionFailed";
/// How long it fires unless it is resolved.
const LASTS: Duration = Duration::from_secs(24 * 3600);
/// The longest value of a label, in bytes.
const LABEL_MAX: usize = 300;

/// What proves to an Alertmanager who we are.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A bearer token.
    Bearer(Secret),
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// An Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    /// The client.
    pub client: HttpClient,
    /// Where it is, with its path prefix.
    pub url: String,
    /// What proves to it who we are.
    pub credential: Option<Credential>,
}

impl Alertmanager {
    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Result<(), Failure> {
        let body = payload(attempt).to_string().into_bytes();
        let url = format!("{}/api/v2/alerts", self.url.trim_end_matches('/'));
        let authorization = self.credential.as_ref().map(|credential| match credential {
            Credential::Bearer(token) => format!("Bearer {}", token.expose()),
            Credential::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
            }
        });
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let hidden: Vec<&Secret> = match &self.credential {
            Some(Credential::Bearer(secret) | Credential::Basic { password: secret, .. }) => vec![secret],
            None => Vec::new(),
        };
        judge(self.client.post(&url, &headers, body, TRY_WITHIN, attempt.now).await, &hidden)
    }
}

pub(super) fn payload(attempt: &Try<'_>) -> Value {
    let Try { letter, occasion, turn, now, .. } = attempt;
    let mut labels = Map::new();
    labels.insert("alertname".into(), ALERTNAME.into());
    labels.insert("severity".into(), if letter.is_critical { "critical" } else { "warning" }.into());
    // What makes it an alert of its own, so that resolving it resolves nothing else.
    labels.insert("escalation".into(), letter.id.as_str().into());
    // A later level is news: another alert, of which people are notified again.
    if *turn > 1 {
        labels.insert("level".into(), turn.to_string().into());
    }
    for (name, value) in &letter.facts {
        // The name of the alert it is about must not replace its own; numbers that grow would make it another alert.
        let name = if *name == "alertname" { "source_alertname" } else { name };
        if name != "denials" {
            labels.insert(name.into(), cut(value, LABEL_MAX).into());
        }
    }
    let ends = if *occasion == Occasion::Resolve { *now } else { after(*now, LASTS) };
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": letter.subject, "description": letter.body },
        "startsAt": letter.at.min(*now).to_string(),
        "endsAt": ends.to_string(),
    });
    if let Some(link) = letter.link() {
        alert["generatorURL"] = link.into();
    }
    json!([alert])
}
