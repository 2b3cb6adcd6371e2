//! The document itself: OpenAPI by OpenAPI's own schema, complete by the route table, the same in both writings.

use super::site::DOCUMENT;
use crate::access::ROUTES;
use crate::identity::{ENV, config};
use crate::support::daemon::Daemon;
use crate::support::schema::{Question, complaints};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// Every place at which a document says what fits.
fn schemas(document: &Value) -> Vec<(String, Value)> {
    fn walk(at: &str, value: &Value, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (key, below) in fields {
                    let here = format!("{at}/{key}");
                    if key == "schema" {
                        found.push((here, below.clone()));
                    } else if key != "examples" {
                        walk(&here, below, found);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{at}/{index}"), item, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("paths", &document["paths"], &mut found);
    let named = document["components"]["schemas"].as_object().unwrap();
    found.extend(named.iter().map(|(name, schema)| (format!("schemas/{name}"), schema.clone())));
    found
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|below| references(below, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_openapi_and_every_schema_in_it_is_one() {
    let document = &*DOCUMENT;
    let official = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openapi/3.1.json");
    let official: Value = serde_json::from_slice(&fs::read(official).unwrap()).unwrap();
    let mut question = Question::plain();
    question.value("the document", &official, document);
    let schemas = schemas(document);
    assert!(schemas.len() > 150, "{}", schemas.len());
    for (place, schema) in &schemas {
        question.schema(place, schema);
    }
    // So that the judge is known to say no.
    question.value(
        "a document without a title",
        &official,
        &json!({ "openapi": "3.1.0", "info": {}, "paths": {} }),
    );
    question.schema("no schema", &json!({ "type": "text" }));
    let mut answers = question.ask();
    for wrong in ["a document without a title", "no schema"] {
        assert!(!answers.remove(wrong).unwrap().is_empty(), "{wrong} is taken for right");
    }
    assert_eq!(complaints(&answers), "");
    let mut named = BTreeSet::new();
    references(document, &mut named);
    for reference in named {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_route_is_described_with_its_door_and_nothing_else_is() {
    let document = &*DOCUMENT;
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((method.to_uppercase(), path.clone()));
            let in_path: BTreeSet<&str> =
                path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let told = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let told: BTreeSet<&str> = told.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            assert_eq!(told, in_path, "{method} {path}");
        }
    }
    for (method, _, path, door) in ROUTES {
        assert!(
            described.remove(&((*method).to_owned(), (*path).to_owned())),
            "{method} {path} is not described"
        );
        let operation = &document["paths"][path][method.to_lowercase()];
        let said = operation["x-permission"].as_str().unwrap().replace('_', "");
        assert_eq!(said, format!("{door:?}").to_lowercase(), "{method} {path}");
    }
    let put = ("PUT".to_owned(), "/api/sre/alerts/webhook".to_owned());
    assert_eq!(described, BTreeSet::from([put]), "described, and no route");
}

#[test]
fn both_writings_are_one_document_and_are_served_to_anybody() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let get = |path: &str| daemon.try_get(path).unwrap();
    let (json, yaml) = (get("/docs/openapi.json"), get("/docs/openapi.yaml"));
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    assert_eq!((yaml.status, yaml.header("content-type")), (200, Some("application/yaml")));
    let read: Value = serde_saphyr::from_str(&yaml.text()).unwrap();
    assert_eq!(read, json.json());
    // Written for people: in blocks, what it is first.
    assert!(yaml.text().starts_with("openapi: \"3.1.0\"\ninfo:\n  description: |\n"), "{:.200}", yaml.text());
    assert_eq!(get("/docs/openapi.yaml").body, yaml.body, "the same bytes at every request");
    assert_eq!(get("/docs/").status, 404);
}
