//! The kind `ssh`: a program on another host, by OpenSSH's client as a process like any other.
//!
//! The client reads no configuration, asks nobody, uses one key and accepts only host keys it is given. Key and host
//! keys lie in the attempt's private directory under names of our own, so that no path is ever part of an option.
//! A killed or timed-out attempt ends the client; what the program there does then is up to it and its sshd.
//! May import: `model`. Must never: put a key into an argument, the environment or a sentence, or let a value from
//! a template be read as an option or by the remote shell.

use super::command::{HomeFile, Plan, run as run_process};
use super::{AttemptContext, Finished, KillSignal, Runner, SshCall, lookup};
use crate::model::AttemptOutcome;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The exit code of the client itself. The program there may exit with it too, or be ended by a signal; nothing
/// tells these apart, and the careful reading is that it is not known what happened there.
const CLIENT_FAILED: i32 = 255;

/// The largest file of host keys, in bytes.
const KNOWN_HOSTS_MAX: u64 = 4 * 1024 * 1024;

/// The longest remote command, in bytes: the client gets it as one string from the kernel.
const COMMAND_MAX: usize = 128 * 1024 - 1;

/// The longest name of a user, in bytes.
const USER_MAX: usize = 64;

/// How long a connection may take to be made; of a short timeout at most half.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Options that hold for every call. Each is what it is whatever the client's defaults become.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UserKnownHostsFile=known_hosts",
    "GlobalKnownHostsFile=/dev/null",
    "KnownHostsCommand=none",
    "VerifyHostKeyDNS=no",
    "UpdateHostKeys=no",
    "CanonicalizeHostname=no",
    "PreferredAuthentications=publickey",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "IdentitiesOnly=yes",
    "IdentityFile=key",
    "IdentityAgent=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ProxyCommand=none",
    "RequestTTY=no",
    "EscapeChar=none",
    // A network that has gone is noticed within a minute and a half, not only at the timeout.
    "ServerAliveInterval=30",
    "ServerAliveCountMax=3",
    "ConnectionAttempts=1",
    // The sender's banner is not the program's output.
    "LogLevel=ERROR",
];

/// Runs an `ssh` attempt.
pub(super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    call: &SshCall,
    mut kill: KillSignal,
) -> Finished {
    let address = tokio::select! {
        biased;
        address = address(runner, call) => address,
        _ = kill.asked() => return stopped(),
        () = tokio::time::sleep(context.timeout) => return timed_out(context.timeout),
    };
    let prepared = address.and_then(|address| prepare(runner, context, call, address));
    let (args, files) = match prepared {
        Ok(prepared) => prepared,
        Err(sentence) => return Finished::refused(sentence),
    };
    let plan = Plan {
        program: "ssh",
        args: &args,
        script: None,
        files: &files,
        env: &BTreeMap::new(),
        secrets: &BTreeMap::new(),
        cwd: None,
        stdin: None,
        ok_exit: &call.ok_exit,
        max_output: call.max_output,
        confinement: None,
    };
    explain(run_process(runner, context, &plan, kill).await)
}

/// Checks the host; gives the address to connect to when its name came out of a template. The allow-list has
/// allowed every address the name has; the client is given the first, because it takes one.
async fn address(runner: &Runner, call: &SshCall) -> Result<Option<IpAddr>, String> {
    check_host(&call.host)?;
    if !call.templated_host {
        return Ok(None);
    }
    let allowed =
        lookup::allowed(&*runner.names, &runner.outgoing, &call.host, call.port, "the ssh host").await?;
    Ok(allowed.and_then(|addresses| addresses.into_iter().next()))
}

type Prepared = (Vec<String>, [HomeFile; 2]);

fn prepare(
    runner: &Runner,
    context: &AttemptContext,
    call: &SshCall,
    address: Option<IpAddr>,
) -> Result<Prepared, String> {
    check_user(&call.user)?;
    let command = remote_command(&call.program, &call.args)?;
    let secret = runner.ways.secret(&call.key)?;
    let known_hosts = read_known_hosts(&call.known_hosts)?;
    // The client wants the line end that the secret has lost on its way.
    let key = format!("{}\n", secret.expose().trim_end()).into_bytes();
    let files = [HomeFile { name: "key", bytes: key }, HomeFile { name: "known_hosts", bytes: known_hosts }];
    Ok((arguments(context.timeout, call, address, command), files))
}

fn arguments(timeout: Duration, call: &SshCall, address: Option<IpAddr>, command: String) -> Vec<String> {
    let mut args: Vec<String> = ["-F", "none"].map(String::from).into();
    let mut option = |text: String| args.extend(["-o".to_owned(), text]);
    OPTIONS.iter().for_each(|text| option((*text).to_owned()));
    let connect = (timeout / 2).min(CONNECT_WITHIN).as_secs().max(1);
    option(format!("ConnectTimeout={connect}"));
    if let Some(address) = address {
        // Connects to what was checked, and looks for the host key under the name all the same.
        let alias =
            if call.port == 22 { call.host.clone() } else { format!("[{}]:{}", call.host, call.port) };
        option(format!("HostName={address}"));
        option(format!("HostKeyAlias={alias}"));
    }
    args.extend(["-T", "-l", &call.user, "-p", &call.port.to_string(), "--", &call.host].map(String::from));
    args.push(command);
    args
}

/// A name or an address, and nothing else that the client could read into it.
fn check_host(host: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_name = host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label);
    if is_name || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{:?} is not a host: write a name or an address, without user and port", short(host)))
}

fn check_user(user: &str) -> Result<(), String> {
    let fits = (1..=USER_MAX).contains(&user.len())
        && !user.starts_with('-')
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits { Ok(()) } else { Err(format!("{:?} is not a user: use A-Z a-z 0-9 . _ -", short(user))) }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The one string that the shell of the user there reads, in which every word stands in single quotes: to a POSIX
/// shell nothing within them means anything but itself.
fn remote_command(program: &str, args: &[String]) -> Result<String, String> {
    let mut command = String::new();
    for (index, word) in std::iter::once(program).chain(args.iter().map(String::as_str)).enumerate() {
        if word.contains('\0') {
            let which = if index == 0 { "the program".to_owned() } else { format!("argument {index}") };
            return Err(format!("{which} has a NUL byte in it"));
        }
        if index > 0 {
            command.push(' ');
        }
        command.push('\'');
        command.push_str(&word.replace('\'', r"'\''"));
        command.push('\'');
    }
    if program.trim().is_empty() {
        return Err("the program is blank".into());
    }
    if command.len() > COMMAND_MAX {
        let length = command.len();
        return Err(format!(
            "program and arguments have {length} bytes when quoted; at most {COMMAND_MAX} fit"
        ));
    }
    Ok(command)
}

fn read_known_hosts(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("the file of host keys {} cannot be used: {why}", path.display());
    if !path.is_absolute() {
        return Err(wrong("the path is not absolute".into()));
    }
    // A pipe in its place must not hold the runtime.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|cause| wrong(cause.to_string()))?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(wrong("it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(KNOWN_HOSTS_MAX + 1).read_to_end(&mut bytes).map_err(|cause| wrong(cause.to_string()))?;
    if bytes.len() as u64 > KNOWN_HOSTS_MAX {
        return Err(wrong(format!("it is larger than {KNOWN_HOSTS_MAX} bytes")));
    }
    Ok(bytes)
}

/// Tells a failure of the client from one of the program there.
fn explain(mut finished: Finished) -> Finished {
    if finished.exit_code != Some(CLIENT_FAILED) {
        return finished;
    }
    finished.exit_code = None;
    if matches!(finished.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed) {
        finished.outcome = AttemptOutcome::Failed;
        let said = String::from_utf8_lossy(&finished.stderr.head).into_owned();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(short);
        let why =
            last.unwrap_or_else(|| "it said nothing; the program there may have been killed".to_owned());
        let rest =
            finished.error.take().and_then(|error| error.split_once("; ").map(|(_, rest)| rest.to_owned()));
        let rest = rest.map(|rest| format!("; {rest}")).unwrap_or_default();
        finished.error = Some(format!("the ssh connection failed: {why}{rest}"));
    }
    finished
}

fn stopped() -> Finished {
    let refused = Finished::refused("it was stopped on request".into());
    Finished { outcome: AttemptOutcome::Stopped, ..refused }
}

fn timed_out(timeout: Duration) -> Finished {
    let after = humantime::format_duration(timeout);
    let refused = Finished::refused(format!("its timeout of {after} passed while looking up the host"));
    Finished { outcome: AttemptOutcome::TimedOut, ..refused }
}

#[cfg(test)]
mod tests;
