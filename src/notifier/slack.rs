//! Slack, by an incoming webhook. Its address is the secret.
//!
//! Text goes into `plain_text` blocks, in which nothing is markup; only the links are written by this program.

use super::{Occasion, TRY_WITHIN, Try, judge};
use crate::model::Secret;
use crate::report::{Failure, cut};
use crate::step::HttpClient;
use serde_json::{Value, json};

/// How long a text of a block may be, in bytes; Slack allows 3000 characters.
const BLOCK_MAX: usize = 2900;

/// A channel of Slack.
#[derive(Debug)]
pub struct Slack {
    /// The client.
    pub client: HttpClient,
    /// The webhook's address.
    pub url: Secret,
}

impl Slack {
    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Result<(), Failure> {
        if attempt.occasion == Occasion::Resolve {
            return Ok(());
        }
        let body = payload(attempt).to_string().into_bytes();
        let headers = [("content-type", "application/json"), ("idempotency-key", attempt.key)];
        let url = self.url.expose();
        judge(self.client.post(url, &headers, body, TRY_WITHIN, attempt.now).await, &[&self.url])
    }
}

pub(super) fn payload(attempt: &Try<'_>) -> Value {
    let letter = attempt.letter;
    let plain = |text: &str| {
        json!({ "type": "section",
                "text": { "type": "plain_text", "emoji": false, "text": cut(text, BLOCK_MAX) } })
    };
    let mut blocks = vec![plain(&letter.subject), plain(&letter.body)];
    for link in letter.links.iter().filter(|link| link.href.len() < 2000) {
        let text = format!("<{}|Open the {}>", escape(&link.href), link.text);
        blocks
            .push(json!({ "type": "section", "text": { "type": "mrkdwn", "verbatim": true, "text": text } }));
    }
    // Shown where blocks are not, such as on a lock screen; with `parse` none, nobody can be called by a name in it.
    json!({ "text": escape(&letter.subject), "parse": "none", "link_names": false, "mrkdwn": false,
            "unfurl_links": false, "blocks": blocks })
}

/// The three characters by which Slack's markup begins.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
