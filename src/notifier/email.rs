//! Mail, by SMTP. Headers are made by the library from checked addresses and one line of text, so no value can add one.

use super::{Occasion, TRY_WITHIN, Try, hide};
use crate::model::Secret;
use crate::report::{Failure, Letter, Told, one_line};
use futures_util::{StreamExt as _, stream};
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// How long a subject may be, in characters.
const SUBJECT_MAX: usize = 150;
/// Of how many mails it is remembered who has them, while others are still tried.
const MAX_REMEMBERED: usize = 1000;
/// How often the others are tried when somebody has it: some minutes, as a server asks that greets strangers late.
const TRIES_FOR_THE_REST: u32 = 10;
/// How many receivers are sent their mail at once.
const AT_ONCE: usize = 4;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte.
    Tls,
    /// Plain at first; refused where the server does not go on with TLS.
    StartTls,
    /// Not at all: only to this machine.
    None,
}

/// What the config says of a mail channel.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// A user with a password.
    pub auth: Option<(String, Secret)>,
    /// Who sends.
    pub from: String,
    /// Who receives, at least one.
    pub to: Vec<String>,
}

/// Why a mail channel cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// It is no address.
    #[error("{0:?} is not an address")]
    Address(String),
    /// The connection cannot be protected.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] lettre::transport::smtp::Error),
}

/// A mail channel.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Secret>,
    /// Mails that not all receivers have yet; who has one is not sent it again because of the others.
    mailings: Mutex<VecDeque<Mailing>>,
}

/// One mail on its way to several receivers.
#[derive(Debug, Default)]
struct Mailing {
    key: String,
    /// Who has it, by their places.
    have: BTreeSet<usize>,
    tries: u32,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Email {
    /// A channel that connects when there is something to send.
    ///
    /// # Errors
    /// [`EmailError`], without a secret.
    pub fn new(mail: &Mail) -> Result<Self, EmailError> {
        let address = |text: &String| text.parse().map_err(|_| EmailError::Address(text.clone()));
        type Transport = AsyncSmtpTransport<Tokio1Executor>;
        let builder = match mail.tls {
            Tls::Tls => Transport::relay(&mail.host)?,
            Tls::StartTls => Transport::starttls_relay(&mail.host)?,
            Tls::None => Transport::builder_dangerous(&mail.host),
        };
        let mut builder = builder.port(mail.port).timeout(Some(TRY_WITHIN));
        if let Some((user, password)) = &mail.auth {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            from: address(&mail.from)?,
            to: mail.to.iter().map(address).collect::<Result<_, _>>()?,
            password: mail.auth.as_ref().map(|(_, password)| password.clone()),
            mailings: Mutex::default(),
        })
    }

    /// Sends one mail to each receiver in an envelope of its own, so that one dead mailbox stops nobody's mail. Who is
    /// refused for good is a remark where somebody else has it.
    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Told {
        if attempt.occasion == Occasion::Resolve {
            return Ok(None);
        }
        let hidden: Vec<&Secret> = self.password.iter().collect();
        let message = self.message(attempt.letter, attempt.key);
        let message = message.map_err(|why| Failure {
            why: format!("the mail cannot be written: {}", hide(&why, &hidden)),
            permanent: true,
            retry_after: None,
            status: None,
        })?;
        let bytes = message.formatted();
        let have = self.mailing(attempt.key, |mailing| mailing.have.clone());
        let rest: Vec<usize> = (0..self.to.len()).filter(|place| !have.contains(place)).collect();
        let sending: Vec<_> =
            rest.into_iter().map(|place| self.send(place, attempt.key, &bytes, &hidden)).collect();
        let refused: Vec<Option<Failure>> = stream::iter(sending).buffered(AT_ONCE).collect().await;
        let (is_there, is_enough) = self.mailing(attempt.key, |mailing| {
            mailing.tries += 1;
            (!mailing.have.is_empty(), mailing.tries >= TRIES_FOR_THE_REST)
        });
        all_in_all(refused.into_iter().flatten().collect(), is_there, is_enough)
    }

    /// Sends the mail to the receiver at `place`, and remembers that they have it.
    async fn send(&self, place: usize, key: &str, bytes: &[u8], hidden: &[&Secret]) -> Option<Failure> {
        let to = &self.to.get(place)?.email;
        let why = |why: &str| hide(&format!("{to}: {why}"), hidden);
        let envelope = match Envelope::new(Some(self.from.email.clone()), vec![to.clone()]) {
            Ok(envelope) => envelope,
            Err(error) => {
                let why = why(&error.to_string());
                return Some(Failure { why, permanent: true, retry_after: None, status: None });
            }
        };
        match self.transport.send_raw(&envelope, bytes).await {
            Ok(_) => {
                self.mailing(key, |mailing| mailing.have.insert(place));
                None
            }
            Err(error) => Some(Failure {
                why: why(&chain(&error)),
                permanent: error.is_permanent(),
                retry_after: None,
                status: error.status().map(u16::from),
            }),
        }
    }

    /// Reads or changes what is remembered of the mail with this key.
    fn mailing<T>(&self, key: &str, change: impl FnOnce(&mut Mailing) -> T) -> T {
        let mut mailings = self.mailings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = mailings.iter().position(|mailing| mailing.key == key);
        let mut mailing = known.and_then(|place| mailings.remove(place)).unwrap_or_default();
        key.clone_into(&mut mailing.key);
        let answer = change(&mut mailing);
        mailings.push_back(mailing);
        let old = mailings.len().saturating_sub(MAX_REMEMBERED);
        mailings.drain(..old);
        answer
    }

    pub(super) fn message(&self, letter: &Letter, key: &str) -> Result<Message, String> {
        let mut text = letter.body.clone();
        for link in &letter.links {
            text.push_str(&format!("\nThe {}: {}", link.text, link.href));
        }
        text.push('\n');
        let word: String = key.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(one_line(&letter.subject, SUBJECT_MAX))
            .message_id(Some(format!("<{word}@runbookd>")))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.body(text).map_err(|error| error.to_string())
    }
}

/// What became of a mail of which these receivers have nothing: whether another one has it, and whether the rest were
/// tried often enough.
fn all_in_all(mut refused: Vec<Failure>, is_there: bool, is_enough: bool) -> Told {
    let whys = refused.iter().map(|failure| failure.why.as_str()).collect::<Vec<_>>().join("; ");
    let is_final = refused.iter().all(|failure| failure.permanent);
    match refused.pop() {
        None => Ok(None),
        Some(_) if is_there && (is_final || is_enough) => Ok(Some(whys)),
        Some(last) => Err(Failure { why: whys, permanent: is_final, ..last }),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        words = format!("{words}: {inner}");
        next = inner.source();
    }
    words
}
