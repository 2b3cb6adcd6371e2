//! From a step of the runbook to what is really done: templates rendered, nothing left to interpret.
//!
//! The engine carries it out; a person consents to it; a decision in shadow mode shows it. Pure. May import: `model`,
//! `runbook`, `journal`, `admit` (the context), `step` (its plain call types). Must never: do any of it.

pub mod view;

use crate::journal::{Created, Entry, Event, State, TriggerKind};
use crate::model::{Confinement, Part, PlannedStep, Role, Timestamp, hex};
use crate::runbook::template::render_json;
use crate::runbook::{Body, Command, Context, Kind, Question, Runbook, Script, Ssh, Template, TemplateError};
use crate::step::{
    Call, CommandCall, ExpireSilenceCall, HttpCall, NotifyCall, PromqlCall, ScriptCall, SilenceCall, SshCall,
    StatusRange,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Bytes of a plan as shown to people.
const PLAN_MAX: usize = 4096;

/// What one attempt does.
#[derive(Debug)]
pub enum Work {
    /// Something in the world.
    Call(Call),
    /// A look whether a path exists.
    FileExists(PathBuf),
    /// Nothing in the world: the answer of an expression.
    Answer(bool),
    /// Nothing in the world: a text to show.
    Text(String),
}

impl Work {
    /// Whether it takes time, and so a slot and a task of its own.
    pub fn takes_time(&self) -> bool {
        matches!(self, Self::Call(_) | Self::FileExists(_))
    }

    /// What it leans on, as a word: retries are budgeted by it.
    pub fn dependency(&self) -> Option<String> {
        match self {
            Self::Call(Call::Command(call)) => Some(call.program.clone()),
            Self::Call(Call::Script(call)) => Some(call.shell.join(" ")),
            Self::Call(Call::Http(call)) => Some(authority(&call.url).to_owned()),
            Self::Call(Call::Promql(_)) => Some("prometheus".to_owned()),
            Self::Call(Call::Silence(_) | Call::ExpireSilence(_)) => Some("alertmanager".to_owned()),
            Self::Call(Call::Ssh(call)) => Some(call.host.clone()),
            Self::Call(Call::Notify(call)) => Some(format!("notifiers {}", call.to.join(", "))),
            Self::FileExists(_) | Self::Answer(_) | Self::Text(_) => None,
        }
    }
}

/// Scheme, host and port of an address.
fn authority(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// The work of `part` of the step at `index`, and its plan for people.
///
/// # Errors
/// A sentence: which template could not be rendered and why.
pub fn work(runbook: &Runbook, state: &State, index: usize, part: Part) -> Result<(Work, String), String> {
    let step = &runbook.steps[index];
    let context = view::context_of_part(runbook, state, index, part);
    let kind = match part.role {
        Role::Main => Some(&step.kind),
        Role::Probe => step.probe.as_ref(),
        Role::Undo => step.undo.as_ref().map(|undo| &undo.kind),
    };
    let kind = kind.ok_or_else(|| format!("the step has no {part}"))?;
    let args = state.steps[index].args.as_deref().filter(|_| part.role == Role::Main);
    let work = render(kind, &context, &Given { args, silence: &silence_key(state, index, part) }).map_err(
        |error| match error.help.is_empty() {
            true => format!("the step cannot be rendered: {error}"),
            false => format!("the step cannot be rendered: {error} ({})", error.help),
        },
    )?;
    let plan = plan(&work);
    Ok((work, plan))
}

/// What the far side knows a part of a step by: the same for every attempt, also after a crash, so that an
/// attempt whose answer was lost is not done twice. A person's retry is a new wish and has a new key.
pub fn idempotency_key(state: &State, index: usize, part: Part) -> String {
    let (created, seen) = (&state.created, &state.steps[index]);
    let mut key = format!("{}.{}", created.id, created.steps[index].id);
    if part != Part::MAIN {
        let _infallible = write!(key, ".{part}");
    }
    if seen.since > 0 {
        let _infallible = write!(key, ".after{}", seen.since);
    }
    key
}

/// What a person consents to at the step at `index`: its message and everything that would follow it, and the
/// hash of that.
///
/// # Errors
/// A sentence: why the message cannot be rendered.
pub fn consent(runbook: &Runbook, state: &State, index: usize) -> Result<(String, String), String> {
    let Kind::Approve(terms) = &runbook.steps[index].kind else {
        return Err("the step asks for no consent".to_owned());
    };
    let context = view::context_of(runbook, state);
    let mut text = terms.message.render(&context).map_err(|error| format!("its message: {error}"))?;
    for (other, step) in runbook.steps.iter().enumerate() {
        if other != index && !state.steps[other].is_over() {
            let _infallible = write!(text, "\n{}: {}", step.id, preview(runbook, state, other));
        }
    }
    let hash = hex(&Sha256::digest(&text));
    Ok((text, hash))
}

/// What a step is told beside its templates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'g> {
    /// Arguments that stand instead of those written in the file.
    pub args: Option<&'g [String]>,
    /// What its silence is known by.
    pub silence: &'g str,
}

/// What a silence is known by: the same for all attempts and for its undo, so that each finds what was made.
fn silence_key(state: &State, index: usize, part: Part) -> String {
    let created = &state.created;
    // A rollback ends the silences of the execution it takes back.
    let of = created.trigger.of.as_ref().filter(|_| created.trigger.kind == TriggerKind::Rollback);
    let (id, step) = (of.unwrap_or(&created.id), &created.steps[index].id);
    match part.with(Role::Main) {
        Part::MAIN => format!("{id}.{step}"),
        item => format!("{id}.{step}.{item}"),
    }
}

/// What `kind` does with everything filled in.
pub fn render(kind: &Kind, context: &Context, given: &Given<'_>) -> Result<Work, TemplateError> {
    let Given { args, silence } = *given;
    Ok(match kind {
        Kind::Command(command) => {
            let mut call = command_call(command, context)?;
            if let Some(args) = args {
                call.args = args.to_vec();
            }
            Work::Call(Call::Command(call))
        }
        Kind::Script(script) => Work::Call(Call::Script(script_call(script, context)?)),
        Kind::Http(_) => Work::Call(Call::Http(http_call(kind, context)?)),
        Kind::Check { question: Question::Command(command), .. } => {
            Work::Call(Call::Command(command_call(command, context)?))
        }
        Kind::Check { question: Question::FileExists(path), .. } => {
            Work::FileExists(path.render(context)?.into())
        }
        Kind::Check { question: Question::Expr(expression), .. } => {
            Work::Answer(expression.evaluate(context)?)
        }
        Kind::Instruct { text, .. } => Work::Text(text.render(context)?),
        Kind::Promql { query, expect, range } => Work::Call(Call::Promql(PromqlCall {
            query: query.render(context)?,
            expect: *expect,
            range: *range,
        })),
        Kind::Silence(silenced) => Work::Call(Call::Silence(SilenceCall {
            matchers: rendered(&silenced.matchers, context)?,
            duration: silenced.duration,
            comment: silenced.comment.render(context)?,
            key: silence.to_owned(),
        })),
        Kind::ExpireSilence => Work::Call(Call::ExpireSilence(ExpireSilenceCall { key: silence.to_owned() })),
        Kind::Ssh(ssh) => {
            let mut call = ssh_call(ssh, context)?;
            if let Some(args) = args {
                call.args = args.to_vec();
            }
            Work::Call(Call::Ssh(call))
        }
        Kind::Notify(notify) => Work::Call(Call::Notify(NotifyCall {
            to: notify.to.clone(),
            message: notify.message.render(context)?,
        })),
        // The machine waits for these by itself and never asks for their work.
        Kind::Wait { .. } | Kind::Until(_) | Kind::Approve(_) | Kind::Runbook { .. } => {
            Work::Text(String::new())
        }
    })
}

fn command_call(command: &Command, context: &Context) -> Result<CommandCall, TemplateError> {
    Ok(CommandCall {
        program: command.program.clone(),
        args: arguments(&command.args, context)?,
        env: env(command, context)?,
        secrets: command.secrets.clone(),
        cwd: optional(command.cwd.as_ref(), context)?.map(PathBuf::from),
        stdin: optional(command.stdin.as_ref(), context)?.map(String::into_bytes),
        ok_exit: command.ok_exit.clone(),
        max_output: command.max_output,
        confinement: command.confinement.clone(),
    })
}

fn script_call(script: &Script, context: &Context) -> Result<ScriptCall, TemplateError> {
    let settings = &script.settings;
    Ok(ScriptCall {
        shell: script.shell.clone(),
        text: script.text.clone(),
        env: env(settings, context)?,
        secrets: settings.secrets.clone(),
        cwd: optional(settings.cwd.as_ref(), context)?.map(PathBuf::from),
        stdin: optional(settings.stdin.as_ref(), context)?.map(String::into_bytes),
        ok_exit: settings.ok_exit.clone(),
        max_output: settings.max_output,
        confinement: settings.confinement.clone(),
    })
}

fn env(command: &Command, context: &Context) -> Result<BTreeMap<String, String>, TemplateError> {
    command.env.iter().map(|(name, value)| Ok((name.clone(), value.render(context)?))).collect()
}

/// The arguments of a program. One that begins with a value must not become an option of it: `-rf` in a label is what
/// somebody wrote there, not what the author of the runbook wanted. Behind `--` the program takes none for an option,
/// and with something literal before the value it is the author's.
fn arguments(templates: &[Template], context: &Context) -> Result<Vec<String>, TemplateError> {
    let mut args = Vec::with_capacity(templates.len());
    for (index, template) in templates.iter().enumerate() {
        let arg = template.render(context)?;
        let is_value =
            template.has_tags() && template.literal_parts().next().is_none_or(|part| part.start > 0);
        if is_value && arg.starts_with('-') && !args.iter().any(|before| before == "--") {
            let message =
                format!("argument {} is a value that begins with `-`: it would be an option", index + 1);
            let help = "put \"--\" before it, or write the option with it, as --name={{ … }}";
            return Err(TemplateError { message, help: help.to_owned(), span: None });
        }
        args.push(arg);
    }
    Ok(args)
}

fn rendered(templates: &[Template], context: &Context) -> Result<Vec<String>, TemplateError> {
    templates.iter().map(|template| template.render(context)).collect()
}

fn ssh_call(ssh: &Ssh, context: &Context) -> Result<SshCall, TemplateError> {
    Ok(SshCall {
        host: ssh.host.render(context)?,
        templated_host: ssh.host.has_tags(),
        port: ssh.port.unwrap_or(22),
        user: ssh.user.render(context)?,
        program: ssh.program.clone(),
        args: arguments(&ssh.args, context)?,
        key: ssh.key.clone(),
        known_hosts: ssh.known_hosts.clone().into(),
        ok_exit: ssh.ok_exit.clone(),
        max_output: ssh.max_output,
    })
}

fn optional(template: Option<&Template>, context: &Context) -> Result<Option<String>, TemplateError> {
    template.map(|template| template.render(context)).transpose()
}

fn http_call(kind: &Kind, context: &Context) -> Result<HttpCall, TemplateError> {
    let Kind::Http(http) = kind else { unreachable!("called for http steps only") };
    let mut headers = Vec::new();
    for (name, value) in &http.headers {
        headers.push((name.clone(), value.render(context)?));
    }
    let body = match &http.body {
        None => None,
        Some(Body::Text(text)) => Some(text.render(context)?.into_bytes()),
        Some(Body::Json(json)) => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
            }
            Some(render_json(json, context)?.to_string().into_bytes())
        }
    };
    Ok(HttpCall {
        method: http.method.clone(),
        url: http.url.render_url(context)?,
        templated_authority: http.templated_authority,
        headers,
        body,
        expect_status: http.expect_status.iter().map(|(low, high)| StatusRange::new(*low, *high)).collect(),
        expect_json: http.expect_json.clone(),
        bearer: http.bearer.clone(),
        follow_redirects: http.follow_redirects,
        changing: !matches!(http.method.as_str(), "GET" | "HEAD"),
        max_output: 10 << 20,
    })
}

/// What is done, as a person would write it down.
fn plan(work: &Work) -> String {
    let mut text = match work {
        Work::Call(Call::Command(call)) => confined(argv(&call.program, &call.args), &call.confinement),
        Work::Call(Call::Script(call)) => {
            let text = format!("{} <script of {} bytes>", call.shell.join(" "), call.text.len());
            confined(text, &call.confinement)
        }
        Work::Call(Call::Http(call)) => format!("{} {}", call.method, call.url),
        Work::Call(Call::Promql(call)) => {
            let range = call.range.map(|range| format!(" over {}", humantime::format_duration(range)));
            format!("{}{} {}?", call.query, range.unwrap_or_default(), call.expect)
        }
        Work::Call(Call::Silence(call)) => {
            let lasts = humantime::format_duration(call.duration);
            format!("silences {{{}}} for {lasts}", call.matchers.join(", "))
        }
        Work::Call(Call::ExpireSilence(call)) => format!("ends the silence {}", call.key),
        Work::Call(Call::Ssh(call)) => {
            format!("on {}@{}: {}", call.user, call.host, argv(&call.program, &call.args))
        }
        Work::Call(Call::Notify(call)) => format!("tells {}: {}", call.to.join(", "), call.message),
        Work::FileExists(path) => format!("does {path:?} exist?"),
        Work::Answer(answer) => format!("the expression is {answer}"),
        Work::Text(text) => text.clone(),
    };
    if text.len() > PLAN_MAX {
        let cut = text.len() - PLAN_MAX;
        text.truncate(text.floor_char_boundary(PLAN_MAX));
        // Writing to a String cannot fail.
        let _infallible = write!(text, " [... {cut} bytes cut ...]");
    }
    text
}

/// What is done, and how its process is held.
fn confined(text: String, confinement: &Confinement) -> String {
    let held = confinement.to_string();
    if held.is_empty() { text } else { format!("{text} ({held})") }
}

/// An argument vector with every argument's borders visible.
fn argv(program: &str, args: &[String]) -> String {
    let plain = |arg: &str| {
        !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b))
    };
    args.iter().fold(program.to_owned(), |mut text, arg| {
        text.push(' ');
        text.push_str(&if plain(arg) { arg.clone() } else { format!("{arg:?}") });
        text
    })
}

/// What the step at `index` would do, as far as that is known before it is its turn.
pub fn preview(runbook: &Runbook, state: &State, index: usize) -> String {
    match (&runbook.steps[index].kind, work(runbook, state, index, Part::MAIN)) {
        (Kind::Wait { duration }, _) => format!("waits {}", humantime::format_duration(*duration)),
        (_, Ok((_, plan))) => plan,
        (_, Err(why)) => format!("known only when its turn comes ({why})"),
    }
}

/// What an execution that does not exist would do, step by step, as far as that is known before it begins. At most
/// `most` bytes of it; a last line says how many steps are left out.
pub fn would_do(runbook: &Runbook, created: &Created, now: Timestamp, most: usize) -> Vec<PlannedStep> {
    let first = Entry { seq: 1, at: now, event: Event::Created(Box::new(created.clone())) };
    let Ok(state) = State::replay([first]) else { return Vec::new() };
    let (mut planned, mut room) = (Vec::new(), most);
    for (index, step) in runbook.steps.iter().enumerate() {
        let plan = preview(runbook, &state, index);
        let size = plan.len() + step.id.as_str().len();
        if size > room {
            let left = runbook.steps.len() - index;
            planned.push(PlannedStep {
                step: step.id.clone(),
                plan: format!("[... {left} steps left out ...]"),
            });
            break;
        }
        room -= size;
        planned.push(PlannedStep { step: step.id.clone(), plan });
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expect, Labels};
    use crate::runbook::Silence;
    use std::time::Duration;

    fn word(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn check(kind: &Kind, expected: &Call, shown: &str) {
        let labels: Labels = [("instance".to_owned(), "db-1".to_owned())].into();
        let context = Context::builder().labels(&labels).build();
        let work = render(kind, &context, &Given { args: None, silence: "e_1.hush" }).unwrap();
        assert_eq!(plan(&work), shown);
        let Work::Call(call) = work else { panic!("{work:?}") };
        assert_eq!(call, *expected);
    }

    #[test]
    fn t02_a_value_is_no_option_unless_the_author_says_where_options_end() {
        let labels: Labels = [("v".to_owned(), "-rf".to_owned())].into();
        let context = Context::builder().labels(&labels).build();
        let args = |texts: &[&str]| {
            let templates: Vec<Template> = texts.iter().map(|text| word(text)).collect();
            arguments(&templates, &context).map_err(|error| error.message)
        };
        let refused = "argument 2 is a value that begins with `-`: it would be an option";
        for value in ["{{ labels.v }}", "{{ labels.v }}.txt", "{% if true %}{{ labels.v }}{% endif %}"] {
            assert_eq!(args(&["-x", value]).unwrap_err(), refused, "{value}");
        }
        assert_eq!(args(&["--", "{{ labels.v }}"]).unwrap(), ["--", "-rf"]);
        assert_eq!(args(&["--of={{ labels.v }}", "-", "--all"]).unwrap(), ["--of=-rf", "-", "--all"]);
    }

    #[test]
    fn kinds_that_reach_other_programs_are_rendered_and_shown_without_a_secret() {
        let expect = Expect::parse("== 1").unwrap();
        let range = Some(Duration::from_secs(600));
        check(
            &Kind::Promql { query: word("up{instance={{ labels.instance | promql }}}"), expect, range },
            &Call::Promql(PromqlCall { query: "up{instance=\"db-1\"}".into(), expect, range }),
            "up{instance=\"db-1\"} over 10m == 1?",
        );
        let duration = Duration::from_secs(3600);
        check(
            &Kind::Silence(Silence {
                matchers: vec![word("instance=\"{{ labels.instance }}\""), word("job=\"db\"")],
                duration,
                comment: word("for {{ labels.instance }}"),
            }),
            &Call::Silence(SilenceCall {
                matchers: vec!["instance=\"db-1\"".into(), "job=\"db\"".into()],
                duration,
                comment: "for db-1".into(),
                key: "e_1.hush".into(),
            }),
            "silences {instance=\"db-1\", job=\"db\"} for 1h",
        );
        let ended = Call::ExpireSilence(ExpireSilenceCall { key: "e_1.hush".into() });
        check(&Kind::ExpireSilence, &ended, "ends the silence e_1.hush");
        let ssh = Ssh {
            host: word("{{ labels.instance }}"),
            port: None,
            user: word("ops"),
            program: "systemctl".into(),
            args: vec![word("restart"), word("a b")],
            key: "ops_key".into(),
            known_hosts: "/etc/hosts.keys".into(),
            ok_exit: vec![0],
            max_output: 1024,
        };
        let call = SshCall {
            host: "db-1".into(),
            templated_host: true,
            port: 22,
            user: "ops".into(),
            program: "systemctl".into(),
            args: vec!["restart".into(), "a b".into()],
            key: "ops_key".into(),
            known_hosts: "/etc/hosts.keys".into(),
            ok_exit: vec![0],
            max_output: 1024,
        };
        check(&Kind::Ssh(ssh), &Call::Ssh(call), "on ops@db-1: systemctl restart \"a b\"");
    }
}
