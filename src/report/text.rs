//! What is said, as plain text; each channel escapes it for itself.

use super::entry::{Cause, Escalation};
use crate::model::{ExecutionId, ExecutionStatus, Labels, Timestamp};
use std::fmt::Write as _;

/// How long a subject is at most, in characters.
const SUBJECT_MAX: usize = 150;
/// How long a body is at most, in bytes: every channel takes that much.
const BODY_MAX: usize = 2800;
/// How long the link to an alert is at most, in bytes: every channel takes that much.
const ALERT_URL_MAX: usize = 1200;

/// One message, before a channel makes it its own. Plain text: nothing in it is markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The same for every try through every channel.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// One short line.
    pub subject: String,
    /// What happened, what was done, and what now.
    pub body: String,
    /// Where more is to be seen: what it is about, then the alert and its graph, as far as they are known.
    pub links: Vec<Link>,
    /// Facts for programs, by name; none is empty.
    pub facts: Vec<(&'static str, String)>,
    /// Whether it is about damage, not about a question.
    pub is_critical: bool,
}

/// A link that this program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is there: `execution`, `escalation`, `alert` or `graph`.
    pub text: &'static str,
    /// Where.
    pub href: String,
}

impl Letter {
    /// Where what it is about is to be seen.
    pub fn link(&self) -> Option<&str> {
        self.link_to("execution").or_else(|| self.link_to("escalation"))
    }

    /// The link with this text.
    pub fn link_to(&self, text: &str) -> Option<&str> {
        self.links.iter().find(|link| link.text == text).map(|link| link.href.as_str())
    }
}

/// The letter of `escalation`; `external_url` is where people reach this program.
pub fn letter(escalation: &Escalation, external_url: &str) -> Letter {
    let Escalation { cause, status, reason, target, totals, .. } = escalation;
    let mut subject = format!("{}: {}", escalation.runbook, headline(escalation));
    if let Some(target) = target.as_ref().filter(|_| totals.is_none()) {
        let _infallible = write!(subject, " on {target}");
    }
    let facts = [
        ("cause", Some(cause.to_string())),
        ("runbook", Some(escalation.runbook.to_string())),
        ("execution", escalation.execution.as_ref().map(ToString::to_string)),
        ("step", escalation.step.as_ref().map(ToString::to_string)),
        ("status", status.map(|status| status.to_string())),
        ("reason", reason.map(|reason| reason.to_string())),
        ("target", target.clone()),
        ("alertname", escalation.alertname.clone()),
        ("denials", totals.as_ref().map(|totals| totals.count.to_string())),
    ];
    Letter {
        id: escalation.id.to_string(),
        at: escalation.at,
        subject: one_line(&subject, SUBJECT_MAX),
        body: cut(&body(escalation), BODY_MAX),
        links: links(escalation, external_url),
        facts: facts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.trim().is_empty())?)))
            .collect(),
        is_critical: !matches!(cause, Cause::Approval | Cause::Instruction),
    }
}

/// The letter of a step that says `message`, or of a person who tests a channel; `key` is the same for all its tries.
pub fn note(
    message: &str,
    execution: Option<&ExecutionId>,
    key: &str,
    at: Timestamp,
    external_url: &str,
) -> Letter {
    let first = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Letter {
        id: key.to_owned(),
        at,
        subject: one_line(first, SUBJECT_MAX),
        body: cut(message.trim(), BODY_MAX),
        links: execution
            .and_then(|id| link("execution", &own(external_url, "executions", id.as_str())))
            .into_iter()
            .collect(),
        facts: match execution {
            Some(id) => vec![
                ("cause", "notify".to_owned()),
                ("runbook", id.runbook().to_owned()),
                ("execution", id.to_string()),
            ],
            None => vec![("cause", "test".to_owned())],
        },
        is_critical: false,
    }
}

fn links(escalation: &Escalation, external_url: &str) -> Vec<Link> {
    let about = match &escalation.execution {
        Some(execution) => link("execution", &own(external_url, "executions", execution.as_str())),
        None => link("escalation", &own(external_url, "escalations", escalation.id.as_str())),
    };
    let alert = link("alert", &escalation.alert_url);
    [about, alert, link("graph", &escalation.source_url)].into_iter().flatten().collect()
}

fn own(external_url: &str, kind: &str, id: &str) -> String {
    format!("{}/api/{kind}/{id}", external_url.trim_end_matches('/'))
}

fn link(text: &'static str, url: &str) -> Option<Link> {
    web_link(url).map(|href| Link { text, href })
}

/// Where people find the alert with these labels, in the Alertmanager whose address is `external_url`; empty where that
/// is no web address.
pub fn alert_url(external_url: &str, labels: &Labels) -> String {
    if web_link(external_url).is_none() || external_url.contains(['?', '#']) {
        return String::new();
    }
    let to = |wanted: &dyn Fn(&str) -> bool| {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let wanted = labels.iter().filter(|(name, _)| wanted(name));
        let matchers: Vec<String> =
            wanted.map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
        let filter = percent(&format!("{{{}}}", matchers.join(",")));
        format!("{}/#/alerts?filter={filter}", external_url.trim_end_matches('/'))
    };
    [to(&|_| true), to(&|name| name == "alertname")]
        .into_iter()
        .find(|url| url.len() <= ALERT_URL_MAX)
        .unwrap_or_default()
}

fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn headline(escalation: &Escalation) -> String {
    let status = || escalation.status.map_or("failed", ExecutionStatus::as_str).replace('_', " ");
    let code = escalation.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let step = escalation.step.as_ref().map(|step| format!(" by step {step}")).unwrap_or_default();
    match escalation.cause {
        Cause::Finished => format!("{}{code}", status()),
        Cause::Approval => format!("consent is asked for{step}"),
        Cause::Paused => format!("waits for a decision{code}"),
        Cause::Instruction => format!("waits for a person{step}"),
        Cause::UnknownOutcome => format!("outcome unknown{step}"),
        Cause::Denied => format!("not run {}{code}", how_much(escalation)),
        Cause::Flood => format!("{} {}", status(), how_much(escalation)),
    }
}

fn how_much(escalation: &Escalation) -> String {
    let totals = escalation.totals.clone().unwrap_or_default();
    let more = if totals.more_targets { "more than " } else { "" };
    match totals.targets.len() {
        0 => format!("{} times", totals.count),
        targets => format!("{} times on {more}{targets} targets", totals.count),
    }
}

fn body(escalation: &Escalation) -> String {
    let mut text = format!("{}\n", escalation.title.trim());
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            let _infallible = writeln!(text, "{name}: {}", value.trim());
        }
    };
    line("Alert", escalation.alertname.as_deref());
    line("Target", escalation.target.as_deref());
    line("Status", escalation.status.map(ExecutionStatus::as_str));
    line("Why", escalation.reason.map(crate::model::Reason::sentence));
    line("Details", escalation.message.as_deref());
    if let Some(totals) = &escalation.totals {
        line("Times", Some(&totals.count.to_string()));
        let more = if totals.more_targets { ", and more" } else { "" };
        line("Targets", Some(&format!("{}{more}", totals.targets.join(", "))));
    }
    line("Since", Some(&escalation.at.to_string()));
    if !escalation.done.is_empty() {
        let _infallible = writeln!(text, "Done:\n- {}", escalation.done.join("\n- "));
    }
    let id = escalation.execution.as_ref().map_or_else(|| escalation.id.to_string(), ToString::to_string);
    text.push_str(&match escalation.cause {
        Cause::Approval => format!("To consent or refuse: runbookd executions show {id}"),
        Cause::Instruction => format!("To do and acknowledge: runbookd executions show {id}"),
        Cause::Paused => format!("To go on or end it: runbookd executions show {id}"),
        Cause::Finished | Cause::UnknownOutcome => {
            format!("To take it: runbookd executions acknowledge {id} --reason '...'")
        }
        Cause::Denied | Cause::Flood => {
            format!("To take it: runbookd escalations acknowledge {} --reason '...'", escalation.id)
        }
    });
    text
}

/// `text` in one line of at most `most` characters, without anything that could end the line or hide.
pub fn one_line(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() || crate::model::is_unseen(c) { ' ' } else { c });
    let line: String = plain.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// `text` without control characters but line ends and tabs, in at most `most` bytes.
pub fn cut(text: &str, most: usize) -> String {
    let fine = |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || crate::model::is_unseen(*c));
    let mut text: String = text.chars().filter(fine).collect();
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

/// `text` where it is a web address that can stand in a link of any channel.
pub fn web_link(text: &str) -> Option<String> {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !crate::model::is_unseen(c);
    if !is_web || text.len() > 2000 || !text.chars().all(fits) {
        return None;
    }
    let mut link = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => link.push_str("%3C"),
            '>' => link.push_str("%3E"),
            '|' => link.push_str("%7C"),
            '"' => link.push_str("%22"),
            '`' => link.push_str("%60"),
            '\\' => link.push_str("%5C"),
            c => link.push(c),
        }
    }
    Some(link)
}
