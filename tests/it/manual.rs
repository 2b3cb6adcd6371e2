//! Runbooks by hand on the real program: started, waited for, planned, refused; the same on the command line.
//!
//! May import: `support`. Must never: deliver an alert.

use crate::support::alerts::{LIMIT, config, finished, steps, wait_for_status};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// In shadow mode: automation does not run it, people do.
const ACT: &str = r#"
target = "{{ inputs.host }}"
[inputs.host]
from = "labels.host"
required = true
pattern = '[a-z]+'
[inputs.word]
from = "env.WORD"
default = "nothing"
[[steps]]
id = "one"
script = { text = 'echo "one $HOST $WORD"', env = { HOST = "{{ inputs.host }}", WORD = "{{ inputs.word }}" } }
[[steps]]
id = "two"
script = { text = 'echo two; echo aloud >&2' }
[[steps]]
id = "three"
script = { text = 'head -c 5000 /dev/zero | tr "\\0" x; exit ${CODE:-0}', env = { CODE = "{{ labels.code | default('0') }}" } }
on_failure = "stop"
"#;
const SLOW: &str = r#"
timeout = "30s"
target = "all"
[[steps]]
id = "wait"
script = { text = 'echo begun >> "$DIR/ledger"; while [ ! -e "$DIR/gate" ]; do sleep 0.02; done', env = { DIR = "@dir@" } }
"#;
const OFF: &str = "mode = \"disabled\"\n[[steps]]\nid = \"a\"\nwait = { for = \"1ms\" }\n";

fn start(more: &str) -> Daemon {
    Daemon::start(&config(more), &[("act", ACT), ("slow", SLOW), ("off", OFF)], &[])
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> (u16, Value) {
    let answer = http::post(daemon.address(), path, &body.to_string()).unwrap();
    (answer.status, answer.json())
}

fn paths(answer: &Value) -> Vec<&str> {
    answer["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect()
}

#[test]
fn a_person_starts_a_runbook_with_what_they_give_and_the_record_says_who_and_why() {
    let daemon = start("");
    let given = json!({
        "labels": { "host": "db", "alertname": "Down" }, "env_vars": { "WORD": "hello" }, "reason": "ticket 7",
    });
    let (status, answer) = post(&daemon, "/api/runbooks/act.md/execute", &given);
    assert_eq!((status, &answer["job_id"]), (202, &answer["execution_id"]), "{answer:#}");
    let id = answer["execution_id"].as_str().unwrap();
    let execution = finished(&daemon, id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    let trigger = &execution["trigger"];
    assert_eq!((&trigger["kind"], &trigger["by"]), (&"manual".into(), &"anonymous".into()));
    assert_eq!((&trigger["reason"], &trigger["alertname"]), (&"ticket 7".into(), &"Down".into()));
    assert_eq!(execution["inputs"], json!({ "host": "db", "word": "hello" }));
    let audit = daemon.json("/api/audit?action=runbook.execute");
    let record = &audit["audit"][0];
    assert_eq!((&record["target"], &record["reason"]), (&id.into(), &"ticket 7".into()), "{audit:#}");
    assert_eq!(daemon.json("/api/decisions")["decisions"], json!([]), "it is no decision of automation");
    // A caller's input wins; only these steps.
    let given = json!({ "inputs": { "host": "web" }, "steps": { "from": "two", "to": "two" } });
    let (_, answer) = post(&daemon, "/api/runbooks/act", &given);
    let execution = finished(&daemon, answer["execution_id"].as_str().unwrap());
    assert_eq!(
        (&execution["target"], steps(&execution).join(" ").as_str()),
        (&"web".into(), "skipped succeeded skipped")
    );
}

#[test]
fn who_waits_is_told_how_it_ended_and_what_it_wrote() {
    let daemon = start("");
    let wait = |labels: Value| {
        let (status, answer) =
            post(&daemon, "/api/runbooks/act/execute?wait=true", &json!({ "labels": labels }));
        assert_eq!(status, 200, "{answer:#}");
        answer
    };
    let good = wait(json!({ "host": "db" }));
    assert_eq!(
        (&good["success"], &good["return_code"], &good["runbook"]),
        (&true.into(), &0.into(), &"act".into())
    );
    assert_eq!(good["stdout"], format!("one db nothing\ntwo\n{}", "x".repeat(5000)));
    assert_eq!(
        (&good["stderr"], &good["errors"], &good["warnings"]),
        (&"aloud\n".into(), &json!([]), &json!([]))
    );
    let bad = wait(json!({ "host": "db", "code": "7" }));
    assert_eq!((&bad["success"], &bad["return_code"]), (&false.into(), &7.into()), "{bad:#}");
    let errors = bad["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error.as_str().unwrap().starts_with("three: ")), "{bad:#}");
    assert_eq!(daemon.execution(bad["execution_id"].as_str().unwrap())["status"], "failed");
}

#[test]
fn a_client_that_goes_away_does_not_stop_what_it_asked_for() {
    use std::io::Write as _;
    let daemon = start("");
    let mut stream = std::net::TcpStream::connect(daemon.address()).unwrap();
    let head = format!(
        "POST /api/runbooks/slow/execute?wait=true HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n{{}}",
        daemon.address()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let ledger = daemon.dir().join("ledger");
    eventually("the step", LIMIT, || ledger.exists().then_some(()));
    drop(stream);
    let id = daemon.executions()[0]["id"].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.execution(&id)["status"], "running");
    fs::write(daemon.dir().join("gate"), "").unwrap();
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
}

#[test]
fn a_daemon_that_goes_lets_nobody_wait_for_it() {
    let mut daemon = start("[server]\ndrain_timeout = \"1s\"");
    let address = daemon.address().to_owned();
    let waiting = std::thread::spawn(move || {
        http::post(&address, "/api/runbooks/slow/execute?wait=true", "{}").unwrap()
    });
    let ledger = daemon.dir().join("ledger");
    eventually("the step", LIMIT, || ledger.exists().then_some(()));
    let began = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let answer = waiting.join().unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(answer.json()["execution_id"].is_string());
}

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let daemon = start("");
    let given = json!({ "inputs": { "host": "db" }, "dry_run": true, "steps": { "from": "two" } });
    let (status, plan) = post(&daemon, "/api/runbooks/act/execute", &given);
    assert_eq!((status, &plan["target"]), (200, &"db".into()), "{plan:#}");
    assert_eq!((&plan["steps"][0]["left_out"], &plan["steps"][0]["plan"]), (&true.into(), &Value::Null));
    assert!(plan["steps"][1]["plan"].as_str().unwrap().contains("/bin/sh -eu"), "{plan:#}");
    assert_eq!(daemon.executions(), Vec::<Value>::new());
    assert_eq!(daemon.json("/api/audit")["audit"], json!([]));
}

#[test]
fn what_cannot_be_is_refused_with_its_place_and_leaves_nothing() {
    let daemon = start("");
    let execute = "/api/runbooks/act/execute";
    for (body, expected) in [
        (json!({}), vec!["inputs.host"]),
        (json!({ "inputs": { "host": "A*" } }), vec!["inputs.host"]),
        (json!({ "inputs": { "host": "db", "no": "1" } }), vec!["inputs.no"]),
        (json!({ "labels": { "host": "db" }, "steps": { "from": "nine" } }), vec!["steps.from"]),
        (json!({ "labels": { "host": "db" }, "steps": { "from": "two", "to": "one" } }), vec!["steps"]),
        (
            json!({ "env_vars": { "A B": "1", "LD_PRELOAD": "x" } }),
            vec!["env_vars.A B", "env_vars.LD_PRELOAD"],
        ),
        (json!({ "lables": {} }), vec![""]),
        (json!({ "labels": { "host": 1 } }), vec![""]),
    ] {
        let (status, answer) = post(&daemon, execute, &body);
        assert_eq!((status, paths(&answer)), (422, expected), "{body}: {answer:#}");
    }
    eventually("the line in the log", LIMIT, || {
        daemon.log().contains("Invalid environment variable name").then_some(())
    });
    for (path, status, code) in [
        ("/api/runbooks/gone/execute", 404, "not_found"),
        ("/api/runbooks/a%20b/execute", 404, "not_found"),
        ("/api/runbooks/off/execute", 409, "disabled"),
        ("/api/runbooks/act/execute?wait=yes", 422, "invalid"),
        ("/api/runbooks/act/execute?wiat=true", 422, "invalid"),
    ] {
        let (got, answer) = post(&daemon, path, &json!({ "labels": { "host": "db" } }));
        assert_eq!((got, &answer["code"]), (status, &code.into()), "{path}: {answer:#}");
    }
    assert_eq!(daemon.executions(), Vec::<Value>::new());
}

#[test]
fn a_freeze_holds_for_people_unless_it_lets_them_and_for_doing_it_again_too() {
    let mut daemon = start("");
    let body = json!({ "labels": { "host": "db" }, "reason": "now" });
    let (status, begun) = post(&daemon, "/api/runbooks/act/execute", &body);
    assert_eq!(status, 202, "{begun:#}");
    let id = begun["execution_id"].as_str().unwrap().to_owned();
    finished(&daemon, &id);
    let freeze = "[[freezes]]\nname = \"year end\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2100-01-01T00:00:00Z\"\n";
    for (lets, code) in [(false, 409), (true, 202)] {
        assert_eq!(daemon.terminate().code(), Some(0));
        let file = daemon.dir().join("runbookd.toml");
        let text = config(&format!("{freeze}allow_manual = {lets}\n"));
        fs::write(&file, text).unwrap();
        daemon.start_again();
        let (status, answer) = post(&daemon, "/api/runbooks/act/execute", &body);
        assert_eq!(status, code, "{answer:#}");
        let again = json!({ "action": "retry", "reason": "now" });
        let (status, answer) = post(&daemon, &format!("/api/executions/{id}/control"), &again);
        assert_eq!(status, code, "{answer:#}");
        if !lets {
            let said = answer["error"].as_str().unwrap();
            assert!(said.contains("frozen by \"year end\" until 2100-01-01T00:00:00Z"), "{said}");
            assert_eq!(daemon.executions().len(), 1);
        }
    }
}

#[test]
fn the_kill_switch_locks_slots_and_the_queue_hold_for_people_too() {
    let daemon = start("[automation]\nmax_running = 1\nqueue_limit = 1");
    let begin = |runbook: &str| {
        let body = json!({ "labels": { "host": "db" } });
        post(&daemon, &format!("/api/runbooks/{runbook}/execute"), &body)
    };
    let order = |state: &str, scope: Value| {
        let body = json!({ "state": state, "scope": scope, "reason": "a test" }).to_string();
        let headers = [("Content-Type", "application/json")];
        let answer =
            http::request(daemon.address(), "PUT", "/api/automation", &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for state in ["draining", "halted", "aborted"] {
        order(state, Value::Null);
        let (status, answer) = begin("act");
        assert_eq!((status, &answer["code"]), (409, &state.into()), "{answer:#}");
        assert!(answer["error"].as_str().unwrap().contains("a test"), "{answer:#}");
    }
    order("running", Value::Null);
    order("halted", json!({ "matchers": ["host=\"db\""] }));
    assert_eq!(begin("act").1["code"], "halted", "what it was given is covered");
    order("running", json!({ "matchers": ["host=\"db\""] }));

    let first = begin("slow").1["execution_id"].as_str().unwrap().to_owned();
    wait_for_status(&daemon, &first, "running");
    let second = begin("slow").1["execution_id"].as_str().unwrap().to_owned();
    let (status, full) = begin("act");
    assert_eq!((status, &full["code"]), (503, &"queue_full".into()), "{full:#}");
    assert_eq!(daemon.execution(&second)["status"], "queued");
    fs::write(daemon.dir().join("gate"), "").unwrap();
    for id in [&first, &second] {
        assert_eq!(finished(&daemon, id)["status"], "succeeded");
    }
    assert_eq!(daemon.executions().len(), 2);
}

fn cli(daemon: &Daemon, line: &[&str]) -> Output {
    let url = format!("http://{}", daemon.address());
    Command::new(BINARY).args(line).args(["--url", &url]).env_remove("RUNBOOKD_TOKEN").output().unwrap()
}

#[test]
fn the_command_line_starts_plans_and_follows() {
    let daemon = start("");
    let line = ["runbooks", "execute", "act", "--input", "host=db", "--reason", "why"];
    let with = |more: &[&str]| {
        let output = cli(&daemon, &[&line[..], more].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, plan) = with(&["--dry-run"]);
    assert!(code == Some(0) && plan.contains("host=\"db\""), "{plan}");
    let (code, id) = with(&[]);
    assert_eq!((code, &finished(&daemon, id.trim())["status"]), (Some(0), &"succeeded".into()));
    let (code, told) = with(&["--wait"]);
    assert!(code == Some(0) && told.contains("succeeded"), "{told}");
    let (code, told) = with(&["--wait", "--label", "code=3"]);
    assert!(code == Some(1) && told.contains("failed"), "{told}");
    let refused = cli(&daemon, &["runbooks", "execute", "act", "--reason", "why"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("inputs.host"), "{refused:?}");
}
