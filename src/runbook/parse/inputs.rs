//! The section `[inputs]`.

use super::templates;
use crate::document::{Sited, Table, Value, nearest};
use crate::model::anchored_regex;
use crate::runbook::definition::{Input, InputSource};

/// Reads every input, in the order of the file.
pub(super) fn read(mut table: Table<'_>) -> Vec<Input> {
    let mut entries = table.take_all();
    entries.sort_by_key(|(name, _)| name.span.start);
    entries.into_iter().filter_map(|(name, value)| input(name, value)).collect()
}

fn input(name: Sited<String>, value: Value<'_>) -> Option<Input> {
    if !is_name(&name.value) {
        let message = format!("{:?} is not an input's name", name.value);
        value.problems().error(name.span, value.path(), message, "use [A-Za-z_][A-Za-z0-9_]*");
        return None;
    }
    let mut table = value.table()?;
    let from = table.take("from").and_then(|value| source(&value));
    let default = table.take("default");
    let pattern = table.take("pattern").and_then(|value| {
        value.parsed("write a regular expression; it must match the whole value", |text| {
            anchored_regex(text).map_err(|why| {
                let why = why.trim_start_matches("error: ").trim_end_matches('.');
                format!("the pattern cannot be used: {why}")
            })
        })
    });
    let required = table.take("required").and_then(|value| value.boolean()).unwrap_or(false);
    let default = default.and_then(|value| {
        let text = templates::literal(&value, "use `from` to take a value from the alert")?.value;
        if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
            value.error("the default does not match its own pattern", "correct one of them");
            return None;
        }
        Some(text)
    });
    table.finish();
    Some(Input { name: name.value, from, default, pattern, required })
}

fn source(value: &Value<'_>) -> Option<InputSource> {
    const ROOTS: [&str; 3] = ["labels", "annotations", "env"];
    const HELP: &str = "write labels.NAME, annotations.NAME or env.NAME";
    let text = value.string()?.value;
    let (root, name) = text.split_once('.').unwrap_or((&text, ""));
    let source = match root {
        _ if name.is_empty() => None,
        "labels" => Some(InputSource::Label(name.to_owned())),
        "annotations" => Some(InputSource::Annotation(name.to_owned())),
        "env" if is_name(name) => Some(InputSource::Env(name.to_owned())),
        _ => None,
    };
    if source.is_none() {
        let near = nearest(root, &ROOTS).filter(|near| *near != root && !name.is_empty());
        let help = near.map_or_else(|| HELP.to_owned(), |near| format!("did you mean {near}.{name}?"));
        value.error(format!("{text:?} is not where an input can come from"), help);
    }
    source
}

/// Whether an input can be called this.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
