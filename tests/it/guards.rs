//! The guards that count and look at the clock, on the real program: what they deny, that a crash resets nothing, and
//! what people see of it. Breakers and quarantine are in `guard`.

use crate::support::alerts::{LIMIT, body, finished, fire, resolve};
use crate::support::daemon::{BINARY, Daemon, ledger, touch};
use crate::support::process::eventually;
use crate::support::receiver::Receiver;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const ACT: &str = r#"
mode = "auto"
alerts = ["Down"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
command = { program = "true" }
"#;

/// A config with these guards, others off.
fn config(guard: &str, more: &str) -> String {
    let off: String = ["cooldown", "max_runs", "max_targets", "flapping"]
        .iter()
        .filter(|key| !guard.contains(&format!("{key} = ")))
        .map(|key| format!("{key} = false\n"))
        .collect();
    format!("[webhook]\nallow_unauthenticated = true\n{more}\n[automation.guard]\n{guard}\n{off}")
}

fn start(guard: &str, more: &str) -> Daemon {
    Daemon::start(&config(guard, more), &[("act", ACT)], &[])
}

/// An alert for `target`, one of many there; what is decided on it.
fn decided(daemon: &Daemon, target: &str, device: &str) -> Value {
    let labels = json!({ "alertname": "Down", "target": target, "device": device });
    let answer = daemon.webhook(&json!({ "alerts": [{ "status": "firing", "labels": labels }] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["decisions"][0].clone()
}

/// Has another config read.
fn reload(daemon: &Daemon, config: &str) {
    std::fs::write(daemon.dir().join("runbookd.toml"), config).unwrap();
    let pid = std::fs::read_to_string(daemon.dir().join("data/store/lock")).unwrap();
    kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::HUP).unwrap();
}

/// What the gate of this name said in the latest decision with it as the reason.
fn gate(daemon: &Daemon, name: &str) -> Value {
    let decision = daemon.json(&format!("/api/decisions?reason={name}"))["decisions"][0].clone();
    let gates = decision["gates"].as_array().unwrap();
    gates.iter().find(|gate| gate["gate"] == name).unwrap().clone()
}

fn status(daemon: &Daemon) -> Value {
    daemon.json("/api/sre/runbooks/integration-status")
}

fn cli(daemon: &Daemon, line: &[&str]) -> String {
    let url = format!("http://{}", daemon.address());
    let output =
        Command::new(BINARY).args(line).args(["--url", &url]).env_remove("RUNBOOKD_TOKEN").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn of_two_hundred_targets_at_once_exactly_as_many_are_acted_on_as_may_be_also_after_a_crash() {
    let mut daemon = start("max_targets = { count = 7, within = \"1h\" }", "");
    let names: Vec<String> = (0..200).map(|number| format!("host-{number}")).collect();
    let targets: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = daemon.webhook(&body("Down", "firing", &targets)).json();
    assert_eq!(answer["runbooks_triggered"], 7);
    for execution in daemon.executions() {
        finished(&daemon, execution["id"].as_str().unwrap());
    }
    let before = gate(&daemon, "too_many_targets");
    assert_eq!((&before["detail"]["others"], &before["detail"]["allowed"]), (&json!(7), &json!(7)));
    daemon.kill();
    daemon.start_again();
    assert_eq!(decided(&daemon, "host-200", "")["reason"], "too_many_targets");
    assert_eq!(gate(&daemon, "too_many_targets")["detail"], before["detail"]);
    // A target that has its place may be acted on again.
    assert_eq!(decided(&daemon, "host-0", "sdb")["reason"], "matched");
    assert_eq!(daemon.executions().len(), 8);
}

#[test]
fn of_two_hundred_targets_at_once_the_built_in_ten_are_acted_on_and_people_are_told_once_of_the_others() {
    let receiver = Receiver::start(&[]);
    let config = format!(
        "[webhook]\nallow_unauthenticated = true\n[automation]\nescalate_to = [\"hook\"]\n\
         [notifiers.hook]\nkind = \"webhook\"\nurl = \"{}\"\n[automation.guard]\n",
        receiver.url("/")
    );
    let daemon = Daemon::start(&config, &[("act", ACT)], &[]);
    let names: Vec<String> = (0..200).map(|number| format!("host-{number}")).collect();
    let all = body("Down", "firing", &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(daemon.webhook(&all).json()["runbooks_triggered"], 10);
    let denied = daemon.json("/api/decisions?reason=too_many_targets&limit=500")["decisions"].clone();
    assert_eq!(denied.as_array().unwrap().len(), 190);
    // What is delivered again is denied again, and is no news.
    assert_eq!(daemon.webhook(&all).json()["runbooks_triggered"], 0);
    let executions = daemon.executions();
    assert_eq!(executions.len(), 10);
    for execution in &executions {
        assert_eq!(finished(&daemon, execution["id"].as_str().unwrap())["status"], "succeeded");
    }
    receiver.wait_for(1);
    let told = eventually("the message being sent", LIMIT, || {
        let all = daemon.json("/api/escalations")["escalations"].as_array().unwrap().clone();
        (all.first()?["deliveries"][0]["state"] == "sent").then_some(all)
    });
    assert_eq!((told.len(), &told[0]["totals"]["count"]), (1, &json!(190)), "{told:#?}");
    let messages = receiver.told();
    let subject = "act: not run 190 times on more than 20 targets (too_many_targets)";
    assert_eq!((messages.len(), &messages[0].json()["subject"]), (1, &json!(subject)));
}

#[test]
fn a_cooldown_begins_when_an_execution_ends_and_survives_a_crash() {
    let mut daemon = start("cooldown = \"1h\"", "");
    let first = decided(&daemon, "db-1", "sda")["execution_id"].as_str().unwrap().to_owned();
    let ended = finished(&daemon, &first)["finished_at"].clone();
    assert_eq!(decided(&daemon, "db-1", "sdb")["reason"], "cooldown");
    assert_eq!(decided(&daemon, "db-2", "sdb")["reason"], "matched");
    let before = gate(&daemon, "cooldown");
    assert_eq!(before["detail"]["last"], ended, "{before}");
    daemon.kill();
    daemon.start_again();
    assert_eq!(decided(&daemon, "db-1", "sdc")["reason"], "cooldown");
    assert_eq!(gate(&daemon, "cooldown"), before);
}

#[test]
fn what_was_tried_often_enough_is_not_tried_again_also_after_a_crash_and_a_reload_counts_at_once() {
    let mut daemon = start("max_runs = [{ count = 2, within = \"1h\" }]", "");
    for device in ["sda", "sdb"] {
        let started = decided(&daemon, "db-1", device);
        finished(&daemon, started["execution_id"].as_str().unwrap());
    }
    assert_eq!(decided(&daemon, "db-1", "sdc")["reason"], "attempts_exhausted");
    let before = gate(&daemon, "attempts_exhausted");
    daemon.kill();
    daemon.start_again();
    assert_eq!(decided(&daemon, "db-1", "sdd")["reason"], "attempts_exhausted");
    assert_eq!(gate(&daemon, "attempts_exhausted"), before);
    assert!(
        before["message"].as_str().unwrap().starts_with("it was started on db-1 2 of 2 in 1h; "),
        "{before}"
    );
    let wider = config("max_runs = [{ count = 3, within = \"1h\" }]", "");
    reload(&daemon, &wider);
    eventually("the reload", Duration::from_secs(20), || {
        (decided(&daemon, "db-1", "sde")["reason"] == "matched").then_some(())
    });
}

#[test]
fn an_execution_that_was_not_begun_counts_for_nothing() {
    let wait =
        ACT.replace("command = { program = \"true\" }", "command = { program = \"sleep\", args = [\"60\"] }");
    let config = config("max_runs = [{ count = 1, within = \"1h\" }]", "[automation]\nmax_running = 1\n");
    let daemon = Daemon::start(&config, &[("act", &wait)], &[]);
    fire(&daemon, "Down", "busy");
    let queued = fire(&daemon, "Down", "db-1");
    resolve(&daemon, "Down", "db-1");
    assert_eq!(finished(&daemon, &queued)["status"], "expired");
    assert_eq!(decided(&daemon, "db-1", "sdb")["reason"], "matched");
    assert_eq!(decided(&daemon, "busy", "sdb")["reason"], "attempts_exhausted");
}

#[test]
fn an_alert_that_flaps_is_left_alone() {
    let daemon = start("flapping = { changes = 3, within = \"1h\" }", "");
    let deliver = |state: &str, minute: u32| {
        let labels = json!({ "alertname": "Down", "target": "db-1" });
        let (start, end) =
            (format!("2026-01-01T00:{minute:02}:00Z"), format!("2026-01-01T00:{:02}:00Z", minute + 5));
        let mut alert = json!({ "status": state, "labels": labels, "startsAt": start });
        if state == "resolved" {
            alert["endsAt"] = json!(end);
        }
        daemon.webhook(&json!({ "alerts": [alert] }).to_string()).json()["decisions"][0]["reason"].clone()
    };
    // Three changes are allowed, the fourth is not.
    let said = [("firing", 0), ("resolved", 0), ("firing", 10), ("resolved", 10), ("firing", 20)];
    let said: Vec<Value> = said.iter().map(|(state, minute)| deliver(state, *minute)).collect();
    assert_eq!(said, ["matched", "resolved", "matched", "resolved", "flapping"]);
    assert_eq!(gate(&daemon, "flapping")["detail"]["changes"], 4);
    assert_eq!(decided(&daemon, "db-2", "")["reason"], "matched");
}

#[test]
fn in_a_freeze_nothing_starts_and_the_status_says_so() {
    let freeze = "[[freezes]]\nname = \"quarter's end\"\nfrom = \"2020-01-01T00:00:00Z\"\n\
                  until = \"2100-01-01T00:00:00Z\"\n[[freezes]]\nname = \"past\"\n\
                  from = \"2019-01-01T00:00:00Z\"\nuntil = \"2020-01-01T00:00:00Z\"\n";
    let daemon = start("cooldown = false", freeze);
    let denied = decided(&daemon, "db-1", "");
    assert_eq!((&denied["reason"], &denied["execution_id"]), (&json!("frozen"), &Value::Null));
    let said = gate(&daemon, "frozen")["message"].clone();
    assert_eq!(said, "frozen by \"quarter's end\" until 2100-01-01T00:00:00Z");
    assert_eq!(
        status(&daemon)["freezes"],
        json!([{ "name": "quarter's end", "until": "2100-01-01T00:00:00Z", "allow_manual": false }])
    );
    let shown = cli(&daemon, &["status"]);
    assert!(shown.contains("Frozen           quarter's end, until 2100-01-01 00:00:00 UTC"), "{shown}");
}

#[test]
fn a_storm_is_entered_shown_kept_over_a_crash_and_left() {
    let storm = |cooldown: &str| {
        format!("[automation]\nstorm = {{ episodes_per_minute = 3, cooldown = \"{cooldown}\" }}\n")
    };
    let mut daemon = start("cooldown = false", &storm("10m"));
    let calm = &status(&daemon)["storm"];
    assert_eq!((&calm["active"], &calm["allowed"]), (&json!(false), &json!(3)));
    let targets = ["a", "b", "c", "d", "e"];
    let answer = daemon.webhook(&body("Down", "firing", &targets)).json();
    let reasons: Vec<&Value> =
        answer["decisions"].as_array().unwrap().iter().map(|decision| &decision["reason"]).collect();
    assert_eq!(reasons, ["matched", "matched", "matched", "storm", "storm"]);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.metric("runbookd_storm_active"), 1.0);
    let raging = &status(&daemon)["storm"];
    assert_eq!((&raging["active"], &raging["episodes_per_minute"]), (&json!(true), &json!(5)));
    assert!(cli(&daemon, &["status"]).contains("Storm            5 episodes began in a minute; calm at "));
    assert_eq!(decided(&daemon, "f", "")["reason"], "storm");
    // Turned off, it counts for nothing.
    reload(&daemon, &config("cooldown = false", "[automation]\nstorm = false\n"));
    eventually("the reload", Duration::from_secs(20), || {
        (daemon.metric("runbookd_storm_active") == 0.0).then_some(())
    });
    assert_eq!(status(&daemon)["storm"], Value::Null);
    assert_eq!(decided(&daemon, "f", "")["reason"], "matched");
}

#[test]
fn what_is_queued_when_a_storm_begins_stays_queued_until_its_deadline() {
    let text = r#"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[[steps]]
id = "wait"
script = { text = 'echo begin >> "$DIR/ledger"; while [ ! -e "$DIR/gate" ]; do sleep 0.02; done', env = { DIR = "@dir@" } }
"#;
    let more = "[automation]\nmax_running = 1\nqueue_deadline = \"4s\"\nstorm = { episodes_per_minute = 3, cooldown = \"10m\" }\n";
    let daemon = Daemon::start(&config("cooldown = false", more), &[("gated", text)], &[]);
    let first = fire(&daemon, "Gated", "a");
    eventually("the first has begun", LIMIT, || (ledger(&daemon).len() == 1).then_some(()));
    let queued = fire(&daemon, "Gated", "b");
    let answer = daemon.webhook(&body("Gated", "firing", &["c", "d", "e"])).json();
    assert_eq!(answer["decisions"][2]["reason"], "storm", "{answer:#}");
    touch(&daemon, "gate");
    assert_eq!(finished(&daemon, &first)["status"], "succeeded", "what has begun goes on");
    let expired = finished(&daemon, &queued);
    assert_eq!((&expired["status"], &expired["reason"]), (&json!("expired"), &json!("queue_expired")));
    assert_eq!(ledger(&daemon), ["begin"]);
    // That is a decision on its alert, and a later delivery is decided anew.
    let decisions = daemon.json("/api/decisions?reason=queue_expired");
    let of =
        decisions["decisions"].as_array().unwrap().iter().find(|one| one["execution_id"] == json!(queued));
    assert_eq!(of.unwrap()["verdict"], "skip");
    let again = daemon.webhook(&body("Gated", "firing", &["b"])).json();
    assert_eq!(again["decisions"][0]["reason"], "storm");
}

#[test]
fn a_storm_passes_by_itself() {
    let daemon =
        start("cooldown = false", "[automation]\nstorm = { episodes_per_minute = 1, cooldown = \"1s\" }\n");
    let answer = daemon.webhook(&body("Down", "firing", &["a", "b"])).json();
    assert_eq!(answer["decisions"][1]["reason"], "storm");
    eventually("the end of the storm", Duration::from_secs(80), || {
        (daemon.metric("runbookd_storm_active") == 0.0).then_some(())
    });
    let answer = daemon.webhook(&body("Down", "firing", &["b"])).json();
    assert_eq!(answer["decisions"][0]["reason"], "matched");
}

#[test]
fn a_runbook_in_shadow_mode_tells_what_it_would_have_done_and_what_would_have_denied_it() {
    let shadow = ACT.replace("auto", "shadow");
    let mut daemon = Daemon::start(&config("cooldown = \"1h\"", ""), &[("act", &shadow)], &[]);
    let empty = daemon.json("/api/runbooks/act/shadow");
    assert_eq!(
        empty,
        json!({
            "runbook": "act", "mode": "shadow", "version": 1, "since": null, "would_have_run": 0, "denied": {},
            "not_asked": [], "previous": null,
        })
    );
    for (target, device, reason) in
        [("a", "1", "shadow"), ("a", "2", "cooldown"), ("b", "1", "shadow"), ("*", "1", "invalid_target")]
    {
        assert_eq!(decided(&daemon, target, device)["reason"], reason, "{target} {device}");
    }
    daemon.kill();
    daemon.start_again();
    decided(&daemon, "b", "1");
    let report = daemon.json("/api/runbooks/act.toml/shadow");
    assert_eq!((&report["would_have_run"], &report["version"]), (&json!(2), &json!(1)));
    assert_eq!(report["denied"], json!({ "cooldown": 1, "invalid_target": 1 }));
    let decision = &daemon.json("/api/decisions?reason=shadow")["decisions"][0];
    assert_eq!(decision["plan"], json!([{ "step": "act", "plan": "true" }]));
    let shown = cli(&daemon, &["runbooks", "shadow", "act"]);
    assert!(shown.contains("run 2 times") && shown.contains("invalid_target  1"), "{shown}");
    let shown = cli(&daemon, &["decisions", "show", decision["id"].as_str().unwrap()]);
    assert!(shown.contains("WOULD HAVE DONE\nact   true\n"), "{shown}");
    assert_eq!(daemon.try_get("/api/runbooks/none/shadow").unwrap().status, 404);
    assert!(daemon.executions().is_empty());
}
