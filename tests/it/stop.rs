//! The stop of a person: in every phase, at every moment, and what is left running afterwards, which is nothing.
//!
//! May import: `support`. Must never: end a process itself.

use crate::support::alerts::{
    LIMIT, config, events, finished, fire, journal, millis, only, outcomes, resolve, steps, wait_for_status,
    wait_for_step,
};
use crate::support::daemon::{Daemon, is_final};
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A command with a child in a session of its own, and one that also hides where it comes from.
const LONG: &str = r#"
mode = "auto"
alerts = ["Long"]
target = "{{ labels.target }}"
[[steps]]
id = "long"
effect = "at_most_once"
[steps.script]
text = '''
setsid sleep 300 &
setsid sh -c 'setsid env -i sleep 300 & echo $! > "$DIR/hidden"; wait' &
sleep 300
'''
env = { DIR = "@dir@" }
[[steps]]
id = "after"
script = { text = "true" }
"#;

const WAITING: &str = r#"
mode = "auto"
alerts = ["Waiting"]
target = "{{ labels.target }}"
[[steps]]
id = "pause"
wait = { for = "5m" }
[[steps]]
id = "after"
script = { text = "true" }
"#;

const PROVEN: &str = r#"
mode = "auto"
alerts = ["Proven"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
script = { text = "true" }
[verify]
alert_resolved = true
within = "5m"
"#;

const STUBBORN: &str = r#"
mode = "auto"
alerts = ["Stubborn"]
target = "{{ labels.target }}"
[[steps]]
id = "stubborn"
[steps.script]
text = '''
trap '' TERM
echo ready > "$DIR/ready"
while :; do sleep 0.05; done
'''
env = { DIR = "@dir@" }
"#;

fn control(daemon: &Daemon, id: &str, reason: &str) -> Answer {
    let body = json!({ "action": "stop", "reason": reason }).to_string();
    http::post(daemon.address(), &format!("/api/executions/{id}/control"), &body).unwrap()
}

fn stop(daemon: &Daemon, id: &str) -> Answer {
    http::request(daemon.address(), "POST", &format!("/api/executions/{id}/stop"), &[], b"").unwrap()
}

/// The living processes with the execution's id in their environment.
fn processes(id: &str) -> Vec<String> {
    let wanted = format!("RUNBOOKD_EXECUTION_ID={id}");
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_its = |pid: &String| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_its).collect()
}

/// The process exists and is no zombie.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn assert_stopped(execution: &Value, expected: &[&str]) {
    assert_eq!((&execution["status"], &execution["reason"]), (&"stopped".into(), &"stopped".into()));
    assert_eq!(steps(execution), expected, "{execution:#}");
}

#[test]
fn a_running_command_and_all_it_started_are_gone_at_once() {
    let daemon = Daemon::start(&config(""), &[("long", LONG)], &[]);
    let id = fire(&daemon, "Long", "a");
    let hidden = eventually("the hidden process", LIMIT, || {
        let pid = fs::read_to_string(daemon.dir().join("hidden")).ok()?.trim().to_owned();
        (!pid.is_empty() && processes(&id).len() >= 4).then_some(pid)
    });
    assert!(lives(&hidden));
    let began = Instant::now();
    let answer = control(&daemon, &id, "wrong host");
    assert_eq!((answer.status, &answer.json()["id"]), (202, &id.as_str().into()));
    eventually("an end of all processes", Duration::from_secs(2), || {
        (processes(&id).is_empty() && !lives(&hidden)).then_some(())
    });
    println!("gone after {:?}", began.elapsed());
    let execution = finished(&daemon, &id);
    assert_stopped(&execution, &["stopped", "skipped"]);
    assert_eq!(outcomes(&execution, 0), ["stopped"]);
    assert_eq!(execution["stop"]["reason"], "wrong host");
    let told = journal(&daemon, &id);
    let request = only(&told, "stop_requested");
    assert_eq!(request["reason"], "wrong host");
    assert_eq!(request["actor"], execution["stop"]["actor"]);
    assert!(request["actor"].as_str().is_some_and(|actor| !actor.is_empty()), "{request}");
}

#[test]
fn a_queued_execution_is_stopped_without_having_begun_and_the_queue_goes_on() {
    let config = config("[automation]\nmax_running = 1");
    let daemon = Daemon::start(&config, &[("long", LONG), ("proven", PROVEN)], &[]);
    let first = fire(&daemon, "Long", "a");
    wait_for_step(&daemon, &first, 0, "running");
    let queued = fire(&daemon, "Long", "b");
    let behind = fire(&daemon, "Proven", "c");
    assert_eq!(daemon.execution(&queued)["status"], "queued");
    assert_eq!(stop(&daemon, &queued).status, 202);
    let execution = finished(&daemon, &queued);
    assert_stopped(&execution, &["pending", "pending"]);
    assert!(execution["started_at"].is_null());
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["queued_executions"], 1);
    assert_eq!(stop(&daemon, &first).status, 202);
    wait_for_status(&daemon, &behind, "verifying");
    assert_eq!(daemon.json("/api/sre/runbooks/integration-status")["queued_executions"], 0);
}

#[test]
fn a_parked_wait_and_a_proof_are_stopped_and_their_target_is_free() {
    let daemon = Daemon::start(&config(""), &[("waiting", WAITING), ("proven", PROVEN)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    assert_eq!(stop(&daemon, &id).status, 202);
    assert_stopped(&finished(&daemon, &id), &["stopped", "skipped"]);

    let id = fire(&daemon, "Proven", "a");
    wait_for_status(&daemon, &id, "verifying");
    assert_eq!(control(&daemon, &id, "").status, 202);
    assert_stopped(&finished(&daemon, &id), &["succeeded"]);
}

#[test]
fn what_is_over_stays_as_it_ended_and_what_is_unknown_is_not_found() {
    let daemon = Daemon::start(&config(""), &[("proven", PROVEN), ("waiting", WAITING)], &[]);
    let id = fire(&daemon, "Proven", "a");
    wait_for_status(&daemon, &id, "verifying");
    resolve(&daemon, "Proven", "a");
    let over = finished(&daemon, &id);
    assert_eq!(over["status"], "succeeded");
    for answer in [stop(&daemon, &id), control(&daemon, &id, "late")] {
        assert_eq!((answer.status, &answer.json()["code"]), (409, &"wrong_state".into()));
    }
    assert_eq!(daemon.execution(&id), over);

    let stopped = fire(&daemon, "Waiting", "b");
    for _ in 0..3 {
        let answer = stop(&daemon, &stopped);
        assert_eq!((answer.status, &answer.json()["status"]), (202, &"stopped".into()));
    }
    assert_eq!(control(&daemon, &stopped, "again").status, 202);
    only(&journal(&daemon, &stopped), "stop_requested");

    let absent = format!("proven_{}", "0".repeat(26));
    for unknown in [absent.as_str(), "nonsense", &id.replace("proven", "other")] {
        assert_eq!(stop(&daemon, unknown).status, 404, "{unknown}");
        assert_eq!(control(&daemon, unknown, "").status, 404, "{unknown}");
    }
}

#[test]
fn many_stops_at_the_same_time_are_one_and_watchers_see_it_and_then_the_end() {
    let daemon = Daemon::start(&config(""), &[("long", LONG)], &[]);
    let id = fire(&daemon, "Long", "a");
    wait_for_step(&daemon, &id, 0, "running");
    thread::scope(|scope| {
        let watch =
            || scope.spawn(|| http::get(daemon.address(), &format!("/api/executions/{id}/events")).unwrap());
        let watchers: Vec<_> = (0..4).map(|_| watch()).collect();
        let stops: Vec<_> = (0..20)
            .map(|number| {
                let (daemon, id) = (&daemon, &id);
                scope.spawn(move || control(daemon, id, &format!("person {number}")).status)
            })
            .collect();
        for stop in stops {
            assert_eq!(stop.join().unwrap(), 202);
        }
        for watcher in watchers {
            let seen = events(&watcher.join().unwrap().text());
            assert!(only(&seen, "stop_requested")["reason"].as_str().unwrap().starts_with("person "));
            assert_eq!(only(&seen, "finished")["status"], "stopped");
            assert_eq!(seen.last().unwrap().0, "end");
        }
    });
    assert_stopped(&finished(&daemon, &id), &["stopped", "skipped"]);
}

#[test]
fn a_stop_in_the_moment_of_the_start_holds() {
    let daemon = Daemon::start(&config(""), &[("long", LONG)], &[]);
    for number in 0..40 {
        let id = fire(&daemon, "Long", &number.to_string());
        let answer = stop(&daemon, &id);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let execution = finished(&daemon, &id);
        assert_eq!(execution["status"], "stopped", "{execution:#}");
        assert_eq!(processes(&id), [""; 0]);
    }
    // The end is durable a moment before it is counted.
    eventually("nothing being counted any more", LIMIT, || {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        (status["active_executions"] == 0 && status["queued_executions"] == 0).then_some(())
    });
}

#[test]
fn a_stop_between_steps_leaves_a_clean_cut() {
    let step = |number: usize| {
        format!(
            "[[steps]]\nid = \"s{number}\"\n[steps.script]\ntext = 'echo \"$T\" >> \"$DIR/ledger\"'\nenv = {{ DIR = \"@dir@\", T = \"{{{{ labels.target }}}}\" }}\n"
        )
    };
    let all: String = (0..40).map(step).collect();
    let runbook =
        format!("mode = \"auto\"\nalerts = [\"Many\"]\ntarget = \"{{{{ labels.target }}}}\"\n{all}");
    let daemon = Daemon::start(&config(""), &[("many", &runbook)], &[]);
    for number in 0..12 {
        let target = format!("t{number}");
        let id = fire(&daemon, "Many", &target);
        thread::sleep(Duration::from_millis(9 * number));
        let answer = stop(&daemon, &id);
        let execution = finished(&daemon, &id);
        if answer.status == 409 {
            assert_eq!(execution["status"], "succeeded");
            continue;
        }
        assert_eq!((answer.status, &execution["status"]), (202, &"stopped".into()), "{}", answer.text());
        let statuses = steps(&execution);
        let ran = statuses.iter().take_while(|status| *status == "succeeded").count();
        let rest: Vec<&str> = statuses[ran..].iter().map(String::as_str).collect();
        let clean = rest.iter().enumerate().all(|(at, status)| match *status {
            "stopped" => at == 0,
            "skipped" | "pending" => true,
            _ => false,
        });
        assert!(clean, "{statuses:?}");
        let text = fs::read_to_string(daemon.dir().join("ledger")).unwrap_or_default();
        let lines = text.lines().filter(|line| *line == target).count();
        assert!((ran..=ran + 1).contains(&lines), "{lines} lines of {ran} steps");
    }
}

#[test]
fn a_stop_in_the_moment_of_the_end_is_told_the_truth() {
    let runbook = PROVEN.split("[verify]").next().unwrap();
    let daemon = Daemon::start(&config(""), &[("short", runbook)], &[]);
    let mut told = [0; 2];
    for number in 0..40 {
        let id = fire(&daemon, "Proven", &number.to_string());
        thread::sleep(Duration::from_micros(400 * number));
        let answer = stop(&daemon, &id);
        let execution = daemon.execution(&id);
        let (status, at) = match answer.status {
            202 => ("stopped", 0),
            409 => ("succeeded", 1),
            other => panic!("{other}: {}", answer.text()),
        };
        told[at] += 1;
        let execution = if is_final(&execution) { execution } else { finished(&daemon, &id) };
        assert_eq!(execution["status"], status, "told {}: {execution:#}", answer.status);
    }
    println!("{} stopped, {} over before", told[0], told[1]);
}

#[test]
fn a_command_that_ignores_the_request_is_killed_after_its_grace() {
    let daemon = Daemon::start(&config(""), &[("stubborn", STUBBORN)], &[]);
    let id = fire(&daemon, "Stubborn", "a");
    eventually("the command", LIMIT, || daemon.dir().join("ready").exists().then_some(()));
    let began = Instant::now();
    assert_eq!(stop(&daemon, &id).status, 202);
    assert!(began.elapsed() < Duration::from_millis(900), "the answer waited for the grace");
    let execution = finished(&daemon, &id);
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_stopped(&execution, &["stopped"]);
    assert_eq!(execution["steps"][0]["attempts"][0]["signal"], 9, "{execution:#}");
}

#[test]
fn the_whole_timeout_ends_a_running_step_when_it_passes_and_not_later() {
    let runbook = LONG.replacen("mode", "timeout = \"2s\"\nmode", 1);
    let daemon = Daemon::start(&config(""), &[("long", &runbook)], &[]);
    let id = fire(&daemon, "Long", "a");
    let execution = finished(&daemon, &id);
    assert_eq!((&execution["status"], &execution["reason"]), (&"failed".into(), &"timeout".into()));
    assert_eq!(steps(&execution), ["timed_out", "skipped"]);
    let took = millis(&execution["finished_at"]) - millis(&execution["started_at"]);
    assert!((2000..3500).contains(&took), "{took} ms");
    assert_eq!(processes(&id), [""; 0]);
}
