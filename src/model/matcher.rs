//! Alertmanager's matchers: `name="value"`, `!=`, `=~`, `!~`.
//!
//! Regular expressions are anchored at both ends, run in linear time, and are bounded in size when
//! compiled. A label that is absent has the empty value, as in Alertmanager.

use super::Labels;
use regex::Regex;
use std::borrow::Cow;
use std::fmt;

/// Why a text is not a matcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// No operator, or nothing before it.
    #[error("{0:?} is not a matcher: expected name=\"value\", with =, !=, =~ or !~")]
    Shape(String),
    /// Quotes that do not close, or text behind them.
    #[error("the value of the matcher {0:?} is not one quoted text")]
    Quotes(String),
    /// The regular expression cannot be used.
    #[error("the regular expression of the matcher {matcher:?} cannot be used: {why}")]
    Regex {
        /// The matcher as written.
        matcher: String,
        /// What the compiler says.
        why: String,
    },
}

#[derive(Debug, Clone)]
enum Test {
    Equal,
    NotEqual,
    Match(Regex),
    NotMatch(Regex),
}

/// One condition on one label.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    value: String,
    test: Test,
}

impl Matcher {
    /// Reads one matcher.
    ///
    /// # Errors
    /// [`MatcherError`] saying what is not as Alertmanager wants it.
    pub fn parse(text: &str) -> Result<Self, MatcherError> {
        let shape = || MatcherError::Shape(text.to_owned());
        let text = text.trim_start();
        let at = text[quotes_end(text)..].find(['=', '!']).ok_or_else(shape)? + quotes_end(text);
        let name = unquote(text[..at].trim()).ok_or_else(shape)?;
        let rest = &text[at..];
        let operator = ["!=", "!~", "=~", "="].into_iter().find(|operator| rest.starts_with(operator));
        let operator = operator.ok_or_else(shape)?;
        if name.is_empty() {
            return Err(shape());
        }
        let value = unquote(rest[operator.len()..].trim());
        let value = value.ok_or_else(|| MatcherError::Quotes(text.to_owned()))?;
        let test = match operator {
            "=" => Test::Equal,
            "!=" => Test::NotEqual,
            "=~" => Test::Match(anchored(text, &value)?),
            _ => Test::NotMatch(anchored(text, &value)?),
        };
        Ok(Self { name, value, test })
    }

    /// Whether `labels` satisfy it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let have = labels.get(&self.name).map_or("", String::as_str);
        match &self.test {
            Test::Equal => have == self.value,
            Test::NotEqual => have != self.value,
            Test::Match(regex) => regex.is_match(have),
            Test::NotMatch(regex) => !regex.is_match(have),
        }
    }

    /// The label it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it compares with: a text or a regular expression, as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the value is a regular expression.
    pub fn is_regex(&self) -> bool {
        matches!(self.test, Test::Match(_) | Test::NotMatch(_))
    }

    /// Whether it wants the label to be like the value, not unlike it.
    pub fn is_equal(&self) -> bool {
        matches!(self.test, Test::Equal | Test::Match(_))
    }

    /// The value it demands of `label`, if it demands one exactly; for the status' alert-to-runbook map.
    pub fn demands(&self, label: &str) -> Option<&str> {
        (self.name == label && matches!(self.test, Test::Equal)).then_some(self.value.as_str())
    }
}

/// What [`Matcher::parse`] reads as this matcher again: orders of the kill switch are kept so.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.test {
            Test::Equal => "=",
            Test::NotEqual => "!=",
            Test::Match(_) => "=~",
            Test::NotMatch(_) => "!~",
        };
        let is_bare = unquote(&self.name).is_some_and(|bare| bare == self.name)
            && self.name.trim() == self.name
            && !self.name.contains(['=', '!']);
        let name = if is_bare { self.name.as_str().into() } else { Cow::from(quoted(&self.name)) };
        write!(f, "{name}{operator}{}", quoted(&self.value))
    }
}

/// A label's value as Alertmanager's matchers and PromQL quote it.
pub fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Compiles `pattern` to match a whole text, in bounded memory.
///
/// # Errors
/// The compiler's sentence.
pub fn anchored_regex(pattern: &str) -> Result<Regex, String> {
    // `x)|(y` would step out of the group that anchors it, so the pattern must stand on its own first.
    compile(pattern)?;
    compile(&format!("^(?:{pattern})$"))
}

fn compile(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .dot_matches_new_line(true)
        .build()
        .map_err(|error| {
            error.to_string().lines().last().unwrap_or("not a regular expression").trim().to_owned()
        })
}

fn anchored(matcher: &str, pattern: &str) -> Result<Regex, MatcherError> {
    anchored_regex(pattern).map_err(|why| MatcherError::Regex { matcher: matcher.to_owned(), why })
}

/// Where a name in quotes ends, so that what its quotes hold is no operator; 0 for a bare one.
fn quotes_end(text: &str) -> usize {
    let Some(inner) = text.strip_prefix('"') else { return 0 };
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            '"' if !escaped => return at + 2,
            c => escaped = c == '\\' && !escaped,
        }
    }
    0
}

/// A bare word as it is, a quoted text without its quotes and escapes; `None` when the quotes are wrong.
fn unquote(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return (!text.contains(['"', '{', '}', ','])).then(|| text.to_owned());
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.as_str().is_empty().then_some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                '"' => out.push('"'),
                '\\' => out.push('\\'),
                // As in Alertmanager: `\.` and the like stay for the regular expression.
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matcher: &str, value: Option<&str>, expected: bool) {
        let labels: Labels =
            value.map(|value| ("severity".to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(Matcher::parse(matcher).unwrap().matches(&labels), expected, "{matcher} on {value:?}");
    }

    #[test]
    fn what_is_written_of_a_matcher_reads_as_the_same() {
        for text in [
            r#"a="b""#,
            r#""a b"!~"x""#,
            r#""a=b"="c""#,
            r#""a,\"b"=~"\d+""#,
            "a=\"tab\there, e\u{301} and \\n\"",
            r#"a="\\.\"""#,
        ] {
            let read = Matcher::parse(text).unwrap();
            let again = Matcher::parse(&read.to_string()).unwrap();
            assert_eq!((again.name(), again.value()), (read.name(), read.value()), "{text}");
        }
        assert_eq!(Matcher::parse(r#""a=b"="c""#).unwrap().name(), "a=b");
        assert!(Matcher::parse(r#""a=b"#).is_err());
    }

    #[test]
    fn the_four_operators_read_as_in_alertmanager() {
        check(r#"severity="page""#, Some("page"), true);
        check(r#"severity = "page""#, Some("pager"), false);
        check("severity=page", Some("page"), true);
        check(r#"severity!="page""#, None, true);
        check(r#"severity=~"critical|page""#, Some("page"), true);
        check(r#"severity=~"critical|page""#, Some("pages"), false);
        check(r#"severity=~".+""#, None, false);
        check(r#"severity=~".*""#, None, true);
        check(r#"severity!~"a.*""#, Some("b"), true);
        check(r#"severity=~"a\.b""#, Some("axb"), false);
        check(r#"severity="say \"hi\"\n""#, Some("say \"hi\"\n"), true);
        check(r#"severity=~"a.b""#, Some("a\nb"), true);
    }

    #[test]
    fn what_alertmanager_would_refuse_is_refused() {
        for bad in ["", "severity", "=\"x\"", "a=\"x", "a=\"x\"y", "a=~\"(\"", "a=~\"x)|(y\"", "{a=\"b\"}"] {
            assert!(Matcher::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn t07_a_huge_regular_expression_is_refused_in_bounded_memory() {
        assert!(Matcher::parse(r#"a=~"(x{1000}){1000}""#).is_err());
    }
}
