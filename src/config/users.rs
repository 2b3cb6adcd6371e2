//! `auth.users_file`: people with a password. A file of its own, because it holds what others must not read.
//!
//! May import: `model`, `document`. Must never: put a hash into a message.

use super::secrets::{self, FileError};
use super::source::{Section, Source, Sources, not_empty};
use crate::document::{Place, Problem, Problems, Severity, Value, parse};
use crate::model::Secret;

/// The most people in the file.
const MAX_USERS: usize = 1000;
/// The longest name.
const MAX_NAME: usize = 64;

/// Somebody in the file.
#[derive(Debug, Clone)]
pub struct LocalUser {
    /// The name, which is the subject too.
    pub name: String,
    /// argon2id, in PHC text.
    pub password_hash: Secret,
    /// What they may do.
    pub roles: Vec<String>,
    place: Place,
}

impl LocalUser {
    /// The problem of a hash that cannot be used, as `why` says.
    pub fn problem(&self, why: &str) -> Problem {
        let message = format!("the password_hash of {:?} in the users file: {why}", self.name);
        self.place.problem(Severity::Error, message, "make one with: runbookd hash-password")
    }
}

/// Reads the key and its file; also gives whether there is one, even one that cannot be read.
pub(super) fn read<'d>(
    sources: &Sources<'d>,
    section: &mut Section<'_, 'd>,
) -> (Option<Vec<LocalUser>>, bool) {
    let read = |value: Value<'d>, source: Source| {
        let written = value.parsed("write a path, relative to this file or absolute", not_empty)?;
        Some((read_file(sources, &value, &written, source), written))
    };
    let show = |read: &Option<(Vec<LocalUser>, String)>| {
        read.as_ref().map(|(_, written)| written.clone()).unwrap_or_default()
    };
    let setting = section.setting("users_file", || None, show, |value, source| read(value, source).map(Some));
    let given = setting.value.is_some();
    (setting.value.map(|(users, _)| users), given)
}

fn read_file(sources: &Sources<'_>, value: &Value<'_>, written: &str, source: Source) -> Vec<LocalUser> {
    let text = match secrets::read_secret_file(&sources.resolve(written, source)) {
        Ok(text) => text,
        Err(FileError::Permissions(mode)) => {
            value.error(
                format!("the users file {written:?} is open to others (mode {mode:04o})"),
                "run chmod o= on it (in Kubernetes: defaultMode: 0440)",
            );
            return Vec::new();
        }
        Err(FileError::Other(why)) => {
            let message = format!("the users file {written:?} cannot be read: {why}");
            value.error(message, "put the users there, or correct the path");
            return Vec::new();
        }
    };
    let problems = Problems::new(written, &text);
    let users = read_users(&problems, value);
    for problem in problems.into_list() {
        // Its place is in that file. What stands there may be a hash, so only our own words are passed on.
        let message = format!("{written}:{}:{}: {}", problem.line, problem.column, problem.message);
        value.error(message, problem.help);
    }
    users
}

fn read_users(problems: &Problems, whole: &Value<'_>) -> Vec<LocalUser> {
    let mut root = parse(problems);
    let mut users = Vec::new();
    for (name, value) in root.take_all() {
        let fits = name.value.len() <= MAX_NAME
            && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
        if !fits {
            let message = "this is not a name for a user";
            problems.error(name.span, "", message, "use 1 to 64 of A-Z a-z 0-9 . _ @ -");
            continue;
        }
        let Some(mut table) = value.table() else { continue };
        let hash = table.require("password_hash", "make one with: runbookd hash-password");
        let hash = hash.and_then(|hash| hash.string());
        let roles = table.require("roles", "write roles = [\"viewer\"]");
        let roles: Option<Vec<String>> = roles.and_then(Value::array).map(|roles| {
            roles.iter().filter_map(|role| role.parsed("write the name of a role", not_empty)).collect()
        });
        table.finish();
        if let (Some(hash), Some(roles)) = (hash, roles) {
            let password_hash = Secret::new(hash.value.trim());
            users.push(LocalUser { name: name.value, password_hash, roles, place: whole.place() });
        }
    }
    root.finish();
    if users.len() > MAX_USERS {
        let message = format!("the users file has {} users, at most {MAX_USERS} are read", users.len());
        whole.error(message, "use auth.jwt for so many");
    }
    users
}
