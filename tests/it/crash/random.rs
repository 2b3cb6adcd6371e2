//! SIGKILL a hundred times at random, while alerts arrive without a pause.
//!
//! Several senders deliver, and deliver again until they get a 200, as Alertmanager does. Afterwards nothing that
//! was acknowledged may be missing and nothing may have happened twice that must not. A sender's pace and the
//! moments of the kills come from a seed, which is printed.

use crate::support::alerts::{WEBHOOK, body, config, events};
use crate::support::daemon::is_final;
use crate::support::http;
use crate::support::lives::{Lives, Random, seed};
use crate::support::process::eventually;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KILLS: usize = 100;
const SENDERS: u64 = 4;
/// Between two alerts of a sender, at most, in milliseconds.
const PACE: u64 = 250;
const SETTLE: Duration = Duration::from_secs(60);
const STEPS: [&str; 4] = ["idem", "once", "again", "last"];

/// Each step writes one line when it begins and one when it ends; a line is one write, so lines do not mix.
const STORY: &str = r#"
mode = "auto"
alerts = ["Story"]
target = "{{ labels.target }}"
[[steps]]
id = "idem"
effect = "idempotent"
[steps.script]
text = '''
line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }
line begin; sleep 0.05; line end
'''
env = { LEDGER = "@dir@/ledger" }
[[steps]]
id = "once"
effect = "at_most_once"
[steps.script]
text = '''
line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }
line begin; sleep 0.03
'''
env = { LEDGER = "@dir@/ledger" }
[[steps]]
id = "nap"
wait = { for = "100ms" }
[[steps]]
id = "again"
effect = "idempotent"
[steps.script]
text = '''
line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }
line begin; sleep 0.05; line end
'''
env = { LEDGER = "@dir@/ledger" }
[[steps]]
id = "last"
effect = "at_most_once"
[steps.script]
text = '''
line() { printf '%s %s %s %s %s %s\n' "$1" "$RUNBOOKD_EXECUTION_ID" "$RUNBOOKD_STEP" "$RUNBOOKD_ATTEMPT" "$RUNBOOKD_IDEMPOTENCY_KEY" $$ >> "$LEDGER"; }
line begin
'''
env = { LEDGER = "@dir@/ledger" }
"#;

#[test]
fn a_hundred_kills_at_random_lose_nothing_and_repeat_nothing() {
    let mut random = Random::new(seed());
    let mut lives = Lives::new(&config("[automation]\nmax_running = 8"), &[("story", STORY)]);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let sent: BTreeMap<String, String> = thread::scope(|scope| {
        let address = lives.address().to_owned();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (mut random, address, over) =
                    (Random::new(random.below(u64::MAX)), address.clone(), &over);
                scope.spawn(move || send_until(over, &address, sender, &mut random))
            })
            .collect();
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 0..KILLS {
                lives.begin(lives.command());
                if kill % 4 == 0 {
                    // While it starts, recovers, or has just done so.
                    thread::sleep(Duration::from_millis(random.below(250)));
                } else {
                    lives.wait_ready();
                    thread::sleep(Duration::from_millis(random.below(400)));
                }
                lives.kill();
            }
            lives.begin(lives.command());
            lives.wait_ready();
        }));
        over.store(true, Ordering::SeqCst);
        let sent = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
        sent
    });
    eventually("the end of every execution", SETTLE, || {
        lives.executions().iter().all(is_final).then_some(())
    });
    println!("{} alerts, {KILLS} kills, {:?}", sent.len(), began.elapsed());
    let counts = check(&lives, &sent);
    println!("{counts:?}");
    assert!(sent.len() > 100, "only {} alerts: this proves little", sent.len());
    assert!(counts.interrupted > 5 && counts.unknown > 0, "hardly a step was cut: {counts:?}");
}

/// Sends alert after alert, each until it is acknowledged; the execution each became, by target.
fn send_until(
    over: &AtomicBool,
    address: &str,
    sender: u64,
    random: &mut Random,
) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let target = format!("{sender}-{number}");
        let text = body("Story", "firing", &[&target]);
        let id = eventually(&format!("a 200 for {target}"), SETTLE, || {
            // A refused or cut connection and a 503 are all the same to Alertmanager: it comes again.
            let answer = http::post(address, WEBHOOK, &text).ok()?;
            match answer.status {
                200 => Some(answer.json()["decisions"][0]["execution_id"].as_str().unwrap().to_owned()),
                503 => None,
                other => panic!("{other}: {}", answer.text()),
            }
        });
        acknowledged.insert(target, id);
        thread::sleep(Duration::from_millis(random.below(PACE)));
    }
    acknowledged
}

#[derive(Debug, Default)]
struct Counts {
    succeeded: usize,
    failed: usize,
    interrupted: usize,
    unknown: usize,
}

/// One line of the ledger.
struct Line {
    word: String,
    step: String,
    attempt: String,
    key: String,
    pid: String,
}

fn ledger(lives: &Lives) -> BTreeMap<String, Vec<Line>> {
    let mut by_execution: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for text in fs::read_to_string(lives.dir().join("ledger")).unwrap().lines() {
        let [word, id, step, attempt, key, pid] = text.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line: {text:?}");
        };
        let [word, step, attempt, key, pid] = [word, step, attempt, key, pid].map(str::to_owned);
        by_execution.entry(id.to_owned()).or_default().push(Line { word, step, attempt, key, pid });
    }
    by_execution
}

fn check(lives: &Lives, sent: &BTreeMap<String, String>) -> Counts {
    let executions = lives.executions();
    let mut by_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for execution in &executions {
        let (target, id) = (execution["target"].as_str().unwrap(), execution["id"].as_str().unwrap());
        by_target.entry(target).or_default().push(id);
    }
    for (target, id) in sent {
        assert_eq!(by_target.get(target.as_str()), Some(&vec![id.as_str()]), "{target} is not one execution");
    }
    assert_eq!(executions.len(), sent.len(), "an execution nobody asked for");
    let ledger = ledger(lives);
    let ids: BTreeSet<&str> = executions.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert!(ledger.keys().all(|id| ids.contains(id.as_str())), "something ran for no execution");
    let mut counts = Counts::default();
    let nothing = Vec::new();
    for id in ids {
        let execution = lives.json(&format!("/api/executions/{id}"));
        check_one(lives, &execution, ledger.get(id).unwrap_or(&nothing), &mut counts);
    }
    counts
}

fn check_one(lives: &Lives, execution: &Value, lines: &[Line], counts: &mut Counts) {
    let id = execution["id"].as_str().unwrap();
    let mut any_unknown = false;
    for step in execution["steps"].as_array().unwrap().iter().filter(|step| step["kind"] == "script") {
        let name = step["id"].as_str().unwrap();
        let own: Vec<&Line> = lines.iter().filter(|line| line.step == name).collect();
        let begun = own.iter().filter(|line| line.word == "begin").count();
        let attempts = step["attempts"].as_array().unwrap();
        let outcomes: Vec<&str> = attempts.iter().map(|it| it["outcome"].as_str().unwrap()).collect();
        assert!(begun <= attempts.len(), "{name} ran more often than intended: {execution:#}");
        assert!(own.iter().all(|line| line.attempt == "1" && line.key == format!("{id}.{name}.1")));
        assert!(attempts.iter().all(|attempt| attempt["attempt"] == 1), "{execution:#}");
        let (last, cut) = outcomes.split_last().map_or((None, &[][..]), |(last, cut)| (Some(*last), cut));
        assert!(cut.iter().all(|outcome| *outcome == "interrupted"), "{execution:#}");
        counts.interrupted += cut.len();
        match (step["effect"].as_str().unwrap(), step["status"].as_str().unwrap()) {
            ("idempotent", "succeeded") => assert!(begun >= 1 && last == Some("succeeded"), "{execution:#}"),
            ("at_most_once", "succeeded") => {
                assert_eq!((begun, outcomes), (1, vec!["succeeded"]), "{execution:#}")
            }
            ("at_most_once", "unknown") => {
                assert!(begun <= 1 && outcomes == ["unknown"], "{execution:#}");
                any_unknown = true;
                counts.unknown += 1;
            }
            (_, "skipped") => assert_eq!((begun, attempts.len()), (0, 0), "{execution:#}"),
            other => panic!("{name} is {other:?}: {execution:#}"),
        }
        check_no_overlap(&own);
    }
    check_order(lines);
    match (execution["status"].as_str().unwrap(), any_unknown) {
        ("succeeded", false) => counts.succeeded += 1,
        ("failed", true) => {
            assert_eq!(execution["reason"], "unknown_outcome");
            counts.failed += 1;
        }
        other => panic!("{other:?}: {execution:#}\n{}", lives.log()),
    }
    let stream = http::get(lives.address(), &format!("/api/executions/{id}/events")).unwrap().text();
    let kinds = events(&stream);
    assert_eq!(kinds.first().map(|(kind, _)| kind.as_str()), Some("created"));
    assert_eq!(kinds.iter().filter(|(kind, _)| kind == "finished").count(), 1);
    assert_eq!(kinds.last().map(|(kind, _)| kind.as_str()), Some("end"));
}

/// Once a later process has begun, an earlier one writes nothing more.
fn check_no_overlap(own: &[&Line]) {
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut now: Option<&str> = None;
    for line in own {
        assert!(!gone.contains(line.pid.as_str()), "two processes of one attempt at the same time");
        if line.word == "begin" {
            gone.extend(now.replace(&line.pid));
        }
    }
}

/// No step begins before all earlier ones have ended.
fn check_order(lines: &[Line]) {
    let positions: Vec<usize> =
        lines.iter().map(|line| STEPS.iter().position(|step| *step == line.step).unwrap()).collect();
    assert!(positions.is_sorted(), "steps out of order: {positions:?}");
}
