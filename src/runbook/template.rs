//! Templates and expressions: minijinja, held to a small and bounded subset.
//!
//! What a person may write is decided at load (`scan`: syntax, statements, filters, names) and what it
//! may cost is bounded when it runs (`engine`: fuel, bytes, depth, output). Values of labels are data
//! and are never parsed again. Undefined, `none` and non-boolean conditions are errors, never defaults.
//! May import: `model`, `document`. Must never: do I/O, load other templates, read a clock.

mod context;
mod engine;
mod scan;
mod scope;
mod url;

pub use context::{Context, ContextBuilder};
pub use scope::{Scope, Turn};

use scan::Reference;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The longest template, in bytes.
pub const MAX_SOURCE: usize = 64 << 10;

/// Why a template cannot be used, or could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// The bytes of the template that are at fault, where known.
    pub span: Option<Range<usize>>,
}

impl TemplateError {
    fn new(message: impl Into<String>, help: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self { message: message.into(), help: help.into(), span }
    }
}

/// A text with `{{ … }}` and `{% … %}` in it, checked; or a literal one.
#[derive(Clone)]
pub struct Template {
    source: Arc<str>,
    scan: Option<Arc<scan::Scan>>,
}

impl Template {
    /// Checks the syntax, the statements, the filters and the functions of `source`.
    ///
    /// # Errors
    /// What is wrong and where in `source`; the first problem only.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let literal = !["{{", "{%", "{#"].iter().any(|open| source.contains(open));
        if literal {
            return Ok(Self { source: source.into(), scan: None });
        }
        too_long(source)?;
        // The scan must be first: it bounds the depth at which minijinja recurses.
        let scan = scan::template(source)?;
        engine::check_template(source)?;
        Ok(Self { source: source.into(), scan: Some(Arc::new(scan)) })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it renders to itself whatever the context is.
    pub fn is_literal(&self) -> bool {
        self.scan.is_none()
    }

    /// The bytes outside of all tags and comments, in order; for a literal all of them.
    pub fn literal_parts(&self) -> impl Iterator<Item = Range<usize>> {
        let whole = self.scan.is_none().then_some(0..self.source.len());
        let parts = self.scan.as_ref().map_or(&[][..], |scan| &scan.literal);
        whole.into_iter().chain(parts.iter().cloned())
    }

    /// Whether anything in it depends on the context.
    pub fn has_tags(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.tags > 0)
    }

    /// The text for `context`.
    ///
    /// # Errors
    /// Something undefined or `none`, a wrong type, or one of the limits on work and size.
    pub fn render(&self, context: &Context) -> Result<String, TemplateError> {
        match &self.scan {
            None => Ok(self.source.to_string()),
            Some(scan) => engine::render(&self.source, &scan.references, context, false),
        }
    }

    /// The address for `context`: no value can end the part of it that it stands in.
    ///
    /// # Errors
    /// As [`Template::render`], and a value that would change where the request goes.
    pub fn render_url(&self, context: &Context) -> Result<String, TemplateError> {
        let Some(scan) = &self.scan else { return Ok(self.source.to_string()) };
        let marked = engine::render(&self.source, &scan.references, context, true)?;
        url::checked(&marked, engine::MARKS)
            .map_err(|why| TemplateError::new(why, "correct the value, or use the filter `urlencode`", None))
    }

    fn references(&self) -> &[Reference] {
        self.scan.as_ref().map_or(&[], |scan| &scan.references)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.source)
    }
}

/// A condition, such as `not steps.probe.ok`.
///
/// Its value must be `true` or `false`. A text or a number is an error rather than "truthy", because
/// the label `enabled="false"` is a non-empty text and would otherwise count as true.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    references: Arc<[Reference]>,
}

impl Expression {
    /// Checks the syntax, the filters and the functions of `source`.
    ///
    /// # Errors
    /// What is wrong and where in `source`; the first problem only.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        too_long(source)?;
        if source.contains("{{") || source.contains("{%") {
            let at = source.find("{{").or_else(|| source.find("{%")).unwrap_or(0);
            return Err(TemplateError::new(
                "an expression has no braces",
                "write the bare condition, such as `not steps.probe.ok`",
                Some(at..at + 2),
            ));
        }
        let scan = scan::expression(source)?;
        engine::check_expression(source)?;
        Ok(Self { source: source.into(), references: scan.references.into() })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds for `context`.
    ///
    /// # Errors
    /// Something undefined, a value that is neither `true` nor `false`, or a limit.
    pub fn evaluate(&self, context: &Context) -> Result<bool, TemplateError> {
        engine::evaluate(&self.source, &self.references, context)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.source)
    }
}

/// Renders every text within `value`; keys, numbers and the rest stay. Texts stay texts.
///
/// # Errors
/// That of the first text that cannot be parsed or rendered.
pub fn render_json(value: &serde_json::Value, context: &Context) -> Result<serde_json::Value, TemplateError> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(text) => Json::String(Template::parse(text)?.render(context)?),
        Json::Array(items) => {
            Json::Array(items.iter().map(|item| render_json(item, context)).collect::<Result<_, _>>()?)
        }
        Json::Object(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, item)| Ok((key.clone(), render_json(item, context)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
        other => other.clone(),
    })
}

fn too_long(source: &str) -> Result<(), TemplateError> {
    if source.len() <= MAX_SOURCE {
        return Ok(());
    }
    let message = format!("a template of {} bytes is too long", source.len());
    Err(TemplateError::new(message, format!("at most {MAX_SOURCE} bytes"), None))
}

#[cfg(test)]
mod tests;
