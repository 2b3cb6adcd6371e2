//! `[auth]`: who people and programs are, and what they may do.
//!
//! May import: `model`, `document`. Must never: check a token.

use super::secrets::{self, Named};
use super::source::{Section, Source, Sources, not_empty, show_list};
use crate::document::{Table, Value};
use crate::model::{Permission, Secret};
use std::collections::{BTreeMap, BTreeSet};

/// The least bytes of a JWT secret; a shorter one can be guessed from one token.
pub const MIN_JWT_SECRET: usize = 32;

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
}

impl Auth {
    /// Reads the section; also gives whether the file names a key, even one that cannot be read.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> (Self, bool) {
        let mut section = Section::open(sources, root, "auth");
        let jwt = section.take("jwt");
        let is_given = jwt.is_some();
        jwt.iter().filter(|value| !value.is_table()).for_each(|value| sources.mask(value.span()));
        let jwt = jwt.and_then(Value::table);
        let has = |key: &str| jwt.as_ref().is_some_and(|table| table.has(key));
        let secret = if has("secret") { "secret" } else { "" };
        section.item("jwt.secret", secret, has("secret"));
        let jwt = Jwt::read(&section, sources, jwt, named);
        let roles_claim = section
            .setting(
                "roles_claim",
                || "roles".to_owned(),
                Clone::clone,
                |value, _| value.parsed("write the name of a claim, such as \"roles\"", not_empty),
            )
            .value;
        let roles = read_roles(sources, section.take("roles"));
        section.finish();
        (Self { jwt, roles_claim, roles }, is_given)
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
            for key in ["jwt.public_key_file", "jwt.issuer", "jwt.audience"] {
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
        let key = match (secret, file) {
            (Some(secret), None) => read_secret(sources, secret, named),
            (None, Some(file)) => read_public_key(sources, &file),
            (None, None) => {
                table.error("it is not said what tokens are checked with", "add secret or public_key_file");
                None
            }
            (Some(_), Some(_)) => {
                table.error("tokens are checked with one key only", "keep either secret or public_key_file");
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
