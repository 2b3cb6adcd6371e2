//! The edge from the outside: what reaches it, through what, how often, and what it withstands.
//!
//! A [`Server`] is the real program with flags of the test's choice; [`Authority`] makes certificates.

mod bodies;
mod floods;
mod proxied;
mod rates;
mod tls;
mod web;
mod wire;

use crate::support::daemon::{BINARY, without_guards};
use crate::support::process::Process;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto, version};

const START: Duration = Duration::from_secs(60);
const HOOK: &str = "/api/sre/alerts/webhook";

/// The program, with its config as `runbookd.toml` in a directory.
struct Server {
    process: Process,
    address: String,
}

impl Server {
    /// Starts it in `dir` and waits until it says that it is ready.
    fn start(dir: &Path, config: &str, flags: &[&str]) -> Self {
        fs::create_dir_all(dir.join("runbooks")).unwrap();
        fs::write(dir.join("runbookd.toml"), without_guards(config)).unwrap();
        Self::again(dir, flags)
    }

    /// Starts it on what is in `dir`.
    fn again(dir: &Path, flags: &[&str]) -> Self {
        drop(fs::remove_file(dir.join("data/listen")));
        drop(fs::remove_file(dir.join("runbookd.log")));
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--config.file=runbookd.toml", "--web.listen-address=127.0.0.1:0"])
            .args(["--storage.path=data", "--runbooks.dir=runbooks"])
            .args(flags)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOOK", "hook-token")
            .current_dir(dir);
        let mut process = Process::start("runbookd", command, dir);
        let log = dir.join("runbookd.log");
        process
            .wait_until(START, || fs::read_to_string(&log).is_ok_and(|log| log.contains(r#""msg":"ready""#)));
        let address = fs::read_to_string(dir.join("data/listen")).unwrap().trim().to_owned();
        Self { process, address }
    }
}

/// A certificate and its key, PEM.
struct Pair {
    cert: String,
    key: String,
}

impl Pair {
    fn write(&self, dir: &Path, name: &str) {
        fs::write(dir.join(format!("{name}.crt")), &self.cert).unwrap();
        let key = dir.join(format!("{name}.key"));
        fs::write(&key, &self.key).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Of the same name as what it signs, it would look like a self-signed certificate.
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), cert }
    }

    /// A certificate for these names, valid until a year begins.
    fn sign(&self, names: &[&str], until: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// A TLS client's config: trusts `authority`, shows `pair`, speaks these versions.
fn client(authority: &Authority, pair: Option<&Pair>, only_12: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let versions = if only_12 { &[&version::TLS12][..] } else { &[&version::TLS13, &version::TLS12] };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// One request through TLS: the whole answer as text.
fn ask_tls(address: &str, config: &Arc<ClientConfig>, head: &str, body: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    let length = body.len();
    write!(
        stream,
        "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}
