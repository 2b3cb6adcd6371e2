//! What is told against what there is. That every route of the program is told of is seen on the real one.

use super::*;
use crate::engine::verb::Verb;
use crate::guard::{BreakerState, SwitchState};
use crate::http::route::{Access, BodyLimit, Method, handler};
use crate::http::{ApiError, Reply, cookie};
use crate::model::{AttemptOutcome, Effect, ExecutionStatus, GateVerdict, StepStatus, Verdict};
use crate::report::{Cause, DeliveryState, Standing};
use crate::runbook::Mode;

fn route(methods: &'static [Method], path: &'static str) -> Route {
    Route {
        methods,
        path,
        trailing_slash: false,
        access: Access::Open,
        limit: BodyLimit::None,
        handler: handler(|_| async { Ok::<_, ApiError>(Reply::empty()) }),
    }
}

fn words<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> Vec<String> {
    all.iter().map(|value| word(*value).to_owned()).collect()
}

#[test]
fn the_words_of_the_schemas_are_those_of_the_program() {
    let schemas = Told::read().unwrap().schemas;
    let switch = ["running", "draining", "halted", "aborted"].map(|word| SwitchState::parse(word).unwrap());
    let breaker = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
    let all = [
        ("ExecutionStatus", words(ExecutionStatus::ALL, ExecutionStatus::as_str)),
        ("StepStatus", words(StepStatus::ALL, StepStatus::as_str)),
        ("AttemptOutcome", words(AttemptOutcome::ALL, AttemptOutcome::as_str)),
        ("Verdict", words(Verdict::ALL, Verdict::as_str)),
        ("GateVerdict", words(GateVerdict::ALL, GateVerdict::as_str)),
        ("Effect", words(&Effect::ALL, Effect::as_str)),
        ("Cause", words(Cause::ALL, Cause::as_str)),
        ("Standing", words(Standing::ALL, Standing::as_str)),
        ("DeliveryState", words(DeliveryState::ALL, DeliveryState::as_str)),
        ("SwitchState", words(&switch, SwitchState::as_str)),
        ("BreakerState", words(&breaker, BreakerState::as_str)),
        ("Mode", words(&[Mode::Disabled, Mode::Shadow, Mode::Approve, Mode::Auto], Mode::as_str)),
    ];
    for (name, words) in all {
        assert_eq!(schemas[name]["enum"], json!(words), "{name}");
    }
    let mut actions = words(&Verb::ALL, Verb::as_str);
    let mut told: Vec<String> = serde_json::from_value(schemas["Action"]["enum"].clone()).unwrap();
    actions.sort();
    told.sort();
    assert_eq!(told, actions);
}

#[test]
fn the_cookie_is_called_as_it_is() {
    let session = &Told::read().unwrap().shared.security["session"];
    assert_eq!(session["name"], cookie::LOCAL_COOKIE);
    assert!(session["description"].as_str().unwrap().contains(cookie::HOST_COOKIE));
}

#[test]
fn a_route_without_a_word_and_a_word_without_a_route_are_errors() {
    let untold = Document::of(&[route(&[Method::Get], "/nothing/is/told")]).unwrap_err();
    assert_eq!(untold.to_string(), "nothing is told of the route GET /nothing/is/told");
    let unrouted = Document::of(&[route(&[Method::Get], "/health")]).unwrap_err();
    assert!(unrouted.to_string().ends_with(" is told of, and is no route"), "{unrouted}");
}

#[test]
fn the_document_says_of_a_door_and_of_a_body_what_the_table_says() {
    let told = Told::read().unwrap();
    let (_, about) = told
        .groups
        .iter()
        .flat_map(|group| &group.operations)
        .find(|(_, told)| told.id == "setMapping")
        .unwrap();
    let of = |access, limit| {
        let route = Route { access, limit, ..route(&[Method::Put], "/api/mappings/{name}") };
        let made = operation::Operation::of(&route, Method::Put, "tag", about, &told).unwrap();
        serde_json::to_value(made).unwrap()
    };
    let open = of(Access::Open, BodyLimit::None);
    assert_eq!((&open["x-permission"], &open["security"]), (&json!("open"), &json!([])));
    assert!(open["responses"].get("401").is_none() && open["responses"].get("413").is_none());
    let hook = of(Access::Webhook, BodyLimit::Webhook);
    assert_eq!(hook["security"][0], json!({ "webhook_bearer": [] }));
    assert!(hook["responses"].get("429").is_none() && hook["responses"].get("413").is_some(), "{hook}");
    let edit = of(Access::Needs(crate::auth::Permission::Edit), BodyLimit::Json(7));
    assert_eq!((&edit["x-permission"], &edit["x-max-body-bytes"]), (&json!("edit"), &json!(7)));
    for status in ["401", "403", "413", "415", "429"] {
        assert!(edit["responses"].get(status).is_some(), "{status}");
    }
    assert!(edit["description"].as_str().unwrap().ends_with("Needs the permission `edit`."));
}

#[test]
fn nothing_is_served_before_the_routes_are_known() {
    let shelf = Shelf::default();
    assert!(shelf.ready().is_none());
    shelf.describe(&[route(&[Method::Get], "/nothing/is/told")]);
    assert!(shelf.written().is_none() && shelf.ready().is_none());
}

#[test]
fn the_page_has_its_script_and_its_style_and_a_policy_for_them() {
    let page = String::from_utf8(page().to_vec()).unwrap();
    assert!(page.contains("async function start()") && page.contains(":focus-visible"));
    assert!(!page.contains("/* script */") && !page.contains("/* style */"));
    for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage"] {
        assert!(!page.contains(markup), "the page uses {markup}");
    }
    assert!(policy().is_some());
}
