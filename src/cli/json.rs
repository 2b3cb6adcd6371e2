//! A server's JSON for people: indented, and otherwise exactly what was sent.
//!
//! The text is indented, not the decoded value, so that the order of keys and the digits of numbers stay. May import:
//! nothing of this crate outside this room. Must never: be given a text that is not JSON.

use super::escape::is_unseen;

/// `text`, which is JSON, on one line.
pub(super) fn one_line(text: &str) -> String {
    lay_out(text, false)
}

/// `text`, which is JSON, indented by two blanks.
pub(super) fn pretty(text: &str) -> String {
    lay_out(text, true)
}

fn lay_out(text: &str, indented: bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut chars = text.chars().peekable();
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = chars.next() {
        if quoted {
            push(&mut out, c);
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match chars.next_if(|next| matches!(next, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line_end(&mut out, depth, indented);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line_end(&mut out, depth, indented);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line_end(&mut out, depth, indented);
            }
            ':' => out.push_str(if indented { ": " } else { ":" }),
            c => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn line_end(out: &mut String, depth: usize, indented: bool) {
    if indented {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

/// A character of a text; an escape means the same to every reader of JSON and nothing to a terminal.
fn push(out: &mut String, c: char) {
    if is_unseen(c) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_order_of_keys_and_the_digits_of_numbers_stay() {
        let text =
            r#"{"z":1.10,"a":[],"m":{ },"n":[1,{"k":"a,b:{\"}"}],"big":123456789012345678901234567890}"#;
        let expected = "{\n  \"z\": 1.10,\n  \"a\": [],\n  \"m\": {},\n  \"n\": [\n    1,\n    {\n      \"k\": \"a,b:{\\\"}\"\n    }\n  ],\n  \"big\": 123456789012345678901234567890\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(one_line(expected), text.replace("{ }", "{}"));
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_means_the_same() {
        let value = Value::from("\u{1b}[31m \u{9b} \u{202e} \u{e0041} \\ \" \u{7f}");
        let shown = pretty(&value.to_string());
        assert!(!shown.chars().any(is_unseen), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }
}
