//! One execution right here, without a server: the same engine over a store in memory.
//!
//! What it prints is for the person at the terminal: output as it comes, then how it ended.

use super::siblings::Siblings;
use super::world::RealWorld;
use super::{Environment, SystemClock, build, load_config};
use crate::admit::{self, Request};
use crate::auth::install_crypto;
use crate::config::{Config, Overrides};
use crate::document::Problems;
use crate::engine::verb::Actor;
use crate::engine::{Engine, Limits, Parts};
use crate::guard::Profiles;
use crate::journal::{AttemptResult, Event, State, Trigger, TriggerKind};
use crate::model::{Clock, ExecutionId, ExecutionStatus, Labels, Part, RunbookId, StepStatus};
use crate::runbook::{self, Pinned};
use crate::step::{Dirs, HttpClient, LiveOutput, OutputStream, Runner, prepare_daemon};
use crate::store::Ids;
use crate::store::MemoryStore;
use crate::store::records::{self, QueueCount, Records, transact};
use crate::telemetry::{Build, Metrics};
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

#[expect(clippy::too_many_arguments, reason = "called once, right above")]
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
    let created = admit::plan(Request {
        pinned: &pinned,
        trigger: trigger(options),
        given: BTreeMap::new(),
        env: options.env_vars.clone(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, ids.next(now)),
        queue_deadline: Duration::from_secs(60),
        seed: 0,
        instance: "here",
        now,
    })
    .map_err(|denial| denial.to_string())?;
    if options.dry_run {
        say(out, &plan(&pinned, &created));
        return Ok(0);
    }
    let scratch = Scratch::new(&ids)?;
    let dirs = Arc::new(Dirs::prepare(&scratch.0).map_err(|error| error.to_string())?);
    let client = HttpClient::build().map_err(|error| error.to_string())?;
    let (outgoing, ways) = match config {
        Some(config) => (
            build::outgoing(config).map_err(|error| error.to_string())?,
            build::ways(config, &client).map_err(|error| error.to_string())?,
        ),
        None => (crate::step::OutgoingPolicy::default(), crate::step::Ways::none(Arc::clone(&clock))),
    };
    let prometheus = ways.prometheus.clone();
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
        world: Arc::new(RealWorld { runner: Arc::clone(&runner), prometheus }),
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
        },
    });
    let news = engine.news();
    let scheduler = tokio::spawn(engine.clone().schedule(None));
    let shown = Shown { engine, records, runner, outputs: dirs.outputs.clone(), id, after: 0 };
    let code = shown.follow(news, out, err).await;
    scheduler.abort();
    code
}

fn trigger(options: &ExecuteOptions) -> Trigger {
    let labels: Labels = options.labels.clone();
    Trigger {
        kind: TriggerKind::Manual,
        alertname: labels.get("alertname").cloned(),
        fingerprint: None,
        starts_at: None,
        generator_url: String::new(),
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

/// The execution as the terminal shows it.
struct Shown {
    engine: Engine,
    records: Records,
    runner: Arc<Runner>,
    outputs: PathBuf,
    id: ExecutionId,
    after: u64,
}

impl Shown {
    async fn follow(
        mut self,
        mut news: tokio::sync::broadcast::Receiver<ExecutionId>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<i32, String> {
        let mut stopping = false;
        let mut live = Live::default();
        loop {
            let entries =
                self.records.journal(&self.id, self.after, 1000).await.map_err(|error| error.to_string())?;
            for entry in entries {
                self.after = entry.seq;
                live.show(self.running(&entry.event), out, err);
                self.show(&entry.event, &mut live, out, err);
                if matches!(entry.event, Event::Finished { .. }) {
                    return self.code(err).await;
                }
            }
            tokio::select! {
                // Lagging or not, the journal is read again.
                _ = news.recv() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => live.pump(out, err),
                _ = tokio::signal::ctrl_c(), if !stopping => {
                    stopping = true;
                    let (engine, id) = (self.engine.clone(), self.id.clone());
                    let you = Actor { subject: "command line".to_owned(), ..Actor::default() };
                    tokio::spawn(async move { engine.stop(&id, you, "interrupted").await.map(|_| ()) });
                }
            }
        }
    }

    fn running(&self, event: &Event) -> Option<LiveOutput> {
        let Event::StepIntended { step, attempt, .. } = event else { return None };
        self.runner.live(&self.id, step, Part::MAIN, *attempt)
    }

    fn show(&self, event: &Event, live: &mut Live, out: &mut dyn Write, err: &mut dyn Write) {
        match event {
            Event::StepIntended { step, attempt, plan, .. } => {
                say(err, &format!("==> {step}: {plan}\n"));
                *live = Live { wanted: Some((step.clone(), *attempt)), ..Live::default() };
                live.find(&self.runner, &self.id);
            }
            Event::AttemptFinished { result, .. } => {
                let AttemptResult { stdout, stderr, error, .. } = &**result;
                for (which, kept, seen) in [(0, stdout, live.stdout), (1, stderr, live.stderr)] {
                    let all = match &kept.file {
                        Some(name) => std::fs::read(self.outputs.join(name)).unwrap_or_default(),
                        None => kept.head.clone().into_bytes(),
                    };
                    let rest = all.get(usize::try_from(seen).unwrap_or(usize::MAX)..).unwrap_or_default();
                    let target: &mut dyn Write = if which == 0 { out } else { err };
                    let _gone = target.write_all(rest).and_then(|()| target.flush());
                }
                *live = Live::default();
                if let Some(error) = error {
                    say(err, &format!("    {error}\n"));
                }
            }
            Event::StepSkipped { step, why, .. } => {
                say(err, &format!("==> {step}: skipped ({})\n", why.as_str()))
            }
            Event::StepFinished { step, status, error, .. } => {
                let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                say(err, &format!("    {step} {status}{error}\n"));
            }
            Event::TimerStarted { step, until } => say(err, &format!("==> {step}: waits until {until}\n")),
            Event::VerifyStarted { until } => say(err, &format!("==> verify, until {until}\n")),
            Event::VerifyObserved { detail, .. } => say(err, &format!("    {detail}\n")),
            _ => {}
        }
    }

    /// The failed command's exit code, else 0 for success and 1 for anything else.
    async fn code(&self, err: &mut dyn Write) -> Result<i32, String> {
        let entries =
            self.records.journal(&self.id, 0, usize::MAX).await.map_err(|error| error.to_string())?;
        let state = State::replay(entries).map_err(|error| error.to_string())?;
        let reason = state.reason.map(|reason| format!(": {}", reason.sentence())).unwrap_or_default();
        say(err, &format!("==> {}{reason}\n", state.status));
        if state.status == ExecutionStatus::Succeeded {
            return Ok(0);
        }
        let failed = state.steps.iter().rev().find(|step| step.status == StepStatus::Failed);
        let code = failed.and_then(|step| step.last()).and_then(|attempt| attempt.result.exit_code);
        Ok(code.filter(|code| *code != 0).unwrap_or(1))
    }
}

/// What has been shown of the attempt in progress.
#[derive(Default)]
struct Live {
    wanted: Option<(crate::model::StepId, u32)>,
    output: Option<LiveOutput>,
    stdout: u64,
    stderr: u64,
}

impl Live {
    fn find(&mut self, runner: &Runner, id: &ExecutionId) {
        if let (None, Some((step, attempt))) = (&self.output, &self.wanted) {
            self.output = runner.live(id, step, Part::MAIN, *attempt);
        }
    }

    fn show(&mut self, output: Option<LiveOutput>, out: &mut dyn Write, err: &mut dyn Write) {
        if output.is_some() {
            self.output = output;
        }
        self.pump(out, err);
    }

    fn pump(&mut self, out: &mut dyn Write, err: &mut dyn Write) {
        let Some(output) = &self.output else { return };
        copy(output, OutputStream::Stdout, &mut self.stdout, out);
        copy(output, OutputStream::Stderr, &mut self.stderr, err);
    }
}

/// Writes what has come since `offset`.
fn copy(output: &LiveOutput, which: OutputStream, offset: &mut u64, to: &mut dyn Write) {
    while let Ok(piece) = output.read(which, *offset, 64 << 10)
        && !piece.bytes.is_empty()
    {
        *offset = piece.start + piece.bytes.len() as u64;
        let _gone = to.write_all(&piece.bytes).and_then(|()| to.flush());
    }
}

fn say(to: &mut dyn Write, text: &str) {
    // A reader that has gone has read enough.
    let _gone = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
