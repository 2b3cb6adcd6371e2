//! The demo's world: a service that can be broken, its supervisor, and the pager of whoever is on call.
//!
//! Each service is a supervisor, which writes its process id to a file, and a worker, which serves HTTP. A worker that
//! dies stays dead until SIGHUP asks for a new one, as with a service whose restarts are used up. May import: the
//! standard library, tokio and serde_json. Must never: listen on anything but loopback, or outlive the demo that
//! started it.
//!
//!     demo-target --listen 127.0.0.1:8000 --pid-file /tmp/demo/target.pid
//!     demo-target --pager 127.0.0.1:8001 --into /tmp/demo/messages

mod pager;
mod service;
mod wire;

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, io, process};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the supervisor looks whether its worker lives.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["--listen", listen, "--pid-file", file] => supervise(listen, file),
        ["--pager", listen, "--into", dir] => pager::take(listen, dir.as_ref()),
        ["worker", listen] => service::work(listen),
        _ => Err(io::Error::other(
            "usage: demo-target --listen ADDRESS --pid-file FILE, or --pager ADDRESS --into DIRECTORY",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-target: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts a worker, and another one at each SIGHUP, until SIGTERM or SIGINT.
#[tokio::main(flavor = "current_thread")]
async fn supervise(listen: &str, pid_file: &str) -> io::Result<()> {
    // Before the file exists: a signal to a process that does not wait for it would end it.
    let mut again = signal(SignalKind::hangup())?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut worker = start(listen)?;
    fs::write(pid_file, format!("{}\n", process::id()))?;
    loop {
        tokio::select! {
            _ = again.recv() => restart(&mut worker, listen)?,
            () = either(&mut term, &mut int) => break,
            () = tokio::time::sleep(LOOK) => report(&mut worker)?,
        }
    }
    if let Some(mut worker) = worker.take() {
        worker.kill()?;
        worker.wait()?;
    }
    fs::remove_file(pid_file)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// The worker holds the other end of its stdin, and goes when the supervisor is gone.
fn start(listen: &str) -> io::Result<Option<Child>> {
    let worker = Command::new(env::current_exe()?).args(["worker", listen]).stdin(Stdio::piped()).spawn()?;
    eprintln!("demo-target: started worker {}", worker.id());
    Ok(Some(worker))
}

fn report(worker: &mut Option<Child>) -> io::Result<()> {
    let Some(child) = worker else { return Ok(()) };
    if let Some(status) = child.try_wait()? {
        eprintln!("demo-target: worker {} died: {status}", child.id());
        *worker = None;
    }
    Ok(())
}

fn restart(worker: &mut Option<Child>, listen: &str) -> io::Result<()> {
    eprintln!("demo-target: SIGHUP");
    if let Some(mut old) = worker.take() {
        old.kill()?;
        old.wait()?;
    }
    *worker = start(listen)?;
    Ok(())
}
