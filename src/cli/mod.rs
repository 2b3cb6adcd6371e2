//! The verbs of the program: parse the command line, run here or ask a server, end with a code that scripts read.
//!
//! `serve`, `check` and `execute` belong to the composition root, which comes in as a [`Program`]; `validate`, `import`, `token`
//! and every verb that speaks to a server over HTTP are here. Data goes to `out`, messages to `err`; whatever a server
//! says is escaped before a terminal sees it. May import: `model`, `document`, `runbook`, `import`, `auth`, `backup`,
//! `telemetry`.
//! Must never: read the process environment or the time by itself once started, or follow a redirect with a token.

mod args;
mod audit;
mod automation;
mod backup;
mod client;
mod config;
mod control;
mod decisions;
mod escalations;
mod escape;
mod executions;
mod field;
mod follow;
mod guard;
mod import;
mod json;
mod manual;
mod mappings;
mod options;
mod password;
mod people;
mod program;
mod quit;
mod runbooks;
mod schedules;
mod screen;
mod sse;
mod status;
mod table;
mod tell;
mod timeline;
mod token;
mod trial;
mod validate;
mod when;

pub use options::{CheckOptions, ExecuteOptions, ServeOptions, Settings, TestOptions};
pub use program::Daemon;

use crate::backup::Restored;
use crate::model::Clock;
use args::{Cli, Verb};
use client::Client;
use quit::{NO, Quit, USAGE, YES};
use screen::Screen;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::sync::Arc;

/// What the composition root does for the verbs that need it. Each gives the exit code of the process.
pub trait Program {
    /// Runs the daemon until it is told to end.
    fn serve(&self, options: ServeOptions) -> i32;
    /// Checks the config and every runbook, and prints every problem.
    fn check(&self, options: CheckOptions) -> i32;
    /// Executes one runbook right here, without a server.
    fn execute(&self, options: ExecuteOptions) -> i32;
    /// Plays the unit tests of runbooks, and prints what came of them.
    fn test(&self, options: TestOptions) -> i32;
    /// Checks the audit log in the storage of a stopped server; the answer is that of `GET /api/audit/verify`.
    ///
    /// # Errors
    /// A sentence, when the storage cannot be read.
    fn verify_audit(&self, storage: &Path) -> Result<serde_json::Value, String>;
    /// Writes a backup of the storage of a stopped server to `out`.
    ///
    /// # Errors
    /// A sentence, when the storage cannot be read or the backup not be written.
    fn backup(&self, storage: &Path, out: &mut dyn Write) -> Result<(), String>;
    /// Puts the backup `file` into the empty directory `storage`.
    ///
    /// # Errors
    /// A sentence, when it was not.
    fn restore(&self, file: &Path, storage: &Path) -> Result<Restored, String>;
}

/// What a verb may know of the process it runs in.
#[derive(Clone)]
pub struct Environment {
    /// The environment's variables, those that are UTF-8.
    pub variables: BTreeMap<String, String>,
    /// Whether stdout is a terminal.
    pub terminal: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Environment {
    /// The environment of this process, read once.
    pub fn of_process(clock: Arc<dyn Clock>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables, terminal: std::io::stdout().is_terminal(), clock }
    }

    /// The value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether statuses may be coloured: only on a terminal that can, and never against <https://no-color.org>.
    fn color(&self) -> bool {
        self.terminal && self.get("NO_COLOR").is_none() && self.get("TERM") != Some("dumb")
    }
}

impl fmt::Debug for Environment {
    /// Names only: a value may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.variables.keys().collect();
        f.debug_struct("Environment").field("variables", &names).field("terminal", &self.terminal).finish()
    }
}

/// Carries out the command line `args` (the program's name first) and gives the exit code: 0 yes, 1 no, 2 usage,
/// 3 the server cannot be reached, 4 not authorised. Whoever reads `out` may go away; that is no failure.
pub fn run(
    args: impl Iterator<Item = OsString>,
    env: &Environment,
    program: &dyn Program,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> i32 {
    let mut screen = Screen::new(out, err, env);
    let ended = match args::parse(args) {
        Ok(cli) => carry_out(cli, env, program, &mut screen),
        Err(error) if error.use_stderr() => {
            screen.message(&error.to_string());
            return USAGE;
        }
        // `--help` and `--version` are what was asked for, so they are data.
        Err(error) => screen.line(error.to_string().trim_end()).map(|()| YES),
    };
    match ended.and_then(|code| screen.flush().map(|()| code)) {
        Ok(code) => code,
        Err(quit) => {
            quit.tell(&mut screen);
            quit.code()
        }
    }
}

fn carry_out(
    cli: Cli,
    env: &Environment,
    program: &dyn Program,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match cli.verb {
        Verb::Serve(args) => Ok(program.serve(args.into())),
        Verb::Check(args) => Ok(program.check(args.into())),
        Verb::Execute(args) => Ok(program.execute(args.try_into().map_err(Quit::Usage)?)),
        Verb::Test(args) => Ok(program.test(args.into())),
        Verb::Validate(args) => validate::run(&args, env, screen),
        Verb::Token(args) => token::run(&args, env, screen),
        Verb::Import { verb: args::ImportVerb::AmExecutor(args) } => import::run(&args, screen),
        Verb::HashPassword => password::run(&mut std::io::stdin().lock(), screen),
        Verb::Restore(args) => backup::restore(&args, program, screen),
        Verb::Backup { server, wanted } => back_up(&server, &wanted, env, program, screen),
        Verb::Status(server) => {
            ask(&server, env, screen, async |client, screen| status::run(client, env, screen).await)
        }
        Verb::Config(server) => {
            ask(&server, env, screen, async |client, screen| config::run(client, screen).await)
        }
        Verb::Runbooks { server, verb } => {
            ask(&server, env, screen, async |client, screen| runbooks::run(client, &verb, screen).await)
        }
        Verb::Executions { server, verb } => ask(&server, env, screen, async |client, screen| {
            executions::run(client, &verb, env, screen).await
        }),
        Verb::Explain { server, asked } => {
            ask(&server, env, screen, async |client, screen| trial::explain(client, &asked, screen).await)
        }
        Verb::Simulate { server, asked } => {
            ask(&server, env, screen, async |client, screen| trial::simulate(client, &asked, screen).await)
        }
        Verb::Halt { server, order } => switch(&server, "halted", &order, env, screen),
        Verb::Drain { server, order } => switch(&server, "draining", &order, env, screen),
        Verb::Abort { server, order } => switch(&server, "aborted", &order, env, screen),
        Verb::Unhalt { server, order } => switch(&server, "running", &order, env, screen),
        Verb::Breakers { server, verb } => {
            ask(&server, env, screen, async |client, screen| guard::breakers(client, &verb, screen).await)
        }
        Verb::Quarantine { server, verb } => {
            ask(&server, env, screen, async |client, screen| guard::quarantine(client, &verb, screen).await)
        }
        Verb::Mappings { server, verb } => {
            ask(&server, env, screen, async |client, screen| mappings::run(client, &verb, screen).await)
        }
        Verb::Schedules { server, verb } => {
            ask(&server, env, screen, async |client, screen| schedules::run(client, &verb, screen).await)
        }
        Verb::Escalations { server, verb } => {
            ask(&server, env, screen, async |client, screen| escalations::run(client, &verb, screen).await)
        }
        Verb::Audit { server, verb: args::AuditVerb::Verify { storage_path: Some(path) } } => {
            audit::verify_here(&path, server.output, program, screen)
        }
        Verb::Audit { server, verb } => {
            ask(&server, env, screen, async |client, screen| audit::run(client, &verb, env, screen).await)
        }
        Verb::Decisions { server, verb } => {
            ask(&server, env, screen, async |client, screen| decisions::run(client, &verb, env, screen).await)
        }
    }
}

/// Takes a backup, of a server or without one.
fn back_up(
    server: &args::Server,
    wanted: &args::WhichBackup,
    env: &Environment,
    program: &dyn Program,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match &wanted.storage_path {
        Some(storage) => backup::here(wanted, storage, server.output, program, screen),
        None => ask(server, env, screen, async |client, screen| backup::run(client, wanted, screen).await),
    }
}

/// Sets the kill switch.
fn switch(
    server: &args::Server,
    state: &str,
    order: &args::Switch,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    ask(server, env, screen, async |client, screen| automation::run(client, state, order, env, screen).await)
}

/// Runs a verb that asks a server, on a runtime of its own that ends with it.
fn ask(
    server: &args::Server,
    env: &Environment,
    screen: &mut Screen<'_>,
    verb: impl AsyncFnOnce(&Client, &mut Screen<'_>) -> Result<i32, Quit>,
) -> Result<i32, Quit> {
    let client = Client::new(server, env)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Quit::no(format!("the runtime cannot be started: {cause}")))?;
    runtime.block_on(verb(&client, screen))
}

/// The code of a verb whose answer is yes or no.
fn yes_or_no(yes: bool) -> i32 {
    if yes { YES } else { NO }
}

#[cfg(test)]
mod tests;
