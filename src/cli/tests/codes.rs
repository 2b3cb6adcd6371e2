//! What each answer of a server means to a script and to a person.

use super::stub::{Stub, answer, json};
use super::*;

fn check(answer: String, code: i32, err: &str) {
    let stub = Stub::new(vec![answer]);
    let got = asked(&stub.url, &["executions", "show", ID]);
    assert_eq!(
        got,
        Outcome { code, out: String::new(), err: err.replace("<url>", &format!("{}/", stub.url)) }
    );
    stub.requests();
}

fn error(status: &str, sentence: &str, code: &str) -> String {
    answer(status, "", &serde_json::json!({ "error": sentence, "code": code }).to_string())
}

#[test]
fn every_refusal_has_its_exit_code_a_sentence_and_a_way_out() {
    check(
        error("401 Unauthorized", "a credential is required", "unauthorized"),
        4,
        "runbookd: a credential is required (401, unauthorized)\nhint: pass --token or set RUNBOOKD_TOKEN\n",
    );
    check(
        error("403 Forbidden", "read is needed", "forbidden"),
        4,
        "runbookd: read is needed (403, forbidden)\nhint: your roles do not allow it; ask somebody whose roles do\n",
    );
    check(
        error("404 Not Found", "the execution does not exist", "not_found"),
        1,
        "runbookd: the execution does not exist (404, not_found)\n",
    );
    check(
        answer("404 Not Found", "", "<html>nginx"),
        1,
        "runbookd: the server answered 404 Not Found\nhint: is <url> the URL of runbookd?\n",
    );
    check(
        error("409 Conflict", "the execution is succeeded", "wrong_state"),
        1,
        "runbookd: the execution is succeeded (409, wrong_state)\n",
    );
    let fields = r#"{"error":"2 things are wrong with the request","code":"invalid","errors":[{"path":"limit","message":"must be 1 to 500"},{"path":"","message":"no"}]}"#;
    check(
        answer("422 Unprocessable Entity", "", fields),
        1,
        "runbookd: 2 things are wrong with the request (422, invalid)\n  limit: must be 1 to 500\n  no\n",
    );
    check(
        answer(
            "429 Too Many Requests",
            "retry-after: 7\r\n",
            r#"{"error":"too many requests","code":"rate_limited"}"#,
        ),
        1,
        "runbookd: too many requests (429, rate_limited)\nhint: try again in 7 s\n",
    );
    check(
        error("500 Internal Server Error", "an internal error", "internal"),
        1,
        "runbookd: an internal error (500, internal)\n",
    );
    check(
        error("503 Service Unavailable", "the queue is full", "queue_full"),
        1,
        "runbookd: the queue is full (503, queue_full)\n",
    );
}

#[test]
fn what_is_no_runbookd_counts_as_not_reached() {
    let hint = "hint: pass --url or set RUNBOOKD_URL\n";
    let stranger = |why: &str| format!("runbookd: the answer of <url> is not one of runbookd: {why}\n{hint}");
    check(answer("502 Bad Gateway", "", "<html>"), 3, &stranger("it answers 502 Bad Gateway"));
    check(answer("200 OK", "", "<html>"), 3, &stranger("it is not JSON"));
    let redirect = answer("302 Found", "location: http://127.0.0.1:1/\r\n", "");
    check(redirect, 3, &stranger("it redirects (302 Found), which runbookd never does"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let gone = Stub::new(Vec::new());
    let url = gone.url.clone();
    gone.requests();
    let got = asked(&url, &["status"]);
    assert_eq!((got.code, got.out.as_str()), (3, ""));
    assert!(
        got.err.starts_with(&format!("runbookd: cannot connect to {url}/: Connection refused")),
        "{}",
        got.err
    );
    assert!(got.err.contains("\nhint: is the server running? pass --url or set RUNBOOKD_URL"), "{}", got.err);
}

#[test]
fn a_flag_beats_the_variable_and_a_prefix_of_the_url_is_kept() {
    let stub = Stub::new(vec![json("{}"), json("{}")]);
    let env = environment(&[("RUNBOOKD_URL", "http://127.0.0.1:1"), ("RUNBOOKD_TOKEN", "of-env\n")], false);
    let url = format!("{}/ops/", stub.url);
    let show = ["executions", "show", ID, "--output", "json", "--url", &url];
    assert_eq!(outcome_in(&env, &show).code, 0);
    assert_eq!(outcome_in(&env, &[&show[..], &["--token", "of-flag"]].concat()).code, 0);
    let requests = stub.requests();
    assert!(
        requests[0].starts_with(&format!("GET /ops/api/executions/{ID} HTTP/1.1\r\n")),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("authorization: Bearer of-env\r\n"), "{}", requests[0]);
    assert!(requests[1].contains("authorization: Bearer of-flag\r\n"), "{}", requests[1]);
}

#[test]
fn filters_become_parameters_and_hostile_values_stay_values() {
    let stub = Stub::new(vec![json("{}"), json("{}"), json("{}")]);
    let line = [
        "executions",
        "list",
        "--status=running",
        "--target=a&limit=9#x",
        "--since=1h",
        "--limit=5",
        "--cursor=c d",
    ];
    let got = asked(&stub.url, &line);
    assert_eq!(got, Outcome { code: 0, out: String::new(), err: "no executions match\n".into() });
    asked(&stub.url, &["decisions", "list", "--reason", "cooldown", "--verdict", "skip"]);
    asked(&stub.url, &["runbooks", "show", "disk_full.md"]);
    let requests = stub.requests();
    let first = |request: &str| request.lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        first(&requests[0]),
        "GET /api/executions?status=running&target=a%26limit%3D9%23x&since=2026-08-01T09%3A10%3A00Z&limit=5&cursor=c+d HTTP/1.1"
    );
    assert_eq!(first(&requests[1]), "GET /api/decisions?reason=cooldown&verdict=skip HTTP/1.1");
    assert_eq!(first(&requests[2]), "GET /api/runbooks/disk_full HTTP/1.1");
}

#[test]
fn stop_sends_the_reason_once_and_shows_what_became_of_it() {
    let body = format!(r#"{{"id":"{ID}","status":"stopped"}}"#);
    let stub = Stub::new(vec![answer("202 Accepted", "", &body)]);
    let got = asked(&stub.url, &["executions", "stop", ID, "--reason", "wrong \"host\""]);
    assert_eq!(got, Outcome { code: 0, out: format!("{ID} stopped\n"), err: String::new() });
    let request = stub.requests().remove(0);
    assert!(request.starts_with(&format!("POST /api/executions/{ID}/stop HTTP/1.1\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"reason\":\"wrong \\\"host\\\"\"}"), "{request}");
}

#[test]
fn each_act_sends_what_was_said_and_nothing_else() {
    let check = |line: &[&str], body: &str| {
        let reply = format!(r#"{{"id":"{ID}","status":"running"}}"#);
        let stub = Stub::new(vec![answer("202 Accepted", "", &reply)]);
        let got = asked(&stub.url, &[&["executions", line[0], ID], &line[1..]].concat());
        assert_eq!(got, Outcome { code: 0, out: format!("{ID} running\n"), err: String::new() });
        let request = stub.requests().remove(0);
        assert!(request.starts_with(&format!("POST /api/executions/{ID}/control HTTP/1.1\r\n")), "{request}");
        let sent: serde_json::Value =
            serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(sent, serde_json::from_str::<serde_json::Value>(body).unwrap());
    };
    check(&["pause", "--reason", "lunch"], r#"{"action":"pause","reason":"lunch"}"#);
    check(&["resume"], r#"{"action":"resume"}"#);
    check(&["rollback", "--reason", "r"], r#"{"action":"rollback","reason":"r"}"#);
    check(&["approve"], r#"{"action":"approve"}"#);
    check(
        &["approve", "--step", "ask", "--hash", "ab", "--reason", "r"],
        r#"{"action":"approve","step":"ask","hash":"ab","reason":"r"}"#,
    );
    check(&["reject", "--step", "ask"], r#"{"action":"reject","step":"ask"}"#);
    check(&["acknowledge"], r#"{"action":"acknowledge"}"#);
    check(&["retry", "--step", "a"], r#"{"action":"retry","step":"a"}"#);
    check(&["skip", "--step", "a"], r#"{"action":"skip","step":"a"}"#);
    check(
        &["modify", "--step", "a", "--arg", "--force", "--arg", "", "--input", "unit=a=b"],
        r#"{"action":"modify","step":"a","args":["--force",""],"inputs":{"unit":"a=b"}}"#,
    );
}

#[test]
fn what_an_act_starts_anew_is_said_to_people_and_shown_to_scripts() {
    let new = "service_unavailable_01J9ZQ5K3M8N7P6R5S4T3V2W1Z";
    let body = format!(r#"{{"id":"{new}","status":"queued"}}"#);
    for (shape, out) in [
        ("table", format!("{new} queued\n")),
        ("json", format!("{{\n  \"id\": \"{new}\",\n  \"status\": \"queued\"\n}}\n")),
    ] {
        let stub = Stub::new(vec![answer("202 Accepted", "", &body)]);
        let got = asked(&stub.url, &["executions", "retry", ID, "--output", shape]);
        let err = format!("started {new} as the retry of {ID}\n");
        assert_eq!(got, Outcome { code: 0, out, err });
        stub.requests();
    }
    let refused =
        error("409 Conflict", "the execution is succeeded: it is over, and final is final", "wrong_state");
    let stub =
        Stub::new(vec![refused, error("403 Forbidden", "consent needs one of the roles: sre", "forbidden")]);
    assert_eq!(asked(&stub.url, &["executions", "pause", ID]).code, 1);
    let got = asked(&stub.url, &["executions", "approve", ID]);
    assert_eq!((got.code, got.out.as_str()), (4, ""));
    assert!(got.err.contains("consent needs one of the roles: sre (403, forbidden)"), "{}", got.err);
    stub.requests();
}

#[test]
fn an_endless_answer_is_given_up() {
    let body = format!("\"{}", "x".repeat(client::MAX_ANSWER + 10));
    let stub = Stub::new(vec![answer("200 OK", "", &body)]);
    let got = asked(&stub.url, &["status"]);
    assert_eq!(got.code, 3);
    assert!(got.err.contains("it is longer than 67108864 bytes"), "{}", got.err);
    stub.requests();
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
    let list = format!(r#"{{"executions":[{{"id":"{ID}","status":"failed"}}]}}"#);
    for (kind, code, message) in [
        (io::ErrorKind::BrokenPipe, 0, ""),
        (io::ErrorKind::StorageFull, 1, "runbookd: stdout cannot be written to: no storage space\n"),
    ] {
        let stub = Stub::new(vec![json(&list), stub::events("id: 1\nevent: started\ndata: {}\n\n")]);
        let env = environment(&[("RUNBOOKD_URL", &stub.url)], false);
        for line in [&["executions", "list"][..], &["executions", "follow", ID], &["--help"]] {
            let mut err = Vec::new();
            let got = run(words(line), &env, &Recorder::default(), &mut Broken(kind), &mut err);
            assert_eq!((got, String::from_utf8(err).unwrap().as_str()), (code, message), "{line:?}");
        }
        stub.requests();
    }
}
