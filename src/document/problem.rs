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
    /// Line, from 1.
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
        write!(f, "{file}:{line}:{column}: {message}")?;
        if help.is_empty() { Ok(()) } else { write!(f, " (help: {help})") }
    }
}

/// The problems of one file, gathered while it is read.
#[derive(Debug)]
pub struct Problems {
    file: Arc<str>,
    text: Arc<str>,
    list: RefCell<Vec<Problem>>,
}

impl Problems {
    /// No problems yet, for the file called `file` that holds `text`.
    pub fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into(), list: RefCell::default() }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
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
        let (line, column) = self.position(span.start);
        self.list.borrow_mut().push(Problem {
            file: Arc::clone(&self.file),
            span,
            line,
            column,
            severity,
            path: path.to_owned(),
            message,
            help,
        });
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
