//! Breakers, quarantine and audit on the command line.

use super::stub::{Stub, json};
use super::*;

/// What is sent for `line`, and what is shown of `body`.
fn sent(body: &str, line: &[&str]) -> (String, Outcome) {
    let stub = Stub::new(vec![json(body)]);
    let got = asked(&stub.url, line);
    (stub.requests().remove(0), got)
}

const OPEN: &str = r#"{"key":"runbook:disk:db/1","state":"open","failures":5,"opened_at":"2026-08-01T10:00:00Z","retry_at":"2026-08-01T10:00:30Z","profile":"default","forced":false}"#;

#[test]
fn a_key_goes_into_the_path_as_one_part_and_the_reason_into_the_body() {
    for (line, head, body) in [
        (
            &["breakers", "reset", "runbook:disk:db/1 x", "--reason", "mended"][..],
            "POST /api/breakers/runbook:disk:db%2F1%20x/reset ",
            r#"{"reason":"mended"}"#,
        ),
        (
            &["breakers", "open", "db", "--reason", "hands off"],
            "POST /api/breakers/db/open ",
            r#"{"reason":"hands off"}"#,
        ),
        (
            &["quarantine", "clear", "db/1?%2F", "--reason", "mended"],
            "DELETE /api/quarantine/db%2F1%3F%252F ",
            r#"{"reason":"mended"}"#,
        ),
        (&["breakers", "list", "--state", "open", "--limit=2"], "GET /api/breakers?state=open&limit=2 ", ""),
        (&["quarantine", "list", "--cursor", "a"], "GET /api/quarantine?cursor=a ", ""),
        (
            &["audit", "list", "--user=ada", "--action=breaker.open", "--target=db", "--since=1h"],
            "GET /api/audit?user=ada&action=breaker.open&target=db&since=2026-08-01T09%3A10%3A00Z ",
            "",
        ),
        (&["audit", "verify"], "GET /api/audit/verify ", ""),
    ] {
        let (request, _) = sent(r#"{"ok":true}"#, line);
        assert!(request.starts_with(head) && request.ends_with(body), "{line:?}: {request}");
    }
}

#[test]
fn a_reason_is_never_left_out() {
    for line in [
        &["breakers", "reset", "db"][..],
        &["breakers", "open", "db", "--reason", " "],
        &["quarantine", "clear", "db"],
    ] {
        let got = outcome(line);
        assert_eq!(got.code, 2, "{line:?}");
        assert!(got.err.contains("reason"), "{}", got.err);
    }
}

#[test]
fn lists_are_tables_that_cut_no_key() {
    let forced = r#"{"key":"db","state":"open","failures":0,"opened_at":"2026-08-01T10:00:00Z","retry_at":null,"profile":"own","forced":true}"#;
    let (_, got) = sent(&format!(r#"{{"breakers":[{OPEN},{forced}]}}"#), &["breakers", "list"]);
    assert_eq!(
        got.out,
        "STATE  FAILURES  OPENED (UTC)         TRIES AT (UTC)       PROFILE  KEY
open   5         2026-08-01 10:00:00  2026-08-01 10:00:30  default  runbook:disk:db/1
open   0         2026-08-01 10:00:00  when it is reset     own      db
"
    );
    let (_, got) = sent(OPEN, &["breakers", "open", "x", "--reason", "r"]);
    assert_eq!(got.out, "runbook:disk:db/1 open\n");
    let body = format!(
        r#"{{"quarantine":[{{"target":"db-1","runbook":"disk","execution_id":"{ID}","at":"2026-08-01T10:00:00Z","reason":"undo failed"}}]}}"#
    );
    let (_, got) = sent(&body, &["quarantine", "list"]);
    let expected = format!(
        "SINCE (UTC)          TARGET  {:wide$}  REASON\n2026-08-01 10:00:00  db-1    {ID}  undo failed\n",
        "EXECUTION",
        wide = ID.len()
    );
    assert_eq!(got.out, expected);
    let (_, got) = sent(r#"{"target":"db-1"}"#, &["quarantine", "clear", "db-1", "--reason", "r"]);
    assert_eq!(got.out, "db-1 cleared\n");
    let audit = r#"{"audit":[{"seq":7,"at":"2026-08-01T10:00:00Z","user":"ada","action":"breaker.reset","target":"db","reason":"mended"}]}"#;
    let (_, got) = sent(audit, &["audit", "list"]);
    assert_eq!(
        got.out,
        "SEQ  AT (UTC)             USER  ACTION         TARGET  REASON
7    2026-08-01 10:00:00  ada   breaker.reset  db      mended
"
    );
    for (line, none) in [
        (&["breakers", "list"][..], "no breaker has a failure on record\n"),
        (&["quarantine", "list"], "no target is quarantined\n"),
        (&["audit", "list"], "no records match\n"),
    ] {
        let (_, got) = sent("{}", line);
        assert_eq!((got.code, got.out.as_str(), got.err.as_str()), (0, "", none));
    }
}

#[test]
fn a_broken_log_is_a_no_from_a_server_and_from_a_storage() {
    let whole = r#"{"ok":true,"records":3,"head":"00ff","problem":null}"#;
    let broken = r#"{"ok":false,"records":1,"head":"00","problem":"record 2 is not what was written"}"#;
    let good = "whole: 3 records, the last one's hash is 00ff\n";
    let bad = "broken: record 2 is not what was written; 1 records before it are good\n";
    for (body, storage, code, text) in [(whole, "whole", 0, good), (broken, "broken", 1, bad)] {
        let (_, got) = sent(body, &["audit", "verify"]);
        assert_eq!((got.code, got.out.as_str()), (code, text));
        let got = outcome(&["audit", "verify", "--storage.path", storage]);
        assert_eq!((got.code, got.out.as_str()), (code, text));
        let (_, got) = sent(body, &["audit", "verify", "--output=json"]);
        assert_eq!(got.code, code);
        let value: serde_json::Value = serde_json::from_str(&got.out).unwrap();
        assert_eq!(value["ok"], code == 0);
        let got = outcome(&["audit", "verify", "--output=json", "--storage.path", storage]);
        assert_eq!((got.code, serde_json::from_str::<serde_json::Value>(&got.out).unwrap()), (code, value));
    }
    let got = outcome(&["audit", "verify", "--storage.path=nowhere"]);
    assert_eq!((got.code, got.out.as_str()), (1, ""));
    assert!(got.err.contains("holds no store"), "{}", got.err);
}
