//! TLS: the certificate the edge shows, the clients' it verifies, and how both are replaced while it runs.
//!
//! The files are read again every few seconds by whoever keeps the daemon, because certificates are renewed by
//! programs that know no SIGHUP. What cannot be used leaves the old one in force. rustls with aws-lc-rs, TLS 1.2 and
//! 1.3, and only the suites rustls thinks are strong. May import: nothing of this crate. Must never: serve
//! with a key that others may read, or take a certificate for a credential; the edge decides what it opens.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest file of certificates or keys that is read.
const MAX_FILE: u64 = 1 << 20;

/// What clients are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate may be shown; one that does not verify ends the handshake.
    IfGiven,
    /// No connection without one that verifies.
    Required,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Where certificates are, and what is asked of clients.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and its intermediates, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Who may sign certificates of clients, and whether they need one.
    pub client_ca: Option<(PathBuf, ClientAuth)>,
    /// When not empty, a client's certificate needs one of these among its subject alternative names.
    pub client_sans: Vec<String>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system refused.
    #[error("{} cannot be read: {cause}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Others may read the key.
    #[error("{} holds a private key and may be read by others (mode {mode:04o}): run chmod o= on it", .file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("{}: {why}", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not make a server.
    #[error("{} and {} cannot be used together: {why}", .cert.display(), .key.display())]
    Together {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        why: rustls::Error,
    },
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Look {
    /// What is in force.
    Same,
    /// Something new, which is now in force.
    Renewed,
    /// Something new that cannot be used; the old one stays.
    Refused(TlsError),
}

struct Loaded {
    config: Arc<ServerConfig>,
    bytes: Vec<Vec<u8>>,
    expires: i64,
}

/// The certificate in force.
pub struct Tls {
    files: TlsFiles,
    now: RwLock<Loaded>,
    /// What was refused last, so that it is not tried again every time.
    refused: Mutex<Vec<Vec<u8>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let now = load(&files, read(&files)?)?;
        Ok(Self { files, now: RwLock::new(now), refused: Mutex::default() })
    }

    /// Reads the files again. Blocks. A refusal is given once for the same content.
    pub fn look(&self) -> Look {
        let bytes = match read(&self.files) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(vec![error.to_string().into_bytes()], error),
        };
        if self.now.read().unwrap_or_else(PoisonError::into_inner).bytes == bytes {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return Look::Same;
        }
        match load(&self.files, bytes.clone()) {
            Ok(loaded) => {
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                self.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();
                Look::Renewed
            }
            Err(error) => self.refuse(bytes, error),
        }
    }

    fn refuse(&self, bytes: Vec<Vec<u8>>, error: TlsError) -> Look {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if *refused == bytes {
            return Look::Same;
        }
        *refused = bytes;
        Look::Refused(error)
    }

    /// Whether the last look found nothing but what is in force.
    pub fn is_current(&self) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// When the first certificate of the chain that ends, ends: seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.now.read().unwrap_or_else(PoisonError::into_inner).expires
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).config);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        if let Some(certificate) = shown
            && !self.files.client_sans.is_empty()
            && !names(certificate).iter().any(|name| self.files.client_sans.contains(name))
        {
            return Err(io::Error::other("the client's certificate has none of the allowed names"));
        }
        Ok(stream)
    }
}

/// The files' bytes: certificate, key, and authorities.
fn read(files: &TlsFiles) -> Result<Vec<Vec<u8>>, TlsError> {
    let mut bytes = vec![read_file(&files.cert_file, false)?, read_file(&files.key_file, true)?];
    if let Some((file, _)) = &files.client_ca {
        bytes.push(read_file(file, false)?);
    }
    Ok(bytes)
}

fn read_file(path: &Path, secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |cause| TlsError::Read { file: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if secret && mode & 0o007 != 0 {
        return Err(TlsError::Open { file: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Content { file: file.to_owned(), why };
    let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if all.is_empty() => {
            Err(wrong("it holds no certificate, which begins with -----BEGIN CERTIFICATE-----".to_owned()))
        }
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(format!("it is not PEM: {error}"))),
    }
}

fn load(files: &TlsFiles, bytes: Vec<Vec<u8>>) -> Result<Loaded, TlsError> {
    let wrong = |file: &Path, why: String| TlsError::Content { file: file.to_owned(), why };
    let chain = certificates(&files.cert_file, &bytes[0])?;
    let expires = chain
        .iter()
        .map(|certificate| ends(certificate))
        .min()
        .flatten()
        .ok_or_else(|| wrong(&files.cert_file, "a certificate in it cannot be read".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes[1])
        .map_err(|error| wrong(&files.key_file, format!("it holds no private key: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let together =
        |why| TlsError::Together { cert: files.cert_file.clone(), key: files.key_file.clone(), why };
    let versions: &[&rustls::SupportedProtocolVersion] = match files.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(together)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some((file, auth)) => builder.with_client_cert_verifier(verifier(file, &bytes[2], *auth, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(together)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if files.http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(Loaded { config: Arc::new(config), bytes, expires })
}

fn verifier(
    file: &Path,
    bytes: &[u8],
    auth: ClientAuth,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |why: String| TlsError::Content { file: file.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, bytes)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("a certificate in it is no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::IfGiven => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| wrong(error.to_string()))
}

/// When a certificate ends.
fn ends(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The subject alternative names of a certificate as people write them; none where it cannot be read.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|v4| std::net::Ipv4Addr::from(v4).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
