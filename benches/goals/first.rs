//! From the request to the first act of the first step's process, on an idle daemon.

use super::Options;
use super::daemon::{Daemon, alerts, deliver};
use super::floor::Log;
use super::numbers::{median, micros, time};
use super::report::{Bound, Row};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Writes one byte into the pipe its argument names, and nothing else: a start-up of its own would hide ours.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv) { return argc == 2 && write(open(argv[1], O_WRONLY), "x", 1) == 1 ? 0 : 1; }
"#;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let dir = tempfile::TempDir::new_in(super::machine::scratch()).unwrap();
    let (program, pipe) = (dir.path().join("mark"), dir.path().join("pipe"));
    compile(dir.path(), &program);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let arrived = listen(&pipe);
    let runbook = format!(
        "title = \"Marks\"\nmode = \"auto\"\nalerts = [\"Marks\"]\ntarget = \"{{{{ labels.instance }}}}\"\n\
         [[steps]]\nid = \"mark\"\ncommand = {{ program = {program:?}, args = [{pipe:?}] }}\n"
    );
    let daemon = Daemon::start(32, &[("marks", &runbook)]);
    let mut client = daemon.client();
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let mut log = Log::new();
        let (mut bare, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..if options.quick { 10 } else { 40 } {
            let body = alerts("Marks", 1);
            let began = Instant::now();
            log.append(body.as_bytes());
            let mut child =
                Command::new(&program).arg(&pipe).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            bare.push(micros(first(&arrived) - began));
            assert!(child.wait().unwrap().success());
            let began = Instant::now();
            deliver(&mut client, &body, 1);
            whole.push(micros(first(&arrived) - began));
            daemon.wait_until("the execution is over", |daemon| daemon.queued_and_active() == (0, 0));
        }
        ours.push(median(&whole));
        floors.push(median(&bare));
        ratios.push(median(&whole) / median(&bare));
    }
    let floor = format!("{} fdatasync + posix_spawn of the same program", time(median(&floors)));
    let what = "POST to the first act of the first process, idle, median";
    vec![Row::ratio(what, time(median(&ours)), floor, ratios, &Bound::AtMost(2.0))]
}

fn compile(dir: &Path, program: &Path) {
    let source = dir.join("mark.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let compiled = Command::new("cc").args(["-O2", "-static", "-o"]).args([program, &source]).status();
    assert!(compiled.unwrap().success(), "cc cannot compile {}", source.display());
}

/// Tells when each byte arrived.
fn listen(pipe: &Path) -> Receiver<Instant> {
    // Open for writing too, so that it never ends.
    let mut pipe = File::options().read(true).write(true).open(pipe).unwrap();
    let (send, arrived) = channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while pipe.read_exact(&mut byte).is_ok() && send.send(Instant::now()).is_ok() {}
    });
    arrived
}

fn first(arrived: &Receiver<Instant>) -> Instant {
    arrived.recv_timeout(Duration::from_secs(20)).unwrap()
}
