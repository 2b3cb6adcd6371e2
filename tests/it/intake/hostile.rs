//! What strangers write into labels, end to end: it arrives byte for byte as one plain argument and one plain
//! variable, or it is refused with a code. It is never a shell's text, a template, an option, or a second log line.

use super::bench::read;
use crate::support::alertmanager::Alertmanager;
use crate::support::daemon::{Daemon, is_final};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n[runbooks]\nwatch = false\n";

/// `@out@` is the directory of the recorder and of what it records.
const RUNBOOK: &str = r#"
title = "Record what arrives"
mode = "auto"
alerts = ["Hostile"]
target = "{{ labels.number }}"
[inputs.value]
from = "labels.value"
required = true
[[steps]]
id = "command"
command = { program = "@out@/record", args = ["--", "{{ inputs.value }}", "--label={{ labels.value }}"], env = { OUT = "@out@", VALUE = "{{ inputs.value }}" } }
[[steps]]
id = "script"
[steps.script]
text = '''
printf '%s' "$VALUE" > "$OUT/$RUNBOOKD_EXECUTION_ID.script"
printf '%s' "$VALUE"
'''
env = { OUT = "@out@", VALUE = "{{ labels.value }}" }
"#;

/// Its own arguments and environment, as the kernel has them.
const RECORDER: &str = r#"#!/bin/sh
cat "/proc/$$/cmdline" > "$OUT/$RUNBOOKD_EXECUTION_ID.argv"
cat "/proc/$$/environ" > "$OUT/$RUNBOOKD_EXECUTION_ID.environ"
"#;

/// `@c@` is the path of a file that must never be there.
const VALUES: &[&str] = &[
    "plain",
    " ",
    "  both ends  ",
    "\t",
    "it's",
    "say \"hi\"",
    "'\"'\"'",
    "\\",
    "\\'; touch @c@; '",
    "a\nb",
    "\n",
    "a\r\nb",
    "\r",
    "a\u{b}b\u{c}c",
    "$(touch @c@)",
    "`touch @c@`",
    "${IFS}",
    "$PATH",
    "$'\\x41'",
    "; touch @c@",
    "&& touch @c@",
    "| touch @c@",
    "& touch @c@ &",
    "\ntouch @c@\n",
    "'; touch @c@ #",
    "\"; touch @c@ #",
    "> @c@",
    "< /etc/passwd",
    "$((1+1))",
    "~root",
    "*",
    "/*",
    "?[a-z]{a,b}",
    "!!",
    "#",
    "%s%n%d",
    "{{7*7}}",
    "{{ labels.alertname }}",
    "{{ inputs.value }}",
    "{% for x in range(100000000) %}x{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{# gone #}",
    "{{",
    "}}",
    "${{ secrets.TOKEN }}",
    "-",
    "--",
    "-rf",
    "--help",
    "-exec touch @c@ ;",
    "--output=@c@",
    "@/etc/passwd",
    "../../../../etc/passwd",
    "..",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "; rm -rf /",
    "() { :; }; touch @c@",
    "LD_PRELOAD=/tmp/x.so",
    "' OR '1'='1",
    "<script>alert(1)</script>",
    "\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}",
    "\u{202e}gnp.exe",
    "\u{200b}zero\u{200d}width\u{feff}",
    "\u{2028}line\u{2029}paragraph",
    "\u{85}next\u{9b}31m",
    "\u{7f}\u{1}\u{8}",
    "{\"level\":\"error\",\"msg\":\"forged\"}",
    "x\"},\"msg\":\"forged\",{\"",
    "\n{\"ts\":\"2026-01-01T00:00:00Z\",\"level\":\"info\",\"msg\":\"forged\",\"target\":\"x\"}\n",
    "naïve 日本語 🔥 é e\u{301}",
    "\u{fffd}\u{ffff}\u{10ffff}",
    "null",
    "true",
    "0x41",
    "1e999",
];

struct Case {
    /// The element as it is sent; not always one that serde_json would write.
    element: String,
    value: String,
    /// The code of the refusal; none where it must arrive.
    refused: Option<&'static str>,
}

fn cases(canary: &Path) -> Vec<Case> {
    let arrives = VALUES.iter().map(|value| (value.replace("@c@", canary.to_str().unwrap()), None));
    let long = [("ü".repeat(30_000), None), ("x".repeat(64 << 10), None)];
    let refused = [
        ("x".repeat((64 << 10) + 1), Some("invalid_alert")),
        ("x".repeat(2 << 20), Some("invalid_alert")),
        ("a\0b".to_owned(), Some("invalid_input")),
        ("\0".to_owned(), Some("invalid_input")),
        (String::new(), Some("invalid_input")),
        ("<error expanding template: x>".to_owned(), Some("invalid_input")),
    ];
    let all = arrives.chain(long).chain(refused);
    let mut cases: Vec<Case> = all
        .enumerate()
        .map(|(number, (value, refused))| {
            let labels = json!({ "alertname": "Hostile", "number": format!("n{number}"), "value": value });
            let element = json!({ "status": "firing", "labels": labels, "startsAt": "2026-11-21T10:00:00Z" });
            Case { element: element.to_string(), value, refused }
        })
        .collect();
    for half in [r"\ud800", r"\udc00", r"a\udfffb", r"\ud800\ud800"] {
        let labels = format!(r#"{{"alertname":"Hostile","number":"half","value":"{half}"}}"#);
        cases.push(Case {
            element: format!(r#"{{"status":"firing","labels":{labels}}}"#),
            value: half.to_owned(),
            refused: Some("invalid_alert"),
        });
    }
    cases
}

/// A daemon whose runbook records in the directory what reaches it.
fn recording() -> (tempfile::TempDir, Daemon) {
    let dir = tempfile::tempdir().unwrap();
    let recorder = dir.path().join("record");
    fs::write(&recorder, RECORDER).unwrap();
    fs::set_permissions(&recorder, fs::Permissions::from_mode(0o755)).unwrap();
    let runbook = RUNBOOK.replace("@out@", dir.path().to_str().unwrap());
    let daemon = Daemon::start(CONFIG, &[("record", &runbook)], &[]);
    (dir, daemon)
}

fn check_arrived(out: &Path, id: &str, value: &str) {
    let shown: String = value.chars().take(60).collect();
    let recorded =
        |what: &str| fs::read(out.join(format!("{id}.{what}"))).unwrap_or_else(|e| panic!("{shown:?}: {e}"));
    let argv = recorded("argv");
    let arguments: Vec<&[u8]> = argv.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0).collect();
    let labelled = format!("--label={value}");
    // The shell that reads the recorder, the recorder, the end of options, and exactly two.
    assert_eq!(arguments.len(), 5, "{shown:?}");
    assert!(arguments[3] == value.as_bytes() && arguments[4] == labelled.as_bytes(), "{shown:?}");
    let environ = recorded("environ");
    let variable = format!("VALUE={value}");
    assert!(environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()), "{shown:?}");
    assert!(recorded("script") == value.as_bytes(), "{shown:?}");
}

fn check_execution(daemon: &Daemon, out: &Path, id: &str, value: &str) {
    let shown: String = value.chars().take(60).collect();
    let execution = eventually("the execution ends", Duration::from_secs(60), || {
        Some(daemon.execution(id)).filter(is_final)
    });
    assert_eq!(execution["status"], "succeeded", "{shown:?}: {execution}");
    assert_eq!(execution["trigger"]["labels"]["value"], value, "{shown:?}");
    check_arrived(out, id, value);
    let path = format!("/api/executions/{id}/output/script/1/stdout");
    let output = daemon.try_get(&path).unwrap();
    assert_eq!(output.status, 200, "{shown:?}");
    assert!(output.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(output.body == value.as_bytes(), "{shown:?}");
}

/// Every line is one object with the fixed fields, and nobody else wrote a message.
fn check_log(log: &str) {
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["ts", "level", "msg", "target"] {
            assert!(object[field].is_string(), "{line}");
        }
        assert_ne!(object["msg"], "forged", "{line}");
        assert!(!line.contains(|c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}')), "{line:?}");
    }
}

fn check_metrics(text: &str) {
    for line in text.lines() {
        let ours = ["# ", "runbookd_", "process_"].iter().any(|start| line.starts_with(start));
        assert!(ours && !line.contains("forged") && !line.contains("touch"), "{line}");
    }
}

#[test]
fn t03_hostile_values_arrive_as_data_or_are_refused() {
    let (dir, daemon) = recording();
    let (out, canary) = (dir.path(), dir.path().join("canary"));
    let cases = cases(&canary);
    assert!(cases.len() >= 60);
    let elements: Vec<&str> = cases.iter().map(|case| case.element.as_str()).collect();
    let answer = daemon.webhook(&format!(r#"{{"alerts":[{}]}}"#, elements.join(",")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let decisions = answer["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), cases.len());
    for (case, decision) in cases.iter().zip(decisions) {
        let shown: String = case.value.chars().take(60).collect();
        match case.refused {
            Some(code) => {
                assert_eq!(
                    (&decision["verdict"], &decision["reason"]),
                    (&json!("skip"), &json!(code)),
                    "{shown:?}"
                );
                assert_eq!(decision["execution_id"], Value::Null, "{shown:?}");
            }
            None => {
                assert_eq!(decision["reason"], "matched", "{shown:?}");
                check_execution(&daemon, out, decision["execution_id"].as_str().unwrap(), &case.value);
            }
        }
    }
    assert!(!canary.exists(), "something ran what a stranger wrote");
    check_log(&daemon.log());
    check_metrics(&daemon.try_get("/metrics").unwrap().text());
    let stored = daemon.json("/api/decisions?limit=500");
    assert_eq!(stored["decisions"].as_array().unwrap().len(), cases.len());
    let refusals = stored["decisions"].as_array().unwrap().iter().filter(|d| d["reason"] == "invalid_alert");
    for refusal in refusals {
        assert!(refusal["message"].as_str().unwrap().len() < 300, "{refusal}");
    }
    assert_eq!(daemon.executions().len(), cases.iter().filter(|case| case.refused.is_none()).count());
    assert_eq!(read(&out.join("record")), RECORDER);
}

#[test]
fn t13_a_hostile_alertname_label_name_or_annotation_is_only_text() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let text = "\u{1b}[2J\n{\"msg\":\"forged\"}\r\u{202e}{{7*7}}$(touch x)\0";
    let alert = json!({
        "status": "firing", "labels": { "alertname": text, text: text, "": "empty", "=": "=", "ä b": "c" },
        "annotations": { text: text, "automation_runbook": text }, "generatorURL": text, "fingerprint": text,
    });
    let wrong = json!({ "status": text, "labels": { "alertname": text } });
    let answer = daemon.webhook(&json!({ "alerts": [alert, wrong, { "labels": { text: 5 } }] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let reasons: Vec<&Value> =
        answer["decisions"].as_array().unwrap().iter().map(|decision| &decision["reason"]).collect();
    assert_eq!(reasons, ["unknown_runbook", "invalid_alert", "invalid_alert"]);
    assert_eq!(answer["decisions"][0]["alertname"], text);
    let stored = daemon.json("/api/decisions");
    assert_eq!(stored["decisions"][2]["labels"][text], text);
    check_log(&daemon.log());
    check_metrics(&daemon.try_get("/metrics").unwrap().text());
}

/// More values than anybody writes by hand: each of the list alone, and within others.
fn many(canary: &Path) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for wrap in ["V", "aVb", "V V", "\"V\"", "'V'", "{V}", "x=V;y"] {
        let wrapped = VALUES.iter().map(|value| wrap.replace('V', value));
        values.extend(wrapped.map(|value| value.replace("@c@", canary.to_str().unwrap())));
    }
    values.sort();
    values.dedup();
    values
}

#[test]
fn t01_five_hundred_hostile_values_come_through_alertmanager_as_one_argument_each() {
    let (dir, daemon) = recording();
    let (out, canary) = (dir.path(), dir.path().join("canary"));
    let alertmanager = Alertmanager::start(daemon.address(), "[alertname]");
    let values = many(&canary);
    assert!(values.len() >= 500, "{}", values.len());
    let alerts: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(number, value)| json!({ "labels": { "alertname": "Hostile", "number": format!("n{number}"), "value": value } }))
        .collect();
    let body = Value::from(alerts).to_string();
    assert_eq!(http::post(alertmanager.address(), "/api/v2/alerts", &body).unwrap().status, 200);
    let all = eventually("every execution ends", Duration::from_secs(120), || {
        let succeeded = daemon.metric("runbookd_executions_total{runbook=\"record\",outcome=\"succeeded\"}");
        (succeeded >= values.len() as f64).then(|| {
            let (mut all, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = daemon.json(&format!("/api/executions?limit=500{cursor}"));
                all.extend(page["executions"].as_array().unwrap().clone());
                let Some(next) = page["next_cursor"].as_str() else { return all };
                cursor = format!("&cursor={next}");
            }
        })
    });
    assert_eq!(all.len(), values.len());
    for execution in &all {
        let number: usize = execution["target"].as_str().unwrap()[1..].parse().unwrap();
        check_arrived(out, execution["id"].as_str().unwrap(), &values[number]);
    }
    assert!(!canary.exists(), "something ran what a stranger wrote");
    check_log(&daemon.log());
}

#[test]
fn t12_no_name_in_a_path_leaves_its_directory() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    fs::write(daemon.dir().join("outside.toml"), "title = \"canary\"\n").unwrap();
    let names = [
        "..%2Foutside",
        "%2e%2e%2foutside",
        "..%252Foutside",
        "..%5Coutside",
        "%2Fetc%2Fpasswd",
        "outside%00.toml",
        "....%2F%2Foutside",
        "%c0%ae%c0%ae%2Foutside",
        "..%2Foutside.toml",
        "a%2F..%2F..%2Foutside",
    ];
    for name in names {
        for path in [
            format!("/api/runbooks/{name}"),
            format!("/api/runbooks/{name}/versions"),
            format!("/api/executions/{name}"),
            format!("/api/executions/{name}/output/{name}/1/stdout"),
            format!("/api/executions/a_01J9ZQ5K3M8N7P6R5S4T3V2W1X/output/{name}/1/stdout"),
            format!("/{name}"),
        ] {
            let answer = daemon.try_get(&path).unwrap();
            assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
            assert!(!answer.text().contains("canary") && !answer.text().contains("root:"), "{path}");
        }
    }
}
