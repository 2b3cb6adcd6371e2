//! The real PostgreSQL, on loopback, in a directory of its own.
//!
//! May import: the standard library, `tempfile`, its neighbours here. Must never: touch the machine's own cluster.

use super::process::{Process, free_address};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A server that runs while this is there. Whoever is on this machine is trusted.
pub(crate) struct Postgres {
    port: String,
    _process: Process,
    // Last, so that the server is gone before its files.
    _dir: TempDir,
}

/// A session that says something and then waits; it ends when this does.
pub(crate) struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        // The server may have ended it already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Postgres {
    /// One with so many connections.
    pub(crate) fn start(connections: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("postgres").tempdir().unwrap();
        let port = free_address().rsplit(':').next().unwrap().to_owned();
        let data = dir.path().join("data");
        run(Command::new("chmod").arg("755").arg(dir.path()));
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&data));
        }
        run(own(&tool("initdb")).args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]).arg(&data));
        let mut command = own(&tool("postgres"));
        command.arg("-D").arg(&data).args([
            "-p",
            &port,
            "-c",
            "fsync=off",
            "-c",
            "listen_addresses=127.0.0.1",
        ]);
        command.arg("-c").arg(format!("max_connections={connections}"));
        command.args(["-c", "unix_socket_directories=", "-c", "max_wal_senders=0", "-c", "autovacuum=off"]);
        let mut process = Process::start("postgres", command, dir.path());
        process.wait_until(Duration::from_secs(60), || {
            psql(&port).args(["-c", "SELECT 1"]).output().unwrap().status.success()
        });
        Self { port, _process: process, _dir: dir }
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// What it answers to a statement.
    pub(crate) fn ask(&self, statement: &str) -> String {
        let output = psql(&self.port).args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A session that has said `statements`.
    pub(crate) fn session(&self, statements: &str) -> Session {
        let mut command = psql(&self.port);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{statements}").unwrap();
        stdin.flush().unwrap();
        child.stdin = Some(stdin);
        Session(child)
    }
}

fn psql(port: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-d", "postgres"]);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program as a user that PostgreSQL runs as: it refuses to run as root.
fn own(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    command
}

/// A program of the server, which Debian keeps out of the path.
fn tool(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not installed: it is in the Debian package postgresql, which `make test` installs")
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
