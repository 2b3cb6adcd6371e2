//! Every example of the document, sent to a real daemon in the order of the story, and answered as it says.
//!
//! After a change of what is answered, `RUNBOOKD_RECORD=1 cargo test --test it described::story` writes the answers
//! into the story anew, which the next build serves; what changed is then seen in the diff. What its schema does not
//! allow fails all the same.

use super::site::{DOCUMENT, Site};
use crate::access::ROUTES;
use crate::identity::HOOK;
use crate::support::http::{self, Answer};
use crate::support::schema::{Question, complaints};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

const STORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/docs/told/story.json");

/// What is another text on every daemon, and what stands for it in a comparison.
static FLEETING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let of = |pattern: &str, with| (Regex::new(pattern).unwrap(), with);
    vec![
        of(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        of("[0-9A-HJKMNP-TV-Z]{26}", "ULID"),
        of("[0-9a-f]{64}", "HASH"),
        of(r"127\.0\.0\.1:\d+", "ADDRESS"),
        of(r"/(tmp|etc)/[^ ]*/", "DIR/"),
        of(r"^\d+ episodes that matched", "some episodes that matched"),
    ]
});
/// Fields that are another number or word on every daemon.
const FLEETING_FIELDS: [&str; 7] = [
    "size_bytes",
    "free_bytes",
    "containment",
    "access_token",
    "duration_ms",
    "episodes_per_minute",
    "correlation_id",
];

/// An answer without what is fleeting in it. Of the name `instance` only the outermost is the daemon's; others are
/// labels.
fn compared(answer: &Value) -> Value {
    let mut calm = calm(answer);
    if let Some(instance) = calm.get_mut("instance") {
        *instance = "…".into();
    }
    calm
}

fn calm(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let calm =
                |text: String, (regex, with): &(Regex, &str)| regex.replace_all(&text, *with).into_owned();
            FLEETING.iter().fold(text.clone(), calm).into()
        }
        Value::Array(items) => items.iter().map(calm).collect(),
        Value::Object(fields) => {
            let keep = |(name, value): (&String, &Value)| {
                let fleeting = FLEETING_FIELDS.contains(&name.as_str()) || is_secret(name, value);
                (name.clone(), if fleeting { json!("…") } else { calm(value) })
            };
            fields.iter().map(keep).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// A key that was made is called as a breaker's is.
fn is_secret(name: &str, value: &Value) -> bool {
    name == "key" && value.as_str().is_some_and(|text| text.starts_with("rbk_"))
}

/// The operations of a document by their id: method, path, and what is told of them.
pub(super) fn operations(document: &Value) -> BTreeMap<String, (String, String, Value)> {
    let mut all = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            all.insert(id, (method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

/// What is documented for a status, with references followed.
pub(super) fn response<'d>(document: &'d Value, operation: &'d Value, status: u16) -> &'d Value {
    let response = &operation["responses"][status.to_string()];
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    }
}

/// The media type and schema of a response.
fn content(response: &Value) -> (&str, &Value) {
    let (media, content) = response["content"].as_object().unwrap().iter().next().unwrap();
    (media, &content["schema"])
}

fn body_of(answer: &Answer) -> Value {
    let is_json = answer.header("content-type").is_some_and(|media| media == "application/json");
    if is_json { answer.json() } else { answer.text().into() }
}

fn encoded(text: &str) -> String {
    let each = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(each).collect()
}

/// The examples' ids in a text, as they are here.
fn here(site: &Site, text: &str) -> String {
    site.ids.iter().fold(text.to_owned(), |text, (told, here)| text.replace(told, here))
}

/// What is here, in the words of the examples.
fn told(site: &Site, answer: &Value) -> Value {
    let dir = site.daemon.dir().display().to_string();
    let mut text = answer.to_string();
    for (told, here) in &site.ids {
        text = text.replace(here.as_str(), told);
    }
    let text = text.replace(&dir, "/etc/runbookd").replace(site.daemon.address(), "127.0.0.1:9796");
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    rename(&mut answer);
    if let Some(instance) = answer.get_mut("instance") {
        *instance = "runbookd-1".into();
    }
    answer
}

fn rename(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "containment" => *value = "cgroup".into(),
                    "access_token" => *value = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkYW5hIn0.c2lnbmVk".into(),
                    name if is_secret(name, value) => *value = "rbk_shown_once".into(),
                    _ => rename(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}

/// Sends an example as its operation says.
fn send(
    site: &Site,
    (method, path, operation): &(String, String, Value),
    example: &Value,
    session: &str,
) -> Answer {
    let (mut path, mut query, mut headers) = (path.clone(), Vec::new(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let Some(value) = example["parameters"].get(name) else { continue };
        let value = here(site, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &encoded(&value)),
            "query" => query.push(format!("{name}={}", encoded(&value))),
            _ => headers.push((name, value)),
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let token = match operation["x-permission"].as_str().unwrap() {
        "webhook" => HOOK,
        "open" | "own_pages" => "",
        _ if operation["operationId"] == "signOut" => session,
        _ => &site.admin,
    };
    if !token.is_empty() {
        headers.push(("Authorization", format!("Bearer {token}")));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body: Option<Value> =
        example.get("body").map(|body| serde_json::from_str(&here(site, &body.to_string())).unwrap());
    site.send_as(&headers, method, &path, body.as_ref())
}

/// What stands in the document of this example.
fn documented(operation: &Value, response: &Value, example: &Value) {
    let name = example["name"].as_str().unwrap();
    for (parameter, value) in example["parameters"].as_object().into_iter().flatten() {
        let parameters = operation["parameters"].as_array().unwrap();
        let found = parameters.iter().find(|known| known["name"] == *parameter).unwrap();
        assert_eq!(&found["examples"][name]["value"], value, "{name}");
    }
    if let Some(body) = example.get("body") {
        assert_eq!(&operation["requestBody"]["content"]["application/json"]["examples"][name]["value"], body);
    }
    if let Some(answer) = example.get("answer") {
        let content = response["content"].as_object().unwrap().values().next().unwrap();
        assert_eq!(&content["examples"][name]["value"], answer, "{name}");
    }
}

#[test]
fn every_example_is_answered_as_documented_and_every_answer_fits_its_schema() {
    let mut site = Site::start();
    let document = site.get("/docs/openapi.json");
    let operations = operations(&document);
    let mut story: Vec<Value> = serde_json::from_slice(&fs::read(STORY).unwrap()).unwrap();
    let record = std::env::var_os("RUNBOOKD_RECORD").is_some();
    let mut question = Question::of(&document);
    let (mut session, mut differences, mut untold) = (String::new(), String::new(), operations.clone());
    for example in &mut story {
        let id = example["operation"].as_str().unwrap().to_owned();
        let operation = &operations[&id];
        untold.remove(&id);
        let name = format!("{id}, {}", example["name"].as_str().unwrap());
        let answer = send(&site, operation, example, &session);
        let status = u16::try_from(example["status"].as_u64().unwrap()).unwrap();
        if answer.status != status {
            differences += &format!("{name}: {} instead of {status}: {}\n", answer.status, answer.text());
            continue;
        }
        let response = response(&document, &operation.2, status);
        let (media, schema) = content(response);
        assert_eq!(answer.header("content-type"), Some(media), "{name}");
        let body = body_of(&answer);
        question.value(&name, schema, &body);
        // What is taken is as described; what is refused may be anything.
        if let (Some(sent), Some(body), true) =
            (example.get("body"), operation.2.get("requestBody"), status < 300)
        {
            question.value(&format!("{name}, what is sent"), content(body).1, sent);
        }
        match id.as_str() {
            "makeKey" => site.made_key(body["id"].as_str().unwrap()),
            "signIn" if status == 200 => session = body["access_token"].as_str().unwrap().to_owned(),
            _ => {}
        }
        let Some(expected) = example.get("answer") else { continue };
        if compared(expected) == compared(&body) {
            if !record {
                documented(&operation.2, response, example);
            }
        } else if record {
            example["answer"] = told(&site, &body);
        } else {
            let (is, was) = (told(&site, &body), expected);
            differences += &format!("{name} is answered\n{is:#}\nand not\n{was:#}\n");
        }
    }
    if record {
        fs::write(STORY, format!("{}\n", serde_json::to_string_pretty(&story).unwrap())).unwrap();
    }
    assert_eq!(complaints(&question.ask()), "");
    assert_eq!(differences, "");
    assert!(untold.is_empty(), "no example of {:?}", untold.keys());
}

#[test]
fn nothing_but_the_examples_of_the_story_is_in_the_document() {
    fn count(value: &Value) -> usize {
        match value {
            Value::Object(fields) => {
                let here = fields.get("examples").and_then(Value::as_object).map_or(0, serde_json::Map::len);
                let below = fields.iter().filter(|(key, _)| *key != "examples");
                here + below.map(|(_, below)| count(below)).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(count).sum(),
            _ => 0,
        }
    }
    let document = &*DOCUMENT;
    let story: Vec<Value> = serde_json::from_slice(&fs::read(STORY).unwrap()).unwrap();
    let parts = |example: &Value| {
        let parameters = example["parameters"].as_object().map_or(0, serde_json::Map::len);
        parameters + usize::from(example.get("body").is_some()) + usize::from(example.get("answer").is_some())
    };
    assert_eq!(count(&document["paths"]), story.iter().map(parts).sum::<usize>());
}

#[test]
fn what_a_door_refuses_is_documented_and_is_an_error_as_described() {
    let site = Site::start();
    let document = site.get("/docs/openapi.json");
    let mut question = Question::of(&document);
    let address = site.daemon.address();
    let mut judge = |name: String, operation: &Value, answer: &Answer| {
        let response = response(&document, operation, answer.status);
        assert!(response.is_object(), "{name} is answered {}, which is not documented", answer.status);
        for header in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(answer.header(&header.to_lowercase()).is_some(), "{name}: no {header}");
        }
        question.value(&name, content(response).1, &body_of(answer));
    };
    let mut refused = 0;
    for (method, path, pattern, _) in ROUTES {
        let operation = &document["paths"][pattern][method.to_lowercase()];
        let open = operation["security"].as_array().unwrap();
        if open.is_empty() || open.contains(&json!({})) {
            continue;
        }
        let nobody = http::send(address, method, path, "{}").unwrap();
        assert_eq!(nobody.status, 401, "{method} {path}");
        judge(format!("{method} {path} by nobody"), operation, &nobody);
        refused += 1;
        if operation.get("requestBody").is_some() && operation["x-permission"] != "webhook" {
            let broken = site.send_as(
                &[("Authorization", &format!("Bearer {}", site.admin)), ("Content-Type", "text/plain")],
                method,
                path,
                None,
            );
            judge(format!("{method} {path} without JSON"), operation, &broken);
        }
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(complaints(&question.ask()), "");
}

#[test]
fn a_body_that_is_not_as_described_does_not_pass() {
    let document = &*DOCUMENT;
    let story: Vec<Value> = serde_json::from_slice(&fs::read(STORY).unwrap()).unwrap();
    let answer = |operation: &str| {
        let found = story.iter().find(|example| example["operation"] == operation).unwrap();
        found["answer"].clone()
    };
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut question = Question::of(document);
    let mut wrong = BTreeSet::new();
    let right = [
        ("Execution", answer("showExecution")),
        ("Runbook", answer("showRunbook")),
        ("Decision", answer("showDecision")),
        ("Explained", answer("explain")),
        ("Processed", answer("receiveAlerts")),
        ("IntegrationStatus", answer("showStatus")),
        ("MadeKey", answer("makeKey")),
        ("Breaker", answer("openBreaker")),
        ("Error", answer("reload")),
    ];
    for (name, value) in &right {
        question.value(name, &named(name), value);
        let fields: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        let mut more = value.clone();
        more["surprise"] = true.into();
        let mut cases = vec![("with a field more".to_owned(), more)];
        let schema = &document["components"]["schemas"][*name];
        let required =
            [&schema["required"], &document["components"]["schemas"][format!("{name}Fields")]["required"]];
        let required = required.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        for field in required {
            let mut less = value.clone();
            less.as_object_mut().unwrap().remove(field);
            cases.push((format!("without {field}"), less));
        }
        for field in fields {
            let mut other = value.clone();
            other[&field] = json!({ "of": ["another", 7] });
            cases.push((format!("with another {field}"), other));
        }
        for (what, value) in cases {
            let case = format!("{name} {what}");
            question.value(&case, &named(name), &value);
            wrong.insert(case);
        }
    }
    let mut time = answer("showExecution");
    time["created_at"] = "yesterday".into();
    question.value("Execution of yesterday", &named("Execution"), &time);
    wrong.insert("Execution of yesterday".to_owned());
    let mut deep = answer("showExecution");
    deep["steps"][0]["attempts"][0]["outcome"] = "well".into();
    question.value("Execution with another outcome", &named("Execution"), &deep);
    wrong.insert("Execution with another outcome".to_owned());
    for (case, complaints) in question.ask() {
        assert_eq!(wrong.contains(&case), !complaints.is_empty(), "{case}: {complaints:?}");
    }
    assert!(wrong.len() > 100, "{}", wrong.len());
}
