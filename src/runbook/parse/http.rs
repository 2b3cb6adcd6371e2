//! The kind `http`: the request and what its answer must be.

use super::templates;
use crate::document::{Table, Value};
use crate::runbook::definition::{Body, Http};
use crate::runbook::template::{Scope, Template};
use std::ops::Range;

const METHODS: [(&str, &str); 7] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("OPTIONS", "OPTIONS"),
];

/// Headers that the connection or runbookd itself decides.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn read(mut table: Table<'_>, scope: &Scope) -> Option<Http> {
    let method = table.take("method").map_or(Some("GET"), |value| value.one_of(&METHODS));
    let url = table.require("url", "write url = \"https://…\"").and_then(|value| url(&value, scope));
    let headers = table.take("headers").and_then(Value::table).map(|inner| headers(inner, scope));
    if table.has("json") && table.has("body") {
        table.error("the request has two bodies: json, body", "keep one of them");
    }
    let json = table.take("json").map(|value| Body::Json(to_json(value, Some(scope))));
    let body = table.take("body").and_then(|value| templates::template(&value, scope)).map(Body::Text);
    let expect_status = table.take("expect_status").map_or_else(|| Some(vec![(200, 299)]), statuses);
    let expect_json = table.take("expect_json").map(|value| to_json(value, None));
    let bearer = table.take("auth").and_then(Value::table).map(auth);
    let follow_redirects = table.take("follow_redirects").and_then(|value| value.boolean());
    table.finish();
    let (url, templated_authority) = url?;
    Some(Http {
        method: method?.to_owned(),
        url,
        templated_authority,
        headers: headers.unwrap_or_default(),
        body: json.or(body),
        expect_status: expect_status?,
        expect_json,
        bearer: bearer.flatten(),
        follow_redirects: follow_redirects.unwrap_or(false),
    })
}

/// What proves who is asking: the name of a secret, never the secret.
fn auth(mut table: Table<'_>) -> Option<String> {
    let bearer = table.require("bearer", "write auth = { bearer = \"NAME\" }, the name of a secret");
    table.finish();
    templates::secret_name(&bearer?)
}

/// A request that only looks, for what is asked again and again.
pub(super) fn read_look(table: Table<'_>, scope: &Scope) -> Option<Http> {
    let (site, path, problems) = (table.site(), table.path().to_owned(), table.problems());
    let http = read(table, scope)?;
    if !matches!(http.method.as_str(), "GET" | "HEAD") {
        let message = format!("a {} may change something, and this only looks", http.method);
        problems.error(site, &format!("{path}.method"), message, "write method = \"GET\" or \"HEAD\"");
        return None;
    }
    Some(http)
}

/// The address, and whether a template can decide where it leads. A scheme that a template gives is
/// checked when the request is made.
fn url(value: &Value<'_>, scope: &Scope) -> Option<(Template, bool)> {
    let url = templates::template(value, scope)?;
    let parts: Vec<Range<usize>> = url.literal_parts().collect();
    let source = url.source();
    let refuse = |span: Range<usize>, message: &str, help: &str| {
        value.error_within(Some(span), message, help);
        None
    };
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    for part in &parts {
        if let Some(at) = source[part.clone()].find(bad) {
            let at = part.start + at;
            return refuse(
                at..at + 1,
                "a URL has no blanks, control characters or backslashes",
                "encode it: %20",
            );
        }
    }
    let start = ["http://", "https://"].iter().find(|scheme| source.starts_with(**scheme)).map(|it| it.len());
    let begins_with_tag = url.has_tags() && parts.first().is_none_or(|part| part.start > 0);
    if begins_with_tag {
        return Some((url, true));
    }
    let Some(start) = start else {
        return refuse(
            0..source.len(),
            "the URL is neither http nor https",
            "begin it with http:// or https://",
        );
    };
    // The authority ends at the first of these outside of a tag.
    let delimiter = |part: &Range<usize>| {
        let from = part.start.max(start).min(part.end);
        source[from..part.end].find(['/', '?', '#']).map(|at| from + at)
    };
    let end = parts.iter().find_map(delimiter).unwrap_or(source.len());
    let spelled = parts.iter().map(|part| part.start.max(start).min(end)..part.end.min(end));
    let spelled: Vec<Range<usize>> = spelled.filter(|part| part.start < part.end).collect();
    for part in spelled.iter().cloned() {
        if source[part.clone()].contains('@') {
            return refuse(part, "the URL contains a user or a password", "send it in a header");
        }
    }
    let literal: usize = spelled.iter().map(Range::len).sum();
    if literal < end - start {
        return Some((url, true));
    }
    match reqwest::Url::parse(&source[..end]) {
        Ok(parsed) if parsed.has_host() => Some((url, false)),
        _ => refuse(start..end.max(start), "the URL has no valid host", "write https://host:port/path"),
    }
}

fn headers(mut table: Table<'_>, scope: &Scope) -> Vec<(String, Template)> {
    let mut headers: Vec<(String, Template)> = Vec::new();
    let mut entries = table.take_all();
    entries.sort_by_key(|(name, _)| name.span.start);
    for (name, value) in entries {
        let refuse = |message: String, help: &str| {
            value.problems().error(name.span.clone(), value.path(), message, help);
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.value.is_empty() || !name.value.bytes().all(token) {
            refuse(format!("{:?} is not a header's name", name.value), "use letters, digits and -");
        } else if OWN_HEADERS.contains(&name.value.to_ascii_lowercase().as_str()) {
            refuse(format!("the header `{}` is set by runbookd", name.value), "remove it");
        } else if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name.value)) {
            refuse(format!("the header `{}` is given twice", name.value), "remove one");
        }
        let Some(template) = templates::template(&value, scope) else { continue };
        let source = template.source();
        let control = template
            .literal_parts()
            .find_map(|part| source[part.clone()].find(char::is_control).map(|at| part.start + at));
        if let Some(at) = control {
            value.error_within(Some(at..at + 1), "a header's value has no control characters", "remove it");
        }
        headers.push((name.value, template));
    }
    headers
}

/// A value as JSON. Its texts are templates where a scope is given, else none of them may look like one.
fn to_json(value: Value<'_>, scope: Option<&Scope>) -> serde_json::Value {
    let json = value.json();
    check_json(value, scope);
    json
}

fn check_json(value: Value<'_>, scope: Option<&Scope>) {
    const HELP: &str = "write what the answer must contain as it is";
    if value.is_string() {
        match scope {
            Some(scope) => drop(templates::template(&value, scope)),
            None => drop(templates::literal(&value, HELP)),
        }
    } else if value.is_array() {
        value.array().into_iter().flatten().for_each(|item| check_json(item, scope));
    } else if value.is_table() {
        for (name, item) in value.table().into_iter().flat_map(|mut table| table.take_all()) {
            if name.value.contains("{{") || name.value.contains("{%") {
                let help = "names are literal; put the template into the value";
                item.problems().error(name.span, item.path(), "a template cannot stand here", help);
            }
            check_json(item, scope);
        }
    } else if value.json().is_null() {
        value.error("JSON has no such number", "write a finite number");
    }
}

/// The accepted statuses, each as an inclusive range.
fn statuses(value: Value<'_>) -> Option<Vec<(u16, u16)>> {
    const HELP: &str = "write 200, \"200\", \"2xx\" or \"200-204\"";
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.is_empty() {
        problems.error(site, &path, "no status would be accepted", HELP);
        return None;
    }
    let range = |item: &Value<'_>| {
        if item.is_string() {
            item.parsed(HELP, |text| status_range(text).ok_or_else(|| format!("{text:?} is not a status")))
        } else {
            let status = u16::try_from(item.integer(100..=599)?).ok()?;
            Some((status, status))
        }
    };
    Some(items.iter().filter_map(range).collect())
}

/// `503`, `5xx` or `500-504`, as an inclusive range.
pub(super) fn status_range(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|status| digits && (100..=599).contains(status))
    };
    if let [class @ b'1'..=b'5', b'x', b'x'] = text.as_bytes() {
        let low = u16::from(class - b'0') * 100;
        return Some((low, low + 99));
    }
    match text.split_once('-') {
        Some((low, high)) => Some((status(low)?, status(high)?)).filter(|(low, high)| low <= high),
        None => status(text).map(|status| (status, status)),
    }
}
