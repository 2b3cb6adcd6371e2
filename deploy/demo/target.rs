//! The demo's service: a supervisor, and a worker that serves HTTP and can be made to crash.
//!
//! The supervisor writes its process id to a file and starts the worker; a worker that dies stays dead until
//! SIGHUP asks for a new one, as with a service whose restarts are used up. May import: the standard library
//! and tokio. Must never: listen on anything but loopback, or outlive the demo that started it.
//!
//!     demo-target --listen 127.0.0.1:8000 --pid-file /tmp/demo/target.pid

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the supervisor looks whether its worker lives.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["--listen", listen, "--pid-file", file] => supervise(listen, file),
        ["worker", listen] => work(listen),
        _ => Err(io::Error::other("usage: demo-target --listen ADDRESS --pid-file FILE")),
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

/// Serves until somebody posts to `/break`.
fn work(listen: &str) -> io::Result<()> {
    let address: SocketAddr = listen.parse().map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        return Err(io::Error::other("the demo listens on loopback only"));
    }
    let listener = TcpListener::bind(address)?;
    thread::spawn(|| {
        // Nothing is ever sent: this returns when the supervisor is gone.
        let _end = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let started = Instant::now();
    let mut served = 0_u64;
    for stream in listener.incoming() {
        served += 1;
        if let Err(error) = answer(stream?, served, started.elapsed()) {
            eprintln!("demo-target: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, served: u64, uptime: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut lines = BufReader::new((&stream).take(16 << 10)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the head: closing on unread bytes would reset the connection.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    drop(lines);
    let mut words = request.split(' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/health")) => ("200 OK", "{\"status\":\"ok\"}\n".to_owned()),
        (Some("GET"), Some("/metrics")) => ("200 OK", metrics(served, uptime)),
        (Some("POST"), Some("/break")) => {
            eprintln!("demo-target: asked to break, so it does");
            process::abort();
        }
        _ => ("404 Not Found", "GET /health, GET /metrics, POST /break\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn metrics(served: u64, uptime: Duration) -> String {
    format!(
        "# HELP demo_requests_total Requests served since the start.\n# TYPE demo_requests_total counter\n\
         demo_requests_total {served}\n# HELP demo_uptime_seconds Time since the start.\n\
         # TYPE demo_uptime_seconds gauge\ndemo_uptime_seconds {:.3}\n",
        uptime.as_secs_f64()
    )
}
