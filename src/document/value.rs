//! Values of a TOML document that know their place in the text.

use super::{Place, Problems};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A plain value together with the bytes it was read from, for problems found later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sited<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Range<usize>,
}

/// Parses `problems`' text; syntax errors are noted and what could be read is given.
pub fn parse(problems: &Problems) -> Table<'_> {
    // The tree borrows the text of `problems`, which outlives every `Table` made from it.
    let (root, errors) = DeTable::parse_recoverable(problems.text());
    for error in errors {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        problems.error(error.span().unwrap_or(0..0), "", message, "correct the TOML syntax");
    }
    let span = root.span();
    Table::new(root.into_inner(), span, String::new(), problems)
}

/// A table being read. Every key asked for is remembered; [`Table::finish`] complains of the rest.
#[derive(Debug)]
pub struct Table<'d> {
    entries: BTreeMap<String, (Range<usize>, Spanned<DeValue<'d>>)>,
    asked: RefCell<Vec<&'static str>>,
    span: Range<usize>,
    path: String,
    problems: &'d Problems,
}

impl<'d> Table<'d> {
    fn new(table: DeTable<'d>, span: Range<usize>, path: String, problems: &'d Problems) -> Self {
        let entries = table
            .into_iter()
            .map(|(key, value)| {
                let span = key.span();
                (key.into_inner().into_owned(), (span, value))
            })
            .collect();
        Self { entries, asked: RefCell::default(), span, path, problems }
    }

    /// Takes the value of `key`, if there is one.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.entries.remove(key)?;
        Some(Value { path: self.path_of(key), problems: self.problems, value })
    }

    /// Takes the value of `key`, or notes that it is missing, with `help` saying what to write.
    pub fn require(&mut self, key: &'static str, help: &str) -> Option<Value<'d>> {
        let value = self.take(key);
        if value.is_none() {
            let message = format!("the key `{key}` is missing");
            self.problems.error(self.site(), &self.path, message, help);
        }
        value
    }

    /// Whether the table has `key`; does not count as asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes every remaining entry, for tables whose keys the user chooses. Gives key, its place, value.
    pub fn take_all(&mut self) -> Vec<(Sited<String>, Value<'d>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(key, (span, value))| {
                let path = self.path_of(&key);
                (Sited { value: key, span }, Value { path, problems: self.problems, value })
            })
            .collect()
    }

    /// Where the values of the keys stand that nobody asked for so far.
    pub fn unasked(&self) -> Vec<Range<usize>> {
        self.entries.values().map(|(_, value)| value.span()).collect()
    }

    /// Notes every key nobody asked for, naming the nearest known one.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, (span, _)) in &self.entries {
            let help = nearest(key, &asked).map_or_else(
                || format!("known keys here: {}", asked.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.problems.error(span.clone(), &self.path_of(key), format!("unknown key `{key}`"), help);
        }
    }

    /// Notes an error about the table as a whole.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.error(self.site(), &self.path, message, help);
    }

    /// Where the table stands: its header or first line, so that a mark does not cover pages.
    pub fn site(&self) -> Range<usize> {
        let text = self.problems.text();
        let start = self.span.start.min(text.len());
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        start..self.span.end.clamp(start, line_end.max(start))
    }

    /// The path of this table, such as `steps[0]`; empty for the whole file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The problems of the file this table belongs to.
    pub fn problems(&self) -> &'d Problems {
        self.problems
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// One value being read; every reader notes a problem and gives `None` when the type or range is wrong.
#[derive(Debug)]
pub struct Value<'d> {
    path: String,
    problems: &'d Problems,
    value: Spanned<DeValue<'d>>,
}

/// What a value that stands in no file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text; also a duration, a size or a word of a closed set.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Texts separated by commas; blanks around them do not count, and nothing is the empty list.
    List,
}

impl<'d> Value<'d> {
    /// The value of a flag or variable; a text that does not have the `shape` stays a text, so that its
    /// reader complains of it.
    pub fn outside(problems: &'d Problems, path: &str, shape: Shape, text: &'d str) -> Self {
        let word = |text: &'d str| DeValue::String(Cow::Borrowed(text));
        let value = match (shape, text.trim()) {
            (Shape::Boolean, "true") => DeValue::Boolean(true),
            (Shape::Boolean, "false") => DeValue::Boolean(false),
            (Shape::Integer, digits) => match DeValue::parse(digits).map(Spanned::into_inner) {
                Ok(number @ DeValue::Integer(_)) => number,
                _ => word(text),
            },
            (Shape::List, items) => {
                let mut list = DeArray::new();
                for item in items.split(',').map(str::trim).filter(|_| !items.is_empty()) {
                    list.push(Spanned::new(0..0, word(item)));
                }
                DeValue::Array(list)
            }
            _ => word(text),
        };
        Self { path: path.to_owned(), problems, value: Spanned::new(0..0, value) }
    }

    /// Where it stands.
    pub fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// The path of its key.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The problems it belongs to.
    pub fn problems(&self) -> &'d Problems {
        self.problems
    }

    /// Its place, for problems found later.
    pub fn place(&self) -> Place {
        self.problems.place(self.span(), &self.path)
    }

    /// Notes an error about this value.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.error(self.span(), &self.path, message, help);
    }

    /// Notes a warning about this value.
    pub fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.warning(self.span(), &self.path, message, help);
    }

    /// Notes an error about the bytes `within` of this text, or about all of it where the file spells the
    /// text otherwise than it reads, with escapes.
    pub fn error_within(
        &self,
        within: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let span = within.and_then(|within| self.place_of(within)).unwrap_or_else(|| self.span());
        self.problems.error(span, &self.path, message, help);
    }

    fn place_of(&self, within: Range<usize>) -> Option<Range<usize>> {
        let span = self.span();
        let value = self.value.get_ref().as_str()?;
        let raw = self.problems.text().get(span.clone())?;
        let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| raw.starts_with(quotes))?;
        let body = raw[quotes.len()..].strip_suffix(quotes)?;
        // A line end right behind three quotes is not part of the text.
        let trimmed = body.strip_prefix("\r\n").or_else(|| body.strip_prefix('\n'));
        let body = trimmed.filter(|_| quotes.len() == 3).unwrap_or(body);
        let start = raw.len() - quotes.len() - body.len();
        (body == value && within.end <= body.len())
            .then(|| span.start + start + within.start..span.start + start + within.end)
    }

    /// Whether it is a text.
    pub fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether it is a list.
    pub fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Whether it is `true` or `false`.
    pub fn is_bool(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    fn wrong_type(&self, wanted: &str, example: &str) {
        let found = self.value.get_ref().type_str();
        self.error(format!("expected {wanted}, found {found}"), format!("write {example}"));
    }

    /// A text.
    pub fn string(&self) -> Option<Sited<String>> {
        let text = self.value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong_type("a text", "it in quotes, \"like this\"");
        }
        text.map(|value| Sited { value, span: self.span() })
    }

    /// A text turned into `T`; an error of `parse` becomes the problem's message.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string()?;
        parse(&text.value).map_err(|error| self.error(error.to_string(), help)).ok()
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type("true or false", "true or false, without quotes");
        }
        value
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let number = self
            .value
            .get_ref()
            .as_integer()
            .and_then(|int| i64::from_str_radix(&int.as_str().replace('_', ""), int.radix()).ok());
        let Some(number) = number else {
            self.wrong_type("a whole number", "digits without quotes");
            return None;
        };
        if range.contains(&number) {
            return Some(number);
        }
        let (low, high) = range.into_inner();
        self.error(format!("{number} is out of range"), format!("write a number from {low} to {high}"));
        None
    }

    /// A number within `range`, whole or not.
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) => self.json().as_f64(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type("a finite number", "digits without quotes, such as 2.0");
            return None;
        };
        if range.contains(&number) {
            return Some(number);
        }
        let (low, high) = range.into_inner();
        self.error(format!("{number} is out of range"), format!("write a number from {low} to {high}"));
        None
    }

    /// A duration such as `500ms` or `1h 30m`, within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if !self.is_string() {
            self.wrong_type("a duration", "it in quotes, such as \"30s\" or \"1h 30m\"");
            return None;
        }
        let duration = self.parsed("write a duration such as \"30s\" or \"1h 30m\"", |text| {
            humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a duration: {error}"))
        })?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = range.into_inner();
        self.error(
            format!("{:?} is out of range", self.value.get_ref().as_str().unwrap_or_default()),
            format!(
                "write a duration from {} to {}",
                humantime::format_duration(low),
                humantime::format_duration(high)
            ),
        );
        None
    }

    /// A size in bytes such as `8MiB` or `10000`, within `range`.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = if self.is_string() {
            self.parsed("write a size such as \"64KiB\" or \"8MiB\"", |text| {
                parse_size(text).ok_or_else(|| format!("{text:?} is not a size"))
            })?
        } else {
            u64::try_from(self.integer(0..=i64::MAX)?).ok()?
        };
        if range.contains(&size) {
            return Some(size);
        }
        let (low, high) = range.into_inner();
        self.error(
            format!("{size} bytes is out of range"),
            format!("write a size from {low} to {high} bytes"),
        );
        None
    }

    /// One of a closed set of words.
    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let help = nearest(&text.value, &known).map_or_else(
            || format!("one of: {}", known.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        self.error(format!("{:?} is not known here", text.value), help);
        None
    }

    /// The elements of a list.
    pub fn array(self) -> Option<Vec<Value<'d>>> {
        if !self.is_array() {
            self.wrong_type("a list", "it in brackets, [\"like\", \"this\"]");
            return None;
        }
        let Self { path, problems, value } = self;
        let DeValue::Array(items) = value.into_inner() else { return None };
        Some(
            items
                .into_iter()
                .enumerate()
                .map(|(index, value)| Value { path: format!("{path}[{index}]"), problems, value })
                .collect(),
        )
    }

    /// A list of texts; wrong elements are noted and left out.
    pub fn strings(self) -> Option<Vec<Sited<String>>> {
        Some(self.array()?.iter().filter_map(Value::string).collect())
    }

    /// A table.
    pub fn table(self) -> Option<Table<'d>> {
        if !self.is_table() {
            self.wrong_type("a table", "it as [section] or { key = value }");
            return None;
        }
        let Self { path, problems, value } = self;
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else { return None };
        Some(Table::new(table, span, path, problems))
    }

    /// The value as JSON, for parts of a file whose shape is free. Dates become texts.
    pub fn json(&self) -> serde_json::Value {
        to_json(self.value.get_ref())
    }
}

fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(int) => i64::from_str_radix(&int.as_str().replace('_', ""), int.radix())
            .map_or_else(|_| Json::String(int.to_string()), Json::from),
        DeValue::Float(float) => {
            float.as_str().replace('_', "").parse::<f64>().map_or(Json::Null, Json::from)
        }
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(date) => Json::String(date.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => Json::Object(
            table.iter().map(|(key, item)| (key.get_ref().to_string(), to_json(item.get_ref()))).collect(),
        ),
    }
}

/// Reads `8MiB`, `64KiB`, `1GiB`, `10kB`, `512B` or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let text = text.trim();
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

/// The known word that is most likely meant, if one is near enough.
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over bytes; inputs are short keys, longer ones are cut.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], &b.as_bytes()[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}
