//! The command line: verbs, flags, what they mean, and examples.
//!
//! May import: `model` (ids), `telemetry` (the log format). Must never: read the process environment; what a variable
//! may set is said in the help and resolved by the verb.

mod backup;
mod decisions;
mod executions;
mod guard;
mod import;
mod runbooks;
mod test;
mod token;

pub(super) use backup::{Restore, WhichBackup};
pub(super) use decisions::{DecisionsVerb, WhichAlert, WhichBody};
pub(super) use executions::{Act, ExecutionFilter, ExecutionsVerb, OneStep, Output, StepPart};
pub(super) use guard::{
    AuditFilter, AuditVerb, Breaker, BreakersVerb, EscalationsVerb, QuarantineVerb, Switch,
};
pub(super) use import::{AmExecutor, ImportVerb};
pub(super) use runbooks::{Begin, MappingsVerb, RunbooksVerb, SchedulesVerb};
pub(super) use test::Test;
pub(super) use token::Token;

use super::options::{CheckOptions, ExecuteOptions, ServeOptions, Settings};
use crate::model::RunbookId;
use crate::telemetry::logging::Format;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where the config is looked for.
const CONFIG_FILE: &str = "config/runbookd.toml";

const EXAMPLES: &str = "\
Examples:
  runbookd check                                   is everything right, before a restart
  runbookd serve --config.file=/etc/runbookd/runbookd.toml
  runbookd validate runbooks/service_unavailable.toml
  runbookd test runbooks/service_unavailable.test.toml
  runbookd execute service_unavailable --label instance=10.0.0.1:9100 --dry-run
  runbookd runbooks execute redis_backup --reason 'before the move' --wait
  runbookd executions list --status running
  runbookd executions follow ID                    what it does, as it happens
  runbookd executions stop ID --reason 'wrong host'
  runbookd executions approve ID --hash HASH --reason 'checked with ada'
  runbookd halt --reason 'looks wrong'             nothing goes on until unhalt
  runbookd decisions list --since 1h               why alerts did or did not become executions
  runbookd backup /var/backups/runbookd.backup     of the server at work
  export RUNBOOKD_TOKEN=$(runbookd token --subject ada --role operator --secret-file jwt.key)

Exit codes: 0 yes; 1 no (denied, failed, not found, problems found); 2 usage; 3 the server cannot be
reached; 4 not authorised.";

/// Turns Prometheus alerts into durable, guarded runbook executions.
#[derive(Debug, Parser)]
#[command(name = "runbookd", version, after_help = EXAMPLES, term_width = 100, max_term_width = 100)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the daemon. SIGHUP reloads, SIGUSR1 halts, SIGTERM drains and exits 0
    Serve(Serve),
    /// Check the config and every runbook: all problems at once, each with its place and a fix
    Check(Check),
    /// Execute one runbook right here, without a server; the exit code is the failed command's, else 0
    Execute(Execute),
    /// Check one runbook file: all errors and warnings
    Validate(Validate),
    /// Play the unit tests of runbooks: what they would do in a world that is made up
    Test(Test),
    /// Show how the server is: its state, how much it does, which alert leads to which runbook
    Status(Server),
    /// Show the runbooks the server knows, and execute one there
    Runbooks {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: RunbooksVerb,
    },
    /// Show, follow, stop, hold, approve, repeat and undo executions
    Executions {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: ExecutionsVerb,
    },
    /// Show why alerts did or did not become executions
    Decisions {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: DecisionsVerb,
    },
    /// Show what would be decided on an alert with these labels now, gate by gate; exit code 1 where nothing starts
    Explain {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        asked: WhichAlert,
    },
    /// Show what would be decided on a webhook's body; nothing is started or kept
    Simulate {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        asked: WhichBody,
    },
    /// Hold everything: nothing starts, and what is in progress stops at the end of its step
    Halt {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        order: Switch,
    },
    /// Let nothing new start; what has begun goes on
    Drain {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        order: Switch,
    },
    /// Kill everything in progress, rollbacks too, and let nothing start
    Abort {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        order: Switch,
    },
    /// Take back what was ordered by halt, drain or abort
    Unhalt {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        order: Switch,
    },
    /// Show, reset and open the circuit breakers that keep runbooks from what they do not help
    Breakers {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: BreakersVerb,
    },
    /// Show and clear the targets that automation leaves alone
    Quarantine {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: QuarantineVerb,
    },
    /// Show, set and delete what leads alerts to runbooks by their labels
    Mappings {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: MappingsVerb,
    },
    /// Show what runs by the clock
    Schedules {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: SchedulesVerb,
    },
    /// Show and take what people were told of
    Escalations {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: EscalationsVerb,
    },
    /// Show who changed what, and check that the record of it is whole
    Audit {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        verb: AuditVerb,
    },
    /// Show every setting of the server with its source
    Config(Server),
    /// Make a token to use the API with, signed here; prints only the token
    Token(Token),
    /// Make the hash of a password on stdin, for the users file; prints only the hash
    HashPassword,
    /// Copy everything durable into one file: of a server at work, or of the storage of a stopped one
    Backup {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: WhichBackup,
    },
    /// Put a backup into an empty directory; a server over it starts halted
    Restore(Restore),
    /// Make runbooks of the config of another program, in shadow mode
    Import {
        #[command(subcommand)]
        verb: ImportVerb,
    },
}

/// Which server, and how its answer is shown.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The server [env: RUNBOOKD_URL] [default: http://127.0.0.1:9796]
    #[arg(long, global = true, value_name = "URL", help_heading = "Server")]
    pub(super) url: Option<String>,
    /// A token or an API key; better in the variable, for other users see flags [env: RUNBOOKD_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Server")]
    pub(super) token: Option<String>,
    /// How data is shown: for people, or the server's answer as it is
    #[arg(long, global = true, value_enum, default_value_t = Shape::Table, help_heading = "Server")]
    pub(super) output: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Page {
    /// At most so many, 1 to 500 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(super) limit: Option<u16>,
    /// Go on where an earlier list ended
    #[arg(long)]
    pub(super) cursor: Option<String>,
}

/// The config file; the same for every verb that reads one.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The config file
    #[arg(long = "config.file", value_name = "FILE", default_value = CONFIG_FILE)]
    file: PathBuf,
    /// Set after parsing: whether the file was named.
    #[arg(skip)]
    given: bool,
}

/// Flags above the config file.
#[derive(Debug, Args)]
pub(super) struct Overrides {
    /// Where to listen [env: RUNBOOKD_SERVER__LISTEN] [config: server.listen]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    listen_address: Option<String>,
    /// Under which URL people reach it [env: RUNBOOKD_SERVER__EXTERNAL_URL]
    #[arg(long = "web.external-url", value_name = "URL")]
    external_url: Option<String>,
    /// Where the data is [env: RUNBOOKD_STORE__PATH] [config: store.path]
    #[arg(long = "storage.path", value_name = "DIR")]
    storage_path: Option<String>,
    /// TLS and users who may read, in the format of Prometheus exporters
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<String>,
    #[command(flatten)]
    runbooks: RunbooksDir,
}

#[derive(Debug, Args)]
pub(super) struct RunbooksDir {
    /// Where the runbooks are [env: RUNBOOKD_RUNBOOKS__DIR] [config: runbooks.dir]
    #[arg(long = "runbooks.dir", value_name = "DIR")]
    pub(super) dir: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    over: Overrides,
    /// Which log lines: error, warn, info, debug, trace
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// What a log line looks like: json or text
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "json", value_parser = log_format)]
    log_format: Format,
    /// Serve POST /-/reload
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    over: Overrides,
}

#[derive(Debug, Args)]
pub(super) struct Execute {
    /// The runbook's id, or the path of its file
    runbook: String,
    /// A label, as the alert would have it; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// An annotation; may be repeated
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// A variable for inputs with from = "env.K"; may be repeated
    #[arg(long = "env", value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    runbooks: RunbooksDir,
}

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// The path of its file, or its id in the directory of runbooks
    pub(super) runbook: String,
    /// A variable for inputs with from = "env.K"; may be repeated
    #[arg(long = "env", value_name = "K=V", value_parser = pair)]
    pub(super) env: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) runbooks: RunbooksDir,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    pub(super) output: Shape,
}

/// Reads the command line, the program's name first.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let named = matches.subcommand().is_some_and(|(_, verb)| {
        verb.try_contains_id("file").unwrap_or(false)
            && verb.value_source("file") == Some(ValueSource::CommandLine)
    });
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    match &mut cli.verb {
        Verb::Serve(Serve { config, .. })
        | Verb::Check(Check { config, .. })
        | Verb::Execute(Execute { config, .. })
        | Verb::Test(Test { config, .. }) => config.given = named,
        _ => {}
    }
    Ok(cli)
}

fn settings(config: ConfigFile, over: Overrides) -> Settings {
    Settings {
        file: config.file,
        file_given: config.given,
        listen_address: over.listen_address,
        external_url: over.external_url,
        storage_path: over.storage_path,
        runbooks_dir: over.runbooks.dir,
        web_config_file: over.web_config_file,
    }
}

impl From<Serve> for ServeOptions {
    fn from(args: Serve) -> Self {
        Self {
            settings: settings(args.config, args.over),
            log_level: args.log_level,
            log_format: args.log_format,
            enable_lifecycle: args.enable_lifecycle,
        }
    }
}

impl From<Check> for CheckOptions {
    fn from(args: Check) -> Self {
        Self { settings: settings(args.config, args.over) }
    }
}

impl TryFrom<Execute> for ExecuteOptions {
    type Error = String;

    fn try_from(args: Execute) -> Result<Self, String> {
        let over = Overrides {
            listen_address: None,
            external_url: None,
            storage_path: None,
            web_config_file: None,
            runbooks: args.runbooks,
        };
        Ok(Self {
            settings: settings(args.config, over),
            runbook: args.runbook,
            labels: once(args.labels, "--label")?,
            annotations: once(args.annotations, "--annotation")?,
            env: once(args.env, "--env")?,
            dry_run: args.dry_run,
        })
    }
}

/// The pairs as a map. A name given twice is a mistake that nobody would notice at night.
pub(super) fn once(pairs: Vec<(String, String)>, flag: &str) -> Result<BTreeMap<String, String>, String> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.contains_key(&name) {
            return Err(format!("{flag} gives {name:?} twice"));
        }
        map.insert(name, value);
    }
    Ok(map)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn log_format(word: &str) -> Result<Format, String> {
    Format::parse(word).ok_or_else(|| "write json or text".to_owned())
}

fn runbook_id(text: &str) -> Result<RunbookId, String> {
    let stem = text.strip_suffix(".md").or_else(|| text.strip_suffix(".toml")).unwrap_or(text);
    RunbookId::new(stem).map_err(|error| error.to_string())
}

fn not_blank(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it must not be blank".to_owned()) } else { Ok(text.to_owned()) }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration >= Duration::from_secs(1) => Ok(duration),
        Ok(_) => Err("at least 1s".to_owned()),
        Err(error) => Err(format!("{error}; write a duration such as 8h")),
    }
}
