//! Mail, by SMTP. Headers are made by the library from checked addresses and one line of text, so no value can add one.

use super::{Occasion, TRY_WITHIN, Try, hide};
use crate::model::Secret;
use crate::report::{Failure, Letter, one_line};
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::fmt;

/// How long a subject may be, in characters.
const SUBJECT_MAX: usize = 150;

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
        })
    }

    pub(super) async fn tell(&self, attempt: &Try<'_>) -> Result<(), Failure> {
        if attempt.occasion == Occasion::Resolve {
            return Ok(());
        }
        let hidden: Vec<&Secret> = self.password.iter().collect();
        let message = self.message(attempt.letter, attempt.key);
        let message = message.map_err(|why| Failure {
            why: format!("the mail cannot be written: {}", hide(&why, &hidden)),
            permanent: true,
            retry_after: None,
            status: None,
        })?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure {
                why: hide(&chain(&error), &hidden),
                permanent: error.is_permanent(),
                retry_after: None,
                status: error.status().map(u16::from),
            }),
        }
    }

    pub(super) fn message(&self, letter: &Letter, key: &str) -> Result<Message, String> {
        let mut text = letter.body.clone();
        for (name, link) in [("Execution", &letter.link), ("Alert", &letter.source_link)] {
            if let Some(link) = link {
                text.push_str(&format!("\n{name}: {link}"));
            }
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        words = format!("{words}: {inner}");
        next = inner.source();
    }
    words
}
