//! Mail, by the real server of Debian's aiosmtpd: with STARTTLS and a password, and in spite of a mailbox that is gone,
//! one that wants to be asked later, and a server that says nothing at first.

use super::{BAD, states, told};
use crate::support::alerts::{LIMIT, config, fire};
use crate::support::daemon::Daemon;
use crate::support::process::{Process, free_address, program};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::process::Command;

/// A server that knows one user, speaks nothing but TLS, and treats receivers by their names.
const SERVER: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
directory, port = sys.argv[1], int(sys.argv[2])
seen, mails = {}, 0
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        times = seen[address] = seen.get(address, 0) + 1
        print("receiver", address, times, flush=True)
        if address.startswith("gone@"):
            return "550 there is no such mailbox"
        if address.startswith("later@") and times == 1:
            return "451 come back later"
        if address.startswith("mute@") and times == 1:
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        global mails
        mails += 1
        with open(f"{directory}/{envelope.rcpt_tos[0]}.{mails}", "wb") as file:
            file.write(envelope.content)
        return "250 taken"
def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"runbookd", b"hunter2")
    return AuthResult(success=good, handled=good)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory + "/cert.pem", directory + "/key.pem")
controller = Controller(Handler(), hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
                        auth_required=True, authenticator=authenticate)
controller.start()
print("it listens", flush=True)
asyncio.new_event_loop().run_forever()
"#;

struct Server {
    dir: tempfile::TempDir,
    address: String,
    process: Process,
}

impl Server {
    fn start() -> Self {
        // The module of that package, by the interpreter it was made for.
        program("aiosmtpd", "python3-aiosmtpd");
        let dir = tempfile::tempdir().unwrap();
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.path().join("ca.pem"), params.self_signed(&authority).unwrap().pem()).unwrap();
        let (issuer, key) = (Issuer::new(params, authority), KeyPair::generate().unwrap());
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("cert.pem"), cert.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(dir.path().join("server.py"), SERVER).unwrap();
        let address = free_address();
        let port = address.rsplit(':').next().unwrap().to_owned();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(dir.path().join("server.py")).arg(dir.path()).arg(&port);
        let mut process = Process::start("smtp", command, dir.path());
        let log = dir.path().join("smtp.log");
        process.wait_until(LIMIT, || fs::read_to_string(&log).is_ok_and(|said| said.contains("it listens")));
        Self { dir, address: format!("localhost:{port}"), process }
    }

    /// A daemon that mails to these, with this password.
    fn daemon(&self, to: &str, password: &str) -> Daemon {
        let config = config(&format!(
            "[automation]\nescalate_to = [\"mail\"]\n[notifiers.mail]\nkind = \"email\"\nsmtp = \"{}\"\nauth = {{ user = \"runbookd\", password = {{ env = \"MAIL\" }} }}\nfrom = \"runbookd@example.org\"\nto = [{to}]\n",
            self.address
        ));
        let ca = self.dir.path().join("ca.pem");
        Daemon::start(
            &config,
            &[("bad", BAD)],
            &[("MAIL", password), ("SSL_CERT_FILE", ca.to_str().unwrap())],
        )
    }

    /// Who has how many mails.
    fn mails(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut who: Vec<String> = names
            .filter(|name| name.contains('@'))
            .map(|name| name.split('@').next().unwrap().to_owned())
            .collect();
        who.sort();
        who
    }
}

#[test]
fn one_dead_mailbox_stops_nobody_elses_mail_and_who_has_it_is_not_sent_it_again() {
    let server = Server::start();
    let to = "\"ann@example.org\", \"gone@example.org\", \"later@example.org\", \"mute@example.org\"";
    let daemon = server.daemon(to, "hunter2");
    let id = fire(&daemon, "Down", "db-1");
    let lines = told(&daemon, &id, |lines| states(lines) == [("mail", "sent")]);
    assert_eq!(server.mails(), ["ann", "later", "mute"], "each once; {}", server.process.log());
    let error = lines[0]["error"].as_str().unwrap();
    assert!(error.contains("gone@example.org") && error.contains("550"), "it shows who has not: {error}");
    assert!(!error.contains("ann@"), "{error}");
    daemon.logged("not everybody could be told", 1);
    assert!(!daemon.log().contains("hunter2"));
}

#[test]
fn a_wrong_password_is_a_refusal_that_shows_and_is_not_shown() {
    let server = Server::start();
    let daemon = server.daemon("\"ann@example.org\"", "wrong-canary");
    let id = fire(&daemon, "Down", "db-1");
    let lines = told(&daemon, &id, |lines| states(lines) == [("mail", "failed")]);
    assert!(lines[0]["error"].as_str().unwrap().contains("535"), "{lines:?}");
    assert!(server.mails().is_empty());
    assert!(!daemon.log().contains("wrong-canary"));
}
