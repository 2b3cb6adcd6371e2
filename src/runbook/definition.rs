//! One runbook as checked: what the machine and the gates read. Only `runbook::parse` makes one.

use super::template::{Expression, Template};
use crate::guard::Overrides;
use crate::model::{Confinement, Effect, Expect, Matcher, RunbookId, StepId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A runbook, whole and valid.
#[derive(Debug, Clone)]
pub struct Runbook {
    /// The stem of its file.
    pub id: RunbookId,
    /// One line for people.
    pub title: String,
    /// Markdown for people.
    pub description: String,
    /// Whether and how alerts may start it.
    pub mode: Mode,
    /// Alert names that select it.
    pub alerts: Vec<String>,
    /// What it acts on; always there when a step is changing.
    pub target: Option<Template>,
    /// From first start to end.
    pub timeout: Duration,
    /// What a resolved alert does to a running execution.
    pub on_resolved: OnResolved,
    /// The profile of the breaker per runbook and target, and of the breakers its steps name.
    pub breaker: String,
    /// Which alerts may select it by annotation; all matchers must hold.
    pub allow: Option<Vec<Matcher>>,
    /// Claims a person needs to execute, control or validate it: each must have one of its values.
    pub required_claims: BTreeMap<String, Vec<String>>,
    /// What keeps automation from doing too much with it.
    pub guard: Guard,
    /// Named values taken from the alert or the caller, in the order of the file.
    pub inputs: Vec<Input>,
    /// The steps, in the order of the file; at least one.
    pub steps: Vec<Step>,
    /// What decides success after the last step.
    pub verify: Option<Verify>,
    /// Who is told when it did not help, by the names of notifiers and policies. Absent: whom the config names;
    /// empty: nobody, and that is said explicitly.
    pub escalate_to: Option<Vec<String>>,
}

impl Runbook {
    /// Whether any step can change something.
    pub fn is_changing(&self) -> bool {
        self.steps.iter().any(|step| step.effect.is_changing())
    }

    /// The runbooks its steps call, in the order of the file.
    pub fn calls(&self) -> impl Iterator<Item = &RunbookId> {
        self.steps.iter().filter_map(|step| match &step.kind {
            Kind::Runbook { id, .. } => Some(id),
            _ => None,
        })
    }

    /// Where the step `id` stands.
    pub fn step_index(&self, id: &StepId) -> Option<usize> {
        self.steps.iter().position(|step| step.id == *id)
    }
}

/// What keeps automation from doing too much with a runbook.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// What it says instead of `[automation.guard]`.
    pub settings: Overrides,
    /// More that is unhealthy than this, and one runbook is not the answer.
    pub max_unhealthy: Option<MaxUnhealthy>,
    /// What must hold before the first step.
    pub precheck: Option<Precheck>,
    /// What an execution with changing steps holds alone; its target where absent.
    pub lock: Option<Template>,
}

/// How much may be unhealthy.
#[derive(Debug, Clone)]
pub struct MaxUnhealthy {
    /// Counts what is unhealthy.
    pub query: Template,
    /// How many, or what part.
    pub limit: Unhealthy,
    /// Counts all of them; there where `limit` is a part.
    pub of: Option<Template>,
}

/// How much that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unhealthy {
    /// So many; that many are allowed.
    Count(f64),
    /// Such a part in percent, above 0 and up to 100.
    Percent(f64),
}

/// What must hold before the first step.
#[derive(Debug, Clone)]
pub struct Precheck {
    /// The query.
    pub query: Template,
    /// What every sample must satisfy.
    pub expect: Expect,
}

/// Whether and how alerts may start a runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Disabled,
    /// Show what would run; the default, because an unreviewed runbook must not act.
    Shadow,
    /// Run once people have consented.
    Approve,
    /// Run.
    Auto,
}

impl Mode {
    /// The word in files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Shadow => "shadow",
            Self::Approve => "approve",
            Self::Auto => "auto",
        }
    }
}

/// What a resolved alert does to a running execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnResolved {
    /// Finish the step in progress, skip the changing steps that remain, then verify.
    Finish,
    /// Go on as if nothing had happened.
    Continue,
    /// Stop.
    Stop,
    /// Undo what has been done.
    Rollback,
}

/// One input.
#[derive(Debug, Clone)]
pub struct Input {
    /// `[A-Za-z_][A-Za-z0-9_]*`.
    pub name: String,
    /// Where its value comes from when the caller gives none.
    pub from: Option<InputSource>,
    /// The value when there is no other.
    pub default: Option<String>,
    /// What the whole value must match.
    pub pattern: Option<regex::Regex>,
    /// Whether it must have a value.
    pub required: bool,
}

/// Where an input's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// `labels.NAME`
    Label(String),
    /// `annotations.NAME`
    Annotation(String),
    /// `env.NAME`: a variable the caller of a manual execution gives; never the daemon's own environment.
    Env(String),
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Unique in its runbook.
    pub id: StepId,
    /// One line for people; the id where the file gives none.
    pub title: String,
    /// What it does.
    pub kind: Kind,
    /// What a crash may do to it.
    pub effect: Effect,
    /// Runs only when this is true.
    pub when: Option<Expression>,
    /// The positions of the steps that must be over before it begins; of its own sort, since a step at the
    /// end begins only when all others are over, or never will begin.
    pub after: Vec<usize>,
    /// Of one attempt; of a wait for a condition or for a person, its limit.
    pub timeout: Duration,
    /// Of all attempts together, with the pauses between them.
    pub total_timeout: Option<Duration>,
    /// Whether and when it is tried again.
    pub retry: Retry,
    /// What its failure means for the execution.
    pub on_failure: OnFailure,
    /// After an unknown outcome: success means that it happened. Only looks; a command or an http request.
    pub probe: Option<Kind>,
    /// The key of a breaker; while that is open the step fails without being tried.
    pub breaker: Option<Template>,
    /// Whether nothing before it can be undone once it has begun.
    pub irreversible: bool,
    /// Whether it runs at the end, whatever happened.
    pub is_finally: bool,
    /// It is done once for each item of a list.
    pub for_each: Option<ForEach>,
    /// What takes it back.
    pub undo: Option<Undo>,
}

/// Whether and when a failed attempt is followed by another: exponential, with full jitter.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// How many attempts in all; 1 means no retry.
    pub attempts: u32,
    /// The longest pause before the second attempt.
    pub initial: Duration,
    /// By what it grows from one attempt to the next.
    pub factor: f64,
    /// Its upper limit.
    pub max: Duration,
    /// Which failures are tried again; empty means every one whose outcome is known.
    pub retry_on: Vec<RetryOn>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            initial: Duration::from_millis(500),
            factor: 2.0,
            max: Duration::from_secs(30),
            retry_on: Vec::new(),
        }
    }
}

/// A failure that is worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// `timeout`: its time ran out.
    Timeout,
    /// `exit:75`: this exit code.
    Exit(i32),
    /// `status:503`, `status:5xx`: an answer with a status from the first to the last of these.
    Status(u16, u16),
    /// `connect`: there was no answer to judge, neither an exit code nor a status.
    Connect,
}

/// A list, and how many of its items are worked on at once.
#[derive(Debug, Clone)]
pub struct ForEach {
    /// The list.
    pub items: Items,
    /// At least 1.
    pub concurrency: usize,
}

/// Where the items of a `for_each` come from.
#[derive(Debug, Clone)]
pub enum Items {
    /// Written out; each may be a template.
    Listed(Vec<Template>),
    /// One text that holds them: a JSON list, or words between commas and blanks.
    Rendered(Template),
}

/// What takes a step back; runs in the rollback when its step has begun.
#[derive(Debug, Clone)]
pub struct Undo {
    /// What it does.
    pub kind: Kind,
    /// What a crash may do to it; an unknown outcome counts as failed.
    pub effect: Effect,
    /// Of one attempt.
    pub timeout: Duration,
    /// Whether and when it is tried again.
    pub retry: Retry,
}

/// What a failed step means for its execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Go on; the failure does not fail the execution.
    Continue,
    /// End as failed.
    Stop,
    /// Undo what has been done, then end; with nothing to undo it ends as failed.
    Rollback,
    /// Hold the execution until a person retries or skips the step, or ends it.
    Pause,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A program with arguments, no shell.
    Command(Command),
    /// A literal script; values come through `env`.
    Script(Script),
    /// One request.
    Http(Http),
    /// Time passes.
    Wait {
        /// How much.
        duration: Duration,
    },
    /// A question; its answer is `steps.X.ok`.
    Check {
        /// What is asked.
        question: Question,
        /// Whether `false` is a failure.
        must: bool,
    },
    /// A text for people.
    Instruct {
        /// Markdown, rendered.
        text: Template,
        /// Whether a person must say that it is done; the step's timeout limits the wait.
        acknowledge: bool,
    },
    /// A question to Prometheus whose every sample must satisfy the expectation.
    Promql {
        /// The query.
        query: Template,
        /// What every sample must satisfy.
        expect: Expect,
        /// How far the samples reach back; an instant query where absent.
        range: Option<Duration>,
    },
    /// Until a condition holds; the step's timeout limits the wait.
    Until(Until),
    /// A person's consent.
    Approve(Approve),
    /// Another runbook, as an execution of its own.
    Runbook {
        /// Which.
        id: RunbookId,
        /// Values for its inputs.
        inputs: BTreeMap<String, Template>,
    },
    /// A silence in Alertmanager.
    Silence(Silence),
    /// The undo of a silence: it is ended now.
    ExpireSilence,
    /// A program on another host.
    Ssh(Ssh),
    /// A message to people.
    Notify(Notify),
}

/// A condition that is asked for again and again.
#[derive(Debug, Clone)]
pub struct Until {
    /// What must hold.
    pub condition: UntilCondition,
    /// Between two questions.
    pub every: Duration,
}

/// What a wait can wait for.
#[derive(Debug, Clone)]
pub enum UntilCondition {
    /// A query and what its samples must satisfy.
    Promql {
        /// The query.
        query: Template,
        /// What every sample must satisfy.
        expect: Expect,
    },
    /// A request that must be answered as expected, by default with 2xx.
    Http(Box<Http>),
    /// The alert's resolved delivery.
    AlertResolved,
}

/// Who must consent to what.
#[derive(Debug, Clone)]
pub struct Approve {
    /// What is asked; Markdown, rendered.
    pub message: Template,
    /// By whom.
    pub approval: Approval,
}

/// The terms of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// How many different people must consent.
    pub count: u32,
    /// One of these roles is needed; empty means none in particular.
    pub roles: Vec<String>,
    /// How long the consent may take.
    pub expires: Duration,
    /// Whether whoever asked for the execution may not consent.
    pub not_requester: bool,
}

impl Default for Approval {
    fn default() -> Self {
        let expires = Duration::from_secs(30 * 60);
        Self { count: 1, roles: Vec::new(), expires, not_requester: true }
    }
}

/// A silence in Alertmanager.
#[derive(Debug, Clone)]
pub struct Silence {
    /// Alertmanager matchers, each rendered and then read.
    pub matchers: Vec<Template>,
    /// How long it lasts unless it is undone.
    pub duration: Duration,
    /// Why, for people.
    pub comment: Template,
}

/// A message to people.
#[derive(Debug, Clone)]
pub struct Notify {
    /// Notifiers and policies by name, at least one; each must take it.
    pub to: Vec<String>,
    /// What is said.
    pub message: Template,
}

/// A program on another host, by OpenSSH's client.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// A name or an address.
    pub host: Template,
    /// 22 where absent.
    pub port: Option<u16>,
    /// Who to be there.
    pub user: Template,
    /// The program; literal.
    pub program: String,
    /// Each arrives as one argument, whatever it contains.
    pub args: Vec<Template>,
    /// The name of the secret that holds the private key.
    pub key: String,
    /// The file of host keys that are accepted; absolute.
    pub known_hosts: String,
    /// Exit codes that mean success.
    pub ok_exit: Vec<i32>,
    /// Bytes kept of each stream.
    pub max_output: u64,
}

impl Kind {
    /// The word in files, metrics and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Script(_) => "script",
            Self::Http(_) => "http",
            Self::Wait { .. } => "wait",
            Self::Check { .. } => "check",
            Self::Instruct { .. } => "instruct",
            Self::Promql { .. } => "promql",
            Self::Until(_) => "wait",
            Self::Approve(_) => "approve",
            Self::Runbook { .. } => "runbook",
            Self::Silence(_) => "silence",
            Self::ExpireSilence => "expire_silence",
            Self::Ssh(_) => "ssh",
            Self::Notify(_) => "notify",
        }
    }
}

/// What a check asks.
#[derive(Debug, Clone)]
pub enum Question {
    /// An expression.
    Expr(Expression),
    /// Whether a path exists.
    FileExists(Template),
    /// Whether a program exits with an accepted code.
    Command(Command),
}

/// A program with arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// An absolute path, or a name for the fixed search path; never a template.
    pub program: String,
    /// Each becomes one argument, whatever it contains.
    pub args: Vec<Template>,
    /// Further variables of the child's environment.
    pub env: BTreeMap<String, Template>,
    /// Names of secrets, by the `NAME` whose `NAME_FILE` tells the child where it finds one.
    pub secrets: BTreeMap<String, String>,
    /// Working directory; the private one where absent.
    pub cwd: Option<Template>,
    /// What the child reads; `/dev/null` where absent.
    pub stdin: Option<Template>,
    /// Exit codes that mean success.
    pub ok_exit: Vec<i32>,
    /// Bytes kept of each stream.
    pub max_output: u64,
    /// How its process is held; all of it literal.
    pub confinement: Box<Confinement>,
}

/// A literal script.
#[derive(Debug, Clone)]
pub struct Script {
    /// The interpreter and its flags; the script's path is appended.
    pub shell: Vec<String>,
    /// The text; never a template.
    pub text: String,
    /// Environment, working directory, input and limits, as of a command without `program` and `args`.
    pub settings: Command,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Http {
    /// Upper case.
    pub method: String,
    /// Where to.
    pub url: Template,
    /// Whether the part up to the path contains a template, so that `[outgoing] allow` governs it.
    pub templated_authority: bool,
    /// Names are literal.
    pub headers: Vec<(String, Template)>,
    /// The body: text, or JSON with templates in its texts.
    pub body: Option<Body>,
    /// Accepted statuses: inclusive ranges.
    pub expect_status: Vec<(u16, u16)>,
    /// What the answer must contain.
    pub expect_json: Option<serde_json::Value>,
    /// The name of the secret that is sent as a bearer token.
    pub bearer: Option<String>,
    /// Whether redirects are followed, within the same authority.
    pub follow_redirects: bool,
}

/// A request's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// As it is.
    Text(Template),
    /// Texts within are templates.
    Json(serde_json::Value),
}

/// What decides success.
#[derive(Debug, Clone)]
pub struct Verify {
    /// What must hold.
    pub condition: Condition,
    /// How long to wait for it.
    pub within: Duration,
    /// How long it must hold without a break.
    pub hold: Duration,
}

/// What must hold.
#[derive(Debug, Clone)]
pub enum Condition {
    /// A query to Prometheus and what its samples must satisfy.
    Promql {
        /// The query.
        query: Template,
        /// What every sample must satisfy.
        expect: Expect,
    },
    /// The alert's resolved delivery.
    AlertResolved,
}
