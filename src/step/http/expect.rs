//! What an answer must be like: patterns of statuses, and JSON that must be contained.
//!
//! Pure. May import: nothing of this crate. Must never: treat a missing key as a null.

use serde_json::Value;
use std::fmt;

/// Statuses that mean success, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    from: u16,
    to: u16,
}

impl StatusRange {
    /// From `from` to `to`.
    pub fn new(from: u16, to: u16) -> Self {
        Self { from, to }
    }

    /// Whether `status` is one of them.
    pub fn matches(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, to) if from == to => write!(f, "{from}"),
            (from, to) if from % 100 == 0 && to == from + 99 => write!(f, "{}xx", from / 100),
            (from, to) => write!(f, "{from}-{to}"),
        }
    }
}

/// The patterns as words; what holds when there are none.
pub(super) fn list(patterns: &[StatusRange]) -> String {
    if patterns.is_empty() {
        return "2xx".into();
    }
    patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// The first place where `found` does not contain `expected`, as a sentence. Objects may have more keys than
/// expected; arrays must be as long; numbers are compared by value.
pub(super) fn difference(expected: &Value, found: &Value) -> Option<String> {
    differ(expected, found, &mut String::new())
}

fn differ(expected: &Value, found: &Value, path: &mut String) -> Option<String> {
    let length = path.len();
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                path.push('/');
                path.push_str(key);
                match found.get(key) {
                    Some(found) => {
                        if let Some(sentence) = differ(value, found, path) {
                            return Some(sentence);
                        }
                    }
                    None => return Some(format!("the body has no {path}")),
                }
                path.truncate(length);
            }
            None
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                path.push_str(&format!("/{index}"));
                if let Some(sentence) = differ(expected, found, path) {
                    return Some(sentence);
                }
                path.truncate(length);
            }
            None
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        _ if expected == found => None,
        _ => {
            let place = if path.is_empty() { "the body" } else { path };
            Some(format!("{place} is {}, expected was {}", short(found), short(expected)))
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_range_holds_its_ends_and_is_printed_as_people_write_it() {
        for (from, to, text) in [(200, 299, "2xx"), (200, 200, "200"), (200, 204, "200-204")] {
            let range = StatusRange::new(from, to);
            assert!(range.matches(from) && range.matches(to) && !range.matches(to + 1), "{text}");
            assert_eq!(range.to_string(), text);
        }
    }

    #[test]
    fn a_subset_is_contained_and_the_first_difference_is_named() {
        let found = json!({"status": "ok", "n": 1, "list": [{"a": 1, "b": 2}, 2], "null": null});
        for expected in [json!({}), json!({"n": 1.0}), json!({"list": [{"a": 1}, 2]}), json!({"null": null})]
        {
            assert_eq!(difference(&expected, &found), None, "{expected}");
        }
        for (expected, sentence) in [
            (json!({"status": "bad"}), "/status is \"ok\", expected was \"bad\""),
            (json!({"gone": null}), "the body has no /gone"),
            (json!({"list": [{"a": 2}, 2]}), "/list/0/a is 1, expected was 2"),
            (json!({"list": [2]}), "/list is [{\"a\":1,\"b\":2},2], expected was [2]"),
            (json!([]), "the body is {"),
        ] {
            assert!(difference(&expected, &found).unwrap().starts_with(sentence), "{expected}");
        }
    }
}
