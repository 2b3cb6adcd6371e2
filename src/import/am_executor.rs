//! prometheus-am-executor: a list of commands, each with the labels that alerts must have.
//!
//! It ran every command whose labels match, once for a group of alerts; here one runbook is selected, once for each
//! alert. That, and what else goes otherwise, is said where somebody will read it.

use super::Imported;
use crate::document::{Problem, Problems, Severity};
use crate::model::{RunbookId, quoted};
use crate::runbook;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const KEYS: &str = "the keys are listen_address, verbose, tls_key, tls_crt and commands, and of a command cmd, args, match_labels, max, notify_on_failure, ignore_resolved and resolved_signal";
/// The names of signals that prometheus-am-executor knows, less their SIG.
const SIGNALS: [&str; 30] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "PROF",
    "QUIT", "SEGV", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM",
    "WINCH", "XCPU", "XFSZ",
];
/// What a stop sends anyway: one asks, the other ends.
const SENT_BY_STOP: [&str; 4] = ["SIGTERM", "SIGKILL", "15", "9"];
/// The most that a runbook's `max_concurrent` may be.
const MAX_CONCURRENT: u32 = 10_000;
/// Characters of an id made of a program's name, so that a number still fits behind.
const MAX_STEM: usize = 48;

const HEAD: &str = "\
# Made from a command of prometheus-am-executor. Read it, then take out what you have dealt with.
";
const MODE: &str =
    "# Nothing runs yet: look at `runbookd runbooks shadow ID` for a while, then make it approve or auto.\n";
const TARGET: &str = "\
# No equal: what it acts on. Cooldown, caps and breaker are kept by it, and one execution at a time holds it.
";
const MAX: &str =
    "# It was skipped above this number for one alert; here it waits, for all alerts together.\n";
const EFFECT: &str = "\
# Unless it is said, it is `at_most_once`: after a crash it does not run again. If twice is as good as once, say
# effect = \"idempotent\"; and `undo`, if it can be taken back.
";
const NOTIFY: &str = "\
# No equal: notify_on_failure. Alertmanager has its answer before this runs, so it does not send a failed one again.
# `retry` does, if a second run does no harm; [escalate] tells people.
";
const ENVIRONMENT: &str = "\
# AMX_* is there for this one alert (AMX_ALERT_LEN is 1), without AMX_RECEIVER, AMX_EXTERNAL_URL and AMX_GLABEL_*.
# Nothing else of the daemon's environment is: name what it needs in `env`. A bare name is looked for in a fixed PATH.
";
const CONFIG: &str = "\
# For the config of runbookd. Alertmanager sends to /api/sre/alerts/webhook, with the credential of [webhook].
# Labels are matched of each alert, where prometheus-am-executor asked those that a whole group has in common.
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    listen_address: Option<String>,
    verbose: Option<bool>,
    tls_key: Option<String>,
    tls_crt: Option<String>,
    commands: Option<Vec<Spanned<RawCommand>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    cmd: Option<Spanned<String>>,
    args: Option<Vec<String>>,
    match_labels: Option<BTreeMap<String, Spanned<String>>>,
    max: Option<Spanned<i64>>,
    notify_on_failure: Option<bool>,
    ignore_resolved: Option<bool>,
    resolved_signal: Option<Spanned<String>>,
}

/// One command, checked.
struct Command {
    at: Location,
    program: String,
    args: Vec<String>,
    labels: BTreeMap<String, String>,
    max: Option<u32>,
    notify_on_failure: bool,
    ignore_resolved: bool,
    signal: Option<String>,
}

/// Makes runbooks, in shadow mode, of the YAML `text` that the person called `file_name`.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn am_executor(file_name: &str, text: &str) -> Result<Imported, Vec<Problem>> {
    let problems = Problems::new(file_name, text);
    let options = serde_saphyr::options! { with_snippet: false };
    let imported = match serde_saphyr::from_str_with_options::<RawConfig>(text, options) {
        Ok(raw) => import(raw, &problems),
        Err(error) => {
            let span = error.location().map_or(0..0, |at| span(&problems, at));
            let message = error.without_snippet().to_string();
            problems.error(span, "", message.lines().next().unwrap_or_default(), KEYS);
            None
        }
    };
    let failed = problems.has_errors();
    let warnings = problems.into_list();
    match imported {
        Some(imported) if !failed => Ok(Imported { warnings, ..imported }),
        _ => Err(warnings),
    }
}

fn span(problems: &Problems, at: Location) -> Range<usize> {
    problems.rest_of_line(at.line(), at.column())
}

fn import(mut raw: RawConfig, problems: &Problems) -> Option<Imported> {
    let listed = raw.commands.take().unwrap_or_default();
    if listed.is_empty() {
        problems.error(
            0..0,
            "commands",
            "there are no commands",
            "nothing of this file can become a runbook",
        );
        return None;
    }
    let commands: Vec<Command> =
        listed.into_iter().enumerate().filter_map(|(index, raw)| command(index, raw, problems)).collect();
    warn_of_overlaps(&commands, problems);
    let mut taken = BTreeSet::new();
    let mut claimed = BTreeSet::new();
    let (mut runbooks, mut mapped) = (Vec::new(), Vec::new());
    for command in &commands {
        let id = id(&command.program, &mut taken)?;
        let alert = command.only_alertname().filter(|name| claimed.insert(name.to_string()));
        if alert.is_none() {
            mapped.push((id.clone(), command));
        }
        let text = command.runbook(&id, alert);
        // What a program may be called is the runbook's to say.
        for problem in runbook::parse(&id, "", &text).problems {
            if problem.severity == Severity::Error {
                problems.error(span(problems, command.at), "cmd", problem.message, problem.help);
            }
        }
        runbooks.push((id, text));
    }
    // What matches everything comes last: the first mapping that matches decides.
    mapped.sort_by_key(|(_, command)| command.labels.is_empty());
    Some(Imported { runbooks, config: config(&raw, &mapped), warnings: Vec::new() })
}

/// Checks one command. Each thing that is wrong is noted.
fn command(index: usize, raw: Spanned<RawCommand>, problems: &Problems) -> Option<Command> {
    let (at, raw) = (raw.referenced, raw.value);
    let path = |key: &str| format!("commands[{index}].{key}");
    let wrong = |at: Location, key: &str, message: &str, help: &str| {
        problems.error(span(problems, at), &path(key), message, help);
    };
    let program = raw.cmd.filter(|cmd| !cmd.value.trim().is_empty());
    if program.is_none() {
        wrong(at, "cmd", "the command has no cmd", "write which program it runs");
    }
    let program = program?;
    let mut labels = BTreeMap::new();
    for (name, value) in raw.match_labels.unwrap_or_default() {
        if value.value.is_empty() {
            let help =
                "no alert has a label without a value, so this never matched; remove it or the command";
            wrong(value.referenced, "match_labels", "the value of a label is empty", help);
        }
        labels.insert(name, value.value);
    }
    let signal = raw.resolved_signal.filter(|signal| !signal.value.is_empty());
    if let Some(signal) = &signal {
        let word = signal.value.to_uppercase();
        let known = word.strip_prefix("SIG").is_some_and(|name| SIGNALS.contains(&name));
        if !known && !word.bytes().all(|byte| byte.is_ascii_digit()) {
            wrong(
                signal.referenced,
                "resolved_signal",
                "it is no signal",
                "write a name such as SIGTERM, or a number",
            );
        }
    }
    let max = raw.max.filter(|max| max.value > 0).and_then(|max| {
        let number = u32::try_from(max.value).ok().filter(|number| *number <= MAX_CONCURRENT);
        if number.is_none() {
            let help = format!("at most {MAX_CONCURRENT}, or 0 for the default of the config");
            wrong(max.referenced, "max", "max is too large", &help);
        }
        number
    });
    Some(Command {
        at: program.referenced,
        program: program.value,
        args: raw.args.unwrap_or_default(),
        labels,
        max,
        notify_on_failure: raw.notify_on_failure.unwrap_or(true),
        ignore_resolved: raw.ignore_resolved.unwrap_or(false),
        signal: signal.map(|signal| signal.value.to_uppercase()),
    })
}

/// Where two commands may both match an alert, both ran there; here one runbook is selected.
fn warn_of_overlaps(commands: &[Command], problems: &Problems) {
    for (index, later) in commands.iter().enumerate() {
        let earlier = commands[..index].iter().position(|earlier| {
            let apart = |(name, value): (&String, &String)| {
                later.labels.get(name).is_some_and(|other| other != value)
            };
            !earlier.labels.iter().any(apart)
        });
        if let Some(earlier) = earlier {
            problems.warning(
                span(problems, later.at),
                &format!("commands[{index}]"),
                format!("this command and number {} can match the same alert, and both ran", earlier + 1),
                "here an alert selects one runbook: make one of both, with a step for each",
            );
        }
    }
}

/// An id made of the program's name, another one each time.
fn id(program: &str, taken: &mut BTreeSet<String>) -> Option<RunbookId> {
    let name = program.rsplit('/').next().unwrap_or_default();
    let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let stem: String = name.chars().take(MAX_STEM).map(word).collect();
    let stem = if stem.is_empty() { "command".to_owned() } else { stem };
    let numbers = (2..).map(|number| format!("{stem}_{number}"));
    let free = std::iter::once(stem.clone()).chain(numbers).find(|id| taken.insert(id.clone()));
    free.and_then(|id| RunbookId::new(&id).ok())
}

/// A text as TOML.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// A text as a template that gives it again.
fn literal(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '{' && rest.peek().is_some_and(|next| "{%#".contains(*next)) {
            out += r#"{{ "{" }}"#;
        } else {
            out.push(c);
        }
    }
    out
}

impl Command {
    /// The alert's name, where that is all it asks for.
    fn only_alertname(&self) -> Option<&str> {
        self.labels.get("alertname").filter(|_| self.labels.len() == 1).map(String::as_str)
    }

    /// The text of its runbook.
    fn runbook(&self, id: &RunbookId, alert: Option<&str>) -> String {
        let mut out = String::from(HEAD);
        let alerts = alert.map(|name| format!("alerts = [{}]\n", text(name))).unwrap_or_default();
        let resolved = if self.ignore_resolved { "continue" } else { "stop" };
        let title = text(&format!("Run {id}"));
        out += &format!(
            "title = {title}\n{MODE}mode = \"shadow\"\n{alerts}{TARGET}target = \"{{{{ labels.instance }}}}\"\n"
        );
        out += &format!("timeout = \"20m\"\n{}on_resolved = \"{resolved}\"\n", self.about_resolved());
        if let Some(max) = self.max {
            out += &format!("\n[guard]\n{MAX}max_concurrent = {max}\n");
        }
        out += "\n[[steps]]\nid = \"run\"\n";
        out += EFFECT;
        out += if self.notify_on_failure { NOTIFY } else { "" };
        out += "# It had no limit of time. Say what it needs, and above what the whole runbook needs.\ntimeout = \"15m\"\n";
        let args: Vec<String> = self.args.iter().map(|arg| text(&literal(arg))).collect();
        let args = if args.is_empty() { String::new() } else { format!("args = [{}]\n", args.join(", ")) };
        out += &format!("[steps.command]\n{ENVIRONMENT}program = {}\n{args}", text(&self.program));
        out
    }

    fn about_resolved(&self) -> String {
        match &self.signal {
            Some(signal) if !self.ignore_resolved && !SENT_BY_STOP.contains(&signal.as_str()) => format!(
                "# No equal: resolved_signal {signal}. A stop sends SIGTERM to everything the step started, then SIGKILL.\n"
            ),
            _ => String::new(),
        }
    }

    /// What leads alerts to its runbook.
    fn mapping(&self, id: &RunbookId) -> String {
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let matcher = |(name, value): (&String, &String)| {
            let name = if plain(name) { name.clone() } else { quoted(name) };
            text(&format!("{name}={}", quoted(value)))
        };
        let matchers: Vec<String> = self.labels.iter().map(matcher).collect();
        let (remark, matchers) = match matchers.len() {
            0 => ("# It had no match_labels: every alert starts it.\n", text("alertname=~\".+\"")),
            _ => ("", matchers.join(", ")),
        };
        let name = text(id.as_str());
        format!("\n{remark}[[mappings]]\nname = {name}\nmatchers = [{matchers}]\nrunbook = {name}\n")
    }
}

/// What belongs into the config.
fn config(raw: &RawConfig, mapped: &[(RunbookId, &Command)]) -> String {
    let mut out = String::from(CONFIG);
    if let Some(address) = &raw.listen_address {
        out += &format!("# listen_address was {address:?}: that is `listen` in [server] here.\n");
    }
    if raw.tls_key.is_some() || raw.tls_crt.is_some() {
        out += "# tls_key and tls_crt: that is `tls = { cert_file, key_file }` in [server] here.\n";
    }
    if raw.verbose == Some(true) {
        out += "# verbose: that is the flag --log.level=debug here.\n";
    }
    for (id, command) in mapped {
        out += &command.mapping(id);
    }
    out
}
