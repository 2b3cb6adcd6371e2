//! Step 6, the doing: messages to people, one file a kind of channel, and the sender that drives the outbox.
//!
//! A channel makes one try and says how it ended; when another one is made, and who stands in, is `report`'s. Only 2xx
//! (for mail: acceptance) counts. Redirects are never followed, so a message goes where the config says and nowhere
//! else. May import: `model`, `report`, `step` (the client, and what a step asks for), `store`, `telemetry`. Must never:
//! put a secret into a sentence, block the engine, or let one channel that hangs hold up another.

mod alertmanager;
mod email;
mod messenger;
mod pagerduty;
mod queue;
mod sender;
mod slack;
mod webhook;

pub use alertmanager::{Alertmanager, Credential};
pub use email::{Email, EmailError, Mail, Tls};
pub use messenger::NotifierMessenger;
pub use pagerduty::PagerDuty;
pub use sender::{Sender, SenderParts};
pub use slack::Slack;
pub use webhook::Webhook;

use crate::model::{Secret, Timestamp};
use crate::report::{Directory, Failure, Letter, Quiet, Told};
use crate::secret::Redactor;
use crate::step::Posted;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long one try may take.
const TRY_WITHIN: Duration = Duration::from_secs(10);
/// How much of an answer is passed on, in characters.
const WORDS_MAX: usize = 200;

/// What a channel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Something happened.
    Trigger,
    /// It is over.
    Resolve,
}

/// One try of one message.
#[derive(Debug)]
struct Try<'t> {
    letter: &'t Letter,
    occasion: Occasion,
    /// The same for every try of this message through this channel, also after a restart.
    key: &'t str,
    /// Which message of the same escalation through this channel it is, counting up from 1.
    turn: usize,
    now: Timestamp,
}

/// A way to people.
#[derive(Debug)]
pub enum Channel {
    /// An incoming webhook of Slack.
    Slack(Slack),
    /// PagerDuty's Events API v2.
    PagerDuty(PagerDuty),
    /// Anybody's HTTP endpoint.
    Webhook(Webhook),
    /// An Alertmanager, as an alert.
    Alertmanager(Alertmanager),
    /// Mail.
    Email(Box<Email>),
}

impl Channel {
    /// Whether what it was told can be taken back.
    pub fn resolves(&self) -> bool {
        matches!(self, Self::PagerDuty(_) | Self::Alertmanager(_))
    }

    async fn make(&self, attempt: &Try<'_>) -> Told {
        let trying = async {
            match self {
                Self::Slack(channel) => channel.tell(attempt).await.map(|()| None),
                Self::PagerDuty(channel) => channel.tell(attempt).await.map(|()| None),
                Self::Webhook(channel) => channel.tell(attempt).await.map(|()| None),
                Self::Alertmanager(channel) => channel.tell(attempt).await.map(|()| None),
                Self::Email(channel) => channel.tell(attempt).await,
            }
        };
        // Each has a limit of its own; this one holds whatever a name server or a greeting does.
        tokio::time::timeout(TRY_WITHIN * 2, trying)
            .await
            .unwrap_or_else(|_| Err(transient("it did not answer in time".to_owned())))
    }
}

/// The channels and who is behind which name, as the config has them.
#[derive(Debug, Default)]
pub struct Book {
    /// The channels by name.
    pub channels: BTreeMap<String, Channel>,
    /// Who there is to be told.
    pub directory: Directory,
    /// Where people reach this program.
    pub external_url: String,
}

/// The book in force, which a reload exchanges, and which channels want to be left alone. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifiers {
    book: Arc<RwLock<Arc<Book>>>,
    quiet: Arc<RwLock<Quiet>>,
}

impl Notifiers {
    /// With this book.
    pub fn new(book: Book) -> Self {
        Self { book: Arc::new(RwLock::new(Arc::new(book))), quiet: Arc::default() }
    }

    /// Puts another book in force.
    pub fn replace(&self, book: Book) {
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }

    /// The book in force.
    pub fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which channels want to be left alone.
    pub fn quiet(&self) -> Quiet {
        self.quiet.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what `notifier` asked for with its answer: it counts for every message, not only for the one answered.
    fn heed(&self, notifier: &str, result: &Told, now: Timestamp) {
        if let Err(Failure { retry_after: Some(asked), .. }) = result {
            self.quiet.write().unwrap_or_else(PoisonError::into_inner).heed(notifier, *asked, now);
        }
    }
}

fn transient(why: String) -> Failure {
    Failure { why, permanent: false, retry_after: None, status: None }
}

/// What an answer means; `secrets` are kept out of its words.
fn judge(answer: Result<Posted, String>, secrets: &[&Secret]) -> Result<(), Failure> {
    let posted = answer.map_err(|why| transient(hide(&why, secrets)))?;
    let status = posted.status;
    if (200..300).contains(&status) {
        return Ok(());
    }
    // What is asked too early or too often may be asked again; every other refusal stays one.
    let permanent = !(matches!(status, 408 | 425 | 429) || status >= 500);
    let words = hide(&posted.words, secrets);
    let colon = if words.is_empty() { "" } else { ": " };
    let why = format!("it answered {status}{colon}{words}");
    Err(Failure { why, permanent, retry_after: posted.retry_after, status: Some(status) })
}

/// `text` in a line, without any of `secrets`.
fn hide(text: &str, secrets: &[&Secret]) -> String {
    let redactor = Redactor::new(secrets.iter().copied());
    crate::report::one_line(&redactor.text(text), WORDS_MAX)
}

#[cfg(test)]
mod tests;
