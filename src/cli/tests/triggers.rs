//! Execution by hand, mappings and schedules on the command line.

use super::stub::{Stub, json};
use super::*;

/// What is sent for `line`, and what is shown of `body`.
fn sent(body: &str, line: &[&str]) -> (String, Outcome) {
    let stub = Stub::new(vec![json(body)]);
    let got = asked(&stub.url, line);
    (stub.requests().remove(0), got)
}

#[test]
fn what_is_given_goes_into_the_body() {
    let answer = format!(r#"{{"execution_id":"{ID}","job_id":"{ID}"}}"#);
    let line = [
        "runbooks",
        "execute",
        "act.md",
        "--reason=why",
        "--label=a=b=c",
        "--annotation=n=1",
        "--input=i=",
        "--env=E=x",
        "--from=one",
        "--to=two",
    ];
    let (request, got) = sent(&answer, &line);
    assert!(request.starts_with("POST /api/runbooks/act/execute "), "{request}");
    let body: serde_json::Value = serde_json::from_str(request.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    let expected = serde_json::json!({
        "labels": { "a": "b=c" }, "annotations": { "n": "1" }, "inputs": { "i": "" }, "env_vars": { "E": "x" },
        "steps": { "from": "one", "to": "two" }, "reason": "why", "dry_run": false,
    });
    assert_eq!(body, expected);
    assert_eq!((got.code, got.out), (0, format!("{ID}\n")));
    let twice = outcome(&["runbooks", "execute", "act", "--reason=r", "--input=a=1", "--input=a=2"]);
    assert_eq!(twice.code, 2, "{}", twice.err);
    assert_eq!(outcome(&["runbooks", "execute", "act"]).code, 2, "without a reason");
}

#[test]
fn a_dry_run_shows_the_plan() {
    let plan = r#"{"dry_run":true,"runbook":"act","version":3,"target":"db","inputs":{"host":"db"},"steps":[
        {"id":"one","kind":"wait","effect":"read_only","when":null,"plan":"waits 5s","left_out":false},
        {"id":"two","kind":"script","effect":"at_most_once","when":"true","plan":"/bin/sh","left_out":false},
        {"id":"three","kind":"script","effect":"at_most_once","when":null,"plan":null,"left_out":true}]}"#;
    let (_, got) = sent(plan, &["runbooks", "execute", "act", "--reason=r", "--dry-run"]);
    let table = "STEP   KIND    EFFECT        PLAN
one    wait    read_only     waits 5s
two    script  at_most_once  when true: /bin/sh
three  script  at_most_once  left out
";
    assert!(got.out.ends_with(table), "{}", got.out);
    assert!(got.out.contains("host=\"db\""), "{}", got.out);
}

#[test]
fn mappings_are_set_deleted_and_listed_in_their_order() {
    for (line, head, body) in [
        (
            &[
                "mappings",
                "set",
                "a b",
                "--matcher=x=\"1\"",
                "--matcher=y=~\"z\"",
                "--runbook=act",
                "--reason=r",
            ][..],
            "PUT /api/mappings/a%20b ",
            r#"{"matchers":["x=\"1\"","y=~\"z\""],"reason":"r","runbook":"act"}"#,
        ),
        (&["mappings", "delete", "a", "--reason=r"], "DELETE /api/mappings/a ", r#"{"reason":"r"}"#),
        (&["mappings", "list", "--limit=2", "--cursor=4"], "GET /api/mappings?limit=2&cursor=4 ", ""),
        (&["schedules", "list"], "GET /api/schedules ", ""),
    ] {
        let (request, got) = sent("{}", line);
        assert!(request.starts_with(head) && request.ends_with(body), "{line:?}: {request}");
        assert_eq!(got.code, 0, "{line:?}: {}", got.err);
    }
    let list = r#"{"mappings":[{"name":"n","matchers":["x=\"1\"","y=\"2\""],"runbook":"act","origin":"api","order":1,"problem":null},{"name":"m","matchers":["z=\"3\""],"runbook":"gone","origin":"api","order":2,"problem":"there is no runbook gone"}],"next_cursor":null}"#;
    let (_, got) = sent(list, &["mappings", "list"]);
    assert_eq!(
        got.out,
        "ORDER  ORIGIN  NAME  RUNBOOK  MATCHERS      PROBLEM
1      api     n     act      x=\"1\", y=\"2\"  -
2      api     m     gone     z=\"3\"         there is no runbook gone
"
    );
    for line in [
        &["mappings", "set", "a", "--runbook=act", "--reason=r"][..],
        &["mappings", "set", "a", "--matcher=x=\"1\"", "--runbook=act"],
        &["mappings", "delete", "a"],
    ] {
        assert_eq!(outcome(line).code, 2, "{line:?}");
    }
}

#[test]
fn schedules_are_listed_with_the_next_and_the_last_time() {
    let list = r#"{"schedules":[{"name":"night","cron":"0 2 * * *","zone":"Europe/Berlin","runbook":"act",
        "next_at":"2026-08-02T00:00:00Z","last_at":null,"last_execution_id":null,"last_reason":null,"problem":"there is no runbook act"}],"next_cursor":null}"#;
    let (_, got) = sent(list, &["schedules", "list"]);
    assert_eq!(
        got.out,
        "NAME   CRON       ZONE           RUNBOOK  NEXT (UTC)           LAST (UTC)  WHY  PROBLEM
night  0 2 * * *  Europe/Berlin  act      2026-08-02 00:00:00  -           -    there is no runbook act
"
    );
}
