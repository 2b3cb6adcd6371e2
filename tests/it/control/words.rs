//! The form of requests and answers, what watchers see, and the same verbs on the command line.

use super::{act, done, ledger, refused, simply};
use crate::support::alerts::{config, events, finished, fire, millis, wait_for_status, wait_for_step};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use serde_json::{Value, json};
use std::process::Command;
use std::thread;

const WAITING: &str = r#"
mode = "auto"
alerts = ["Waiting"]
target = "{{ labels.target }}"
[[steps]]
id = "flaky"
retry = { attempts = 2, initial = "10ms", max = "10ms" }
script = { text = 'echo try >> "$DIR/ledger"; [ "$RUNBOOKD_ATTEMPT" = 2 ]', env = { DIR = "@dir@" } }
[steps.undo]
script = { text = 'echo undo >> "$DIR/ledger"', env = { DIR = "@dir@" } }
[[steps]]
id = "each"
for_each = { items = ["x", "y"] }
script = { text = 'echo "$IT" >> "$DIR/ledger"; echo "for $IT"', env = { DIR = "@dir@", IT = "{{ item }}" } }
[[steps]]
id = "ask"
approve = { message = "Go on?" }
[[steps]]
id = "hold"
wait = { for = "5m" }
"#;

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let daemon = Daemon::start(&config(""), &[("waiting", WAITING)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let check = |body: Value, path: &str, named: &str| {
        let answer = act(&daemon, &id, &body);
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(
            (&answer["code"], &answer["errors"][0]["path"]),
            (&"invalid".into(), &path.into()),
            "{body}: {answer}"
        );
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(named), "{body}: {message}");
    };
    check(json!({}), "", "action");
    check(
        json!({ "action": "explode" }),
        "action",
        "\"explode\" is not an action; known: stop, rollback, pause",
    );
    check(json!({ "action": "x".repeat(5000) }), "action", "is not an action");
    check(json!({ "action": "pause", "force": true }), "", "force");
    check(json!({ "action": "pause", "step": "ask" }), "step", "the action pause has no step");
    check(json!({ "action": "stop", "args": [] }), "args", "the action stop has no args");
    check(json!({ "action": "skip", "step": "ask", "hash": "x" }), "hash", "the action skip has no hash");
    check(json!({ "action": "approve", "inputs": {} }), "inputs", "has no inputs");
    check(json!({ "action": "approve", "step": "../../x" }), "step", "");
    check(json!({ "action": "approve", "reason": 7 }), "", "expected a string");
    check(json!({ "action": "modify", "args": "x" }), "", "expected");
    let path = format!("/api/executions/{id}/control");
    let post = |body: &str| http::post(daemon.address(), &path, body).unwrap();
    assert_eq!(post("{").status, 400);
    assert_eq!(post("").status, 400);
    assert_eq!(post(&json!({ "action": "pause", "reason": "x".repeat(70_000) }).to_string()).status, 413);
    // What does not exist is told before what is wrong.
    let absent = format!("waiting_{}", "0".repeat(26));
    assert_eq!(
        refused(&daemon, &absent, &json!({ "action": "explode" }), 404, "not_found"),
        "execution does not exist"
    );
    for id in ["nonsense", &id.replace("waiting", "other")] {
        for action in ["pause", "approve", "retry", "modify"] {
            refused(&daemon, id, &json!({ "action": action }), 404, "not_found");
        }
    }
    // A long reason is kept as far as it is bearable.
    done(&daemon, &id, &json!({ "action": "pause", "reason": "ü".repeat(3000) }));
    assert_eq!(daemon.execution(&id)["paused"]["reason"], "ü".repeat(1000));
    simply(&daemon, &id, "stop");
    finished(&daemon, &id);
}

#[test]
fn every_watcher_sees_who_did_what_and_why() {
    let daemon = Daemon::start(&config(""), &[("waiting", WAITING)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let path = format!("/api/executions/{id}/events");
    thread::scope(|scope| {
        let watch = || scope.spawn(|| events(&http::get(daemon.address(), &path).unwrap().text()));
        let watchers = [watch(), watch()];
        for action in ["pause", "resume", "approve"] {
            simply(&daemon, &id, action);
        }
        wait_for_step(&daemon, &id, 3, "waiting");
        simply(&daemon, &id, "rollback");
        let seen = watchers.map(|watcher| watcher.join().unwrap());
        assert_eq!(seen[0], seen[1]);
        let by = |kind: &str| {
            let found =
                seen[0].iter().find(|(known, _)| known == kind).unwrap_or_else(|| panic!("no {kind}"));
            (found.1["actor"].as_str().unwrap_or(""), found.1["reason"].as_str().unwrap_or(""))
        };
        assert_eq!(by("paused"), ("anonymous", "to pause"));
        assert_eq!(by("resumed"), ("anonymous", "to resume"));
        assert_eq!(by("approved"), ("anonymous", "to approve"));
        assert_eq!(by("stop_requested"), ("anonymous", "to rollback"));
        let kinds: Vec<&str> = seen[0].iter().map(|(kind, _)| kind.as_str()).collect();
        for kind in [
            "created",
            "started",
            "step_intended",
            "attempt_finished",
            "retry_scheduled",
            "items_listed",
            "part_finished",
            "step_finished",
            "approval_requested",
            "timer_started",
            "ending",
            "rollback_started",
            "finished",
            "end",
        ] {
            assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
        }
        let planned = &seen[0].iter().find(|(kind, _)| kind == "retry_scheduled").unwrap().1;
        // When it is tried again is not when that was said.
        assert!(millis(&planned["next_attempt_at"]) >= millis(&planned["at"]), "{planned}");
        assert_eq!((&planned["step"], &planned["attempt"]), (&"flaky".into(), &2.into()));
    });
    assert_eq!(finished(&daemon, &id)["status"], "rolled_back");
    assert_eq!(ledger(&daemon), ["try", "try", "x", "y", "undo"]);
    assert_eq!(daemon.metric("runbookd_step_retries_total{runbook=\"waiting\"}"), 1.0);
    let output =
        |query: &str| daemon.try_get(&format!("/api/executions/{id}/output/each/1/stdout{query}")).unwrap();
    assert_eq!(
        (output("?item=0").text().as_str(), output("?item=1").text().as_str()),
        ("for x\n", "for y\n")
    );
    assert_eq!((output("").status, output("?item=2").status), (404, 404));
}

#[test]
fn the_command_line_has_every_verb() {
    let daemon = Daemon::start(&config(""), &[("waiting", WAITING)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let url = format!("http://{}", daemon.address());
    let run = |words: &[&str]| {
        let output =
            Command::new(BINARY).arg("executions").args(words).args(["--url", &url]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let good = |words: &[&str]| {
        let (code, out, err) = run(words);
        assert_eq!(code, 0, "{words:?}: {err}");
        (out, err)
    };
    let hash = daemon.execution(&id)["steps"][2]["approval"]["hash"].as_str().unwrap().to_owned();
    let (shown, _) = good(&["show", &id]);
    assert!(shown.contains(&format!("runbookd executions approve {id} --step ask --hash {hash}")), "{shown}");
    assert!(shown.contains("attempt 2") && shown.contains("items    x, y"), "{shown}");
    assert_eq!(good(&["pause", &id, "--reason", "lunch"]).0, format!("{id} paused\n"));
    assert!(good(&["show", &id]).0.contains("by anonymous: lunch"));
    assert_eq!(good(&["skip", &id, "--step", "hold", "--reason", "no need"]).0, format!("{id} paused\n"));
    let (code, out, err) = run(&["retry", &id, "--step", "hold"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("409, wrong_state"), "{err}");
    assert_eq!(run(&["modify", &id, "--step", "ask", "--arg", "-x"]).0, 1);
    good(&["resume", &id]);
    let (code, _, err) = run(&["approve", &id, "--hash", "00"]);
    assert!(code == 1 && err.contains("the plan has changed"), "{err}");
    good(&["approve", &id, "--step", "ask", "--hash", &hash, "--reason", "fine"]);
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    let (followed, _) = good(&["follow", &id]);
    assert!(followed.contains("approved") && followed.contains("ask by anonymous: fine"), "{followed}");
    assert_eq!(good(&["output", &id, "each", "--item", "1"]).0, "for y\n");
    let (code, _, err) = run(&["output", &id, "each"]);
    assert!(code == 1 && err.contains("--item"), "{err}");
    assert_eq!(run(&["acknowledge", &id]).0, 1);
    assert_eq!(run(&["reject", &id]).0, 1);
    let (out, err) = good(&["rollback", &id, "--output", "json"]);
    let new = serde_json::from_str::<Value>(&out).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(err, format!("started {new} as the rollback of {id}\n"));
    assert_eq!(finished(&daemon, &new)["status"], "rolled_back");
    assert!(good(&["show", &new]).0.contains(&format!("rollback Waiting, of {id}, by anonymous")));
    assert_eq!(good(&["output", &new, "flaky", "--part", "undo"]).0, "");
    let (out, err) = good(&["retry", &id]);
    assert!(out.ends_with(" queued\n") && err.contains("as the retry of"), "{out}{err}");
    let again = out.split(' ').next().unwrap().to_owned();
    wait_for_status(&daemon, &again, "awaiting_approval");
    assert_eq!(good(&["reject", &again, "--reason", "no"]).0.split(' ').next(), Some(again.as_str()));
    finished(&daemon, &again);
}
