//! A secret that a program prints, such as the client of a password store.
//!
//! It runs on a thread of its own, which outlives it, so that the daemon's reaper does not take it for an orphan. May
//! import: `rustix` (to kill). Must never: pass on what the program wrote to its standard error.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What `argv` prints within `within`, with `env` as its environment; at most `most` bytes.
///
/// # Errors
/// A sentence without any of its output.
pub(super) fn output(
    argv: &[String],
    env: &BTreeMap<String, String>,
    within: Duration,
    most: u64,
) -> Result<String, String> {
    let (program, args) = argv.split_first().ok_or("it has no program")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let running = thread::Builder::new().name("secret".to_owned()).spawn(move || run(command, within, most));
    let running = running.map_err(|error| format!("it could not be started: {error}"))?;
    running.join().map_err(|_| "it could not be waited for".to_owned())?
}

fn run(mut command: Command, within: Duration, most: u64) -> Result<String, String> {
    let began = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("it could not be started: {error}"))?;
    let (tell, told) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // Not waited for: a grandchild in a session of its own may keep the pipe open for ever.
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(most + 1).read_to_end(&mut bytes).map(|_| bytes);
            // Nobody waits after the time has passed.
            let _late = tell.send(read);
        });
    }
    let printed = told.recv_timeout(within).ok();
    let is_long = printed.iter().flatten().any(|bytes| bytes.len() as u64 > most);
    let status = if is_long { None } else { wait(&mut child, began, within) };
    let Some(status) = status else {
        end(&mut child);
        return Err(match is_long {
            true => format!("it printed more than {most} bytes"),
            false => format!("it took longer than {}", humantime::format_duration(within)),
        });
    };
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    let bytes =
        printed.ok_or_else(|| format!("it took longer than {}", humantime::format_duration(within)))?;
    let bytes = bytes.map_err(|error| format!("its output could not be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "it printed what is not UTF-8 text".to_owned())
}

/// How it ended, if it did in time.
fn wait(child: &mut Child, began: Instant, within: Duration) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if began.elapsed() < within => thread::sleep(LOOK),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Kills it, with what it started in its group.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // One that has ended by now is no harm.
        let _gone = kill_process_group(group, Signal::KILL);
    }
    let _reaped = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, within: u64) -> Result<String, String> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let env = BTreeMap::from([("WORD".to_owned(), "given".to_owned())]);
        output(&argv, &env, Duration::from_millis(within), 1000)
    }

    #[test]
    fn what_it_prints_is_bounded_in_size_and_time_and_its_errors_are_not_shown() {
        assert_eq!(
            run("echo hunter2; echo noise >&2; echo $WORD; echo $HOME", 10_000).unwrap(),
            "hunter2\ngiven\n\n"
        );
        assert_eq!(run("echo hunter2; exit 3", 10_000).unwrap_err(), "it ended with exit status: 3");
        assert_eq!(run("yes hunter2", 10_000).unwrap_err(), "it printed more than 1000 bytes");
        let began = Instant::now();
        assert_eq!(run("sleep 60 & sleep 60", 200).unwrap_err(), "it took longer than 200ms");
        assert_eq!(run("exec >&-; sleep 60", 200).unwrap_err(), "it took longer than 200ms");
        assert!(began.elapsed() < Duration::from_secs(30));
        let none = output(&["/nonexistent".to_owned()], &BTreeMap::new(), Duration::from_secs(1), 10);
        assert!(none.unwrap_err().starts_with("it could not be started: "));
    }
}
