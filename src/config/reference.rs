//! The reference of the config, made of the code: names and meanings of `schema`, defaults as an empty file gives them,
//! and what may be written as the readers themselves say it of something that may not.
//!
//! A test holds `config/README.md` to it. May import: `document`. Must never: know a default or a bound by itself.

use super::schema::{KEYS, Key, Kind};
use super::{Config, Overrides, load};
use crate::document::{Problem, Shape};
use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const INTRODUCTION: &str = "\
# The keys of the config

Made of the code by `make reference`; a test holds it to the code. [runbookd.toml](runbookd.toml) shows how they are
written, with examples. A flag is stronger than a variable, a variable is stronger than the file; a key without a variable
stands in the file alone. Durations are written like `30s` or `1h 30m`, sizes like `8MiB`. A *secret* is never written
here: it is `{ env = \"VARIABLE\" }`, `{ file = \"/path\" }` or `{ secret = \"NAME\" }`. Paths are relative to the file.

What a *reload* (SIGHUP) puts in force is said of each key; the rest needs a restart.
";

/// Values that no key takes, each of another type.
const PROBES: [&str; 5] = ["\"99999999days\"", "\"9999999999GiB\"", "-1", "\"zzzz\"", "[\"zzzz\"]"];

/// The whole reference, in Markdown.
pub fn reference() -> String {
    let (mut text, mut section) = (INTRODUCTION.to_owned(), "");
    let defaults = defaults();
    for key in KEYS {
        let own = key.name.split('.').next().unwrap_or(key.name);
        if own != section {
            section = own;
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "\n## {own}\n\n| key | type | default | variable, flag | reload | meaning |\n|---|---|---|---|---|---|\n"
            );
        }
        text.push_str(&row(key, &defaults));
    }
    text
}

fn row(key: &Key, defaults: &BTreeMap<String, String>) -> String {
    let variable = key.shape.map(|_| key.variable());
    let ways: Vec<String> =
        [variable.as_deref(), key.flag].into_iter().flatten().map(|way| format!("`{way}`")).collect();
    let default = defaults.get(key.name).filter(|value| !value.is_empty());
    let default = default.map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
    let reload = if key.reload { "yes" } else { "no" };
    let name = match key.kind {
        Kind::List => format!("{}[]", key.name),
        Kind::Named => format!("{}.NAME", key.name),
        _ => key.name.to_owned(),
    };
    let kind = kind(key, &bound(key, None));
    let mut row =
        format!("| `{name}` | {kind} | {default} | {} | {reload} | {} |\n", ways.join(" "), key.about);
    for (inner, about) in key.inside {
        let kind = bound(key, Some(inner));
        // Writing to a String cannot fail.
        let _infallible = writeln!(row, "| `{name}.{inner}` | {kind} | | | | {about} |");
    }
    row
}

fn kind(key: &Key, bound: &str) -> String {
    let word = match (key.kind, key.shape) {
        (Kind::Plain, Some(Shape::Boolean)) => "`true` or `false`",
        (Kind::Plain, Some(Shape::List)) => "list",
        (Kind::Plain, Some(Shape::Integer)) => "number",
        (Kind::Plain, _) | (Kind::Text, _) => "text",
        (Kind::OrFalse, _) => "value or `false`",
        (Kind::Secret, _) => "secret",
        (Kind::Table, _) => "table",
        (Kind::Named, _) => "tables by name",
        (Kind::List, _) => "list of tables",
    };
    // A bound says what it is of.
    match bound {
        "" => word.to_owned(),
        bound if matches!(key.kind, Kind::Plain | Kind::Text) && !word.starts_with("list") => {
            bound.to_owned()
        }
        bound => format!("{word}: {bound}"),
    }
}

/// What the reader of a key says may be written, of a value that may not.
fn bound(key: &Key, inner: Option<&str>) -> String {
    let told = PROBES.iter().find_map(|probe| {
        let problems = problems(&written(key, inner, probe));
        let says = |problem: &&Problem| {
            let at = inner.map_or(problem.path.contains(key.name), |inner| problem.path.ends_with(inner));
            at && (problem.message.contains("is out of range")
                || problem.message.contains("is not known here"))
        };
        problems.iter().find(says).map(|problem| problem.help.clone())
    });
    let told = told.unwrap_or_default();
    told.strip_prefix("write a ").unwrap_or(&told).to_owned()
}

/// The keys that the reader of a table knows.
#[cfg(test)]
fn known(key: &Key, more: &str) -> BTreeSet<String> {
    let problems = problems(&written(key, Some("qqqqqqqqqqqq"), &format!("1\n{more}")));
    let help = problems.iter().find_map(|problem| {
        let is_it = problem.message.contains("qqqqqqqqqqqq") && problem.message.starts_with("unknown key");
        problem.help.strip_prefix("known keys here: ").filter(|_| is_it)
    });
    help.into_iter().flat_map(|help| help.split(", ")).map(str::to_owned).collect()
}

/// A file that sets a key, or one in its table, to `value`.
fn written(key: &Key, inner: Option<&str>, value: &str) -> String {
    match (key.kind, inner) {
        (Kind::List, Some(inner)) => format!("[[{}]]\n{inner} = {value}\n", key.name),
        (Kind::Named, Some(inner)) => format!("[{}.x]\n{inner} = {value}\n", key.name),
        (_, Some(inner)) => format!("[{}]\n{inner} = {value}\n", key.name),
        (_, None) => match key.name.rsplit_once('.') {
            Some((section, name)) => format!("[{section}]\n{name} = {value}\n"),
            None => format!("{} = {value}\n", key.name),
        },
    }
}

fn problems(text: &str) -> Vec<Problem> {
    load("reference", Path::new("reference"), text, &BTreeMap::new(), &Overrides::default()).problems
}

/// What an empty file gives.
fn defaults() -> BTreeMap<String, String> {
    let loaded = load("reference", Path::new("reference"), "", &BTreeMap::new(), &Overrides::default());
    let items = loaded.config.as_ref().map(Config::effective).unwrap_or_default();
    items.into_iter().map(|item| (item.name, item.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "config/README.md";

    #[test]
    fn the_reference_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        let (made, update) = (reference(), std::env::var("UPDATE").is_ok());
        if update {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "{FILE} is not what the code says: run `make reference`");
    }

    #[test]
    fn every_key_inside_a_table_is_told_and_no_other() {
        for key in KEYS.iter().filter(|key| !key.inside.is_empty()) {
            let told: BTreeSet<String> = key.inside.iter().map(|(inner, _)| (*inner).to_owned()).collect();
            let mores: &[&str] = match key.name {
                "notifiers" => &[
                    "kind = \"slack\"",
                    "kind = \"pagerduty\"",
                    "kind = \"webhook\"",
                    "kind = \"alertmanager\"",
                    "kind = \"email\"",
                ],
                "freezes" => {
                    &["name = \"n\"\nfrom = \"2026-01-01T00:00:00Z\"\nuntil = \"2026-01-02T00:00:00Z\""]
                }
                _ => &[""],
            };
            let known: BTreeSet<String> = mores.iter().flat_map(|more| known(key, more)).collect();
            assert_eq!(told, known, "{}", key.name);
        }
    }

    #[test]
    fn bounds_and_words_come_from_the_readers() {
        let of = |name: &str| bound(KEYS.iter().find(|key| key.name == name).unwrap(), None);
        assert_eq!(of("automation.max_running"), "number from 1 to 10000");
        assert_eq!(of("automation.queue_deadline"), "duration from 1s to 7days");
        assert_eq!(of("server.max_body"), "size from 1024 to 1073741824 bytes");
        assert_eq!(of("steps.containment"), "one of: auto, cgroup, processes");
        assert_eq!(of("automation.mapping_order"), "one of: config, annotation, runbook");
        assert_eq!(of("store.path"), "");
    }

    #[test]
    fn every_key_is_told_in_a_sentence() {
        for key in KEYS {
            assert!(key.about.ends_with('.') && !key.about.contains('|'), "{}: {}", key.name, key.about);
        }
    }
}
