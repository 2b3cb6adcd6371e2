//! `[secrets.NAME]`, and every other place that takes a secret: `{ file = … }`, `{ env = … }`,
//! `{ secret = "NAME" }`, never a literal.
//!
//! May import: `model`, `document`. Must never: put a secret, or a text written where one belongs, into a
//! message.

use super::source::{Source, Sources};
use crate::document::{Table, Value, nearest};
use crate::model::{Secret, is_word};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Largest file a secret or a key is read from.
const MAX_FILE: u64 = 64 << 10;

const HOW: &str =
    "write { env = \"VARIABLE\" }, { file = \"/path\" } or { secret = \"NAME\" } with [secrets.NAME]";

/// The secrets of `[secrets]`: `None` where the section has a name whose secret cannot be read.
pub(super) type Named = BTreeMap<String, Option<Secret>>;

/// Reads `[secrets]`.
pub(super) fn read_named<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Named {
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
        let secret = read(sources, value, None);
        named.insert(name.value, secret);
    }
    named
}

/// Reads one secret-valued key. `named` are the secrets it may refer to, `None` within `[secrets]` itself.
pub(super) fn read<'d>(sources: &Sources<'d>, value: Value<'d>, named: Option<&Named>) -> Option<Secret> {
    let help = if named.is_some() { HOW } else { "write file = \"/path\" or env = \"VARIABLE\"" };
    if !value.is_table() {
        sources.mask(value.span());
        value.error("a secret is never written into this file", help);
        return None;
    }
    let mut table = value.table()?;
    let file = table.take("file");
    let env = table.take("env");
    let reference = named.and_then(|_| table.take("secret"));
    let has_others = !table.unasked().is_empty();
    let secret = match (file, env, reference) {
        (Some(file), None, None) => from_file(sources, &file),
        (None, Some(env), None) => from_env(sources, &env),
        (None, None, Some(reference)) => from_named(&reference, named?),
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
    secret
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

fn from_named(value: &Value<'_>, named: &Named) -> Option<Secret> {
    let name = value.string()?.value;
    if let Some(secret) = named.get(&name) {
        return secret.clone();
    }
    let known: Vec<&str> = named.keys().map(String::as_str).collect();
    let help = nearest(&name, &known)
        .map_or_else(|| "add a section [secrets.NAME]".to_owned(), |near| format!("did you mean {near:?}?"));
    value.error("no section [secrets.NAME] has this name", help);
    None
}

/// An empty secret would be a credential that anybody has.
fn not_empty(value: &Value<'_>, what: &str, text: &str) -> Option<Secret> {
    let secret = Secret::new(text);
    if secret.expose().trim().is_empty() {
        value.error(format!("{what} is empty"), "put the secret there");
        return None;
    }
    if secret.expose().contains('\0') {
        value.error(format!("{what} holds a NUL byte"), "put the secret there as text");
        return None;
    }
    Some(secret)
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
