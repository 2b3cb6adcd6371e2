//! The kinds `command` and `script`: from rendered strings to a finished attempt.
//!
//! Nothing here is parsed by a shell: a program is a path, an argument is a string, and the text of a script is a
//! file. May import: `model`. Must never: pass on anything of the daemon's own environment.

use super::output::{Captured, Stream};
use super::process::{Cause, Child, Confined, Ended, PrivateDir, Start, confine};
use super::{AttemptContext, CommandCall, Finished, KillSignal, Runner, ScriptCall};
use crate::model::{AttemptOutcome, Confinement, env_name_problem};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

/// Where a bare program name is looked up, and the child's own `PATH`.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest string exec takes (MAX_ARG_STRLEN, with its NUL).
const STRING_MAX: usize = 128 * 1024 - 1;

/// How long output may still arrive after every writer should be dead.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// One read from a pipe; as much as a pipe holds.
const READ: usize = 64 * 1024;

/// What all kinds that start a process have in common.
pub(super) struct Plan<'a> {
    pub(super) program: &'a str,
    pub(super) args: &'a [String],
    /// The script's text, written to a file whose path is the last argument.
    pub(super) script: Option<&'a str>,
    /// Files of the private directory.
    pub(super) files: &'a [HomeFile],
    pub(super) env: &'a BTreeMap<String, String>,
    /// Names of secrets, by the variable that holds the path of its file, less its `_FILE`.
    pub(super) secrets: &'a BTreeMap<String, String>,
    pub(super) cwd: Option<&'a Path>,
    pub(super) stdin: Option<&'a [u8]>,
    pub(super) ok_exit: &'a [i32],
    pub(super) max_output: u64,
    /// How the process is held; `None` for a program of ours, which is not the runbook's choice.
    pub(super) confinement: Option<&'a Confinement>,
}

/// A file that lies in the private directory before the process starts, readable by nobody else. Perhaps a secret.
pub(super) struct HomeFile {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Runs a `command`.
pub(super) async fn run_command(
    runner: &Runner,
    context: &AttemptContext,
    call: &CommandCall,
    kill: KillSignal,
) -> Finished {
    let plan = Plan {
        program: &call.program,
        args: &call.args,
        script: None,
        files: &[],
        env: &call.env,
        secrets: &call.secrets,
        cwd: call.cwd.as_deref(),
        stdin: call.stdin.as_deref(),
        ok_exit: &call.ok_exit,
        max_output: call.max_output,
        confinement: Some(&*call.confinement),
    };
    run(runner, context, &plan, kill).await
}

/// Runs a `script`.
pub(super) async fn run_script(
    runner: &Runner,
    context: &AttemptContext,
    call: &ScriptCall,
    kill: KillSignal,
) -> Finished {
    let Some((program, args)) = call.shell.split_first() else {
        return Finished::refused("the script's shell is empty".into());
    };
    let plan = Plan {
        program,
        args,
        script: Some(&call.text),
        files: &[],
        env: &call.env,
        secrets: &call.secrets,
        cwd: call.cwd.as_deref(),
        stdin: call.stdin.as_deref(),
        ok_exit: &call.ok_exit,
        max_output: call.max_output,
        confinement: Some(&*call.confinement),
    };
    run(runner, context, &plan, kill).await
}

/// Carries a plan out.
pub(super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    plan: &Plan<'_>,
    kill: KillSignal,
) -> Finished {
    let begun = match hold(runner, context, plan).await {
        Ok(confined) => begin(runner, context, plan, confined),
        Err(sentence) => Err(sentence),
    };
    let started = match begun {
        Ok(started) => started,
        Err(sentence) => return Finished::refused(sentence),
    };
    let Started { child, out, err } = started;
    let streams = runner.streams(context, plan.max_output);
    let mut drains = JoinSet::new();
    drains.spawn(drain(out, Arc::clone(&streams.stdout)));
    drains.spawn(drain(err, Arc::clone(&streams.stderr)));
    let ended = child.supervise(context.timeout, kill).await;
    let drained = tokio::time::timeout(DRAIN_WITHIN, async { while drains.join_next().await.is_some() {} });
    let cut_off = drained.await.is_err();
    drains.abort_all();
    let (stdout, stderr, mut problems) = streams.finish().await;
    if cut_off {
        problems.push("a process still held the output open when the step was over".into());
    }
    finished(ended, plan, context.timeout, stdout, stderr, problems).await
}

struct Started {
    child: Child,
    out: pipe::Receiver,
    err: pipe::Receiver,
}

/// How the process is to be held.
async fn hold(runner: &Runner, context: &AttemptContext, plan: &Plan<'_>) -> Result<Confined, String> {
    let Some(wish) = plan.confinement else { return Ok(Confined::default()) };
    let (rules, timeout) = (Arc::clone(runner.children()), context.timeout);
    let home = runner.dirs().work.join(context.name());
    let confined = if wish.user.is_some() {
        // A directory service may be asked for the user.
        let wish = wish.clone();
        let asked = tokio::task::spawn_blocking(move || confine(&wish, &rules, timeout, &home)).await;
        asked.unwrap_or_else(|_| Err("the search for its user failed".into()))
    } else {
        confine(wish, &rules, timeout, &home)
    };
    confined.map_err(|why| format!("{} was not started: {why}", plan.program))
}

/// Checks, makes the private directory and starts the child.
fn begin(
    runner: &Runner,
    context: &AttemptContext,
    plan: &Plan<'_>,
    confined: Confined,
) -> Result<Started, String> {
    let program = find_program(plan.program)?;
    if let Some(cwd) = plan.cwd
        && !(cwd.is_absolute() && cwd.is_dir())
    {
        return Err(format!("the working directory {} is not an existing absolute path", cwd.display()));
    }
    check_strings(plan)?;
    let home = PrivateDir::create(&runner.dirs().work, &context.name())
        .map_err(|cause| format!("the private directory could not be made: {cause}"))?;
    let mut argv = vec![c_string("the program", plan.program.as_bytes())?];
    for (index, arg) in plan.args.iter().enumerate() {
        argv.push(c_string(&format!("argument {}", index + 1), arg.as_bytes())?);
    }
    if let Some(text) = plan.script {
        let path = home.path().join("script");
        write(&path, text.as_bytes(), 0o700)
            .map_err(|cause| format!("the script could not be written: {cause}"))?;
        argv.push(c_string("the script's path", path.as_os_str().as_bytes())?);
    }
    for file in plan.files {
        let written = write(&home.path().join(file.name), &file.bytes, 0o600);
        written.map_err(|cause| format!("the file {} could not be written: {cause}", file.name))?;
    }
    let secrets = secret_files(runner, plan, home.path())?;
    if let Some(owner) = confined.owner() {
        home.give_to(owner)
            .map_err(|cause| format!("the private directory could not be given to its user: {cause}"))?;
    }
    let start = Start {
        program: c_string("the program", program.as_os_str().as_bytes())?,
        argv,
        env: environment(context, plan, &secrets, home.path())?,
        cwd: c_string("the working directory", plan.cwd.unwrap_or(home.path()).as_os_str().as_bytes())?,
        stdin: plan.stdin.map(input).transpose().map_err(|cause| format!("no standard input: {cause}"))?,
        variables: context.variables().into(),
        confined,
        name: context.name(),
    };
    let could_not = |cause: io::Error| match cause.raw_os_error() {
        Some(libc::E2BIG) => format!(
            "{} was not started: its arguments and environment together are larger than the kernel allows",
            plan.program
        ),
        _ => format!("{} could not be started: {cause}", plan.program),
    };
    let (out, out_child) = pipe_pair().map_err(could_not)?;
    let (err, err_child) = pipe_pair().map_err(could_not)?;
    let groups = runner.children().cgroups.as_ref();
    let child = Child::start(&start, groups, home, &out_child, &err_child).map_err(could_not)?;
    Ok(Started { child, out, err })
}

/// The path of `program`: itself when absolute, else the first executable of that name in [`SEARCH_PATH`].
fn find_program(program: &str) -> Result<PathBuf, String> {
    if program.contains('\0') {
        return Err("the program has a NUL byte in it".into());
    }
    if program.starts_with('/') {
        return Ok(program.into());
    }
    if program.is_empty() || program.contains('/') {
        return Err(format!("the program {program:?} is neither an absolute path nor a bare name"));
    }
    SEARCH_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
        .ok_or_else(|| format!("there is no program {program:?} in {SEARCH_PATH}"))
}

fn check_strings(plan: &Plan<'_>) -> Result<(), String> {
    for (name, value) in plan.env {
        if let Some(problem) = env_name_problem(name) {
            return Err(format!("the environment variable {name:?} is refused: {problem}"));
        }
        // The kernel's limit is for the whole `NAME=value`.
        if name.len() + 1 + value.len() > STRING_MAX {
            return Err(too_long(&format!("the environment variable {name}"), value.len()));
        }
    }
    if plan.script.is_some_and(|text| text.contains('\0')) {
        return Err("the script has a NUL byte in it".into());
    }
    Ok(())
}

fn too_long(what: &str, length: usize) -> String {
    format!("{what} has {length} bytes; the kernel takes at most {STRING_MAX} in one string")
}

fn c_string(what: &str, bytes: &[u8]) -> Result<CString, String> {
    if bytes.len() > STRING_MAX {
        return Err(too_long(what, bytes.len()));
    }
    CString::new(bytes).map_err(|_| format!("{what} has a NUL byte in it"))
}

/// The child's whole environment. Later entries win, so that a runbook may set `HOME`, `PATH` and `LANG` itself.
fn environment(
    context: &AttemptContext,
    plan: &Plan<'_>,
    secrets: &BTreeMap<String, PathBuf>,
    home: &Path,
) -> Result<Vec<CString>, String> {
    let mut all: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let own = context.variables();
    all.insert("PATH", SEARCH_PATH.as_bytes());
    all.insert("HOME", home.as_os_str().as_bytes());
    all.insert("LANG", b"C.UTF-8");
    // Computed from labels by the caller; the prefix makes sure that they can be nothing else.
    let alert = context.amx.iter().filter(|(name, _)| name.starts_with("AMX_"));
    for (name, value) in alert.chain(plan.env) {
        all.insert(name, value.as_bytes());
    }
    for (name, path) in secrets {
        all.insert(name, path.as_os_str().as_bytes());
    }
    for (name, value) in &own {
        all.insert(name, value.as_bytes());
    }
    all.iter()
        .map(|(name, value)| {
            c_string(&format!("the environment variable {name}"), &[name.as_bytes(), b"=", value].concat())
        })
        .collect()
}

/// Writes each secret into a file that nobody else can read; gives the variables that hold the paths.
fn secret_files(runner: &Runner, plan: &Plan<'_>, home: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut paths = BTreeMap::new();
    for (name, secret_name) in plan.secrets {
        let secret = runner.ways.secret(secret_name)?;
        let variable = format!("{name}_FILE");
        if let Some(problem) = env_name_problem(&variable) {
            return Err(format!("the environment variable {variable:?} is refused: {problem}"));
        }
        let path = home.join(format!("secret.{name}"));
        write(&path, secret.expose().as_bytes(), 0o600).map_err(|cause| {
            format!("the file of the secret {secret_name:?} could not be written: {cause}")
        })?;
        paths.insert(variable, path);
    }
    Ok(paths)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)
}

/// A file that exists in memory only, so that writing never waits for the child to read.
fn input(bytes: &[u8]) -> io::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn pipe_pair() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, childs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, childs))
}

/// Reads to the end. The buffer lives only while there is something to read, so that a silent child costs none.
async fn drain(pipe: pipe::Receiver, stream: Arc<Stream>) {
    while pipe.readable().await.is_ok() {
        let mut buffer = vec![0; READ];
        let count = match pipe.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        stream.take(buffer, count).await;
    }
}

async fn finished(
    ended: Ended,
    plan: &Plan<'_>,
    timeout: Duration,
    stdout: Captured,
    stderr: Captured,
    mut problems: Vec<String>,
) -> Finished {
    let Ended { cause, code, signal, survivors, home } = ended;
    if !survivors.is_empty() {
        problems.push(format!("these survived SIGKILL: {}", survivors.join(", ")));
    }
    if let Some(mut home) = home
        && !home.remove_if_empty()
    {
        match tokio::task::spawn_blocking(move || home.remove()).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => {
                problems.push(format!("the private directory could not be removed: {cause}"));
            }
            Err(_) => problems.push("the private directory could not be removed".into()),
        }
    }
    let is_ok = code.is_some_and(|code| code == 0 || plan.ok_exit.contains(&code));
    let (outcome, mut error) = match cause {
        Cause::Itself if is_ok => (AttemptOutcome::Succeeded, String::new()),
        Cause::Itself => (AttemptOutcome::Failed, how_it_ended(code, signal)),
        Cause::Timeout => {
            let after = humantime::format_duration(timeout);
            (AttemptOutcome::TimedOut, format!("it was killed after its timeout of {after}"))
        }
        Cause::Kill => (AttemptOutcome::Stopped, "it was killed on request".to_owned()),
    };
    for problem in problems {
        error.push_str(if error.is_empty() { "" } else { "; " });
        error.push_str(&problem);
    }
    Finished {
        outcome,
        exit_code: code,
        signal,
        http_status: None,
        retry_after: None,
        stdout,
        stderr,
        error: (!error.is_empty()).then_some(error),
    }
}

fn how_it_ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("it exited with {code}"),
        (_, Some(signal)) => format!("it was ended by signal {signal}"),
        _ => "it ended in an unknown way".into(),
    }
}
