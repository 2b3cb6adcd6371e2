//! Restate as a peer: its server and a service with the same three steps, from npm, on loopback ports.
//!
//! Where it cannot be installed or started, the table says why; nothing else depends on it.

use super::client::{Client, per_second};
use super::machine;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The server's version; `benches/restate/package.json` asks for the same.
pub(crate) const VERSION: &str = "1.7.12";

/// How long installing and starting may take, each.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running server with its service.
pub(crate) struct Restate {
    children: Vec<Child>,
    ingress: String,
    // Last, so that the processes are gone before it.
    dir: TempDir,
}

/// Installs it where it is absent, and starts it.
pub(crate) fn start() -> Result<Restate, String> {
    let home = install()?;
    let program = server_in(&home).ok_or("Restate not measured: npm has no server for this machine")?;
    let dir = TempDir::new_in(machine::scratch()).map_err(|error| error.to_string())?;
    let [ingress, admin, node, service] = free_addresses();
    let (_, port) = service.rsplit_once(':').unwrap();
    let mut restate = Restate { children: Vec::new(), ingress, dir };
    let mut server = Command::new(program);
    server
        .args(["--node-name", "bench", "--listen-mode", "tcp", "--base-dir"])
        .arg(restate.dir.path().join("data"))
        .env("RESTATE_INGRESS__BIND_ADDRESS", &restate.ingress)
        .env("RESTATE_ADMIN__BIND_ADDRESS", &admin)
        .env("RESTATE_BIND_ADDRESS", &node)
        .env("RESTATE_ADVERTISED_ADDRESS", format!("http://{node}"))
        .env("RESTATE_LOG_FILTER", "warn")
        .env("DO_NOT_TRACK", "1");
    restate.launch(server, "server")?;
    let mut steps = Command::new("node");
    steps
        .arg(home.join("three-steps.mjs"))
        .arg(port)
        .env("NODE_ENV", "production")
        .env("RESTATE_LOGGING", "ERROR");
    restate.launch(steps, "service")?;
    restate.register(&admin, &service)?;
    Ok(restate)
}

/// Where the packages are; npm fetches them the first time.
fn install() -> Result<PathBuf, String> {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/restate");
    let home = machine::scratch().join("restate");
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    for file in ["package.json", "three-steps.mjs"] {
        fs::copy(ours.join(file), home.join(file)).map_err(|error| error.to_string())?;
    }
    if server_in(&home).is_some() {
        return Ok(home);
    }
    let npm = Command::new("timeout")
        .arg(PATIENCE.as_secs().to_string())
        .args([
            "npm",
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--silent",
        ])
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match npm {
        Ok(status) if status.success() => Ok(home),
        _ => Err("Restate not measured: npm is absent or could not install it".to_owned()),
    }
}

/// The server itself: the script npm puts before it would outlive our kill with it.
fn server_in(home: &Path) -> Option<PathBuf> {
    let packages = fs::read_dir(home.join("node_modules/@restatedev")).ok()?.flatten();
    packages.map(|package| package.path().join("bin/restate-server")).find(|program| program.is_file())
}

/// Ports the system has just given and taken back: ours for the next moment.
fn free_addresses() -> [String; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

impl Restate {
    /// Its handlers: steps that start `/bin/true`, and steps that do nothing.
    pub(crate) const HANDLERS: [&str; 2] = ["spawned", "empty"];

    fn launch(&mut self, mut command: Command, name: &str) -> Result<(), String> {
        let log = File::create(self.dir.path().join(name)).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.children.push(child.map_err(|error| format!("Restate not measured: its {name}: {error}"))?);
        Ok(())
    }

    fn register(&self, admin: &str, service: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let body = format!("{{\"uri\":\"http://{service}\"}}");
        while Instant::now() < until {
            let registered = Client::connect(admin).and_then(|mut client| client.post("/deployments", &body));
            let called = || Client::connect(&self.ingress)?.post("/steps/spawned", "{}");
            if registered.is_ok_and(|answer| answer.status < 300)
                && called().is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err("Restate not measured: it did not take its service in time".to_owned())
    }

    /// How many calls of `handler` a second come to their end.
    pub(crate) fn per_second(&self, handler: &str, concurrency: usize, seconds: f64) -> f64 {
        let path = format!("/steps/{handler}");
        per_second(concurrency, seconds, |_| {
            let (mut client, path) = (Client::connect(&self.ingress).unwrap(), path.clone());
            move || assert_eq!(client.post(&path, "{}").unwrap().status, 200)
        })
    }
}

impl Drop for Restate {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
