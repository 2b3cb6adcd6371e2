//! A plain webhook: JSON, signed by HMAC-SHA256 over the raw body.
//!
//! The body holds the time of sending, which the header repeats: whoever checks the signature, and that the time is not
//! long ago, cannot be shown an old message again.

use super::{Occasion, TRY_WITHIN, Try, judge};
use crate::model::{Secret, hex};
use crate::report::Failure;
use crate::step::HttpClient;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

/// Anybody's endpoint.
#[derive(Debug)]
pub struct Webhook {
    /// The client.
    pub client: HttpClient,
    /// Where it is; it may hold a token.
    pub url: Secret,
    /// What messages are signed with.
    pub secret: Option<Secret>,
}

impl Webhook {
    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Result<(), Failure> {
        if attempt.occasion == Occasion::Resolve {
            return Ok(());
        }
        let body = payload(attempt).to_string().into_bytes();
        let sent_at = attempt.now.as_second().to_string();
        let signature = self.secret.as_ref().map(|secret| sign(secret.expose(), &body));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("idempotency-key", attempt.key),
            ("x-runbookd-timestamp", sent_at.as_str()),
        ];
        headers.extend(signature.as_deref().map(|signature| ("x-runbookd-signature", signature)));
        let hidden: Vec<&Secret> = self.secret.iter().chain([&self.url]).collect();
        judge(self.client.post(self.url.expose(), &headers, body, TRY_WITHIN, attempt.now).await, &hidden)
    }
}

pub(super) fn payload(attempt: &Try<'_>) -> Value {
    let letter = attempt.letter;
    let facts: Map<String, Value> =
        letter.facts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    json!({
        "version": 1,
        "id": letter.id,
        "key": attempt.key,
        "timestamp": attempt.now.as_second(),
        "at": letter.at.to_string(),
        "severity": if letter.is_critical { "critical" } else { "warning" },
        "subject": letter.subject,
        "body": letter.body,
        "link": letter.link(),
        "alert_link": letter.link_to("alert"),
        "source_link": letter.link_to("graph"),
        "facts": facts,
    })
}

/// `sha256=` and the HMAC-SHA256 of `body` in hexadecimal.
pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    let mut signature = "sha256=".to_owned();
    // A key of any length is taken.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(body);
        signature.push_str(&hex(&mac.finalize().into_bytes()));
    }
    signature
}
