//! Making text from a server harmless: labels, outputs and errors are written by strangers.
//!
//! May import: `model`. Must never: let a control, a direction mark or an invisible character through, because a
//! terminal obeys it, or a person believes what it hides.

pub(super) use crate::model::is_unseen;
use unicode_width::UnicodeWidthChar as _;

/// `text` on one line: what cannot be seen is written as an escape.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unseen(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `text` with its lines and tabs, everything else as [`visible`] does it.
pub(super) fn visible_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        let end = part.chars().last().filter(|c| matches!(c, '\n' | '\t'));
        // The line end of Windows is a line end, not something hidden.
        let body = part.trim_end_matches(['\n', '\t']);
        out.push_str(&visible(if end == Some('\n') {
            body.strip_suffix('\r').unwrap_or(body)
        } else {
            body
        }));
        out.extend(end);
    }
    out
}

/// How many columns of a terminal `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The beginning of `text` in at most `columns`, with `...` where it was cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 3 > columns {
            break;
        }
        out.push(c);
    }
    out + "..."
}

/// `text` broken into lines of at most `columns`, at a blank where there is one in the second half of a line.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > columns {
            let rest = match line.rfind(' ') {
                Some(blank) if blank >= line.len() / 2 => {
                    let rest = line[blank + 1..].to_owned();
                    line.truncate(blank);
                    rest
                }
                _ => String::new(),
            };
            lines.push(std::mem::replace(&mut line, rest));
            used = width(&line);
        }
        line.push(c);
        used += wide;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_as_an_escape() {
        let check = |text: &str, expected: &str| {
            let shown = visible(text);
            assert_eq!(shown, expected);
            assert!(!shown.chars().any(is_unseen));
        };
        check("\u{1b}[2J\u{1b}]0;owned\u{7}", "\\u{1b}[2J\\u{1b}]0;owned\\u{7}");
        check("a\r\nb\tc\0", "a\\r\\nb\\tc\\u{0}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("web\u{202e}gpj.exe", "web\\u{202e}gpj.exe");
        check("a\u{200b}b\u{e0041}", "a\\u{200b}b\\u{e0041}");
        check("größe 数 ok", "größe 数 ok");
    }

    #[test]
    fn lines_and_tabs_of_an_output_stay_and_nothing_else() {
        assert_eq!(visible_lines("a\tb\r\nc\u{1b}[0m\n\nd"), "a\tb\nc\\u{1b}[0m\n\nd");
        assert_eq!(visible_lines("50%\r100%\n"), "50%\\r100%\n");
        assert_eq!(visible_lines(""), "");
    }

    #[test]
    fn a_cut_counts_columns_not_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("数数数数", 7), "数数...");
        assert_eq!(width("数a"), 3);
    }

    #[test]
    fn a_long_text_is_broken_at_blanks_and_loses_no_word() {
        let text = "restart the unit nginx.service on the machine 10.0.0.1 because it is down";
        let lines = wrap(text, 20);
        assert!(lines.iter().all(|line| width(line) <= 20), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap(&"x".repeat(45), 20).concat(), "x".repeat(45));
        assert_eq!(wrap("", 20), [""]);
    }
}
