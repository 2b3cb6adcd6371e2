//! The kinds of steps: which one it is, and those that run a program or ask a question.

use super::{Around, approval, confine, effect, escalate, http, remote, templates, waits};
use crate::document::{Table, Value};
use crate::model::env_name_problem;
use crate::runbook::definition::{Command, Kind, Question, Script};
use crate::runbook::template::{Scope, Template};
use std::collections::BTreeMap;

const KINDS: [&str; 12] = [
    "command", "script", "http", "promql", "wait", "check", "approve", "instruct", "runbook", "silence",
    "ssh", "notify",
];
const PROGRAM_HELP: &str = "write an absolute path, or the bare name of a program";
const DEFAULT_OUTPUT: u64 = 10 << 20;

/// What has a kind, and so which kinds it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Any of them.
    Step,
    /// What takes a step back waits for nobody and starts no execution.
    Undo,
    /// What looks whether a step happened.
    Probe,
}

impl Holder {
    fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Undo => "undo",
            Self::Probe => "probe",
        }
    }

    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Step => &KINDS,
            Self::Undo => &["command", "script", "http", "promql", "check", "silence", "ssh"],
            Self::Probe => &["command", "http"],
        }
    }
}

/// Reads the one kind of a step, an undo or a probe.
pub(super) fn read(
    table: &mut Table<'_>,
    scope: &Scope,
    around: &Around<'_>,
    holder: Holder,
) -> Option<Kind> {
    let (what, fitting) = (holder.as_str(), holder.kinds());
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| table.has(kind)).collect();
    if given.is_empty() {
        table.error(format!("the {what} has no kind"), format!("give it one of: {}", fitting.join(", ")));
    } else if given.len() > 1 {
        table.error(
            format!("the {what} has several kinds: {}", given.join(", ")),
            format!("give the {what} one"),
        );
    }
    // All are read: two kinds are no reason to hide what is wrong within them.
    let kinds = KINDS.map(|name| {
        let value = table.take(name)?;
        if !fitting.contains(&name) {
            value.error(
                format!("the {what} cannot be {}", effect::named(name)),
                format!("use one of: {}", fitting.join(", ")),
            );
            return None;
        }
        let inner = value.table()?;
        match name {
            "command" => command(inner, scope).map(Kind::Command),
            "script" => script(inner, scope).map(Kind::Script),
            "http" if holder == Holder::Probe => http::read_look(inner, scope).map(Kind::Http),
            "http" => http::read(inner, scope).map(Kind::Http),
            "promql" => remote::promql(inner, scope),
            "wait" => waits::wait(inner, scope),
            "check" => check(inner, scope),
            "approve" => approval::approve(inner, scope, &around.approval).map(Kind::Approve),
            "instruct" => waits::instruct(inner, scope),
            "runbook" => remote::runbook(inner, scope, around),
            "silence" => remote::silence(inner, scope),
            "ssh" => remote::ssh(inner, scope),
            _ => escalate::notify(inner, scope),
        }
    });
    kinds.into_iter().flatten().next()
}

fn check(mut table: Table<'_>, scope: &Scope) -> Option<Kind> {
    const QUESTIONS: [&str; 3] = ["expr", "file_exists", "command"];
    let given: Vec<&str> = QUESTIONS.into_iter().filter(|question| table.has(question)).collect();
    if given.len() != 1 {
        let message = if given.is_empty() {
            "the check asks nothing".to_owned()
        } else {
            format!("the check asks several things: {}", given.join(", "))
        };
        table.error(message, "give it one of: expr, file_exists, command");
    }
    let expr = table.take("expr").and_then(|value| templates::expression(&value, scope)).map(Question::Expr);
    let file = table.take("file_exists").and_then(|value| path(&value, scope)).map(Question::FileExists);
    let inner = table.take("command").and_then(Value::table);
    let inner = inner.and_then(|inner| command(inner, scope)).map(Question::Command);
    let must = table.take("must").and_then(|value| value.boolean()).unwrap_or(false);
    table.finish();
    expr.or(file).or(inner).map(|question| Kind::Check { question, must })
}

/// A path; where its beginning is literal, it must be absolute.
fn path(value: &Value<'_>, scope: &Scope) -> Option<Template> {
    let path = templates::template(value, scope)?;
    if path.source().starts_with(['/', '{']) {
        return Some(path);
    }
    value.error("the path is not absolute", "begin it with /");
    None
}

fn command(mut table: Table<'_>, scope: &Scope) -> Option<Command> {
    let (name, args) = program_and_args(&mut table, scope);
    let settings = settings(&mut table, scope);
    table.finish();
    Some(Command { program: name?, args, ..settings })
}

/// The keys `program`, which is literal, and `args`, which are not.
pub(super) fn program_and_args(table: &mut Table<'_>, scope: &Scope) -> (Option<String>, Vec<Template>) {
    let name = table.require("program", PROGRAM_HELP).and_then(|value| program(&value));
    let args = table.take("args").and_then(Value::array).unwrap_or_default();
    (name, args.iter().filter_map(|value| templates::template(value, scope)).collect())
}

fn script(mut table: Table<'_>, scope: &Scope) -> Option<Script> {
    let shell = match table.take("shell") {
        Some(value) => shell(value),
        None => Some(vec!["/bin/sh".to_owned(), "-eu".to_owned()]),
    };
    let text = table.require("text", "write the script").and_then(|value| {
        let help = "a script is literal: set `env = { NAME = \"{{ … }}\" }` and use \"$NAME\" in the script";
        let text = templates::literal(&value, help)?.value;
        if text.trim().is_empty() {
            value.error("the script is blank", "write what it does");
            return None;
        }
        Some(text)
    });
    let settings = settings(&mut table, scope);
    table.finish();
    Some(Script { shell: shell?, text: text?, settings })
}

/// The interpreter and its flags, as a list or as words.
fn shell(value: Value<'_>) -> Option<Vec<String>> {
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let words: Vec<String> = if value.is_string() {
        templates::literal(&value, "the interpreter is literal")?
            .value
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    } else {
        let items = value.array()?;
        let words: Option<Vec<_>> =
            items.iter().map(|item| templates::literal(item, "the interpreter is literal")).collect();
        words?.into_iter().map(|word| word.value).collect()
    };
    match words.first().map(|first| program_problem(first)) {
        Some(None) => Some(words),
        Some(Some(message)) => {
            problems.error(site, &path, message, PROGRAM_HELP);
            None
        }
        None => {
            problems.error(site, &path, "the shell is blank", "write shell = \"/bin/sh -eu\"");
            None
        }
    }
}

fn program(value: &Value<'_>) -> Option<String> {
    let text = templates::literal(value, "the program is literal; values go into `args`")?.value;
    match program_problem(&text) {
        None => Some(text),
        Some(message) => {
            value.error(message, PROGRAM_HELP);
            None
        }
    }
}

fn program_problem(program: &str) -> Option<&'static str> {
    let bare = !program.contains('/');
    if program.trim().is_empty() {
        Some("the program is blank")
    } else if program.chars().any(char::is_control) {
        Some("the program contains a control character")
    } else if !bare && !program.starts_with('/') {
        Some("the program is a relative path")
    } else if program.ends_with('/') || program == "." || program == ".." {
        Some("the program is a directory")
    } else if bare && program.contains(char::is_whitespace) {
        Some("the program contains a blank: arguments go into `args`")
    } else {
        None
    }
}

/// What commands and scripts have in common; `program` and `args` stay empty.
fn settings(table: &mut Table<'_>, scope: &Scope) -> Command {
    let env = table.take("env").and_then(Value::table).map(|env| environment(env, scope));
    let taken: Vec<String> = env.iter().flat_map(BTreeMap::keys).cloned().collect();
    let secrets = table.take("secrets").and_then(Value::table).map(|inner| secrets(inner, &taken));
    let secrets = secrets.unwrap_or_default();
    let cwd = table.take("cwd").and_then(|value| path(&value, scope));
    let stdin = table.take("stdin").and_then(|value| templates::template(&value, scope));
    let (ok_exit, max_output) = limits(table);
    Command {
        program: String::new(),
        args: Vec::new(),
        env: env.unwrap_or_default(),
        secrets,
        cwd,
        stdin,
        ok_exit,
        max_output,
        confinement: Box::new(confine::read(table)),
    }
}

/// The keys `ok_exit` and `max_output`.
pub(super) fn limits(table: &mut Table<'_>) -> (Vec<i32>, u64) {
    let ok_exit = table.take("ok_exit").map_or_else(|| vec![0], exit_codes);
    let max_output = table.take("max_output").and_then(|value| value.size(1 << 10..=1 << 30));
    (ok_exit, max_output.unwrap_or(DEFAULT_OUTPUT))
}

fn environment(mut table: Table<'_>, scope: &Scope) -> BTreeMap<String, Template> {
    let mut environment = BTreeMap::new();
    for (name, value) in table.take_all() {
        if let Some(why) = env_name_problem(&name.value) {
            let message = format!("the variable {:?} cannot be set: {why}", name.value);
            value.problems().error(name.span, value.path(), message, "use another name");
        }
        if let Some(template) = templates::template(&value, scope) {
            environment.insert(name.value, template);
        }
    }
    environment
}

/// Names of secrets, by the variable that will tell where the secret is, less its `_FILE`.
fn secrets(mut table: Table<'_>, taken: &[String]) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for (name, value) in table.take_all() {
        let variable = format!("{}_FILE", name.value);
        let why = match env_name_problem(&variable) {
            None if taken.contains(&variable) => Some("env sets it already"),
            why => why,
        };
        if let Some(why) = why {
            let message = format!("the variable {variable:?} cannot be set: {why}");
            value.problems().error(name.span, value.path(), message, "use another name");
        }
        if let Some(secret) = templates::secret_name(&value) {
            secrets.insert(name.value, secret);
        }
    }
    secrets
}

/// The accepted codes in order; 0 always is one.
fn exit_codes(value: Value<'_>) -> Vec<i32> {
    let items = value.array().unwrap_or_default();
    let codes = items.iter().filter_map(|item| item.integer(0..=255)?.try_into().ok());
    let mut codes: Vec<i32> = codes.chain([0]).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}
