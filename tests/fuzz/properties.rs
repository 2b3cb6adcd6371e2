//! What must hold of every byte a stranger can send, or a damaged disk can give back: one function for each target,
//! called by libFuzzer and by `cargo test` alike.
//!
//! May import: the library. Must never: accept a panic as an answer, or read anything but `data`.

use runbookd::auth::{Expected, LEEWAY_SECONDS, Roles, Signer, Verifier, VerifyingKey};
use runbookd::document::{Problems, Severity};
use runbookd::intake::{Element, decode};
use runbookd::journal::{self, AuditRecord, Broken, Event, State};
use runbookd::model::{Labels, Matcher, RunbookId, Secret, Timestamp};
use runbookd::runbook::{self, Context, Expression, Template};
use runbookd::schedule::Cron;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

/// A webhook's body: what is taken is within the limits, and nothing is taken twice or lost.
pub(crate) fn webhook(data: &[u8]) {
    let Ok(body) = decode(data, now()) else { return };
    assert!(body.alerts.len() <= 10_000);
    // What nobody asks for may be something that no value can hold, such as half a surrogate.
    if let Ok(whole) = serde_json::from_slice::<Value>(data) {
        assert_eq!(whole["alerts"].as_array().map(Vec::len), Some(body.alerts.len()));
    }
    for element in &body.alerts {
        match element {
            Element::Alert(alert) => {
                assert!(alert.labels.len() <= 256 && alert.labels.contains_key("alertname"));
                assert!(alert.labels.iter().all(|(name, value)| name.len().max(value.len()) <= 64 << 10));
                assert!(alert.annotations.values().all(|value| value.len() <= 1 << 20));
            }
            Element::Invalid { why, .. } => assert!(!why.is_empty()),
        }
    }
}

/// A runbook's file: a runbook or an error, and every problem lies within the text and can be shown.
pub(crate) fn runbook(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let id = RunbookId::new("fuzzed").unwrap();
    let parsed = runbook::parse(&id, "fuzzed.toml", text);
    let failed = parsed.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_ne!(failed, parsed.runbook.is_some(), "{:?}", parsed.problems);
    for problem in &parsed.problems {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
        assert!(!problem.message.is_empty());
    }
    let _shown = Problems::render(&parsed.problems, text);
    let again = runbook::parse(&id, "fuzzed.toml", text);
    assert_eq!(again.hash, parsed.hash);
}

static HOSTILE: LazyLock<Context> = LazyLock::new(|| {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels: Labels = [
        label("alertname", "{{ labels.alertname }}"),
        label("instance", "$(touch /tmp/x)`;'\"\n{% raw %}"),
        label("long", &"x".repeat(10_000)),
    ]
    .into();
    Context::builder()
        .labels(&labels)
        .annotations(&labels)
        .inputs(&labels)
        .steps(json!({ "a": { "ok": true, "status": "succeeded", "exit_code": 0, "stdout": "{{ 1 }}", "json": [1, [2]] } }))
        .execution(json!({ "id": "x", "target": "t" }))
        .item("one")
        .build()
});

/// A template or an expression: rendering ends, within its limits.
pub(crate) fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(template) = Template::parse(text) {
        assert_eq!(template.source(), text);
        let literal: Vec<_> = template.literal_parts().collect();
        assert!(literal.iter().all(|range| text.get(range.clone()).is_some()), "{literal:?}");
        if let Ok(rendered) = template.render(&HOSTILE) {
            assert!(rendered.len() <= (256 << 10).max(text.len()), "{} bytes", rendered.len());
            assert!(!template.is_literal() || rendered == text);
        }
    }
    if let Ok(expression) = Expression::parse(text) {
        let _answer = expression.evaluate(&HOSTILE);
    }
}

/// A matcher: what is written of it reads as the same matcher.
pub(crate) fn matcher(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(matcher) = Matcher::parse(text) else { return };
    let written = matcher.to_string();
    let again =
        Matcher::parse(&written).unwrap_or_else(|error| panic!("{text:?} is written {written:?}: {error}"));
    let known = |matcher: &Matcher| {
        (matcher.name().to_owned(), matcher.value().to_owned(), matcher.is_regex(), matcher.is_equal())
    };
    assert_eq!(known(&again), known(&matcher), "{text:?} is written {written:?}");
    let labels: Labels = [(matcher.name().to_owned(), text.to_owned())].into();
    assert_eq!(again.matches(&labels), matcher.matches(&labels));
}

/// A signer and what it convinces.
static TRUST: LazyLock<(Signer, Verifier)> = LazyLock::new(|| {
    runbookd::auth::install_crypto();
    let secret = Secret::new("0123456789abcdef0123456789abcdef");
    let expected = Expected {
        issuer: Some("i".to_owned()),
        audience: Some("a".to_owned()),
        roles_claim: "roles".to_owned(),
    };
    let verifier = Verifier::new(vec![VerifyingKey::secret(&secret).unwrap()], expected).unwrap();
    (Signer::secret(&secret).unwrap(), verifier)
});

/// A token: without the key none is good, and with it only one whose claims are in order.
pub(crate) fn jwt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (signer, verifier) = &*TRUST;
    let roles = Roles::default();
    if let Ok(principal) = verifier.verify(text, &roles, now()) {
        panic!("nobody signed it, and it is {principal:?}");
    }
    let Ok(claims) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    let Ok(token) = signer.sign(&claims) else { return };
    let Ok(principal) = verifier.verify(&token, &roles, now()) else { return };
    let until = claims["exp"].as_f64().expect("an expiry is a number");
    let at = now().as_second() as f64;
    assert!(until + LEEWAY_SECONDS as f64 >= at);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("i"), &json!(principal.subject)));
    assert!(claims["aud"] == "a" || claims["aud"].as_array().is_some_and(|list| list.contains(&json!("a"))));
    assert!(!principal.subject.chars().any(char::is_control));
}

/// Journal records, a line each: what is read is written the same, and no order of events breaks the fold.
pub(crate) fn journal(data: &[u8]) {
    let mut state: Option<State> = None;
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(entry) = journal::decode(line) else { continue };
        let written = journal::encode(&entry).expect("an entry that was read can be written");
        assert_eq!(journal::decode(&written).expect("what was written can be read"), entry);
        match (&mut state, &entry.event) {
            (None, Event::Created(created)) => state = Some(State::new(created.clone(), entry.at)),
            (Some(state), _) => drop(state.apply(&entry)),
            (None, _) => {}
        }
    }
}

/// Audit records, a line each: a chain holds only as it was sealed.
pub(crate) fn audit(data: &[u8]) {
    let (mut verifier, mut chain) = (journal::Verifier::default(), Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(record) = serde_json::from_slice::<AuditRecord>(line) else { continue };
        let before = verifier.head().clone();
        match verifier.next(&record) {
            Ok(()) => {
                assert_eq!((record.seq, &record.prev), (before.seq + 1, &before.hash));
                let mut changed = record.clone();
                changed.reason.push('x');
                let mut again = journal::Verifier::default();
                chain.iter().for_each(|good| again.next(good).expect("it was good a moment ago"));
                assert_eq!(again.next(&changed), Err(Broken::Changed(record.seq)));
                chain.push(record);
            }
            Err(_) => assert_eq!(*verifier.head(), before, "what is broken changes nothing"),
        }
    }
}

/// A cron expression: the first time that fits is not before, and fits again by itself.
pub(crate) fn cron(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(cron) = Cron::parse(text) else { return };
    let from = jiff::civil::DateTime::constant(2026, 11, 21, 23, 59, 59, 0);
    let first = cron.first(from).expect("what is read is due some day");
    assert!(first >= from);
    assert_eq!(cron.first(first), Some(first));
    assert_eq!(Cron::parse(&cron.to_string()).as_ref(), Ok(&cron), "{text:?} is written {cron}");
}
