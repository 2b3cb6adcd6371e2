//! What a person sees: aligned, short, harmless.

use super::stub::{Stub, answer, json};
use super::*;
use crate::cli::escape::{is_unseen, width};

fn shown(body: &str, line: &[&str]) -> String {
    let stub = Stub::new(vec![json(body)]);
    let got = asked(&stub.url, line);
    assert_eq!(got.code, 0, "{}", got.err);
    stub.requests();
    got.out
}

const EXECUTION: &str = include_str!("execution.json");

#[test]
fn an_execution_is_a_timeline_a_person_can_read() {
    let out = shown(EXECUTION, &["executions", "show", ID]);
    assert_eq!(out, include_str!("execution.txt"));
    assert!(out.lines().all(|line| width(line) <= 100), "{out}");
}

#[test]
fn a_live_execution_shows_how_long_and_what_is_missing_is_not_invented() {
    let live = format!(
        r#"{{"id":"{ID}","runbook":"r","version":1,"status":"running","created_at":"2026-08-01T10:00:00Z","started_at":"2026-08-01T10:00:01Z","deadline":"2026-08-01T10:15:00Z","steps":[{{"id":"a","kind":"wait","effect":"read_only","status":"running","attempts":[]}}],"verify":null,"new":{{}}}}"#
    );
    assert_eq!(
        shown(&live, &["executions", "show", ID]),
        format!(
            "Execution   {ID}\nStatus      running\nRunbook     r version 1\nCreated     2026-08-01 10:00:00 UTC\nStarted     2026-08-01 10:00:01 UTC, after 1.0s in the queue\nRunning     for 9m 59s, must end by 2026-08-01 10:15:00 UTC\n\nSteps (times in UTC)\n\n  1. a  running  [wait, read_only]\n"
        )
    );
    // Whatever comes, nothing breaks.
    for odd in ["{}", "[]", "null", r#"{"steps":7,"verify":[],"trigger":"x","inputs":[1],"started_at":5}"#] {
        shown(odd, &["executions", "show", ID]);
        shown(odd, &["decisions", "show", DECISION]);
        shown(odd, &["runbooks", "show", "r"]);
        shown(odd, &["status"]);
        shown(odd, &["config"]);
    }
}

#[test]
fn what_waits_for_people_says_how_to_answer_and_what_they_said() {
    let out = shown(include_str!("people.json"), &["executions", "show", ID]);
    assert_eq!(out, include_str!("people.txt"));
}

#[test]
fn columns_are_aligned_and_only_what_may_be_cut_is_cut() {
    let long = "x".repeat(300);
    let list = format!(
        r#"{{"executions":[
            {{"id":"{ID}","status":"succeeded","created_at":"2026-08-01T10:00:00Z","started_at":"2026-08-01T10:00:00Z","finished_at":"2026-08-01T10:02:03Z","target":"数据库-01"}},
            {{"id":"a_01J9ZQ5K3M8N7P6R5S4T3V2W1X","status":"running","created_at":"soon","target":"{long}"}}],
          "next_cursor":"abc"}}"#
    );
    let stub = Stub::new(vec![json(&list)]);
    let got = asked(&stub.url, &["executions", "list"]);
    stub.requests();
    assert_eq!(
        got.out,
        "ID                                              STATUS     CREATED (UTC)        TOOK   TARGET
service_unavailable_01J9ZQ5K3M8N7P6R5S4T3V2W1X  succeeded  2026-08-01 10:00:00  2m 3s  数据库-01
a_01J9ZQ5K3M8N7P6R5S4T3V2W1X                    running    soon                 -      xxxxxxxxxx...
"
    );
    assert_eq!(got.err, "there are more: go on with --cursor abc\n");
    assert!(got.out.lines().all(|line| width(line) <= 100));
    // Two columns share what is missing, and a cell of any length ends at once.
    let huge = "y".repeat(2_000_000);
    let list = format!(
        r#"{{"decisions":[{{"id":"{DECISION}","at":"2026-08-01T10:00:00Z","verdict":"skip","reason":"cooldown","alertname":"{huge}","runbook":"{long}","seen":12}}]}}"#
    );
    assert_eq!(
        shown(&list, &["decisions", "list"]),
        format!(
            "ID                          AT (UTC)             VERDICT  REASON    ALERT         RUNBOOK       SEEN
{DECISION}  2026-08-01 10:00:00  skip     cooldown  yyyyyyyyy...  xxxxxxxxx...  12
"
        )
    );
}

#[test]
fn what_a_stranger_wrote_is_never_obeyed_by_a_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{9b}1m\u{202e}\u{200b}";
    let evil = serde_json::to_string(evil).unwrap();
    let body = EXECUTION
        .replace("\"nginx failed\"", &evil)
        .replace("\"web-1:9100\"", &evil)
        .replace("\"ServiceDown\"", &evil)
        .replace("\"failed\"", &evil);
    assert!(body.matches(&evil).count() > 5);
    let decision = format!(
        r#"{{"id":{evil},"at":{evil},"verdict":{evil},"reason":{evil},"message":{evil},"labels":{{{evil}:{evil}}},"gates":[{{"gate":{evil},"verdict":{evil},"message":{evil},"detail":{{{evil}:[{evil}]}}}}]}}"#
    );
    let status = format!(
        r#"{{"status":{evil},"version":{evil},"open_breakers":[{evil}],"store":{{{evil}:{evil}}},"runbook_alert_mappings":{{{evil}:{evil}}}}}"#
    );
    let config = format!(r#"{{{evil}:{{"value":[{evil}],"source":{evil}}}}}"#);
    let runbook =
        format!(r#"{{"id":{evil},"description":{evil},"alerts":[{evil}],"steps":[{{"id":{evil}}}]}}"#);
    for (body, line) in [
        (&body, &["executions", "show", ID][..]),
        (&decision, &["decisions", "show", DECISION]),
        (&status, &["status"]),
        (&config, &["config"]),
        (&runbook, &["runbooks", "show", "r"]),
    ] {
        for output in ["table", "json"] {
            let out = shown(body, &[line, &["--output", output]].concat());
            let obeyed = out.chars().find(|c| *c != '\n' && is_unseen(*c));
            assert_eq!(obeyed, None, "{line:?} {output}: {out:?}");
            assert!(out.contains("owned"), "{line:?} {output}: {out}");
        }
    }
    let refused = answer("409 Conflict", "", &format!(r#"{{"error":{evil},"code":{evil}}}"#));
    let stub = Stub::new(vec![refused]);
    let got = asked(&stub.url, &["status"]);
    assert!(!got.err.chars().any(|c| c != '\n' && is_unseen(c)), "{:?}", got.err);
    stub.requests();
}

#[test]
fn json_is_the_servers_answer_in_its_own_order() {
    let body = r#"{"z":1,"a":[{"b":2.50}],"e":{}}"#;
    let expected = "{\n  \"z\": 1,\n  \"a\": [\n    {\n      \"b\": 2.50\n    }\n  ],\n  \"e\": {}\n}\n";
    for line in
        [&["status"][..], &["config"], &["runbooks", "list"], &["executions", "list"], &["decisions", "list"]]
    {
        assert_eq!(shown(body, &[line, &["--output=json"]].concat()), expected);
    }
}

#[test]
fn only_a_status_is_coloured_and_only_where_it_is_wanted() {
    let list = format!(r#"{{"executions":[{{"id":"{ID}","status":"failed","target":"failed"}}]}}"#);
    let check = |variables: &[(&str, &str)], terminal: bool, colored: bool| {
        let stub = Stub::new(vec![json(&list), json(EXECUTION)]);
        let env = environment(&[&[("RUNBOOKD_URL", stub.url.as_str())], variables].concat(), terminal);
        let got = outcome_in(&env, &["executions", "list"]);
        let (plain, painted) = ("  failed  ", "  \u{1b}[31mfailed\u{1b}[0m  ");
        assert!(got.out.contains(if colored { painted } else { plain }), "{variables:?} {}", got.out);
        assert_eq!(got.out.matches('\u{1b}').count(), if colored { 2 } else { 0 }, "{variables:?}");
        let show = outcome_in(&env, &["executions", "show", ID]).out;
        assert_eq!(show.contains('\u{1b}'), colored, "{variables:?}");
        assert_eq!(
            show.replace("\u{1b}[31m", "")
                .replace("\u{1b}[32m", "")
                .replace("\u{1b}[33m", "")
                .replace("\u{1b}[0m", ""),
            include_str!("execution.txt")
        );
        stub.requests();
    };
    check(&[], true, true);
    check(&[], false, false);
    check(&[("NO_COLOR", "1")], true, false);
    check(&[("NO_COLOR", "")], true, true);
    check(&[("TERM", "dumb")], true, false);
}

#[test]
fn the_output_of_an_attempt_is_raw_for_a_pipe_and_harmless_on_a_terminal() {
    let written = "ok\t\u{1b}[2Jü\r\nend";
    let execution = json(
        r#"{"steps":[{"id":"a","attempts":[{"attempt":1},{"attempt":2}]},{"id":"b","status":"pending"}]}"#,
    );
    for (terminal, expected) in [(false, written), (true, "ok\t\\u{1b}[2Jü\nend")] {
        let stub =
            Stub::new(vec![execution.clone(), answer("200 OK", "content-type: text/plain\r\n", written)]);
        let env = environment(&[("RUNBOOKD_URL", &stub.url)], terminal);
        let got = outcome_in(&env, &["executions", "output", ID, "a", "--stderr"]);
        assert_eq!(got, Outcome { code: 0, out: expected.into(), err: String::new() });
        let requests = stub.requests();
        assert!(
            requests[1].starts_with(&format!("GET /api/executions/{ID}/output/a/2/stderr ")),
            "{}",
            requests[1]
        );
    }
    for (step, message) in [
        ("b", "runbookd: the step b has not run\n"),
        ("c", "runbookd: the execution has no step c; it has: a, b\n"),
    ] {
        let stub = Stub::new(vec![execution.clone()]);
        let got = asked(&stub.url, &["executions", "output", ID, step]);
        assert_eq!(got, Outcome { code: 1, out: String::new(), err: message.into() });
        stub.requests();
    }
}

#[test]
fn status_decision_runbook_and_config_are_one_page_each() {
    let status = r#"{"status":"halted","reason":"by ada","available_runbooks":3,"active_executions":2,"queued_executions":1,
        "awaiting_approval":0,"runbook_alert_mappings":{"ServiceDown":"service_unavailable","DiskFull":"disk"},
        "last_webhook_at":"2026-08-01T10:09:30Z","version":"0.1.0","instance":"i1","open_breakers":[{"key":"a:b"}],
        "broken_runbooks":["bad"],"quarantined":[],"store":{"kind":"sled"}}"#;
    assert_eq!(
        shown(status, &["status"]),
        "Status           halted (by ada)
Version          0.1.0, instance i1
Runbooks         3 available
Executions       2 active, 1 queued, 0 awaiting approval
Last webhook     2026-08-01 10:09:30 UTC, 30.0s ago
Open breakers    a:b
Broken runbooks  bad
Store            kind=\"sled\"

ALERT        RUNBOOK
DiskFull     disk
ServiceDown  service_unavailable
"
    );
    let decision = format!(
        r#"{{"id":"{DECISION}","at":"2026-08-01T10:00:00Z","verdict":"skip","reason":"no_runbook","message":"nothing selects it","alertname":"A","fingerprint":"00ff","labels":{{"alertname":"A","job":"b"}},"seen":3,"last_seen":"2026-08-01T10:05:00Z","gates":[{{"gate":"resolved","verdict":"pass","message":"it fires"}},{{"gate":"no_runbook","verdict":"deny","message":"nothing","detail":{{"tried":2}}}}]}}"#
    );
    assert_eq!(
        shown(&decision, &["decisions", "show", DECISION]),
        format!(
            "Decision    {DECISION}
Verdict     skip (no_runbook: nothing selects it)
Alert       A, fingerprint 00ff
At          2026-08-01 10:00:00 UTC, seen 3 times, last 2026-08-01 10:05:00 UTC
Labels      alertname=\"A\" job=\"b\"

GATE        ANSWER  WHY
resolved    pass    it fires
no_runbook  deny    nothing

Numbers
  no_runbook: tried=2
"
        )
    );
    let runbooks = r#"{"runbooks":[{"id":"disk","mode":"auto","version":12,"title":"Disk full"}]}"#;
    assert_eq!(
        shown(runbooks, &["runbooks", "list"]),
        "ID    MODE  VERSION  TITLE\ndisk  auto  12       Disk full\n"
    );
    for config in [
        r#"{"config":[{"name":"server.listen","value":"127.0.0.1:9796","from":"default"}]}"#,
        r#"{"server":{"listen":{"value":"127.0.0.1:9796","source":"default"}}}"#,
    ] {
        assert_eq!(
            shown(config, &["config"]),
            "SETTING        VALUE           SOURCE\nserver.listen  127.0.0.1:9796  default\n"
        );
    }
}
