//! The real OpenSSH server, run by whoever runs the test, for that user and one key.
//!
//! May import: the standard library, `rustix`, `tempfile`, its neighbours here. Must never: touch the keys and the
//! configuration of this machine's own sshd.

use super::process::{Process, free_address, program};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A running sshd.
pub(crate) struct Sshd {
    process: Process,
    port: u16,
    user: String,
    dir: TempDir,
}

impl Sshd {
    /// Starts one on a free port of the loopback address, with new keys.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let (_, port) = address.rsplit_once(':').unwrap();
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap().trim().to_owned();
        for name in ["host", "user", "stranger"] {
            new_key(&dir.path().join(name));
        }
        if rustix::process::geteuid().is_root() {
            // Of a privileged sshd, for its unprivileged half; its package makes it when the service starts.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let file = |name: &str| dir.path().join(name).display().to_string();
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nPrintMotd no\nAllowUsers {user}\n",
            file("host"),
            file("authorized_keys")
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        let mut command = Command::new(program("sshd", "openssh-server"));
        command.args(["-D", "-e", "-f"]).arg(dir.path().join("sshd_config"));
        let mut process = Process::start("sshd", command, dir.path());
        process.wait_until(Duration::from_secs(30), || TcpStream::connect(&address).is_ok());
        let sshd = Self { process, port: port.parse().unwrap(), user, dir };
        let host_key = fs::read_to_string(sshd.dir.path().join("host.pub")).unwrap();
        sshd.write_known_hosts("known_hosts", &format!("[127.0.0.1]:{port}"), &host_key);
        let other = fs::read_to_string(sshd.dir.path().join("stranger.pub")).unwrap();
        sshd.write_known_hosts("wrong_hosts", &format!("[127.0.0.1]:{port}"), &other);
        sshd.write_known_hosts("other_hosts", "elsewhere.example.org", &host_key);
        sshd
    }

    fn write_known_hosts(&self, file: &str, host: &str, key: &str) {
        fs::write(self.dir.path().join(file), format!("{host} {key}")).unwrap();
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Who may come in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The path of `known_hosts`, which has its key; of `wrong_hosts`, which has another for it; or of
    /// `other_hosts`, which does not know it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The private key `user`, which it accepts, or `stranger`, which it does not.
    pub(crate) fn key(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

fn new_key(path: &Path) {
    let status = Command::new(program("ssh-keygen", "openssh-client"))
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}
