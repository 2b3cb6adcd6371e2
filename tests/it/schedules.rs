//! Schedules on the real program: every due time at most once, whatever is killed when, and told why not.
//!
//! May import: `support`. Must never: look into the storage.

use crate::support::alerts::{LIMIT, config};
use crate::support::daemon::{BINARY, Daemon, is_final};
use crate::support::lives::{Lives, Random, seed};
use crate::support::process::eventually;
use crate::support::receiver::Receiver;
use runbookd::model::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Notes its execution once; what is interrupted is not run again.
const TICK: &str = r#"
mode = "auto"
target = "clock"
[inputs.word]
required = true
[[steps]]
id = "note"
script = { text = 'echo "$RUNBOOKD_EXECUTION_ID $WORD" >> "$DIR/ledger"', env = { DIR = "@dir@", WORD = "{{ inputs.word }}" } }
on_failure = "stop"
"#;
const EVERY_SECOND: &str = "[[schedules]]\nname = \"tick\"\ncron = \"* * * * * *\"\nzone = \"Europe/Berlin\"\n\
    runbook = \"tick\"\ninputs = { word = \"tock\" }\n";

fn only(daemon: &Daemon) -> Value {
    daemon.json("/api/schedules")["schedules"][0].clone()
}

/// The due time of each execution, which must all differ, and the lines of the ledger, likewise.
fn check_once(lives: &Lives) -> usize {
    let executions = lives.executions();
    let mut due = BTreeSet::new();
    for line in &executions {
        let id = line["id"].as_str().unwrap();
        let execution = lives.json(&format!("/api/executions/{id}"));
        let trigger = &execution["trigger"];
        assert_eq!((&trigger["kind"], &trigger["by"]), (&"schedule".into(), &"schedule:tick".into()));
        let at: Timestamp = trigger["starts_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(at.subsec_nanosecond(), 0, "{execution:#}");
        assert!(due.insert(at), "{at} has two executions: {executions:#?}");
    }
    let ledger = fs::read_to_string(lives.dir().join("ledger")).unwrap_or_default();
    let lines: Vec<&str> = ledger.lines().collect();
    let distinct: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!(lines.len(), distinct.len(), "{ledger}");
    assert!(lines.iter().all(|line| line.ends_with(" tock")), "{ledger}");
    // Each execution that was made stands in a decision of its own. A further one may have come about meanwhile.
    let made = lives.json("/api/decisions?verdict=execute&limit=500");
    for line in &executions {
        let of_it =
            made["decisions"].as_array().unwrap().iter().filter(|made| made["execution_id"] == line["id"]);
        assert_eq!(of_it.count(), 1, "{line:#}");
    }
    executions.len()
}

#[test]
fn a_schedule_of_every_second_has_one_execution_a_due_time_whenever_it_is_killed() {
    let mut random = Random::new(seed());
    let mut lives = Lives::new(&config(EVERY_SECOND), &[("tick", TICK)]);
    for _ in 0..6 {
        lives.begin(lives.command());
        lives.wait_ready();
        thread::sleep(Duration::from_millis(500 + random.below(1700)));
        lives.kill();
    }
    lives.begin(lives.command());
    lives.wait_ready();
    eventually("more executions", LIMIT, || {
        let executions = lives.executions();
        (executions.len() >= 4 && executions.iter().filter(|it| is_final(it)).count() >= 4).then_some(())
    });
    check_once(&lives);
    lives.kill();
}

#[test]
fn killed_right_before_or_right_after_the_commit_a_due_time_is_seen_to_once() {
    for (number, side) in [(1, "before"), (1, "after"), (2, "before"), (2, "after")] {
        let mut lives = Lives::new(&config(EVERY_SECOND), &[("tick", TICK)]);
        let mut command = lives.command();
        command.env("RUNBOOKD_FAILPOINT", format!("append:{number}:{side}"));
        lives.begin(command);
        assert!(lives.ended_by_a_kill(), "{number} {side}: {}", lives.log());
        lives.begin(lives.command());
        lives.wait_ready();
        // What was durable is there; what was not left nothing.
        let least = usize::from((number, side) != (1, "before"));
        assert!(lives.executions().len() >= least, "{number} {side}");
        eventually("an execution that is over", LIMIT, || {
            lives.executions().iter().any(is_final).then_some(())
        });
        check_once(&lives);
        lives.kill();
    }
}

#[test]
fn what_holds_automation_back_holds_a_schedule_and_it_is_told_why() {
    let schedule = |name: &str, runbook: &str| {
        format!(
            "[[schedules]]\nname = \"{name}\"\ncron = \"* * * * * *\"\nzone = \"UTC\"\nrunbook = \"{runbook}\"\n"
        )
    };
    let shadow = TICK.replace("mode = \"auto\"", "mode = \"shadow\"");
    let slow = "mode = \"auto\"\ntarget = \"a\"\n[[steps]]\nid = \"w\"\nwait = { for = \"1m\" }\n";
    let text = [
        EVERY_SECOND
            .replace("tick\"\ncron", "seen\"\ncron")
            .replace("runbook = \"tick\"", "runbook = \"seen\""),
        schedule("bare", "tick"),
        schedule("slow", "slow"),
    ];
    let runbooks = [("tick", TICK), ("seen", &shadow), ("slow", slow)];
    let daemon = Daemon::start(&config(&text.concat()), &runbooks, &[]);
    let reason = |at: usize| daemon.json("/api/schedules")["schedules"][at]["last_reason"].clone();
    for (at, expected) in [(0, "shadow"), (1, "invalid_input"), (2, "repeat")] {
        eventually(expected, LIMIT, || (reason(at) == expected).then_some(()));
    }
    let executions = daemon.executions();
    assert_eq!(executions.len(), 1, "{executions:#?}");
    let shown = daemon.json("/api/schedules")["schedules"][2].clone();
    assert_eq!(shown["last_execution_id"], executions[0]["id"]);
    let next: Timestamp = shown["next_at"].as_str().unwrap().parse().unwrap();
    let last: Timestamp = shown["last_at"].as_str().unwrap().parse().unwrap();
    assert!(next > last, "{shown:#}");
    let decision = daemon.json("/api/decisions?reason=repeat")["decisions"][0].clone();
    assert_eq!(decision["labels"], json!({ "schedule": "slow" }));
    assert_eq!((&decision["alertname"], &decision["execution_id"]), (&"".into(), &executions[0]["id"]));
    let seen = || daemon.json("/api/decisions?reason=shadow")["decisions"].clone();
    eventually("the same answer being counted", LIMIT, || (seen()[0]["seen"].as_u64()? >= 2).then_some(()));
    assert_eq!(seen().as_array().unwrap().len(), 1);

    let url = format!("http://{}", daemon.address());
    let cli = |line: &[&str]| {
        let output = Command::new(BINARY).args(line).args(["--url", &url]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    cli(&["halt", "--reason=look"]);
    eventually("halted", LIMIT, || (reason(0) == "halted").then_some(()));
    let list = cli(&["schedules", "list"]);
    assert!(list.lines().count() == 4 && list.contains("halted"), "{list}");
}

#[test]
fn people_are_told_once_of_a_schedule_that_tried_often_enough() {
    let receiver = Receiver::start(&[]);
    let hook = format!(
        "[automation]\nescalate_to = [\"hook\"]\n[notifiers.hook]\nkind = \"webhook\"\nurl = \"{}\"\n",
        receiver.url("/")
    );
    let once = "[guard]\nmax_runs = [{ count = 1, within = \"1h\" }]\n[inputs.word]";
    let tick = TICK.replace("[inputs.word]", once);
    let daemon = Daemon::start(&config(&format!("{EVERY_SECOND}{hook}")), &[("tick", &tick)], &[]);
    let message = receiver.wait_for(1).remove(0).json();
    let subject = message["subject"].as_str().unwrap();
    assert!(subject.starts_with("tick: not run ") && subject.ends_with("(attempts_exhausted)"), "{subject}");
    let body = message["body"].as_str().unwrap();
    assert!(body.contains("the schedule \"tick\": it was started on clock 1 of 1 in 1h"), "{body}");
    // It goes on being denied, and that is counted and not told again.
    let count = || daemon.json("/api/escalations")["escalations"][0]["totals"]["count"].as_u64();
    let before = count().unwrap();
    eventually("two more denials", LIMIT, || (count()? >= before + 2).then_some(()));
    assert_eq!(daemon.json("/api/escalations")["escalations"].as_array().unwrap().len(), 1);
    assert_eq!((receiver.told().len(), daemon.executions().len()), (1, 1));
}

/// What `check` says of these schedules and runbooks, with its exit code.
fn checked(schedules: &str, runbooks: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    for (id, text) in runbooks {
        fs::write(dir.path().join(format!("runbooks/{id}.toml")), text.replace("@dir@", "/tmp")).unwrap();
    }
    fs::write(dir.path().join("c.toml"), config(schedules)).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["check", "--config.file=c.toml", "--runbooks.dir=runbooks"]).current_dir(dir.path());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_refuses_what_can_never_run_and_warns_of_what_will_not_always() {
    let hourly = EVERY_SECOND.replace("* * * * * *", "0 * * * *");
    assert_eq!(checked(&hourly, &[("tick", TICK)]).0, Some(0));
    let place = "c.toml:7:11: the schedule \"tick\"";
    for (from, to, why) in [
        ("target = \"clock\"", "target = \"{{ labels.instance }}\"", "the target cannot be rendered"),
        (
            "[inputs.word]",
            "[guard]\nlock = \"{{ labels.cluster }}\"\n[inputs.word]",
            "the lock cannot be rendered",
        ),
    ] {
        let (code, told) = checked(&hourly, &[("tick", &TICK.replace(from, to))]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&format!("{place} cannot start the runbook \"tick\": {why}")), "{told}");
    }
    for mode in ["disabled", "shadow"] {
        let (code, told) = checked(&hourly, &[("tick", &TICK.replace("auto", mode))]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains(&format!("{place}: the mode of the runbook \"tick\" is {mode}: ")), "{told}");
        assert!(told.contains("1 runbooks are good"), "{told}");
    }
    let often = EVERY_SECOND.replace("* * * * * *", "*/5 * * * *");
    let (code, told) = checked(&often, &[("tick", TICK)]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{place}: of the next 200 due times at least ")), "{told}");
    assert!(told.contains("by cooldown (5m)") && told.contains("by max_runs (3 in 1h)"), "{told}");
    let free = TICK.replace("[inputs.word]", "[guard]\ncooldown = false\nmax_runs = false\n[inputs.word]");
    let (code, told) = checked(&often, &[("tick", &free)]);
    assert!(code == Some(0) && !told.contains("schedule"), "{told}");
}

#[test]
fn a_start_warns_of_a_schedule_that_can_start_nothing() {
    let needy = TICK.replace("target = \"clock\"", "target = \"{{ labels.instance }}\"");
    let hourly = EVERY_SECOND.replace("* * * * * *", "0 * * * *");
    let daemon = Daemon::start(&config(&hourly), &[("tick", &needy)], &[]);
    let log = daemon.logged("a schedule can start nothing", 1);
    assert!(log.contains("the target cannot be rendered"), "{log}");
    daemon.hang_up();
    daemon.logged("a schedule can start nothing", 2);
}

#[test]
fn a_reload_puts_other_schedules_in_force_and_one_to_no_runbook_is_refused() {
    let rare = EVERY_SECOND.replace("* * * * * *", "0 0 1 1 *");
    let daemon = Daemon::start(&config(&rare), &[("tick", TICK)], &[]);
    assert_eq!((&only(&daemon)["cron"], &only(&daemon)["last_at"]), (&"0 0 1 1 *".into(), &Value::Null));
    let reload = |text: &str| {
        fs::write(daemon.dir().join("runbookd.toml"), config(text)).unwrap();
        let pid = fs::read_to_string(daemon.dir().join("data/store/lock")).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    };
    let wrong = EVERY_SECOND.replace("runbook = \"tick\"", "runbook = \"gone\"");
    reload(&wrong);
    eventually("the refusal", LIMIT, || daemon.log().contains("which does not exist").then_some(()));
    assert_eq!(only(&daemon)["cron"], "0 0 1 1 *");
    reload(EVERY_SECOND);
    eventually("an execution", LIMIT, || daemon.executions().first().cloned());
    assert_eq!(only(&daemon)["cron"], "* * * * * *");
    reload("");
    eventually("none", LIMIT, || (daemon.json("/api/schedules")["schedules"] == json!([])).then_some(()));

    let check = |text: &str| {
        fs::write(daemon.dir().join("other.toml"), config(text)).unwrap();
        let output = Command::new(BINARY)
            .args(["check", "--config.file=other.toml", "--runbooks.dir=runbooks"])
            .current_dir(daemon.dir())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(EVERY_SECOND).0, Some(0));
    let (code, told) = check(&EVERY_SECOND.replace("word =", "colour ="));
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("cannot start the runbook \"tick\": ")
            && told.contains("input `colour`: the runbook has no such input"),
        "{told}"
    );
    let (code, told) = check(&wrong);
    assert_eq!(code, Some(1));
    assert!(told.contains("other.toml:7:11: the schedule \"tick\" starts the runbook \"gone\""), "{told}");
    let start = Command::new(BINARY)
        .args(["serve", "--config.file=other.toml", "--web.listen-address=127.0.0.1:0"])
        .args(["--storage.path=other", "--runbooks.dir=runbooks"])
        .current_dir(daemon.dir())
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(1), "{start:?}");
}
