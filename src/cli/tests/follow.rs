//! Following an execution through lost connections.

use super::super::follow::{Pace, run as follow};
use super::stub::{Stub, answer, events, json};
use super::*;
use crate::model::ExecutionId;
use std::time::Duration;

const FAST: Pace = Pace { first: Duration::from_millis(1), longest: Duration::from_millis(4), tries: 3 };

fn followed(answers: Vec<String>, json: bool) -> (Outcome, Vec<String>) {
    let stub = Stub::new(answers);
    let env = environment(&[], false);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let shape = if json { super::super::args::Shape::Json } else { super::super::args::Shape::Table };
    let server = super::super::args::Server { url: Some(stub.url.clone()), token: None, output: shape };
    let mut screen = Screen::new(&mut out, &mut err, &env);
    let id = ExecutionId::new(ID).unwrap();
    let got =
        ask(&server, &env, &mut screen, async |client, screen| follow(client, &id, &FAST, screen).await);
    let code = got.unwrap_or_else(|quit| {
        quit.tell(&mut screen);
        quit.code()
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (Outcome { code, out: text(out), err: text(err) }, stub.requests())
}

fn event(seq: u64, kind: &str, fields: &str) -> String {
    let data = format!(r#"{{"seq":{seq},"at":"2026-08-01T10:00:0{seq}Z","kind":"{kind}"{fields}}}"#);
    format!("id: {seq}\nevent: {kind}\ndata: {data}\n\n")
}

#[test]
fn one_line_an_event_until_the_end_and_no_unless_it_succeeded() {
    let head = event(
        1,
        "created",
        r#","runbook":"disk_full","version":3,"target":"db1","trigger":{"by":"alert:DiskFull"}"#,
    ) + &event(2, "started", r#","deadline":"2026-08-01T10:15:00Z""#)
        + ": still here\n\n"
        + &event(
            3,
            "step_intended",
            r#","step":"clean","attempt":1,"plan":"/usr/bin/clean \u001b[2J --all""#,
        )
        + &event(
            4,
            "attempt_finished",
            r#","step":"clean","attempt":1,"outcome":"failed","exit_code":7,"stdout":{"bytes":0},"error":"exit code 7""#,
        )
        + &event(5, "brand_new", r#","why":{"a":1},"text":"x""#);
    for (status, code) in [("succeeded", 0), ("failed", 1), ("rolled_back", 1), ("stopped", 1)] {
        let tail = event(6, "finished", &format!(r#","status":"{status}","reason":"step_failed""#));
        let (got, requests) =
            followed(vec![events(&format!("{head}{tail}event: end\ndata: {{}}\n\n"))], false);
        let expected = format!(
            "10:00:01  created           disk_full version 3 for db1, by alert:DiskFull
10:00:02  started           must end by 10:15:00
10:00:03  step_intended     clean attempt 1: /usr/bin/clean \\u{{1b}}[2J --all
10:00:04  attempt_finished  clean attempt 1: failed, exit code 7: exit code 7
10:00:05  brand_new         text=x why={{\"a\":1}}
10:00:06  finished          {status} (step_failed)
"
        );
        assert_eq!(got, Outcome { code, out: expected, err: String::new() });
        assert!(requests[0].contains("accept: text/event-stream\r\n"), "{}", requests[0]);
        assert!(!requests[0].to_lowercase().contains("last-event-id"), "{}", requests[0]);
    }
}

/// An end that people brought about.
const ROLLED_BACK: &str = r#"id: 11
event: stop_requested
data: {"seq":11,"at":"2026-08-01T10:00:11Z","kind":"stop_requested","actor":"eve","reason":"no","rollback":true}

id: 12
event: finished
data: {"seq":12,"at":"2026-08-01T10:00:12Z","kind":"finished","status":"rolled_back"}

"#;

#[test]
fn what_people_are_asked_and_do_is_a_line_each_and_only_what_is_still_awaited_is_asked_for() {
    let stream = event(
        1,
        "created",
        r#","runbook":"r","version":1,"trigger":{"by":"ada"},"steps":[{"id":"tell","kind":"instruct"}]"#,
    ) + &event(2, "items_listed", r#","step":"drain","items":["a","b"]"#)
        + &event(
            3,
            "attempt_finished",
            r#","step":"drain","part":{"role":"undo","item":1},"attempt":2,"outcome":"succeeded""#,
        )
        + &event(
            4,
            "retry_scheduled",
            r#","step":"drain","attempt":2,"next_attempt_at":"2026-08-01T10:01:00Z""#,
        )
        + &event(5, "paused", r#","actor":"bob","reason":"lunch""#)
        + &event(6, "modified", r#","actor":"bob","reason":"typo","inputs":{"unit":{"to":"x"}}"#)
        + &event(7, "resumed", r#","actor":"bob","reason":"back""#)
        + &event(
            8,
            "approval_requested",
            r#","step":"ask","plan":"Restart?\nrestart: x","hash":"ab12","until":"2026-08-01T10:30:00Z""#,
        )
        + &event(9, "approved", r#","step":"ask","actor":"eve","reason":"ok","hash":"ab12""#);
    let asks = event(
        9,
        "approval_requested",
        r#","step":"more","plan":"More?","hash":"cd","until":"2026-08-01T10:30:00Z""#,
    )
    .replace("seq\":9", "seq\":10")
    .replace("id: 9", "id: 10");
    let (got, _) = followed(vec![events(&(stream + &asks)), events(ROLLED_BACK)], false);
    assert_eq!(
        got.out,
        "10:00:01  created           r version 1, by ada
10:00:02  items_listed      drain for each of: a, b
10:00:03  attempt_finished  drain undo item 1 attempt 2: succeeded
10:00:04  retry_scheduled   drain attempt 2 at 10:01:00
10:00:05  paused            by bob: lunch
10:00:06  modified          unit by bob: typo
10:00:07  resumed           by bob: back
10:00:08  approval_requested  ask until 10:30:00: Restart?
10:00:09  approved          ask by eve: ok
10:00:09  approval_requested  more until 10:30:00: More?
10:00:11  stop_requested    with rollback, by eve: no
10:00:12  finished          rolled_back
"
    );
    assert_eq!(
        got.err,
        format!(
            "consent is awaited; read `runbookd executions show {ID}`, then\n  runbookd executions approve {ID} --step more --hash cd\n  runbookd executions reject {ID} --step more\nthe connection is lost, trying again\n"
        )
    );
}

#[test]
fn a_lost_connection_goes_on_behind_the_last_event_and_nothing_is_shown_twice() {
    let (got, requests) = followed(
        vec![
            events(&(event(1, "started", "") + &event(2, "alert_resolved", "") + "id: 3\nevent: fini")),
            answer("503 Service Unavailable", "", r#"{"error":"starting","code":"not_ready"}"#),
            events(&(event(2, "alert_resolved", "") + &event(3, "verify_started", ""))),
            // The end may get lost with the connection; a final status is final without it.
            events(&event(4, "finished", r#","status":"succeeded""#)),
        ],
        false,
    );
    assert_eq!(got.code, 0);
    assert_eq!(
        got.out,
        "10:00:01  started           must end by\n10:00:02  alert_resolved    the alert resolved\n10:00:03  verify_started    may be proved until\n10:00:04  finished          succeeded\n"
    );
    assert_eq!(got.err, "the connection is lost, trying again\n".repeat(2));
    for (request, id) in requests[1..].iter().zip(["2", "2", "3"]) {
        assert!(request.contains(&format!("last-event-id: {id}\r\n")), "{id}: {request}");
    }
}

#[test]
fn a_server_that_hangs_up_at_once_or_stays_away_is_given_up() {
    let (got, requests) = followed(vec![events(""); 4], false);
    assert_eq!((got.code, requests.len()), (3, 4));
    assert!(got.err.contains("the server ends the stream before the execution ends"), "{}", got.err);
    let (got, _) = followed(vec![events(&event(1, "alert_resolved", ""))], false);
    assert_eq!(got.code, 3);
    assert!(got.err.contains("cannot connect to"), "{}", got.err);
}

#[test]
fn a_refusal_ends_it_at_once_at_first_and_later() {
    let refused =
        answer("401 Unauthorized", "", r#"{"error":"the token has expired","code":"unauthorized"}"#);
    let (got, requests) = followed(vec![refused.clone()], false);
    assert_eq!((got.code, requests.len()), (4, 1));
    let (got, requests) = followed(vec![events(&event(1, "alert_resolved", "")), refused], false);
    assert_eq!((got.code, requests.len()), (4, 2));
    let busy = answer("503 Service Unavailable", "", r#"{"error":"starting","code":"not_ready"}"#);
    assert_eq!(followed(vec![busy], false).0.code, 1);
    let (got, _) = followed(vec![json("{}")], false);
    assert_eq!(got.code, 3);
    assert!(got.err.contains("it is not a stream of events"), "{}", got.err);
}

#[test]
fn an_end_without_a_status_is_looked_up_and_never_taken_for_a_success() {
    let end = || events("event: end\ndata: {}\n\n");
    assert_eq!(followed(vec![end(), json(r#"{"status":"succeeded"}"#)], false).0.code, 0);
    assert_eq!(followed(vec![end(), json(r#"{"status":"not_verified"}"#)], false).0.code, 1);
    assert_eq!(followed(vec![end(), json("{}")], false).0.code, 1);
}

#[test]
fn as_json_each_event_is_the_line_the_server_sent() {
    let sent = r#"{"seq":1, "at":"x","kind":"started","z":1.0,"a":"\u001b"}"#;
    let (got, _) = followed(
        vec![events(&format!(
            "id: 1\nevent: started\ndata: {sent}\n\nevent: end\ndata: {{\"status\":\"failed\"}}\n\n"
        ))],
        true,
    );
    assert_eq!(got, Outcome { code: 1, out: sent.replace(", ", ",") + "\n", err: String::new() });
}

#[test]
fn a_server_that_is_asked_too_often_is_asked_again_when_it_says() {
    let busy = answer(
        "429 Too Many Requests",
        "Content-Type: application/json\r\nRetry-After: 1\r\n",
        r#"{"error":"too many requests","code":"rate_limited"}"#,
    );
    let end = event(1, "finished", r#","status":"succeeded""#);
    let began = std::time::Instant::now();
    let (got, requests) = followed(vec![busy, events(&format!("{end}event: end\ndata: {{}}\n\n"))], false);
    assert_eq!((got.code, requests.len()), (0, 2), "{}", got.err);
    assert!(got.err.contains("the server was asked too often; trying again in 1 s"), "{}", got.err);
    assert!(began.elapsed() >= Duration::from_secs(1));
}
