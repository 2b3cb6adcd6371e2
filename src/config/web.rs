//! `--web.config.file`: TLS and users, in the format every exporter of Prometheus takes.
//!
//! What of that format is not honoured here is refused with its place, since a file that asks for protection and is
//! not obeyed is worse than none. May import: `document`. Must never: let anybody in; `http` does.

use super::tls::{ClientCertificate, Tls};
use crate::document::{Problem, Problems};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Header fields the format lets people set, which cannot weaken what is there.
const HEADERS: [&str; 4] =
    ["Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-XSS-Protection"];

/// What the file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// TLS, if it asks for that.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is served.
    pub http2: bool,
    /// Header fields of every answer.
    pub headers: Vec<(String, String)>,
    /// Names with bcrypt hashes.
    pub users: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWeb {
    tls_server_config: Option<Spanned<RawTls>>,
    #[serde(default)]
    http_server_config: RawHttp,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    cert_file: Spanned<String>,
    key_file: Spanned<String>,
    client_auth_type: Option<Spanned<String>>,
    client_ca_file: Option<Spanned<String>>,
    #[serde(default)]
    client_allowed_sans: Vec<Spanned<String>>,
    min_version: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    #[serde(default = "yes")]
    http2: bool,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

fn yes() -> bool {
    true
}

/// The file being read.
struct Reader<'t> {
    problems: &'t Problems,
    base: &'t Path,
}

/// Reads the text of the file at `path`, which the person called `file_name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_web(file_name: &str, path: &Path, text: &str) -> Result<Web, Vec<Problem>> {
    let problems = Problems::new(file_name, text);
    let base = path.parent().unwrap_or(Path::new(""));
    let reader = Reader { problems: &problems, base };
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    // An empty file asks for nothing.
    let text = if text.trim().is_empty() { "{}" } else { text };
    let web = match serde_saphyr::from_str_with_options::<RawWeb>(text, options) {
        Ok(raw) => Some(reader.web(raw)),
        Err(error) => {
            let span = error.location().map_or(0..0, |location| reader.span(location));
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default().to_owned();
            let help = "the keys honoured are tls_server_config, http_server_config and basic_auth_users; see SRE.md";
            problems.error(span, "", message, help);
            None
        }
    };
    let failed = problems.has_errors();
    match web {
        Some(web) if !failed => Ok(web),
        _ => Err(problems.into_list()),
    }
}

impl Reader<'_> {
    fn span(&self, at: Location) -> Range<usize> {
        self.problems.rest_of_line(at.line(), at.column())
    }

    fn wrong(&self, at: Location, path: &str, message: impl Into<String>, help: &str) {
        self.problems.error(self.span(at), path, message, help);
    }

    fn path(&self, written: &Spanned<String>, key: &str) -> PathBuf {
        if written.value.trim().is_empty() {
            self.wrong(written.referenced, key, "the path is empty", "write a path, relative to this file");
        }
        self.base.join(&written.value)
    }

    fn web(&self, raw: RawWeb) -> Web {
        let tls = raw.tls_server_config.map(|tls| self.tls(tls));
        let headers = raw.http_server_config.headers.into_iter();
        let users = raw.basic_auth_users.into_iter();
        Web {
            tls,
            http2: raw.http_server_config.http2,
            headers: headers.map(|(name, value)| self.header(name, value)).collect(),
            users: users.map(|(name, hash)| self.user(name, hash)).collect(),
        }
    }

    fn tls(&self, Spanned { value: raw, referenced, .. }: Spanned<RawTls>) -> Tls {
        let key = |name: &str| format!("tls_server_config.{name}");
        let auth = raw.client_auth_type.as_ref().map_or("", |word| word.value.as_str());
        let auth = match (auth, &raw.client_auth_type) {
            ("" | "NoClientCert", _) | (_, None) => None,
            ("VerifyClientCertIfGiven", _) => Some(ClientCertificate::IfGiven),
            ("RequireAndVerifyClientCert", _) => Some(ClientCertificate::Required),
            (other, Some(word)) => {
                let help = "write NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert";
                let message = match other {
                    "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
                        format!("{other} asks for certificates that nobody verifies")
                    }
                    _ => format!("{other:?} is not known"),
                };
                self.wrong(word.referenced, &key("client_auth_type"), message, help);
                None
            }
        };
        let client_ca = match (auth, &raw.client_ca_file) {
            (Some(auth), Some(file)) => Some((self.path(file, &key("client_ca_file")), auth)),
            (None, None) => None,
            (None, Some(file)) => {
                let help = "add client_auth_type: RequireAndVerifyClientCert";
                let message = "authorities of clients are named, but no certificate is asked for";
                self.wrong(file.referenced, &key("client_ca_file"), message, help);
                None
            }
            (Some(_), None) => {
                let message = "certificates of clients are asked for, but no authority is named";
                self.wrong(referenced, &key("client_ca_file"), message, "add client_ca_file");
                None
            }
        };
        if let (Some(first), None) = (raw.client_allowed_sans.first(), auth) {
            let message = "names are listed for certificates nobody asks for";
            self.wrong(first.referenced, &key("client_allowed_sans"), message, "add client_auth_type");
        }
        Tls {
            cert_file: self.path(&raw.cert_file, &key("cert_file")),
            key_file: self.path(&raw.key_file, &key("key_file")),
            client_ca,
            client_allowed_sans: raw.client_allowed_sans.into_iter().map(|name| name.value).collect(),
            only_13: raw.min_version.is_some_and(|version| self.is_13(&version)),
            place: self.problems.place(self.span(referenced), "tls_server_config"),
        }
    }

    fn is_13(&self, version: &Spanned<String>) -> bool {
        match version.value.as_str() {
            "TLS12" => {}
            "TLS13" => return true,
            other => {
                let message = format!("{other:?} is not a version spoken here");
                let path = "tls_server_config.min_version";
                self.wrong(version.referenced, path, message, "write TLS12 or TLS13");
            }
        }
        false
    }

    fn header(&self, name: String, value: Spanned<String>) -> (String, String) {
        let path = "http_server_config.headers";
        if name.eq_ignore_ascii_case("X-Content-Type-Options") && value.value != "nosniff" {
            self.wrong(value.referenced, path, "only nosniff is possible", "remove it; it is always sent");
        } else if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            let help = format!(
                "possible are {}; every answer has a strict Content-Security-Policy of its own",
                HEADERS.join(", ")
            );
            self.wrong(value.referenced, path, format!("the header {:?} cannot be set", name), &help);
        } else if value.value.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
            self.wrong(value.referenced, path, "this is no value of a header", "write visible ASCII");
        }
        (name, value.value)
    }

    fn user(&self, name: String, hash: Spanned<String>) -> (String, String) {
        let path = "basic_auth_users";
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            let message = format!("{:?} cannot be a user of basic authentication", name);
            self.wrong(hash.referenced, path, message, "write a name without a colon");
        }
        // Not shown: it may be the password itself, by mistake.
        if !is_bcrypt(&hash.value) {
            let help = "make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n'";
            self.wrong(hash.referenced, path, "this is not a bcrypt hash", help);
        }
        (name, hash.value)
    }
}

/// `$2b$10$` and 53 characters, with a cost that is neither free nor minutes.
fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$');
    let known = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
    let [Some(""), Some("2a" | "2b" | "2x" | "2y"), Some(cost), Some(rest), None] = known else {
        return false;
    };
    let is_cost = cost.len() == 2 && cost.parse::<u8>().is_ok_and(|cost| (4..=16).contains(&cost));
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    is_cost && rest.len() == 53 && rest.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

    fn problems(text: &str) -> Vec<String> {
        match load_web("web.yml", Path::new("conf/web.yml"), text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_whole_file_is_read_with_paths_relative_to_it() {
        let text = format!(
            "# comment\ntls_server_config:\n  cert_file: server.crt\n  key_file: /etc/server.key\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  \
             client_allowed_sans: [am.example, 10.0.0.1]\n  min_version: TLS13\n\
             http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
             basic_auth_users:\n  ada: {HASH}\n"
        );
        let web = load_web("web.yml", Path::new("conf/web.yml"), &text).unwrap();
        let tls = web.tls.unwrap();
        assert_eq!((tls.cert_file, tls.key_file), ("conf/server.crt".into(), "/etc/server.key".into()));
        assert_eq!(tls.client_ca, Some(("conf/ca.crt".into(), ClientCertificate::Required)));
        assert_eq!((tls.client_allowed_sans.len(), tls.only_13, web.http2), (2, true, false));
        assert_eq!(web.headers, [("X-Frame-Options".to_owned(), "deny".to_owned())]);
        assert_eq!(web.users, BTreeMap::from([("ada".to_owned(), HASH.to_owned())]));
        let nothing = load_web("web.yml", Path::new("web.yml"), "").unwrap();
        assert_eq!(nothing, Web { tls: None, http2: true, headers: vec![], users: BTreeMap::new() });
    }

    #[test]
    fn what_is_not_honoured_is_refused_with_its_place() {
        let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
        for (text, place, word) in [
            ("basic_auth_userz:\n  a: b\n", "web.yml:1:1", "basic_auth_userz"),
            (&format!("{tls}  cipher_suites: [X]\n"), "web.yml:4:3", "cipher_suites"),
            (&format!("{tls}  min_version: TLS10\n"), "web.yml:4:16", "TLS10"),
            (&format!("{tls}  client_auth_type: RequestClientCert\n"), "web.yml:4:21", "nobody verifies"),
            (&format!("{tls}  client_ca_file: c\n"), "web.yml:4:19", "no certificate is asked for"),
            (&format!("{tls}  client_allowed_sans: [x]\n"), "web.yml:4:25", "nobody asks for"),
            (
                "http_server_config:\n  headers:\n    Content-Security-Policy: x\n",
                "web.yml:3:30",
                "cannot be set",
            ),
            ("http_server_config:\n  headers:\n    X-Content-Type-Options: x\n", "web.yml:3:29", "nosniff"),
            ("basic_auth_users:\n  ada: hunter2\n", "web.yml:2:8", "not a bcrypt hash"),
            ("basic_auth_users:\n  ada: a\n  ada: b\n", "web.yml:3:3", "ada"),
            ("tls_server_config:\n  cert_file: a\n", "web.yml:", "key_file"),
            ("a: [", "web.yml:1:", ""),
            ("- 1\n", "web.yml:1:1", ""),
        ] {
            let found = problems(text);
            assert!(
                found.first().is_some_and(|first| first.starts_with(place) && first.contains(word)),
                "{text}: {found:?}"
            );
            assert!(!found.concat().contains("hunter2"), "{found:?}");
        }
    }

    #[test]
    fn a_hash_is_known_by_its_shape_and_its_cost() {
        assert!(is_bcrypt(HASH));
        for bad in
            ["", "hunter2", &HASH[1..], &HASH[..59], &HASH.replace("$10$", "$31$"), &HASH.replace('/', "!")]
        {
            assert!(!is_bcrypt(bad), "{bad}");
        }
    }
}
