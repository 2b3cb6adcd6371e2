//! One execution right here, without a server: the same engine over a store in memory.
//!
//! What it prints is for the person at the terminal: output as it comes, then how it ended.

mod shown;

use super::siblings::Siblings;
use super::world::RealWorld;
use super::{Environment, SystemClock, build, load_config};
use crate::admit::{self, Request};
use crate::auth::install_crypto;
use crate::config::{Config, Overrides};
use crate::document::Problems;
use crate::engine::{Engine, Limits, Parts};
use crate::guard::Profiles;
use crate::journal::{State, Trigger, TriggerKind};
use crate::model::{Clock, ExecutionId, Labels, RunbookId, Timestamp};
use crate::runbook::{self, Pinned};
use crate::secret::Secrets;
use crate::step::{Dirs, HttpClient, Runner, Ways, forbid_new_privileges, prepare_daemon};
use crate::store::Ids;
use crate::store::MemoryStore;
use crate::store::records::{self, QueueCount, Records, transact};
use crate::telemetry::{Build, Metrics};
use shown::Shown;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What `execute` is told.
#[derive(Debug, Clone)]
pub struct ExecuteOptions {
    /// A runbook's id in the configured directory, or the path of its file.
    pub runbook: String,
    /// Labels of the alert it pretends to have.
    pub labels: BTreeMap<String, String>,
    /// Annotations of that alert.
    pub annotations: BTreeMap<String, String>,
    /// Variables for inputs `from = "env.NAME"`.
    pub env_vars: BTreeMap<String, String>,
    /// Show what would be done and do nothing.
    pub dry_run: bool,
    /// `--config.file`; for the runbooks directory, Prometheus and where requests may lead.
    pub config_file: String,
    /// Whether a person named the config file; the default one may be absent.
    pub config_given: bool,
    /// Flags that win over the file.
    pub overrides: Overrides,
    /// The environment.
    pub env: Environment,
}

/// Executes; output goes to `out`, messages to `err`. The exit code is the failed command's, else 0 or 1.
pub fn execute(options: &ExecuteOptions, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    match try_execute(options, out, err) {
        Ok(code) => code,
        Err(why) => {
            say(err, &format!("runbookd: {}\n", why.trim_end()));
            1
        }
    }
}

fn try_execute(options: &ExecuteOptions, out: &mut dyn Write, err: &mut dyn Write) -> Result<i32, String> {
    let by_path = options.runbook.contains('/') || options.runbook.ends_with(".toml");
    let config = match load_config(&options.config_file, &options.env, &options.overrides) {
        Ok((config, _)) => Some(config),
        // A runbook named by its path needs no config; one that is there must still be right.
        Err(_) if by_path && !options.config_given && !Path::new(&options.config_file).exists() => None,
        Err(problems) => return Err(problems),
    };
    let path = match &config {
        Some(config) if !by_path => config.runbooks.dir.join(format!("{}.toml", options.runbook)),
        _ => PathBuf::from(&options.runbook),
    };
    let (pinned, text) = read(&path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    prepare_daemon().map_err(|error| error.to_string())?;
    // Who runs it here runs it as who they are, root or not; but no step of it becomes more than that.
    if config.as_ref().is_none_or(|config| config.steps.no_new_privileges) {
        forbid_new_privileges().map_err(|error| error.to_string())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let code = runtime.block_on(run(options, config.as_ref(), pinned, &text, directory, out, err));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

pub(super) fn read(path: &Path) -> Result<(Pinned, String), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = RunbookId::new(stem).map_err(|error| format!("{name}: {error}"))?;
    let parsed = runbook::parse(&id, &name, &text);
    let Some(runbook) = parsed.runbook else { return Err(Problems::render(&parsed.problems, &text)) };
    let file_name = format!("{id}.toml");
    Ok((Pinned { runbook, version: 1, hash: parsed.hash, file_name }, text))
}

/// A private directory that is gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(ids: &Ids) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("runbookd-execute-{}", ids.next(SystemClock.now())));
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary directory, where it belongs.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

fn ways(config: &Config, client: &HttpClient) -> Result<Ways, String> {
    let messenger = build::messenger(config, client).map_err(|error| error.to_string())?;
    let secrets = Secrets::of_config(config.secrets.clone(), config.hidden.clone());
    build::ways(config, client, messenger, secrets).map_err(|error| error.to_string())
}

async fn run(
    options: &ExecuteOptions,
    config: Option<&Config>,
    pinned: Pinned,
    text: &str,
    directory: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<i32, String> {
    install_crypto();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = Ids::after(None);
    let now = clock.now();
    let created = created(options, &pinned, &ids, now)?;
    if options.dry_run {
        say(out, &plan(&pinned, &created));
        return Ok(0);
    }
    let scratch = Scratch::new(&ids)?;
    let dirs = Arc::new(Dirs::prepare(&scratch.0).map_err(|error| error.to_string())?);
    let client = HttpClient::build().map_err(|error| error.to_string())?;
    let (outgoing, ways) = match config {
        Some(config) => (build::outgoing(config).map_err(|error| error.to_string())?, ways(config, &client)?),
        None => (crate::step::OutgoingPolicy::default(), Ways::none(Arc::clone(&clock))),
    };
    let (prometheus, secrets) = (ways.prometheus.clone(), ways.secrets.clone());
    let runner = Arc::new(Runner::new(Arc::clone(&dirs), client, Arc::new(outgoing), ways));
    let records = Records::new(Arc::new(MemoryStore::new()));
    let stored = records.version_of(&pinned.runbook.id, &pinned.hash, &pinned.file_name, text, now).await;
    stored.map_err(|error| error.to_string())?;
    let siblings = Siblings::read(directory, &pinned, &records, now).await?;
    let id = created.id.clone();
    let first = created.clone();
    let queue = Arc::new(QueueCount::default());
    transact(&**records.store(), move |txn| records::create(txn, first.clone(), now))
        .await
        .map_err(|error| error.to_string())?;
    let engine = Engine::new(Parts {
        records: records.clone(),
        world: Arc::new(RealWorld { runner: Arc::clone(&runner), prometheus, alertmanager: None, secrets }),
        clock,
        metrics: Metrics::new(&Build { version: env!("CARGO_PKG_VERSION"), revision: "unknown" }, now),
        wake: Arc::new(Notify::new()),
        queue,
        max_running: 1,
        runbooks: Arc::new(siblings),
        ids: Arc::new(ids),
        limits: Limits {
            queue_deadline: Duration::from_secs(60),
            queue_limit: 1,
            breakers: Profiles::default(),
            guard: crate::guard::Settings::off(),
            freezes: Vec::new(),
            storm: None,
        },
    });
    let news = engine.news();
    let scheduler = tokio::spawn(engine.clone().schedule(None));
    let shown = Shown::new(engine, records, runner, dirs.outputs.clone(), pinned.runbook, id);
    let code = shown.follow(news, out, err).await;
    scheduler.abort();
    code
}

/// What is to be executed; a sentence where the runbook refuses.
fn created(
    options: &ExecuteOptions,
    pinned: &Pinned,
    ids: &Ids,
    now: Timestamp,
) -> Result<crate::journal::Created, String> {
    let request = Request {
        pinned,
        trigger: trigger(options),
        given: BTreeMap::new(),
        env: options.env_vars.clone(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, ids.next(now)),
        queue_deadline: Duration::from_secs(60),
        seed: 0,
        instance: "here",
        now,
    };
    admit::plan(request).map_err(|denial| denial.to_string())
}

fn trigger(options: &ExecuteOptions) -> Trigger {
    let labels: Labels = options.labels.clone();
    Trigger {
        kind: TriggerKind::Manual,
        alertname: labels.get("alertname").cloned(),
        fingerprint: None,
        starts_at: None,
        generator_url: String::new(),
        external_url: String::new(),
        labels,
        annotations: options.annotations.clone(),
        by: "command line".to_owned(),
        reason: None,
        of: None,
    }
}

/// What would be done, as far as it is known before the first step has run.
fn plan(pinned: &Pinned, created: &crate::journal::Created) -> String {
    let mut text = format!("{}: {}\n", pinned.runbook.id, pinned.runbook.title);
    // Writing to a String cannot fail.
    let _infallible =
        writeln!(text, "target: {}", created.target.as_ref().map_or("none", |target| target.as_str()));
    for (name, value) in &created.inputs {
        let _infallible = writeln!(text, "input {name} = {value:?}");
    }
    let state = State::new(Box::new(created.clone()), created.queue_deadline);
    for (index, step) in pinned.runbook.steps.iter().enumerate() {
        let plan = crate::engine::preview(&pinned.runbook, &state, index);
        let when = step.when.as_ref().map(|when| format!(" when {}", when.source())).unwrap_or_default();
        let _infallible = writeln!(
            text,
            "step {} ({}, {}){when}: {plan}",
            step.id,
            step.kind.as_str(),
            step.effect.as_str()
        );
    }
    text
}

fn say(to: &mut dyn Write, text: &str) {
    // A reader that has gone has read enough.
    let _gone = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
