//! Effects in the world: one attempt of one step, from finished strings to a finished outcome.
//!
//! The engine gives a [`Runner`] a [`Call`] whose templates are rendered, and gets a [`Finished`] back; what is
//! tried again, undone or recorded is the engine's. `process` owns children, `output` keeps what they print, `http`,
//! `promql` and `silence` ask other programs, `outgoing` says where a templated address may lead.
//! May import: `model`, `secret`. Must never: read the runbook or the store, render a template, or take the time from
//! anywhere but the clock in its [`Ways`].

mod alertmanager;
mod ask;
mod call;
mod command;
mod http;
mod kill;
mod lookup;
mod notify;
mod outgoing;
mod output;
mod process;
mod promql;
mod silence;
mod ssh;

pub use alertmanager::{
    AlertStanding, AlertmanagerClient, AlertmanagerError, AlertmanagerUrlError, Credential,
};
pub use call::{
    Call, CommandCall, ExpireSilenceCall, HttpCall, NotifyCall, PromqlCall, ScriptCall, SilenceCall, SshCall,
};
pub use command::SEARCH_PATH;
pub use http::{HttpClient, HttpClientError, Posted, StatusRange, judge_answer};
pub use kill::{KillSignal, Killer, kill_pair};
pub use notify::{Messenger, NotTold, Note};
pub use outgoing::{Entry, EntryError, OutgoingPolicy};
pub use output::{Captured, INLINE, Piece};
pub use process::{
    Cgroups, ChildRules, Swept, TIMEOUT_GRACE, account_number, forbid_new_privileges, prepare_daemon,
    release_memory, sweep_leftovers,
};
pub use promql::{Observation, PromClient, PromUrlError, QueryAnswer, QueryError, Sample, judge};

use crate::model::{AttemptOutcome, Clock, ExecutionId, Part, Secret, StepId};
use crate::secret::Secrets;
use output::Stream;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which attempt this is, and what every kind needs to know of it.
#[derive(Debug, Clone)]
pub struct AttemptContext {
    /// The execution.
    pub execution: ExecutionId,
    /// The step.
    pub step: StepId,
    /// Which part of the step; two parts may be under way at once.
    pub part: Part,
    /// The number of the try, from 1, counted per part.
    pub attempt: u32,
    /// The same for every run of this attempt, also after a crash; no attempt of another part has it.
    pub idempotency_key: String,
    /// How long the attempt may take; the grace of its end comes on top.
    pub timeout: Duration,
    /// prometheus-am-executor's variables for the one alert; names that do not begin with `AMX_` are left out.
    pub amx: BTreeMap<String, String>,
}

impl AttemptContext {
    /// The name of everything this attempt has on disk: `execution.step.attempt`, with the word of its part before
    /// the number where it has one. Ids are checked words, so it is a plain file name.
    fn name(&self) -> String {
        match self.part {
            Part::MAIN => format!("{}.{}.{}", self.execution, self.step, self.attempt),
            part => format!("{}.{}.{part}.{}", self.execution, self.step, self.attempt),
        }
    }

    /// The daemon's own variables. Together they are how the attempt's processes are known: the first three are
    /// those of every part of the step, the key is that of one.
    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("RUNBOOKD_EXECUTION_ID", self.execution.to_string()),
            ("RUNBOOKD_STEP", self.step.to_string()),
            ("RUNBOOKD_ATTEMPT", self.attempt.to_string()),
            ("RUNBOOKD_IDEMPOTENCY_KEY", self.idempotency_key.clone()),
        ]
    }
}

/// Where attempts work and where their output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Private directories of running attempts.
    pub work: PathBuf,
    /// Output above 2 KiB, one file per stream.
    pub outputs: PathBuf,
}

impl Dirs {
    /// Makes `work` and `outputs` below `storage`, readable by nobody else. The paths are absolute and without
    /// links, because processes of an earlier life are known by them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare(storage: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(storage)?;
        let storage = storage.canonicalize()?;
        if rustix::process::geteuid().is_root() {
            // A step that runs as another user must get to its own directory; what lies beside it stays shut.
            passable(&storage)?;
        }
        let dirs = Self { work: storage.join("work"), outputs: storage.join("outputs") };
        builder.create(&dirs.work)?;
        builder.create(&dirs.outputs)?;
        if rustix::process::geteuid().is_root() {
            passable(&dirs.work)?;
        }
        Ok(dirs)
    }
}

/// Lets others pass, but neither look nor write.
fn passable(directory: &Path) -> io::Result<()> {
    std::fs::set_permissions(directory, Permissions::from_mode(0o711))
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Succeeded, failed, timed out or stopped.
    pub outcome: AttemptOutcome,
    /// The exit code of a process that exited.
    pub exit_code: Option<i32>,
    /// The signal that ended a process.
    pub signal: Option<i32>,
    /// The status of an answer.
    pub http_status: Option<u16>,
    /// How long an answer that was no success asks to wait before the next try; at most a day.
    pub retry_after: Option<Duration>,
    /// Standard output, or the body of an answer.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// What went wrong, for people; also beside a success, when something was left behind.
    pub error: Option<String>,
}

impl Finished {
    /// Nothing was started, because of what `sentence` says.
    fn refused(sentence: String) -> Self {
        Self::bare(AttemptOutcome::Failed, Some(sentence))
    }

    /// An end without output, code or status.
    pub fn bare(outcome: AttemptOutcome, error: Option<String>) -> Self {
        Self {
            outcome,
            exit_code: None,
            signal: None,
            http_status: None,
            retry_after: None,
            stdout: Captured::default(),
            stderr: Captured::default(),
            error,
        }
    }
}

type LiveKey = (ExecutionId, StepId, Part, u32);

/// What steps reach beside processes and plain requests, and the time.
#[derive(Clone)]
pub struct Ways {
    /// What time it is: for the age of samples, the end of a silence, a date in `Retry-After`.
    pub clock: Arc<dyn Clock>,
    /// The Prometheus of `promql`.
    pub prometheus: Option<PromClient>,
    /// The Alertmanager of `silence`.
    pub alertmanager: Option<AlertmanagerClient>,
    /// Who carries the messages of `notify`.
    pub messenger: Option<Arc<dyn Messenger>>,
    /// Secrets by name, for what names one; all of them are kept out of outputs and sentences.
    pub secrets: Secrets,
}

impl Ways {
    /// Nothing but the time.
    pub fn none(clock: Arc<dyn Clock>) -> Self {
        Self { clock, prometheus: None, alertmanager: None, messenger: None, secrets: Secrets::default() }
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// A sentence, when there is none.
    fn secret(&self, name: &str) -> Result<Secret, String> {
        self.secrets.get(name).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// Carries attempts out. One for the whole daemon.
#[derive(Debug)]
pub struct Runner {
    dirs: Arc<Dirs>,
    http: HttpClient,
    outgoing: Arc<OutgoingPolicy>,
    names: Arc<dyn lookup::Names>,
    ways: Ways,
    children: Arc<ChildRules>,
    live: Arc<Mutex<HashMap<LiveKey, LiveOutput>>>,
}

impl Runner {
    /// Who carries messages to people, where somebody does.
    pub fn messenger(&self) -> Option<&Arc<dyn Messenger>> {
        self.ways.messenger.as_ref()
    }

    /// A runner that works below `dirs`.
    pub fn new(dirs: Arc<Dirs>, http: HttpClient, outgoing: Arc<OutgoingPolicy>, ways: Ways) -> Self {
        let (names, children) = (Arc::new(lookup::SystemNames), Arc::default());
        Self { dirs, http, outgoing, names, ways, children, live: Arc::default() }
    }

    /// The same, with these rules for the processes of steps.
    pub fn with_children(self, children: ChildRules) -> Self {
        Self { children: Arc::new(children), ..self }
    }

    /// Carries `call` out and tells how it ended; when it returns, nothing of it runs and its output is durable.
    ///
    /// # Cancel safety
    /// Dropped half-way, its processes are killed and its private directory is removed by a thread of its own, and
    /// its output is gone.
    pub async fn run(&self, context: &AttemptContext, call: &Call, kill: KillSignal) -> Finished {
        let mut finished = match call {
            Call::Command(call) => Box::pin(command::run_command(self, context, call, kill)).await,
            Call::Script(call) => Box::pin(command::run_script(self, context, call, kill)).await,
            Call::Http(call) => Box::pin(http::run(self, context, call, kill)).await,
            Call::Promql(call) => Box::pin(promql::run(self, context, call, kill)).await,
            Call::Silence(call) => Box::pin(silence::run(self, context, call, kill)).await,
            Call::ExpireSilence(call) => Box::pin(silence::run_expire(self, context, call, kill)).await,
            Call::Ssh(call) => Box::pin(ssh::run(self, context, call, kill)).await,
            Call::Notify(call) => Box::pin(notify::run(self, context, call, kill)).await,
        };
        // What other programs said is part of such a sentence.
        finished.error = finished.error.map(|error| self.ways.secrets.hide(&error));
        finished
    }

    /// The output of an attempt that runs right now.
    pub fn live(
        &self,
        execution: &ExecutionId,
        step: &StepId,
        part: Part,
        attempt: u32,
    ) -> Option<LiveOutput> {
        lock(&self.live).get(&(execution.clone(), step.clone(), part, attempt)).cloned()
    }

    /// The rules for the processes of steps.
    pub fn children(&self) -> &Arc<ChildRules> {
        &self.children
    }

    fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The two streams of an attempt, live until they are finished or dropped.
    fn streams(&self, context: &AttemptContext, limit: u64) -> Streams {
        let redactor = self.ways.secrets.redactor();
        let stream = |name: &str| {
            let name = format!("{}.{name}", context.name());
            Arc::new(Stream::new(&self.dirs.outputs, name, limit, &redactor))
        };
        let output = LiveOutput { stdout: stream("stdout"), stderr: stream("stderr") };
        let key = (context.execution.clone(), context.step.clone(), context.part, context.attempt);
        lock(&self.live).insert(key.clone(), output.clone());
        Streams { stdout: output.stdout, stderr: output.stderr, key, live: Arc::clone(&self.live) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The streams of a running attempt, entered in the list of live ones.
struct Streams {
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    key: LiveKey,
    live: Arc<Mutex<HashMap<LiveKey, LiveOutput>>>,
}

impl Streams {
    /// Ends both streams and makes them durable; last, what could not be kept.
    async fn finish(&self) -> (Captured, Captured, Vec<String>) {
        let (stdout, stderr) = (Arc::clone(&self.stdout), Arc::clone(&self.stderr));
        let on_disk = stdout.is_on_disk() || stderr.is_on_disk();
        let finish = move || (stdout.finish(), stderr.finish());
        let finished = if on_disk { tokio::task::spawn_blocking(finish).await } else { Ok(finish()) };
        match finished {
            Ok(((stdout, first), (stderr, second))) => {
                (stdout, stderr, first.into_iter().chain(second).collect())
            }
            Err(_) => (Captured::default(), Captured::default(), vec!["the output could not be kept".into()]),
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        lock(&self.live).remove(&self.key);
    }
}

/// Which stream of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output, or the body of an answer.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The output of a running attempt, as far as it exists.
#[derive(Debug, Clone)]
pub struct LiveOutput {
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
}

impl LiveOutput {
    /// Reads from `offset` (counted from the first byte produced) on, up to `max` bytes and 64 KiB. Short of blocking:
    /// what is on disk was written just before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, which: OutputStream, offset: u64, max: usize) -> io::Result<Piece> {
        match which {
            OutputStream::Stdout => self.stdout.read(offset, max),
            OutputStream::Stderr => self.stderr.read(offset, max),
        }
    }
}

#[cfg(test)]
mod tests;
