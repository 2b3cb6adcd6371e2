//! The tokens of one tag, as far as names and permissions need them.
//!
//! It refuses braces within a tag, so it cannot disagree with minijinja about where a tag ends.
//! Must never: panic on any text.

use super::{TemplateError, refuse};
use std::ops::Range;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or a keyword.
    Name(String),
    /// A quoted text; its value where it has no escapes.
    Text(Option<String>),
    /// A number.
    Number,
    /// An operator or a bracket.
    Symbol(&'static str),
}

/// Tokens with their places.
pub(super) type Tokens = Vec<(Token, Range<usize>)>;

/// Longer ones first.
const SYMBOLS: [&str; 27] = [
    "**", "//", "==", "!=", "<=", ">=", "~", "+", "-", "*", "/", "%", "<", ">", "=", "|", ".", ",", ":", "(",
    ")", "[", "]", "{", "}", "!", ";",
];

/// Reads from `start`, behind the opening braces, to `close`; gives the tokens and where the tag ends.
pub(super) fn tag(source: &str, start: usize, close: &str) -> Result<(Tokens, usize), TemplateError> {
    let open = start.saturating_sub(2);
    // `{{-` and `{%+` control white space.
    let start = if source[start..].starts_with(['-', '+']) { start + 1 } else { start };
    let mut tokens = Tokens::new();
    let mut at = start;
    loop {
        let rest = &source[at..];
        if rest.starts_with(close) {
            return Ok((tokens, at + close.len()));
        }
        if rest.starts_with(['-', '+']) && rest[1..].starts_with(close) {
            return Ok((tokens, at + 1 + close.len()));
        }
        match next(source, at)? {
            Some((token, end)) => at = push(&mut tokens, token, at, end),
            None => {
                return refuse(
                    &(open..source.len()),
                    "a tag that does not end",
                    format!("close it with {close}"),
                );
            }
        }
    }
}

/// Reads the whole of `source`.
pub(super) fn all(source: &str) -> Result<Tokens, TemplateError> {
    let mut tokens = Tokens::new();
    let mut at = 0;
    while let Some((token, end)) = next(source, at)? {
        at = push(&mut tokens, token, at, end);
    }
    Ok(tokens)
}

fn push(tokens: &mut Tokens, token: Option<Token>, start: usize, end: usize) -> usize {
    if let Some(token) = token {
        tokens.push((token, start..end));
    }
    end
}

/// The token at `at` (none for white space) and its end; `None` at the end of the source.
fn next(source: &str, at: usize) -> Result<Option<(Option<Token>, usize)>, TemplateError> {
    let rest = &source[at..];
    let Some(first) = rest.chars().next() else { return Ok(None) };
    let run = |keep: fn(char) -> bool| rest.find(|c| !keep(c)).map_or(source.len(), |length| at + length);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    Ok(Some(match first {
        c if c.is_whitespace() => (None, run(char::is_whitespace)),
        'A'..='Z' | 'a'..='z' | '_' => {
            let end = run(is_word);
            (Some(Token::Name(source[at..end].to_owned())), end)
        }
        '0'..='9' => {
            let end = run(is_word);
            let fraction =
                source[end..].strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            let end = fraction.map_or(end, |rest| {
                let digits = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                end + 1 + digits
            });
            (Some(Token::Number), end)
        }
        '"' | '\'' => {
            let (text, end) = quoted(source, at, first)?;
            (Some(Token::Text(text)), end)
        }
        _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => (Some(Token::Symbol(symbol)), at + symbol.len()),
            None => {
                return refuse(
                    &(at..at + first.len_utf8()),
                    format!("{first:?} has no meaning here"),
                    "quote texts",
                );
            }
        },
    }))
}

fn quoted(source: &str, at: usize, quote: char) -> Result<(Option<String>, usize), TemplateError> {
    let mut escaped = false;
    let mut plain = true;
    for (offset, c) in source[at + 1..].char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
            plain = false;
        } else if c == quote {
            let end = at + 1 + offset;
            return Ok((plain.then(|| source[at + 1..end].to_owned()), end + 1));
        }
    }
    refuse(&(at..source.len()), "a text that does not end", "close the quotes")
}
