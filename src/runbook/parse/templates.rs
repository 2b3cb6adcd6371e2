//! Texts of a runbook: templates, expressions, and those that must not be templates.

use crate::document::{Sited, Value};
use crate::model::is_word;
use crate::runbook::template::{Expression, Scope, Template, TemplateError};

/// A template whose names are known at its place.
pub(super) fn template(value: &Value<'_>, scope: &Scope) -> Option<Template> {
    let text = clean(value)?;
    let template = Template::parse(&text.value).map_err(|error| note(value, error)).ok()?;
    let unknown = scope.check(&template);
    let fine = unknown.is_empty();
    unknown.into_iter().for_each(|error| note(value, error));
    fine.then_some(template)
}

/// A template that is not blank.
pub(super) fn filled(value: &Value<'_>, scope: &Scope, message: &str, help: &str) -> Option<Template> {
    let template = template(value, scope)?;
    let literal = template.literal_parts().all(|part| template.source()[part].trim().is_empty());
    if literal && !template.has_tags() {
        value.error(message, help);
        return None;
    }
    Some(template)
}

/// A condition whose names are known at its place.
pub(super) fn expression(value: &Value<'_>, scope: &Scope) -> Option<Expression> {
    let text = clean(value)?;
    let expression = Expression::parse(&text.value).map_err(|error| note(value, error)).ok()?;
    let unknown = scope.check_expression(&expression);
    let fine = unknown.is_empty();
    unknown.into_iter().for_each(|error| note(value, error));
    fine.then_some(expression)
}

/// A text that is used as it stands; braces in it would look like a template and not be one.
pub(super) fn literal(value: &Value<'_>, help: &str) -> Option<Sited<String>> {
    let text = clean(value)?;
    let open = ["{{", "{%", "{#"].iter().filter_map(|open| text.value.find(open)).min();
    match open {
        Some(at) => {
            value.error_within(Some(at..at + 2), "a template cannot stand here", help);
            None
        }
        None => Some(text),
    }
}

/// The name of a secret; never a template, so that no label decides which one is handed out.
pub(super) fn secret_name(value: &Value<'_>) -> Option<String> {
    let help = "name a secret of the config: letters, digits, _ and -";
    let name = literal(value, help)?.value;
    if !is_word(&name) {
        value.error("this is not the name of a secret", help);
        return None;
    }
    Some(name)
}

/// A text without NUL, which no program, header or path can carry.
fn clean(value: &Value<'_>) -> Option<Sited<String>> {
    let text = value.string()?;
    if text.value.contains('\0') {
        value.error("the text contains a NUL character", "remove it");
        return None;
    }
    Some(text)
}

fn note(value: &Value<'_>, error: TemplateError) {
    value.error_within(error.span, error.message, error.help);
}
