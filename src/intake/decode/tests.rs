//! What is taken, what is refused, and what a refusal says.

use super::*;

fn one(element: &str) -> Element {
    let body = format!("{{\"alerts\":[{element}]}}");
    decode(body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap().alerts.remove(0)
}

fn refused(element: &str, expected: &str) {
    match one(element) {
        Element::Invalid { why, .. } => assert_eq!(why, expected, "{element}"),
        Element::Alert(alert) => panic!("{element} was taken as {alert:?}"),
    }
}

#[test]
fn elements_are_judged_one_by_one() {
    refused("5", "it is not an object");
    refused("null", "it is not an object");
    refused("{}", "its labels are not a map");
    refused(r#"{"labels":null}"#, "its labels are not a map");
    refused(r#"{"labels":{"alertname":5}}"#, "its label \"alertname\" is not a text");
    refused(r#"{"status":"firing","labels":{"a":"b"}}"#, "it has no label alertname");
    refused(r#"{"status":"firing","labels":{"alertname":""}}"#, "it has no label alertname");
    refused(r#"{"labels":{"alertname":"A"}}"#, "its status \"\" is neither firing nor resolved");
    refused(
        r#"{"status":"Firing","labels":{"alertname":"A"}}"#,
        "its status \"Firing\" is neither firing nor resolved",
    );
    refused(
        r#"{"status":"firing","labels":{"alertname":"A"},"startsAt":"yesterday"}"#,
        "its startsAt is not an RFC 3339 time",
    );
    let long = format!(r#"{{"status":"firing","labels":{{"alertname":"A","x":"{}"}}}}"#, "x".repeat(2 << 20));
    refused(&long, "its label \"x\" is longer than 65536 bytes");
}

#[test]
fn a_lone_surrogate_is_refused_by_itself() {
    let body = br#"{"alerts":[{"status":"firing","labels":{"alertname":"\ud800"}},
        {"status":"firing","labels":{"alertname":"B"}}]}"#;
    let alerts = decode(body, Timestamp::UNIX_EPOCH).unwrap().alerts;
    assert!(matches!(&alerts[0], Element::Invalid { .. }));
    assert!(matches!(&alerts[1], Element::Alert(alert) if alert.alertname() == "B"));
}

#[test]
fn what_is_missing_gets_its_default_and_year_one_is_no_end() {
    let Element::Alert(alert) =
        one(r#"{"status":"firing","labels":{"alertname":"A","empty":""},"annotations":{"n":7},
            "endsAt":"0001-01-01T00:00:00Z"}"#)
    else {
        panic!("refused")
    };
    assert_eq!(alert.ends_at, None);
    assert_eq!(alert.starts_at, Timestamp::UNIX_EPOCH);
    assert_eq!(alert.annotations["n"], "7");
    assert_eq!(alert.labels.len(), 1);
}

#[test]
fn bodies_that_are_no_webhook_are_refused_whole() {
    let check = |body: &str, expected: MalformedBody| {
        assert_eq!(decode(body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_err(), expected, "{body}");
    };
    check("{}", MalformedBody::NoAlerts);
    check(r#"{"alerts":null}"#, MalformedBody::NoAlerts);
    check(&"[".repeat(100_000), MalformedBody::TooDeep);
    check("[[1]]", MalformedBody::Json("it does not begin with {".to_owned()));
    assert!(matches!(decode(b"\xff", Timestamp::UNIX_EPOCH), Err(MalformedBody::Json(_))));
    let many = format!("{{\"alerts\":[{}]}}", vec!["0"; MAX_ALERTS + 1].join(","));
    check(&many, MalformedBody::TooManyAlerts(MAX_ALERTS + 1));
    assert!(decode(br#"{"alerts":[],"version":"9","new":{"x":[1]}}"#, Timestamp::UNIX_EPOCH).is_ok());
}

#[test]
fn what_nobody_asks_for_is_no_reason_to_refuse() {
    let body =
        br#"{"truncatedAlerts":1e999,"new":-1e999,"alerts":[{"status":"firing","values":{"A":1e999,"B":null},
        "valueString":"\ud800","labels":{"alertname":"A"},"annotations":{"n":1e999,"none":null}}]}"#;
    let Body { mut alerts, truncated } = decode(body, Timestamp::UNIX_EPOCH).unwrap();
    let Element::Alert(alert) = alerts.remove(0) else { panic!("refused") };
    assert_eq!((truncated, alert.annotations["n"].as_str(), alert.annotations.len()), (0, "1e999", 1));
}

#[test]
fn a_refusal_is_short_however_long_what_is_refused_is() {
    let long = "x".repeat(1 << 20);
    for element in [
        format!(r#"{{"labels":{{"{long}":5}}}}"#),
        format!(r#"{{"labels":{{"{long}":"v"}}}}"#),
        format!(r#"{{"labels":{{"alertname":"A"}},"status":"{long}"}}"#),
        format!(r#"{{"labels":{{"alertname":"A"}},"status":"firing","annotations":{{"{long}":"v"}}}}"#),
        format!(r#"{{"labels":{{"alertname":"A"}},"status":"firing","annotations":{{"a":"{long}x"}}}}"#),
    ] {
        match one(&element) {
            Element::Invalid { why, .. } => assert!(why.len() < 200, "{why}"),
            Element::Alert(_) => panic!("taken"),
        }
    }
}
