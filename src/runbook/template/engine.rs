//! The bounded minijinja: an environment that holds only what is listed here.
//!
//! Bounds: fuel counts operations, every filter pays for the bytes it reads, the output has a limit,
//! recursion has a depth. Nothing loads, includes, reads or calls anything outside.
//! Must never: parse a value as a template, print `none`, default what is undefined.

use super::TemplateError;
use super::context::Context;
use super::scan::Reference;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, filters, tests};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::sync::LazyLock;

/// Operations of one rendering.
const FUEL: u64 = 50_000;
/// Bytes of one rendered text.
const MAX_OUTPUT: usize = 256 << 10;
/// Bytes that the filters of one rendering may read; 32 full outputs.
const MAX_FILTERED: usize = 8 << 20;
/// Statements and calls within each other.
const MAX_DEPTH: usize = 64;

/// The filters there are.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "bool",
    "capitalize",
    "d",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "promql",
    "replace",
    "reverse",
    "round",
    "sort",
    "split",
    "string",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
];
/// The tests there are.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    // A body or an input of a program keeps its last line end. Only delimiters could make this fail.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    // Gives errors their place; nothing of it is shown as it is.
    environment.set_debug(true);
    environment.set_formatter(print);
    environment.add_function("range", minijinja::functions::range);
    add_filters(&mut environment);
    add_tests(&mut environment);
    environment
});

/// The same, with [`MARKS`] around every value that is printed.
static MARKING: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = ENVIRONMENT.clone();
    environment.set_formatter(|out, state, value| {
        // Such a character in a value would end it early.
        if value.to_string().contains(MARKS) {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the value has a character for private use in it",
            ));
        }
        out.write_char(MARKS[0])?;
        print(out, state, value)?;
        Ok(out.write_char(MARKS[1])?)
    });
    environment
});

/// What stands before and behind a value in a text that is marked.
pub(super) const MARKS: [char; 2] = ['\u{F0000}', '\u{F0001}'];

fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is none"));
    }
    // As JSON and TOML spell it; minijinja itself would print `True`.
    if value.kind() == ValueKind::Bool {
        return Ok(out.write_str(if value.is_true() { "true" } else { "false" })?);
    }
    minijinja::escape_formatter(out, state, value)
}

fn add_filters(environment: &mut Environment<'static>) {
    let plain = [
        ("abs", Value::from_function(filters::abs)),
        ("bool", Value::from_function(filters::bool)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("d", Value::from_function(filters::default)),
        ("default", Value::from_function(filters::default)),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("int", Value::from_function(filters::int)),
        ("items", Value::from_function(filters::items)),
        ("join", Value::from_function(filters::join)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("promql", Value::from_function(promql)),
        ("replace", Value::from_function(filters::replace)),
        ("reverse", Value::from_function(filters::reverse)),
        ("round", Value::from_function(filters::round)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("tojson", Value::from_function(filters::tojson)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
        ("urlencode", Value::from_function(filters::urlencode)),
    ];
    for (name, filter) in plain {
        environment.add_filter(name, move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            charge(state, name, &arguments)?;
            filter.call(state, &arguments)
        });
    }
}

fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("float", tests::is_float);
    environment.add_test("ge", tests::is_ge);
    environment.add_test("gt", tests::is_gt);
    environment.add_test("in", tests::is_in);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("le", tests::is_le);
    environment.add_test("lt", tests::is_lt);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
}

/// What the filters of this rendering have read.
struct Filtered(usize);

/// Lets a filter run only while the rendering can still pay for its input, and for the output of those
/// two that make more of it than they get.
fn charge(state: &mut State, filter: &str, arguments: &[Value]) -> Result<(), Error> {
    let spent = state.get_or_insert_extension(Filtered(0)).0;
    let left = MAX_FILTERED.saturating_sub(spent);
    let mut cost = arguments.iter().fold(0, |sum: usize, value| sum.saturating_add(weight(value, left, 0)));
    let text = |at: usize| arguments.get(at).and_then(Value::as_str).unwrap_or("");
    match filter {
        "replace" if cost <= left => {
            let hits = if text(1).is_empty() { text(0).len() + 1 } else { text(0).matches(text(1)).count() };
            cost = cost.saturating_add(hits.saturating_mul(text(2).len()));
        }
        "join" => {
            let items = arguments.first().and_then(Value::len).unwrap_or(0);
            cost = cost.saturating_add(items.saturating_mul(text(1).len()));
        }
        _ => {}
    }
    if cost > left {
        let message = format!("the filters read more than {MAX_FILTERED} bytes");
        return Err(Error::new(ErrorKind::OutOfFuel, message));
    }
    state.get_or_insert_extension(Filtered(0)).0 = spent + cost;
    Ok(())
}

/// Roughly the bytes in `value`; counting ends beyond `limit`.
fn weight(value: &Value, limit: usize, depth: usize) -> usize {
    const CELL: usize = 16;
    if let Some(text) = value.as_str() {
        return CELL + text.len();
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) || depth > MAX_DEPTH {
        return CELL;
    }
    let mut sum = CELL;
    for item in value.try_iter().into_iter().flatten() {
        sum = sum.saturating_add(weight(&item, limit, depth + 1));
        if value.kind() == ValueKind::Map {
            let inner = value.get_item(&item).unwrap_or_default();
            sum = sum.saturating_add(weight(&inner, limit, depth + 1));
        }
        if sum > limit {
            break;
        }
    }
    sum
}

/// Quotes `value` as a PromQL string, quotes included: no value can end the string it stands in.
fn promql(value: &Value) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Err(Error::new(ErrorKind::UndefinedError, "nothing to quote"));
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Go's escapes, which PromQL has: `\u0085` for all below U+10000, and no control is above it.
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).map_err(|_| ErrorKind::WriteFailure)?
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// Checks the syntax of a template.
pub(super) fn check_template(source: &str) -> Result<(), TemplateError> {
    ENVIRONMENT.template_from_str(source).map(drop).map_err(|error| syntax(&error, source, "template"))
}

/// Checks the syntax of an expression.
pub(super) fn check_expression(source: &str) -> Result<(), TemplateError> {
    ENVIRONMENT.compile_expression(source).map(drop).map_err(|error| syntax(&error, source, "expression"))
}

fn syntax(error: &Error, source: &str, what: &str) -> TemplateError {
    let message = format!("the {what} cannot be read: {}", error.detail().unwrap_or("wrong syntax"));
    TemplateError::new(message, "correct the syntax", error.range().filter(|range| range.end <= source.len()))
}

/// Renders a template that was checked; `marked` with [`MARKS`] around its values.
pub(super) fn render(
    source: &str,
    references: &[Reference],
    context: &Context,
    marked: bool,
) -> Result<String, TemplateError> {
    let failed = |error: Error| explain(&error, source, references, context);
    let environment = if marked { &MARKING } else { &ENVIRONMENT };
    let template = environment.template_from_str(source).map_err(failed)?;
    let mut output = Bounded(Vec::new());
    template.render_captured_to(context.value(), &mut output).map_err(failed)?;
    String::from_utf8(output.0).map_err(|_| TemplateError::new("the output is not UTF-8", "", None))
}

/// Evaluates an expression that was checked.
pub(super) fn evaluate(
    source: &str,
    references: &[Reference],
    context: &Context,
) -> Result<bool, TemplateError> {
    let failed = |error: Error| explain(&error, source, references, context);
    let value = ENVIRONMENT.compile_expression(source).and_then(|compiled| compiled.eval(context.value()));
    let value = value.map_err(failed)?;
    match value.kind() {
        ValueKind::Bool => Ok(value.is_true()),
        ValueKind::Undefined => Err(failed(Error::from(ErrorKind::UndefinedError))),
        kind => Err(TemplateError::new(
            format!("the result of `{}` is a {kind}, not true or false", excerpt(source)),
            "compare it with something, such as `labels.severity == \"page\"`",
            None,
        )),
    }
}

/// Collects up to [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the output is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn explain(error: &Error, source: &str, references: &[Reference], context: &Context) -> TemplateError {
    let span = error.range().filter(|range| source.get(range.clone()).is_some());
    match error.kind() {
        ErrorKind::UndefinedError => undefined(source, span, references, context),
        ErrorKind::OutOfFuel => TemplateError::new(
            format!("the template takes too much work: {}", error.detail().unwrap_or("too many operations")),
            "loop less, or do it in a program",
            span,
        ),
        ErrorKind::WriteFailure => TemplateError::new(
            format!("the rendered text is longer than {MAX_OUTPUT} bytes"),
            "put less into it",
            span,
        ),
        _ => {
            let span = span.map(|span| {
                let touched = references.iter().map(Reference::span).find(|it| it.contains(&span.start));
                touched.map_or(span.start, |it| it.start)..span.end
            });
            let place = span.clone().map_or("", |span| &source[span]);
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            TemplateError::new(format!("`{}` cannot be evaluated: {detail}", excerpt(place)), "", span)
        }
    }
}

/// Names what is undefined, and what there is in its place.
fn undefined(
    source: &str,
    span: Option<Range<usize>>,
    references: &[Reference],
    context: &Context,
) -> TemplateError {
    let gone = |reference| {
        let reference: &Reference = reference;
        context.missing(&reference.path).map(|(part, names)| (reference, part, names))
    };
    let at = span.clone().unwrap_or(0..source.len());
    let within = |reference: &&Reference| {
        let place = reference.span();
        place.start < at.end && at.start < place.end
    };
    // An error of a filter marks the filter's name; the value stands before it.
    let before = |reference: &&Reference| reference.span().end <= at.start;
    let missing = references.iter().filter(within).find_map(gone);
    let missing = missing.or_else(|| references.iter().rev().filter(before).find_map(gone));
    let Some((reference, part, mut names)) = missing else {
        let place = span.clone().map_or(source, |span| &source[span]);
        return TemplateError::new(format!("`{}` is undefined", excerpt(place)), "", span);
    };
    names.truncate(50);
    let what = excerpt(&reference.path[part]);
    let message = match part {
        0 => format!("`{what}` is undefined"),
        _ => format!("`{}` has no `{what}`", excerpt(&reference.path[..part].join("."))),
    };
    let help = match names.is_empty() {
        true => "it has nothing".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    };
    TemplateError::new(message, help, Some(reference.span()))
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
