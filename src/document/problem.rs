//! What is wrong with a file, where, and what to do about it.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Whether a problem prevents the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used; a person should look.
    Warning,
}

/// One thing wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: Arc<str>,
    /// Byte range of the offending text.
    pub span: Range<usize>,
    /// Line, from 1; 0 when it is not about a text but about `file` itself, such as a flag.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How bad.
    pub severity: Severity,
    /// The path of the key, such as `steps[1].timeout`; empty for the file as a whole.
    pub path: String,
    /// What is wrong: a lower-case fragment without a period.
    pub message: String,
    /// What to do: a fragment as well.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help, .. } = self;
        match line {
            0 => write!(f, "{file}: {message}")?,
            _ => write!(f, "{file}:{line}:{column}: {message}")?,
        }
        if help.is_empty() { Ok(()) } else { write!(f, " (help: {help})") }
    }
}

/// Where something was read, kept for problems that only come to light later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Arc<str>,
    span: Range<usize>,
    line: usize,
    column: usize,
    path: String,
}

impl Place {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// A problem here.
    pub fn problem(
        &self,
        severity: Severity,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        let Self { file, span, line, column, path } = self.clone();
        let (message, help) = (message.into(), help.into());
        Problem { file, span, line, column, severity, path, message, help }
    }
}

/// The problems of one file, gathered while it is read.
#[derive(Debug)]
pub struct Problems {
    file: Arc<str>,
    text: Arc<str>,
    outside: bool,
    list: RefCell<Vec<Problem>>,
}

impl Problems {
    /// No problems yet, for the file called `file` that holds `text`.
    pub fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into(), outside: false, list: RefCell::default() }
    }

    /// No problems yet, for a value that stands in no file: `origin` is the flag or variable it came by.
    pub fn outside(origin: &str) -> Self {
        Self { file: origin.into(), text: "".into(), outside: true, list: RefCell::default() }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes from a place, both numbers from 1, to the end of its line: what a reader that knows no more gives.
    pub fn rest_of_line(&self, line: u64, column: u64) -> Range<usize> {
        let line = usize::try_from(line).unwrap_or(1).max(1);
        let start: usize = self.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let rest = self.text[start..].lines().next().unwrap_or_default();
        let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
        let skipped: usize = rest.chars().take(column).map(char::len_utf8).sum();
        start + skipped..start + rest.len()
    }

    /// Notes an error at a byte range.
    pub fn error(&self, span: Range<usize>, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, span, path, message.into(), help.into());
    }

    /// Notes a warning at a byte range.
    pub fn warning(
        &self,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(Severity::Warning, span, path, message.into(), help.into());
    }

    fn note(&self, severity: Severity, span: Range<usize>, path: &str, message: String, help: String) {
        self.add(self.place(span, path).problem(severity, message, help));
    }

    /// Adds a problem made from a [`Place`].
    pub fn add(&self, problem: Problem) {
        self.list.borrow_mut().push(problem);
    }

    /// The place of a byte range, for problems found later; `path` is the key's.
    pub fn place(&self, span: Range<usize>, path: &str) -> Place {
        let (line, column) = if self.outside { (0, 0) } else { self.position(span.start) };
        Place { file: Arc::clone(&self.file), span, line, column, path: path.to_owned() }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Whether an error was noted.
    pub fn has_errors(&self) -> bool {
        self.list.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The lines that problems were noted on so far.
    pub fn lines(&self) -> Vec<usize> {
        self.list.borrow().iter().map(|problem| problem.line).collect()
    }

    /// All problems, in the order of the text.
    pub fn into_list(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| (problem.span.start, problem.severity));
        list
    }

    /// The problems as a person reads them: position, source line, mark, help.
    pub fn render(problems: &[Problem], text: &str) -> String {
        let mut out = String::new();
        for problem in problems {
            let level = match problem.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            if problem.line == 0 {
                let title = format!("{}: {}", problem.file, problem.message);
                let mut group = Group::with_title(level.primary_title(title));
                if !problem.help.is_empty() {
                    group = group.element(Level::HELP.message(&*problem.help));
                }
                out.push_str(&Renderer::plain().render(&[group]));
                out.push_str("\n\n");
                continue;
            }
            let start = text.floor_char_boundary(problem.span.start.min(text.len()));
            let end = text.ceil_char_boundary(problem.span.end.clamp(start, text.len()));
            let snippet = Snippet::source(text)
                .path(&*problem.file)
                .annotation(AnnotationKind::Primary.span(start..end));
            let mut group = Group::with_title(level.primary_title(&*problem.message)).element(snippet);
            if !problem.help.is_empty() {
                group = group.element(Level::HELP.message(&*problem.help));
            }
            out.push_str(&Renderer::plain().render(&[group]));
            out.push_str("\n\n");
        }
        out
    }
}
