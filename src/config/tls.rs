//! `[server] tls`: where the certificate is, and who may sign those of clients.
//!
//! The same type holds what `--web.config.file` says of TLS. May import: `document`. Must never: read a
//! certificate; whoever serves with it does, and again when the files change.

use super::source::{Section, Source, not_empty};
use crate::document::{Place, Table, Value};
use std::path::PathBuf;

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It may be shown, and must verify then.
    IfGiven,
    /// No connection without one.
    Required,
}

/// TLS, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and its intermediates, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Who may sign certificates of clients.
    pub client_ca: Option<(PathBuf, ClientCertificate)>,
    /// When not empty, a client's certificate needs one of these subject alternative names.
    pub client_allowed_sans: Vec<String>,
    /// Whether TLS 1.2 is refused.
    pub only_13: bool,
    /// Where it stands, for what only the files themselves show to be wrong.
    pub place: Place,
}

impl Tls {
    /// Reads `tls = { cert_file = …, key_file = …, client_ca_file = … }`.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let value = section.take("tls");
        let place = value.as_ref().map(Value::place);
        let Some((mut table, place)) = value.and_then(Value::table).zip(place) else {
            section.item("tls", "", false);
            return None;
        };
        let sources = section.sources;
        let path = |value: Value<'_>| {
            let text = value.parsed("write a path, relative to this file or absolute", not_empty)?;
            Some(sources.resolve(&text, Source::File))
        };
        let required = |table: &mut Table<'_>, key, help: &str| table.require(key, help).and_then(path);
        let cert_file = required(&mut table, "cert_file", "write cert_file = \"server.crt\"");
        let key_file = required(&mut table, "key_file", "write key_file = \"server.key\"");
        let client_ca = table.take("client_ca_file").and_then(path);
        table.finish();
        let shown = [("cert_file", &cert_file), ("key_file", &key_file), ("client_ca_file", &client_ca)];
        let shown = shown.iter().filter_map(|(key, path)| Some((key, path.as_ref()?.display())));
        let shown: Vec<String> = shown.map(|(key, path)| format!("{key} = \"{path}\"")).collect();
        section.item("tls", format!("{{ {} }}", shown.join(", ")), true);
        Some(Self {
            cert_file: cert_file?,
            key_file: key_file?,
            client_ca: client_ca.map(|file| (file, ClientCertificate::IfGiven)),
            client_allowed_sans: Vec::new(),
            only_13: false,
            place,
        })
    }
}
