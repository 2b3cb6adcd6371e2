//! `[secrets.NAME]`, and every other place that takes a secret: `{ file = … }`, `{ env = … }`,
//! `{ secret = "NAME" }`, never a literal. A section takes `command` and `store` as well.
//!
//! May import: `model`, `document`, `secret_command`. Must never: put a secret, or a text written where one belongs, into a
//! message.

use super::secret_command;
use super::source::{Source, Sources};
use crate::document::{Severity, Table, Value, nearest};
use crate::model::{Secret, is_word};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Largest file a secret or a key is read from.
const MAX_FILE: u64 = 64 << 10;

/// What stands for a stored credential until the store is open: fit for a URL, a header and a key.
const UNKNOWN_YET: &str = "https://stored.invalid/0000000000000000000000000000000000000000";
/// How long a program that prints a secret may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

const SECTION_HELP: &str =
    "write file = \"/path\" or env = \"VARIABLE\", or command = [\"/program\"], or store = \"NAME\"";
const HOW: &str =
    "write { env = \"VARIABLE\" }, { file = \"/path\" } or { secret = \"NAME\" } with [secrets.NAME]";

/// The secrets of `[secrets]`: `None` where the section has a name whose secret cannot be read.
pub(super) type Named = BTreeMap<String, Option<Secret>>;

/// Reads `[secrets]`.
pub(super) fn read_named<'d>(sources: &Sources<'d>, root: &mut Table<'d>, has_vault: bool) -> Named {
    let mut named = Named::new();
    let Some(mut section) = root.take("secrets").and_then(Value::table) else {
        return named;
    };
    for (name, value) in section.take_all() {
        if !is_word(&name.value) {
            sources.problems.error(
                name.span,
                value.path(),
                format!("{:?} is not a name for a secret", name.value),
                "use 1 to 64 of A-Z a-z 0-9 _ -",
            );
        }
        sources.item(format!("secrets.{}", name.value), "secret", Source::File);
        let secret = read_section(sources, value, has_vault);
        named.insert(name.value, secret);
    }
    named
}

/// Reads one section: what every secret-valued key takes, and a program or a stored credential.
fn read_section<'d>(sources: &Sources<'d>, value: Value<'d>, has_vault: bool) -> Option<Secret> {
    if !value.is_table() {
        return read(sources, value, None);
    }
    let mut table = value.table()?;
    let (command, timeout, store) = (table.take("command"), table.take("timeout"), table.take("store"));
    let within = timeout.as_ref().map_or(Some(COMMAND_TIMEOUT), |value| value.duration(COMMAND_RANGE));
    let secret = match (command, store) {
        (Some(command), None) => {
            let secret = within.and_then(|within| from_command(sources, command, within));
            nothing_else(&mut table);
            secret
        }
        (None, Some(store)) => {
            let secret = from_store(sources, &store, has_vault);
            nothing_else(&mut table);
            secret
        }
        (None, None) => {
            if let Some(timeout) = timeout {
                timeout.error("only a command has a timeout", "remove it");
            }
            return read_place(sources, table, None);
        }
        (Some(_), Some(_)) => {
            table.error("a secret comes from one place only", SECTION_HELP);
            None
        }
    };
    sources.finish_hidden(table);
    note(sources, secret)
}

fn nothing_else(table: &mut Table<'_>) {
    if table.take("file").is_some() | table.take("env").is_some() {
        table.error("a secret comes from one place only", SECTION_HELP);
    }
}

/// So that it is kept out of everything that is written.
fn note(sources: &Sources<'_>, secret: Option<Secret>) -> Option<Secret> {
    sources.hidden.borrow_mut().extend(secret.clone());
    secret
}

fn from_command(sources: &Sources<'_>, value: Value<'_>, within: Duration) -> Option<Secret> {
    const HELP: &str = "write command = [\"/usr/bin/pass\", \"show\", \"pagerduty\"]";
    let place = value.place();
    let words: Vec<String> = value.strings()?.into_iter().map(|word| word.value).collect();
    let wrong = |message: String| {
        sources.problems.add(place.problem(Severity::Error, message, HELP));
        None
    };
    let Some(program) = words.first().filter(|program| program.starts_with('/')) else {
        return wrong("the program is not an absolute path".to_owned());
    };
    if words.iter().any(|word| word.contains('\0')) {
        return wrong("an argument holds a NUL byte".to_owned());
    }
    if sources.leave_programs {
        return Some(Secret::new(UNKNOWN_YET));
    }
    let printed = secret_command::output(&words, sources.env, within, MAX_FILE);
    match printed.and_then(|text| usable(&text)) {
        Ok(secret) => Some(secret),
        Err(why) => wrong(format!("the secret of the program {program:?} cannot be had: {why}")),
    }
}

fn from_store(sources: &Sources<'_>, value: &Value<'_>, has_vault: bool) -> Option<Secret> {
    let name = value.string()?.value;
    if !has_vault {
        value.error("a credential can be stored only with a key", "add a section [vault] with key = { … }");
        return None;
    }
    stored(sources, value, &name)
}

/// A stored credential; before the store is open, a text that can stand wherever one can.
fn stored(sources: &Sources<'_>, value: &Value<'_>, name: &str) -> Option<Secret> {
    sources.wanted.borrow_mut().insert(name.to_owned());
    let Some(known) = sources.stored else { return Some(Secret::new(UNKNOWN_YET)) };
    match known.get(name) {
        Some(Some(secret)) => Some(secret.clone()),
        Some(None) => {
            let help = "put the old key back behind the first in [vault] key, or store the credential anew";
            value.error(format!("no key of [vault] opens the stored credential {name:?}"), help);
            None
        }
        None => {
            let message =
                format!("neither a section [secrets.NAME] nor a stored credential is called {name:?}");
            value.error(message, "add a section, or store one: POST /api/credentials");
            None
        }
    }
}

/// Reads one secret-valued key. `named` are the secrets it may refer to, `None` within `[secrets]` itself.
pub(super) fn read<'d>(sources: &Sources<'d>, value: Value<'d>, named: Option<&Named>) -> Option<Secret> {
    let help = if named.is_some() { HOW } else { SECTION_HELP };
    if !value.is_table() {
        sources.mask(value.span());
        value.error("a secret is never written into this file", help);
        return None;
    }
    read_place(sources, value.table()?, named)
}

fn read_place<'d>(sources: &Sources<'d>, mut table: Table<'d>, named: Option<&Named>) -> Option<Secret> {
    let help = if named.is_some() { HOW } else { SECTION_HELP };
    let file = table.take("file");
    let env = table.take("env");
    let reference = named.and_then(|_| table.take("secret"));
    let has_others = !table.unasked().is_empty();
    let secret = match (file, env, reference) {
        (Some(file), None, None) => from_file(sources, &file),
        (None, Some(env), None) => from_env(sources, &env),
        (None, None, Some(reference)) => from_named(sources, &reference, named?),
        // `finish` complains of what stands there instead.
        (None, None, None) if has_others => None,
        (None, None, None) => {
            table.error("it is not said where the secret comes from", help);
            None
        }
        _ => {
            table.error("a secret comes from one place only", help);
            None
        }
    };
    sources.finish_hidden(table);
    note(sources, secret)
}

fn from_file(sources: &Sources<'_>, value: &Value<'_>) -> Option<Secret> {
    let written = value.string()?.value;
    match read_secret_file(&sources.resolve(&written, Source::File)) {
        Ok(text) => not_empty(value, &format!("the secret file {written:?}"), &text),
        Err(FileError::Permissions(mode)) => {
            value.error(
                format!("the secret file {written:?} is open to others (mode {mode:04o})"),
                "run chmod o= on it (in Kubernetes: defaultMode: 0440)",
            );
            None
        }
        Err(FileError::Other(why)) => {
            value.error(
                format!("the secret file {written:?} cannot be read: {why}"),
                "put the secret there, or correct the path",
            );
            None
        }
    }
}

fn from_env(sources: &Sources<'_>, value: &Value<'_>) -> Option<Secret> {
    let name = value.string()?.value;
    sources.referred.borrow_mut().insert(name.clone());
    let Some(text) = sources.env.get(&name) else {
        value.error(format!("the variable {name:?} is not set"), "set it in the environment of runbookd");
        return None;
    };
    not_empty(value, &format!("the variable {name:?}"), text)
}

fn from_named(sources: &Sources<'_>, value: &Value<'_>, named: &Named) -> Option<Secret> {
    let name = value.string()?.value;
    if let Some(secret) = named.get(&name) {
        return secret.clone();
    }
    if sources.has_vault.get() && is_word(&name) {
        return stored(sources, value, &name);
    }
    let known: Vec<&str> = named.keys().map(String::as_str).collect();
    let help = nearest(&name, &known)
        .map_or_else(|| "add a section [secrets.NAME]".to_owned(), |near| format!("did you mean {near:?}?"));
    value.error("no section [secrets.NAME] has this name", help);
    None
}

fn not_empty(value: &Value<'_>, what: &str, text: &str) -> Option<Secret> {
    let secret = usable(text);
    secret.map_err(|why| value.error(format!("{what} {why}"), "put the secret there as text")).ok()
}

/// An empty secret would be a credential that anybody has.
fn usable(text: &str) -> Result<Secret, String> {
    let secret = Secret::new(text);
    if secret.expose().trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if secret.expose().contains('\0') {
        return Err("holds a NUL byte".to_owned());
    }
    Ok(secret)
}

/// Why a file was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileError {
    /// Others have a permission; its mode.
    Permissions(u32),
    /// Anything else, as a sentence.
    Other(String),
}

pub(super) fn read_secret_file(path: &Path) -> Result<String, FileError> {
    read_small(path, 0o007)
}

/// Reads a file that is no secret, such as a public key.
pub(super) fn read_public_file(path: &Path) -> Result<String, String> {
    read_small(path, 0).map_err(|error| match error {
        FileError::Permissions(mode) => format!("its mode is {mode:04o}"),
        FileError::Other(why) => why,
    })
}

/// Reads a small regular file without waiting (a pipe in its place must not hold the start), and checks the
/// permissions of the very file that is read.
fn read_small(path: &Path, forbidden: u32) -> Result<String, FileError> {
    let other = |error: std::io::Error| FileError::Other(error.to_string());
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(other)?;
    let metadata = file.metadata().map_err(other)?;
    if !metadata.is_file() {
        return Err(FileError::Other("it is not a regular file".to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(FileError::Permissions(mode));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(other)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::Other(format!("it is larger than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| FileError::Other("it is not UTF-8 text".to_owned()))
}
