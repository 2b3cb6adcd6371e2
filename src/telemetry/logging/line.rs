//! One event as one line: values bounded, everything that could break or disguise the line escaped.
//!
//! May import: `model`. Must never: write a line end, a control or a direction mark of a value as it is.

use super::Format;
use crate::model::{Timestamp, is_unseen};
use std::fmt::{self, Write};
use tracing::Level;
use tracing::field::{Field, Visit};

/// The most bytes of one value; the rest is cut and its length told. With at most 32 fields to an event
/// and to each of its spans, it bounds a line.
pub(super) const MAX_VALUE: usize = 16 * 1024;

/// A field's value, with the type it was logged with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

/// The fields of a span or an event in order; a later value of a name replaces the earlier.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields {
    message: Option<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Fields {
    pub(super) fn message(&mut self, text: &str) {
        self.message = Some(text.to_owned());
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.set(name, Value::Number(value.into()));
    }

    /// Takes over all of `inner`, which wins where both have a name.
    pub(super) fn merge(&mut self, inner: &Self) {
        if inner.message.is_some() {
            self.message.clone_from(&inner.message);
        }
        for (name, value) in &inner.fields {
            self.set(name, value.clone());
        }
    }

    fn set(&mut self, name: &'static str, value: Value) {
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = Some(text),
            (name, value) => self.set(name.strip_prefix("r#").unwrap_or(name), value),
        }
    }

    fn put_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let mut cut = Cut::default();
        // A value whose own formatting fails is kept as far as it came.
        let failed = cut.write_fmt(text).is_err();
        self.put(field, Value::Text(cut.finish(failed)));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.put(field, Value::Number(number)),
            // NaN and the infinities are no JSON numbers.
            None => self.put_text(field, format_args!("{value}")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Number(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Number(value.into()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match serde_json::Number::from_i128(value) {
            Some(number) => self.put(field, Value::Number(number)),
            None => self.put_text(field, format_args!("{value}")),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match serde_json::Number::from_u128(value) {
            Some(number) => self.put(field, Value::Number(number)),
            None => self.put_text(field, format_args!("{value}")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, format_args!("{value}"));
    }

    /// The error and all that caused it: here is the edge where causes are printed.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut cut = Cut::default();
        let mut failed = write!(cut, "{value}").is_err();
        let mut cause = value.source();
        // A chain that leads back to itself would have no end.
        for _ in 0..16 {
            let Some(error) = cause else { break };
            failed |= write!(cut, ": {error}").is_err();
            cause = error.source();
        }
        self.put(field, Value::Text(cut.finish(failed)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format_args!("{value:?}"));
    }
}

/// Text that keeps its first [`MAX_VALUE`] bytes and counts the others.
#[derive(Default)]
struct Cut {
    kept: String,
    beyond: usize,
}

impl Cut {
    fn finish(mut self, failed: bool) -> String {
        if self.beyond > 0 {
            self.kept.push_str(&format!("… [{} more bytes]", self.beyond));
        }
        if failed {
            self.kept.push_str("… [its formatting failed]");
        }
        self.kept
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = if self.beyond > 0 { 0 } else { MAX_VALUE - self.kept.len() };
        let keep = text.floor_char_boundary(room);
        self.kept.push_str(&text[..keep]);
        self.beyond += text.len() - keep;
        Ok(())
    }
}

/// The line, its end included.
pub(super) fn render(format: Format, at: Timestamp, level: Level, target: &str, fields: &Fields) -> String {
    let message = fields.message.as_deref().unwrap_or_default();
    let mut out = String::with_capacity(256 + message.len());
    match format {
        Format::Json => json_line(&mut out, at, level, target, message, fields),
        Format::Text => text_line(&mut out, at, level, target, message, fields),
    }
    out.push('\n');
    out
}

fn json_line(out: &mut String, at: Timestamp, level: Level, target: &str, message: &str, fields: &Fields) {
    out.push_str(&format!("{{\"ts\":\"{at:.3}\",\"level\":\"{}\",\"msg\":", level.as_str().to_lowercase()));
    json_string(out, message);
    out.push_str(",\"target\":");
    json_string(out, target);
    for (name, value) in &fields.fields {
        out.push(',');
        // A line has each of these names once, and they are ours.
        if matches!(*name, "ts" | "level" | "msg" | "target") {
            json_string(out, &format!("field_{name}"));
        } else {
            json_string(out, name);
        }
        out.push(':');
        match value {
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Text(text) => json_string(out, text),
        }
    }
    out.push('}');
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unseen(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn text_line(out: &mut String, at: Timestamp, level: Level, target: &str, message: &str, fields: &Fields) {
    out.push_str(&format!("{at:.3} {:<5} ", level.as_str()));
    visible(out, target);
    out.push_str(": ");
    visible(out, message);
    for (name, value) in &fields.fields {
        out.push(' ');
        visible(out, name);
        out.push('=');
        match value {
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Text(text) if !text.is_empty() && text.chars().all(is_plain) => out.push_str(text),
            Value::Text(text) => {
                out.push('"');
                visible(out, text);
                out.push('"');
            }
        }
    }
}

/// Needs no quotes in a text line.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '+' | '%')
}

fn visible(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unseen(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
}
