//! `[auth]`: who people and programs are, and what they may do.
//!
//! May import: `model`, `document`. Must never: check a token.

use super::secrets::{self, Named};
use super::server::server_url;
use super::source::{Section, Setting, Source, Sources, not_empty, show_list};
use super::users::{self, LocalUser};
use crate::document::{Table, Value};
use crate::model::{Permission, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The least bytes of a JWT secret; a shorter one can be guessed from one token.
pub const MIN_JWT_SECRET: usize = 32;

/// How often an issuer's keys are fetched, where nothing is said.
const JWKS_REFRESH: Duration = Duration::from_secs(600);
/// How long they are believed when no newer ones can be had, where nothing is said.
const JWKS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long a session lives without being used, and at all, where nothing is said.
const SESSION_IDLE: Duration = Duration::from_secs(8 * 3600);
const SESSION_MAX: Duration = Duration::from_secs(24 * 3600);
/// What these may be: a second to thirty days.
const SPAN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// Roles that are always there; the file may not change what they mean.
pub const BUILT_IN_ROLES: [&str; 6] = ["viewer", "operator", "editor", "developer", "sre", "admin"];

/// `[auth]` after checking.
#[derive(Debug, Clone)]
pub struct Auth {
    /// How tokens are checked; without, nobody has access to the API.
    pub jwt: Option<Jwt>,
    /// The claim that holds the roles: a list, or a text with commas.
    pub roles_claim: String,
    /// Own roles besides the built-in ones.
    pub roles: BTreeMap<String, BTreeSet<Permission>>,
    /// People with a password, from `users_file`; `None` where there is no such file.
    pub users: Option<Vec<LocalUser>>,
    /// Whether people may make accounts for themselves.
    pub signup: bool,
    /// How long a session lives without being used.
    pub session_idle: Duration,
    /// How long it lives at all.
    pub session_max: Duration,
    /// Whether tokens are made for whoever asks; only on a loopback address.
    pub dev_login: bool,
}

/// What the checks across sections need besides.
pub(super) struct Given {
    /// Whether the file names a way to know people, even one that cannot be read.
    pub(super) people: bool,
    dev_login: Setting<bool>,
}

impl Given {
    /// Who can reach it from elsewhere must not make their own tokens.
    pub(super) fn check_exposure(&self, sources: &Sources<'_>, address: SocketAddr) {
        if self.dev_login.value {
            let message =
                format!("dev_login makes tokens for whoever asks, and {address} is not a loopback address");
            let help = "remove dev_login, or listen on 127.0.0.1";
            let problem = self.dev_login.place.problem(crate::document::Severity::Error, message, help);
            sources.problems.add(problem);
        }
    }
}

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The key; its kind pins the algorithm.
    pub key: JwtKey,
    /// The only accepted `iss`.
    pub issuer: String,
    /// The only accepted `aud`.
    pub audience: String,
}

/// The key tokens are checked with.
#[derive(Debug, Clone)]
pub enum JwtKey {
    /// Shared with the issuer; at least [`MIN_JWT_SECRET`] bytes.
    Secret(Secret),
    /// The issuer's public key as PEM text.
    PublicKey(String),
    /// The keys its issuer serves.
    Served {
        /// Where; https, or this machine.
        url: String,
        /// How often they are fetched.
        refresh: Duration,
        /// How long they are believed when no newer ones can be had.
        max_age: Duration,
    },
}

impl Auth {
    /// Reads the section; also gives what other sections are checked against.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> (Self, Given) {
        let mut section = Section::open(sources, root, "auth");
        let jwt = section.take("jwt");
        let has_jwt = jwt.is_some();
        jwt.iter().filter(|value| !value.is_table()).for_each(|value| sources.mask(value.span()));
        let jwt = jwt.and_then(Value::table);
        let has = |key: &str| jwt.as_ref().is_some_and(|table| table.has(key));
        let (has_secret, secret) = (has("secret"), if has("secret") { "secret" } else { "" });
        section.item("jwt.secret", secret, has_secret);
        let jwt = Jwt::read(&section, sources, jwt, named);
        let roles_claim = section
            .setting(
                "roles_claim",
                || "roles".to_owned(),
                Clone::clone,
                |value, _| value.parsed("write the name of a claim, such as \"roles\"", not_empty),
            )
            .value;
        let (users, has_users) = users::read(sources, &mut section);
        let signup = section.boolean("signup", false);
        let session_idle = section.duration("session_idle", SESSION_IDLE, SPAN);
        let session_max = section.duration("session_max", SESSION_MAX, SPAN);
        let dev_login = section.boolean("dev_login", false);
        let people = has_jwt || has_users;
        if signup.value && !people {
            let help = "set auth.jwt or auth.users_file, for those who may do more";
            let message = "with signup alone nobody could ever do more than read";
            sources.problems.add(signup.place.problem(crate::document::Severity::Error, message, help));
        }
        if dev_login.value && !has_secret {
            let help = "write jwt = { secret = { env = \"VARIABLE\" }, … }, or remove dev_login";
            let message = "dev_login signs with auth.jwt.secret, and there is none";
            sources.problems.add(dev_login.place.problem(crate::document::Severity::Error, message, help));
        }
        let roles = read_roles(sources, section.take("roles"));
        section.finish();
        let auth = Self {
            jwt,
            roles_claim,
            roles,
            users,
            signup: signup.value,
            session_idle,
            session_max,
            dev_login: dev_login.value,
        };
        (auth, Given { people, dev_login })
    }
}

impl Jwt {
    fn read<'d>(
        section: &Section<'_, 'd>,
        sources: &Sources<'d>,
        table: Option<Table<'d>>,
        named: &Named,
    ) -> Option<Self> {
        let Some(mut table) = table else {
            for key in [
                "jwt.public_key_file",
                "jwt.jwks_url",
                "jwt.jwks_refresh",
                "jwt.jwks_max_age",
                "jwt.issuer",
                "jwt.audience",
            ] {
                section.item(key, "", false);
            }
            return None;
        };
        let secret = table.take("secret");
        let file = table.take("public_key_file");
        let written = file.as_ref().filter(|value| value.is_string()).and_then(Value::string);
        section.item(
            "jwt.public_key_file",
            written.map(|text| text.value).unwrap_or_default(),
            file.is_some(),
        );
        let served = read_served(section, sources, &mut table);
        let key = match (secret, file, served) {
            (Some(secret), None, None) => read_secret(sources, secret, named),
            (None, Some(file), None) => read_public_key(sources, &file),
            (None, None, Some(served)) => served,
            (None, None, None) => {
                table.error(
                    "it is not said what tokens are checked with",
                    "add secret, public_key_file or jwks_url",
                );
                None
            }
            _ => {
                table.error(
                    "tokens are checked with one key only",
                    "keep one of secret, public_key_file and jwks_url",
                );
                None
            }
        };
        // Without them, a token that the same issuer made for another program would be accepted.
        let mut text = |name: &'static str, help: &str| {
            let value = table.require(name, help);
            let text = value.and_then(|value| value.parsed(help, not_empty));
            section.item(&format!("jwt.{name}"), text.clone().unwrap_or_default(), true);
            text
        };
        let issuer = text("issuer", "write the `iss` of your tokens");
        let audience = text("audience", "write the `aud` of your tokens, such as \"runbookd\"");
        sources.finish_hidden(table);
        Some(Self { key: key?, issuer: issuer?, audience: audience? })
    }
}

fn read_secret<'d>(sources: &Sources<'d>, value: Value<'d>, named: &Named) -> Option<JwtKey> {
    let place = value.place();
    let secret = secrets::read(sources, value, Some(named))?;
    let length = secret.expose().len();
    if length < MIN_JWT_SECRET {
        let message = format!("the JWT secret has {length} bytes, fewer than {MIN_JWT_SECRET}");
        let help = "make one with: openssl rand -base64 48";
        sources.problems.add(place.problem(crate::document::Severity::Error, message, help));
        return None;
    }
    Some(JwtKey::Secret(secret))
}

/// Where an issuer serves its keys; `Some(None)` where that cannot be read.
fn read_served<'d>(
    section: &Section<'_, 'd>,
    sources: &Sources<'d>,
    table: &mut Table<'d>,
) -> Option<Option<JwtKey>> {
    let given = table.take("jwks_url");
    let mut span = |key: &'static str, default: Duration| {
        let value = table.take(key);
        let is_set = value.is_some();
        if let (Some(value), None) = (&value, &given) {
            value.error("this is about jwks_url, which is not there", "remove it, or add jwks_url");
        }
        let span = value.and_then(|value| value.duration(SPAN)).unwrap_or(default);
        let shown = given.as_ref().map(|_| humantime::format_duration(span).to_string());
        section.item(&format!("jwt.{key}"), shown.unwrap_or_default(), is_set);
        span
    };
    let (refresh, max_age) = (span("jwks_refresh", JWKS_REFRESH), span("jwks_max_age", JWKS_MAX_AGE));
    let Some(value) = given else {
        section.item("jwt.jwks_url", "", false);
        return None;
    };
    let url = server_url(sources, &value, Source::File);
    section.item("jwt.jwks_url", url.clone().unwrap_or_default(), true);
    let url = url.filter(|url| {
        let is_safe = is_protected(url);
        if !is_safe {
            let message = "whoever is between could put their own keys there: it is not https";
            value.error(message, "write https://…; http only for 127.0.0.1, [::1] and localhost");
        }
        is_safe
    });
    if max_age < refresh {
        let help = "make jwks_max_age longer than jwks_refresh";
        value.error("the keys would be too old before they are fetched again", help);
    }
    Some(url.map(|url| JwtKey::Served { url, refresh, max_age }))
}

/// Whether nobody on the way can change what comes from there.
fn is_protected(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_public_key(sources: &Sources<'_>, value: &Value<'_>) -> Option<JwtKey> {
    let written = value.string()?.value;
    match secrets::read_public_file(&sources.resolve(&written, Source::File)) {
        Err(why) => {
            let message = format!("the key file {written:?} cannot be read: {why}");
            value.error(message, "put the issuer's public key there, or correct the path");
            None
        }
        Ok(pem) if pem.contains("PRIVATE KEY-----") => {
            let message = format!("the key file {written:?} holds a private key");
            value.error(message, "runbookd only checks tokens: give it the public key");
            None
        }
        Ok(pem) if !pem.contains("-----BEGIN PUBLIC KEY-----") => {
            let message = format!("the key file {written:?} holds no public key");
            value.error(message, "write it as PEM, which begins with -----BEGIN PUBLIC KEY-----");
            None
        }
        Ok(pem) => Some(JwtKey::PublicKey(pem)),
    }
}

fn read_roles(sources: &Sources<'_>, value: Option<Value<'_>>) -> BTreeMap<String, BTreeSet<Permission>> {
    let mut roles = BTreeMap::new();
    let entries = value.and_then(Value::table).map(|mut table| table.take_all()).unwrap_or_default();
    if entries.is_empty() {
        sources.item("auth.roles", "", Source::Default);
    }
    for (name, value) in entries {
        let wrong = |message: String, help: &str| {
            sources.problems.error(name.span.clone(), value.path(), message, help);
        };
        if BUILT_IN_ROLES.contains(&name.value.as_str()) {
            wrong(format!("{:?} is a built-in role", name.value), "choose another name");
        } else if name.value.is_empty()
            || name.value.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
        {
            wrong(
                format!("{:?} is not a name for a role", name.value),
                "use a name without commas and blanks",
            );
        }
        let known: Vec<_> =
            Permission::ALL.iter().map(|permission| (permission.as_str(), *permission)).collect();
        let words = value.array().unwrap_or_default();
        let permissions: BTreeSet<Permission> = words.iter().filter_map(|word| word.one_of(&known)).collect();
        let shown = show_list(permissions.iter().map(|permission| permission.as_str().to_owned()));
        sources.item(format!("auth.roles.{}", name.value), shown, Source::File);
        roles.insert(name.value, permissions);
    }
    roles
}
