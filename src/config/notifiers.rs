//! `[notifiers.NAME]` and `[policies.NAME]`: the ways to people, and who is told after whom.
//!
//! May import: `model`, `document`. Must never: send anything, or print an address that is a secret.

use super::alertmanager::{AlertmanagerAuth, read_auth};
use super::secrets::{self, Named};
use super::server::server_url;
use super::source::{Source, Sources, show_list};
use super::webhook::{Basic, read_basic};
use crate::document::{Place, Severity, Sited, Table, Value, nearest};
use crate::model::{MAX_MESSAGES, Secret, is_word};
use lettre::message::Mailbox;
use std::collections::BTreeMap;
use std::time::Duration;

/// A way to people.
#[derive(Debug, Clone)]
pub enum Notifier {
    /// Slack, by an incoming webhook.
    Slack {
        /// Its address.
        url: Secret,
    },
    /// PagerDuty, by its Events API v2.
    PagerDuty {
        /// The integration's key.
        routing_key: Secret,
        /// Where events go instead of PagerDuty's own endpoint.
        url: Option<String>,
    },
    /// Anybody's endpoint.
    Webhook {
        /// Where it is.
        url: Secret,
        /// What messages are signed with.
        secret: Option<Secret>,
    },
    /// An Alertmanager.
    Alertmanager {
        /// Where it is.
        url: String,
        /// What proves to it who we are.
        auth: Option<AlertmanagerAuth>,
    },
    /// Mail.
    Email(Email),
}

/// Mail, by SMTP.
#[derive(Debug, Clone)]
pub struct Email {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: EmailTls,
    /// A user with a password.
    pub auth: Option<Basic>,
    /// Who sends.
    pub from: String,
    /// Who receives, at least one.
    pub to: Vec<String>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailTls {
    /// TLS from the first byte.
    Tls,
    /// Plain at first, then TLS, or nothing is sent.
    StartTls,
    /// Not at all.
    None,
}

/// One level of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLevel {
    /// How long after the escalation it is told, while nobody has taken it.
    pub after: Duration,
    /// Notifiers; each stands in for the one before.
    pub to: Vec<String>,
}

/// Both sections.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// `[notifiers.NAME]`
    pub notifiers: BTreeMap<String, Notifier>,
    /// `[policies.NAME]`
    pub policies: BTreeMap<String, Vec<PolicyLevel>>,
    /// Every name that stands there, also of what cannot be read.
    names: Vec<String>,
}

impl People {
    /// Whether `name` can be told something.
    pub fn knows(&self, name: &str) -> bool {
        self.notifiers.contains_key(name) || self.policies.contains_key(name)
    }

    /// What to write instead of an unknown `name`.
    pub fn instead_of(&self, name: &str) -> String {
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        nearest(name, &known).map_or_else(
            || format!("add a section [notifiers.{name}] or [policies.{name}]"),
            |near| format!("did you mean {near:?}?"),
        )
    }

    /// How many messages an escalation to `names` has at most.
    pub fn messages<'n>(&self, names: impl Iterator<Item = &'n String>) -> usize {
        let of = |levels: &Vec<PolicyLevel>| levels.iter().map(|level| level.to.len()).sum();
        names.map(|name| self.policies.get(name).map_or(1, of)).sum()
    }

    /// Notes each of `names` that is none, and the one with which they are too many messages.
    pub(super) fn check(&self, sources: &Sources<'_>, names: &[(String, Place)]) {
        let up_to = |count: usize| self.messages(names.iter().take(count).map(|(name, _)| name));
        if let Some(count) = (1..=names.len()).find(|count| up_to(*count) > MAX_MESSAGES) {
            let all = up_to(names.len());
            let message = format!("one escalation would be {all} messages, and {MAX_MESSAGES} is the most");
            let help = "name fewer, or give their policies fewer levels and notifiers";
            sources.problems.add(names[count - 1].1.problem(Severity::Error, message, help));
        }
        for (name, place) in names.iter().filter(|(name, _)| !self.names.contains(name)) {
            let message = format!("there is no notifier and no policy {name:?}");
            sources.problems.add(place.problem(Severity::Error, message, self.instead_of(name)));
        }
    }

    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> Self {
        let mut people = Self::default();
        for (name, value) in entries(sources, root, "notifiers") {
            check_name(sources, &name, &value, &people.names);
            people.names.push(name.value.clone());
            let notifier = notifier(sources, &name.value, value, named);
            people.notifiers.extend(notifier.map(|notifier| (name.value, notifier)));
        }
        let channels = people.names.clone();
        for (name, value) in entries(sources, root, "policies") {
            check_name(sources, &name, &value, &people.names);
            people.names.push(name.value.clone());
            let levels = policy(sources, &name.value, value, &channels);
            people.policies.extend(levels.map(|levels| (name.value, levels)));
        }
        people
    }
}

fn entries<'d>(
    sources: &Sources<'d>,
    root: &mut Table<'d>,
    section: &'static str,
) -> Vec<(Sited<String>, Value<'d>)> {
    let table = root.take(section).and_then(Value::table);
    let entries = table.map(|mut table| table.take_all()).unwrap_or_default();
    if entries.is_empty() {
        sources.item(section, "", Source::Default);
    }
    entries
}

fn check_name(sources: &Sources<'_>, name: &Sited<String>, value: &Value<'_>, known: &[String]) {
    let wrong = |message: String, help: &str| {
        sources.problems.error(name.span.clone(), value.path(), message, help);
    };
    if !is_word(&name.value) {
        wrong(format!("{:?} is not a name", name.value), "use 1 to 64 of A-Z a-z 0-9 _ -");
    } else if known.contains(&name.value) {
        wrong(format!("a notifier is called {:?} too", name.value), "choose another name");
    }
}

fn notifier<'d>(sources: &Sources<'d>, name: &str, value: Value<'d>, named: &Named) -> Option<Notifier> {
    const KINDS: [(&str, &str); 5] = [
        ("slack", "slack"),
        ("pagerduty", "pagerduty"),
        ("webhook", "webhook"),
        ("alertmanager", "alertmanager"),
        ("email", "email"),
    ];
    let mut table = value.table()?;
    let kind = table.require("kind", "write kind = \"slack\", pagerduty, webhook, alertmanager or email");
    let Some(kind) = kind.and_then(|kind| kind.one_of(&KINDS)) else {
        // What the other keys mean is not known, and one of them may be a secret.
        table.take_all().into_iter().for_each(|(_, value)| sources.mask(value.span()));
        return None;
    };
    sources.item(format!("notifiers.{name}.kind"), kind, Source::File);
    let read = match kind {
        "slack" => {
            let url = table.require("url", "write url = { secret = \"NAME\" }: who has it can write there");
            url.and_then(|url| secret_url(sources, url, named)).map(|url| Notifier::Slack { url })
        }
        "pagerduty" => pagerduty(sources, &mut table, named),
        "webhook" => webhook(sources, &mut table, named),
        "alertmanager" => {
            let url = table.require("url", "write url = \"http://127.0.0.1:9093\"");
            let url = url.and_then(|url| server_url(sources, &url, Source::File));
            let auth = table.take("auth");
            let auth = auth.map(|auth| read_auth(sources, auth, named));
            url.map(|url| Notifier::Alertmanager { url, auth: auth.flatten() })
        }
        _ => email(sources, &mut table, named).map(Notifier::Email),
    };
    sources.finish_hidden(table);
    read
}

fn pagerduty<'d>(sources: &Sources<'d>, table: &mut Table<'d>, named: &Named) -> Option<Notifier> {
    let key = table.require("routing_key", "write routing_key = { secret = \"NAME\" }");
    let url = table.take("url").map(|url| plain_url(sources, &url));
    let routing_key = key.and_then(|key| secrets::read(sources, key, Some(named)))?;
    Some(Notifier::PagerDuty { routing_key, url: url.flatten() })
}

fn webhook<'d>(sources: &Sources<'d>, table: &mut Table<'d>, named: &Named) -> Option<Notifier> {
    let url = table.require("url", "write url = \"https://…\", or { secret = \"NAME\" } where it holds one");
    let secret = table.take("secret").map(|secret| secrets::read(sources, secret, Some(named)));
    let url = url.and_then(|url| match url.is_table() {
        true => secret_url(sources, url, named),
        false => plain_url(sources, &url).map(|url| Secret::new(&url)),
    });
    // A secret that cannot be read must not become a webhook without a signature.
    match secret {
        None => Some(Notifier::Webhook { url: url?, secret: None }),
        Some(secret) => Some(Notifier::Webhook { url: url?, secret: Some(secret?) }),
    }
}

/// An address that is a secret.
fn secret_url<'d>(sources: &Sources<'d>, value: Value<'d>, named: &Named) -> Option<Secret> {
    let place = value.place();
    let secret = secrets::read(sources, value, Some(named))?;
    if let Err(why) = check_url(secret.expose()) {
        let help = "put the whole address there, such as https://host/path";
        sources.problems.add(place.problem(
            Severity::Error,
            format!("the secret is no address: {why}"),
            help,
        ));
        return None;
    }
    Some(secret)
}

/// An address as it is written; one with a password in it is not shown again.
fn plain_url(sources: &Sources<'_>, value: &Value<'_>) -> Option<String> {
    let text = value.string()?.value;
    match check_url(&text) {
        Ok(()) => Some(text),
        Err(why) => {
            sources.mask(value.span());
            value.error(why, "write an address such as \"https://host/path\"");
            None
        }
    }
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("it begins with neither http:// nor https://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err("it names no host");
    }
    if authority.contains('@') {
        return Err("a user or a password stands in it");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("there is a blank or a control character in it");
    }
    Ok(())
}

fn email<'d>(sources: &Sources<'d>, table: &mut Table<'d>, named: &Named) -> Option<Email> {
    const TLS: [(&str, EmailTls); 3] =
        [("starttls", EmailTls::StartTls), ("tls", EmailTls::Tls), ("none", EmailTls::None)];
    let tls = table.take("tls").map(|value| (value.place(), value.one_of(&TLS)));
    let chosen = tls.as_ref().map_or(Some(EmailTls::StartTls), |(_, tls)| *tls);
    let port = match chosen {
        Some(EmailTls::Tls) => 465,
        Some(EmailTls::None) => 25,
        _ => 587,
    };
    let help = "write smtp = \"host:port\"";
    let smtp = table.require("smtp", help);
    let smtp = smtp.and_then(|value| value.parsed(help, |text| server(text, port)));
    let from = table.require("from", "write from = \"runbookd@example.org\"");
    let from = from.and_then(|value| mailbox(&value));
    let to = table.require("to", "write to = [\"oncall@example.org\"]").and_then(receivers);
    let auth = table.take("auth");
    let auth = auth.map(|auth| read_basic(sources, auth, named));
    let (host, port) = smtp?;
    let is_local = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if let (Some((place, Some(EmailTls::None))), false) = (&tls, is_local) {
        let message = "mail would go over the network in the clear";
        let help = "write tls = \"starttls\", or use a server on this machine";
        sources.problems.add(place.problem(Severity::Error, message, help));
        return None;
    }
    let auth = match auth {
        None => None,
        Some(auth) => Some(auth?),
    };
    Some(Email { host, port, tls: chosen?, auth, from: from?, to: to? })
}

fn server(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address stands in brackets, with or without a port behind them.
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or_else(|| format!("{text:?} has no port"))?)
        }
        _ => (text, default),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(fits) {
        return Err(format!("{text:?} is not a server"));
    }
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn mailbox(value: &Value<'_>) -> Option<String> {
    let help = "write an address such as \"oncall@example.org\" or \"On call <oncall@example.org>\"";
    value.parsed(help, |text| match text.parse::<Mailbox>() {
        Ok(_) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not a mail address")),
    })
}

fn receivers(value: Value<'_>) -> Option<Vec<String>> {
    let (place, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.is_empty() {
        problems.error(place, &path, "the mail goes to nobody", "write to = [\"oncall@example.org\"]");
        return None;
    }
    let count = items.len();
    let all: Vec<String> = items.iter().filter_map(mailbox).collect();
    (all.len() == count).then_some(all)
}

fn policy<'d>(
    sources: &Sources<'d>,
    name: &str,
    value: Value<'d>,
    channels: &[String],
) -> Option<Vec<PolicyLevel>> {
    const HELP: &str = "write levels = [{ to = [\"oncall\"] }, { to = [\"boss\"], after = \"15m\" }]";
    let mut table = value.table()?;
    let levels = table.require("levels", HELP);
    table.finish();
    let levels = levels?;
    let (place, path, problems) = (levels.span(), levels.path().to_owned(), levels.problems());
    let items = levels.array()?;
    if items.is_empty() || items.len() > 8 {
        problems.error(place, &path, "a policy has 1 to 8 levels", HELP);
        return None;
    }
    let mut read: Vec<PolicyLevel> = Vec::new();
    for item in items {
        read.extend(level(item, channels, read.last().map(|level| level.after)));
    }
    let shown = read.iter().map(|level| {
        format!("{} after {}", show_list(level.to.iter().cloned()), humantime::format_duration(level.after))
    });
    sources.item(format!("policies.{name}.levels"), shown.collect::<Vec<_>>().join("; "), Source::File);
    Some(read)
}

fn level(value: Value<'_>, channels: &[String], before: Option<Duration>) -> Option<PolicyLevel> {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    let place = value.place();
    let problems = value.problems();
    let mut table = value.table()?;
    let to = table.require("to", "write to = [\"oncall\"]").and_then(Value::array);
    let wait = table.take("after").map(|value| value.duration(Duration::ZERO..=WEEK));
    table.finish();
    let wait = wait.unwrap_or(Some(Duration::ZERO))?;
    if before.is_some_and(|before| wait <= before) {
        let help = "write after = \"15m\", counted from the escalation";
        problems.add(place.problem(
            Severity::Error,
            "the level is not told later than the one before it",
            help,
        ));
    }
    let items = to?;
    if items.is_empty() || items.len() > 8 {
        problems.add(place.problem(
            Severity::Error,
            "a level has 1 to 8 notifiers",
            "write to = [\"oncall\"]",
        ));
    }
    let known: Vec<&str> = channels.iter().map(String::as_str).collect();
    let name = |item: &Value<'_>| {
        let name = item.string()?.value;
        if !known.contains(&name.as_str()) {
            let help = nearest(&name, &known).map_or_else(
                || format!("add a section [notifiers.{name}]; a policy holds notifiers only"),
                |near| format!("did you mean {near:?}?"),
            );
            item.error(format!("there is no notifier {name:?}"), help);
        }
        Some(name)
    };
    Some(PolicyLevel { after: wait, to: items.iter().filter_map(name).collect() })
}
