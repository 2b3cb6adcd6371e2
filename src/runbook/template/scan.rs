//! What a template says, read token by token: which names it uses and where, and whether it keeps to
//! the subset whose cost can be bounded.
//!
//! This comes before minijinja, whose parser and compiler recurse along a chain such as `a - a - a …` and
//! would exhaust the stack; the syntax is checked there afterwards. The subset has no way to bind a value that was made larger (`set`, `with`, macros, growing loop lists), so that work
//! and memory stay proportional to the text and the fuel. Must never: render, guess, or let pass what
//! it does not understand.

mod lexer;

use super::TemplateError;
use super::engine::{FILTERS, TESTS};
use crate::document::nearest;
use lexer::{Token, Tokens};
use std::ops::Range;

/// `~` and `+` of one template: each copies what stands before it.
const MAX_CONCATENATIONS: usize = 32;
/// Names, operators and the like of one tag: the deepest an expression can be.
const MAX_TOKENS: usize = 256;
/// `if` and `for` within each other.
const MAX_OPEN: usize = 16;
/// `elif` of one template: each is compiled within the one before.
const MAX_BRANCHES: usize = 64;
/// `for` within `for`.
const MAX_LOOP_DEPTH: usize = 4;

const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False"];

/// One use of a name of the context, such as `steps.probe.ok`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// `steps`, `probe`, `ok`: as far as it is spelled out.
    pub(super) path: Vec<String>,
    /// Where each part of `path` stands.
    pub(super) spans: Vec<Range<usize>>,
}

impl Reference {
    pub(super) fn span(&self) -> Range<usize> {
        let start = self.spans.first().map_or(0, |span| span.start);
        start..self.spans.last().map_or(start, |span| span.end)
    }
}

/// What was found in one template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Every use of a name of the context, in order.
    pub(super) references: Vec<Reference>,
    /// The bytes outside of tags and comments.
    pub(super) literal: Vec<Range<usize>>,
    /// How many tags there are; comments do not count.
    pub(super) tags: usize,
}

#[derive(Default)]
struct Scanner {
    found: Scan,
    /// The names each open `for` binds.
    loops: Vec<Vec<String>>,
    /// How many `if` and `for` are open.
    open: usize,
    branches: usize,
    concatenations: usize,
}

/// Reads a whole template.
pub(super) fn template(source: &str) -> Result<Scan, TemplateError> {
    let mut scanner = Scanner::default();
    let mut at = 0;
    while let Some(open) = source[at..].find('{').map(|found| at + found) {
        let kind = source.as_bytes().get(open + 1).copied();
        let end = match kind {
            Some(b'{') => {
                let (tokens, end) = lexer::tag(source, open + 2, "}}")?;
                scanner.found.tags += 1;
                scanner.expression(&tokens)?;
                end
            }
            Some(b'%') => {
                let (tokens, end) = lexer::tag(source, open + 2, "%}")?;
                scanner.found.tags += 1;
                scanner.statement(&tokens, open..end)?;
                end
            }
            Some(b'#') => source[open..].find("#}").map_or(source.len(), |found| open + found + 2),
            _ => {
                scanner.literal(at..open + 1);
                at = open + 1;
                continue;
            }
        };
        scanner.literal(at..open);
        at = end;
    }
    scanner.literal(at..source.len());
    Ok(scanner.found)
}

/// Reads one bare expression.
pub(super) fn expression(source: &str) -> Result<Scan, TemplateError> {
    let mut scanner = Scanner::default();
    scanner.expression(&lexer::all(source)?)?;
    Ok(scanner.found)
}

fn refuse<T>(
    span: &Range<usize>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Result<T, TemplateError> {
    Err(TemplateError::new(message, help, Some(span.clone())))
}

impl Scanner {
    fn literal(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.found.literal.push(range);
        }
    }

    fn statement(&mut self, tokens: &Tokens, site: Range<usize>) -> Result<(), TemplateError> {
        let Some((Token::Name(word), span)) = tokens.first() else {
            return refuse(&site, "a statement begins with a word", "for, if, elif, else, endif or endfor");
        };
        match word.as_str() {
            "if" | "for" => self.open += 1,
            "elif" => self.branches += 1,
            "endif" | "endfor" => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        if self.open > MAX_OPEN || self.branches > MAX_BRANCHES {
            let help = format!("at most {MAX_OPEN} within each other, and {MAX_BRANCHES} elif");
            return refuse(span, "too many statements", help);
        }
        match word.as_str() {
            "if" | "elif" => self.expression(&tokens[1..]),
            "else" | "endif" => Ok(()),
            "endfor" => {
                self.loops.pop();
                Ok(())
            }
            "for" => self.for_loop(&tokens[1..], span),
            other => refuse(
                span,
                format!("the statement `{other}` is not available in runbooks"),
                "use for, if, elif, else, endif and endfor",
            ),
        }
    }

    fn for_loop(
        &mut self,
        tokens: &[(Token, Range<usize>)],
        site: &Range<usize>,
    ) -> Result<(), TemplateError> {
        let split = tokens.iter().position(|(token, _)| *token == Token::Name("in".to_owned()));
        let split = split.unwrap_or(tokens.len());
        let names = tokens[..split].iter().filter_map(|(token, _)| match token {
            Token::Name(name) => Some(name.clone()),
            _ => None,
        });
        let mut bound: Vec<String> = names.collect();
        bound.push("loop".to_owned());
        let list = tokens.get(split + 1..).unwrap_or_default();
        self.loop_list(list)?;
        self.expression(list)?;
        if self.loops.len() == MAX_LOOP_DEPTH {
            return refuse(site, "too many loops within each other", format!("at most {MAX_LOOP_DEPTH}"));
        }
        self.loops.push(bound);
        Ok(())
    }

    /// A loop goes over something of the context, a range, or a list of plain values: over nothing that
    /// was made for it, else each loop within a loop could double what it binds.
    fn loop_list(&self, tokens: &[(Token, Range<usize>)]) -> Result<(), TemplateError> {
        let mut made = None;
        let mut named = false;
        for (index, (token, span)) in tokens.iter().enumerate() {
            match token {
                Token::Symbol("[")
                    if !index.checked_sub(1).is_some_and(|last| ends_operand(&tokens[last].0)) =>
                {
                    made.get_or_insert(span);
                }
                Token::Symbol("." | "[" | "]" | "(" | ")" | "," | "|" | "-" | "=")
                | Token::Text(_)
                | Token::Number => {}
                Token::Name(name) if matches!(name.as_str(), "if" | "else" | "recursive" | "in" | "is") => {
                    return refuse(
                        span,
                        format!("`{name}` cannot stand in the head of a loop"),
                        "put an if into the loop",
                    );
                }
                Token::Name(_) => named = true,
                Token::Symbol(symbol) => {
                    return refuse(
                        span,
                        format!("`{symbol}` cannot stand in the head of a loop"),
                        "loop over a value as it is",
                    );
                }
            }
        }
        match made {
            Some(span) if named => {
                refuse(span, "a list to loop over holds plain values only", "write texts and numbers")
            }
            _ => Ok(()),
        }
    }

    fn expression(&mut self, tokens: &[(Token, Range<usize>)]) -> Result<(), TemplateError> {
        if let Some((_, span)) = tokens.get(MAX_TOKENS) {
            return refuse(
                span,
                "the expression is too long",
                format!("at most {MAX_TOKENS} words and signs"),
            );
        }
        let mut index = 0;
        while let Some((token, span)) = tokens.get(index) {
            let before = index.checked_sub(1).map(|at| &tokens[at].0);
            match token {
                Token::Symbol(symbol) => {
                    self.symbol(symbol, before, span)?;
                    index += 1;
                }
                Token::Name(name) => index = self.name(name, tokens, index)?,
                Token::Text(_) | Token::Number => index += 1,
            }
        }
        Ok(())
    }

    fn symbol(
        &mut self,
        symbol: &str,
        before: Option<&Token>,
        span: &Range<usize>,
    ) -> Result<(), TemplateError> {
        let in_loop = !self.loops.is_empty();
        match symbol {
            "*" | "**" => refuse(
                span,
                format!("`{symbol}` is not available in runbooks"),
                "calculate in the query or the program",
            ),
            "{" | "}" => refuse(span, "a map cannot be written here", "use the values of the context"),
            "~" | "+" | ":" if in_loop => refuse(
                span,
                format!("`{symbol}` is not available within a loop"),
                "write the parts one after the other: {{ a }}{{ b }}",
            ),
            "~" | "+" => {
                self.concatenations += 1;
                if self.concatenations > MAX_CONCATENATIONS {
                    return refuse(
                        span,
                        format!("more than {MAX_CONCATENATIONS} of `~` and `+`"),
                        "write the parts one after the other: {{ a }}{{ b }}",
                    );
                }
                Ok(())
            }
            "(" if matches!(before, Some(Token::Symbol("]" | ")") | Token::Text(_) | Token::Number)) => {
                refuse(span, "this cannot be called", "use a filter: value | filter")
            }
            _ => Ok(()),
        }
    }

    /// Reads the name at `index` and gives the index behind what it took.
    fn name(
        &mut self,
        name: &str,
        tokens: &[(Token, Range<usize>)],
        index: usize,
    ) -> Result<usize, TemplateError> {
        let span = &tokens[index].1;
        let token = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|(token, _)| token);
        let word = |at: Option<usize>| match token(at) {
            Some(Token::Name(word)) => Some(word.as_str()),
            _ => None,
        };
        let before = index.checked_sub(1);
        let called = token(Some(index + 1)) == Some(&Token::Symbol("("));
        if token(before) == Some(&Token::Symbol("|")) {
            known(name, "filter", FILTERS, span)?;
        } else if name == "in" && !self.loops.is_empty() {
            return refuse(span, "`in` is not available within a loop", "put the condition before the loop");
        } else if token(before) == Some(&Token::Symbol(".")) {
            if called {
                return refuse(span, format!("there is no method `{name}`"), "use a filter: value | filter");
            }
        } else if name != "not" && is_test(word(before), word(before.and_then(|at| at.checked_sub(1)))) {
            known(name, "test", TESTS, span)?;
        } else if KEYWORDS.contains(&name) || name == "None" {
        } else if called {
            if name != "range" {
                return refuse(span, format!("there is no function `{name}`"), "the only function is range");
            }
        } else if token(Some(index + 1)) == Some(&Token::Symbol("=")) {
            // The name of an argument: `value | sort(reverse=true)`.
        } else {
            return Ok(self.reference(name, tokens, index));
        }
        Ok(index + 1)
    }

    fn reference(&mut self, root: &str, tokens: &[(Token, Range<usize>)], index: usize) -> usize {
        let mut reference = Reference { path: vec![root.to_owned()], spans: vec![tokens[index].1.clone()] };
        let mut next = index + 1;
        loop {
            let token = |offset: usize| tokens.get(next + offset).map(|(token, _)| token);
            match (token(0), token(1), token(2), token(3)) {
                (Some(Token::Symbol(".")), Some(Token::Name(name)), after, _)
                    if after != Some(&Token::Symbol("(")) =>
                {
                    reference.path.push(name.clone());
                    reference.spans.push(tokens[next + 1].1.clone());
                    next += 2;
                }
                (
                    Some(Token::Symbol("[")),
                    Some(Token::Text(Some(text))),
                    Some(Token::Symbol("]")),
                    after,
                ) if after != Some(&Token::Symbol("(")) => {
                    reference.path.push(text.clone());
                    reference.spans.push(tokens[next + 1].1.clone());
                    next += 3;
                }
                _ => break,
            }
        }
        if !self.loops.iter().flatten().any(|bound| bound == root) {
            self.found.references.push(reference);
        }
        next
    }
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Name(name) => !KEYWORDS.contains(&name.as_str()),
        Token::Text(_) | Token::Number => true,
        Token::Symbol(symbol) => matches!(*symbol, "]" | ")"),
    }
}

fn is_test(before: Option<&str>, second: Option<&str>) -> bool {
    before == Some("is") || before == Some("not") && second == Some("is")
}

fn known(name: &str, what: &str, names: &[&str], span: &Range<usize>) -> Result<(), TemplateError> {
    if names.contains(&name) {
        return Ok(());
    }
    let help = nearest(name, names)
        .map_or_else(|| format!("one of: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
    refuse(span, format!("there is no {what} `{name}`"), help)
}
