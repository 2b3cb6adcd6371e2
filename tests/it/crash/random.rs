//! SIGKILL at random, twenty times or `RUNBOOKD_ROUNDS`, while alerts for every story arrive without a pause.
//!
//! Several senders deliver, and deliver again until they get a 200, as Alertmanager does. Afterwards nothing that
//! was acknowledged may be missing and nothing may have happened twice that must not. A sender's pace and the
//! moments of the kills come from a seed, which is printed.

use super::far_side::FarSide;
use super::people::People;
use super::stories::{self, STORIES, Story};
use super::verdict::Verdict;
use crate::support::alerts::{WEBHOOK, body, config};
use crate::support::daemon::is_final;
use crate::support::http;
use crate::support::lives::{Lives, Random, seed};
use crate::support::process::eventually;
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many lives end by a kill, unless `RUNBOOKD_ROUNDS` says otherwise.
const ROUNDS: usize = 20;
const SENDERS: u64 = 4;
/// Between two alerts of a sender, at most, in milliseconds.
const PACE: u64 = 250;
const SETTLE: Duration = Duration::from_secs(60);

#[test]
fn kills_at_random_lose_nothing_and_repeat_nothing() {
    let rounds = std::env::var("RUNBOOKD_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut random = Random::new(seed());
    let far = FarSide::start();
    let texts = stories::runbooks(&far.address());
    let runbooks: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let mut lives =
        Lives::new(&config(&format!("[automation]\nmax_running = 8\n{}", far.config())), &runbooks);
    far.write_to(lives.dir());
    let people = People::at(lives.address());
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let sent: BTreeMap<String, Sent> = thread::scope(|scope| {
        let address = lives.address().to_owned();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (mut random, address, over) =
                    (Random::new(random.below(u64::MAX)), address.clone(), &over);
                let people = &people;
                scope.spawn(move || send_until(over, &address, people, sender, &mut random))
            })
            .collect();
        let killed = catch_unwind(AssertUnwindSafe(|| kill_again_and_again(&mut lives, rounds, &mut random)));
        over.store(true, Ordering::SeqCst);
        let sent = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
        sent
    });
    settle(&lives, &people);
    let verdict = Verdict::look(&lives, &far, &people);
    check_accepted(&verdict, &sent);
    let counts = verdict.judge();
    let executions: usize = counts.ends.values().sum();
    println!(
        "{} alerts, {rounds} kills, {executions} executions, {counts:?}, {:?}",
        sent.len(),
        began.elapsed()
    );
    assert!(sent.len() > rounds, "only {} alerts: this proves little", sent.len());
    assert!(counts.interrupted * 20 > rounds && counts.unknown > 0, "hardly a step was cut: {counts:?}");
}

/// So many lives, each ended by a kill, and one that lasts.
fn kill_again_and_again(lives: &mut Lives, rounds: usize, random: &mut Random) {
    for kill in 0..rounds {
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
}

/// Waits until all is over.
fn settle(lives: &Lives, people: &People) {
    eventually("the end of every execution", SETTLE, || {
        let open: Vec<Value> = lives.executions().into_iter().filter(|it| !is_final(it)).collect();
        for execution in &open {
            let story = Story::of(execution["runbook"].as_str().unwrap());
            nudge(lives.address(), people, story, execution["id"].as_str().unwrap());
        }
        open.is_empty().then_some(())
    });
}

/// An alert that was acknowledged.
struct Sent {
    story: &'static Story,
    execution: String,
}

/// What people do who see this execution; false when there is nothing more to do for it.
fn nudge(address: &str, people: &People, story: &Story, id: &str) -> bool {
    let Some(nudge) = story.nudge else { return false };
    match http::get(address, &format!("/api/executions/{id}")) {
        Ok(answer) if answer.status == 200 => {
            let execution = answer.json();
            nudge(people, &execution);
            !is_final(&execution)
        }
        // Nobody is there just now.
        _ => true,
    }
}

/// Sends alert after alert, each until it is acknowledged; what each became, by target.
fn send_until(
    over: &AtomicBool,
    address: &str,
    people: &People,
    sender: u64,
    random: &mut Random,
) -> BTreeMap<String, Sent> {
    let told: Vec<&'static Story> = STORIES.iter().filter(|story| !story.is_child).collect();
    let mut acknowledged = BTreeMap::new();
    let mut watched: Vec<(&Story, String)> = Vec::new();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let target = format!("{sender}-{number}");
        let story = told[usize::try_from(random.below(told.len() as u64)).unwrap()];
        let text = body(story.id, "firing", &[&target]);
        let execution = eventually(&format!("a 200 for {target}"), SETTLE, || {
            // A refused or cut connection and a 503 are all the same to Alertmanager: it comes again.
            let answer = http::post(address, WEBHOOK, &text).ok()?;
            match answer.status {
                200 => Some(answer.json()["decisions"][0]["execution_id"].as_str().unwrap().to_owned()),
                503 => None,
                other => panic!("{other}: {}", answer.text()),
            }
        });
        thread::sleep(Duration::from_millis(random.below(PACE)));
        watched.push((story, execution.clone()));
        watched.retain(|(story, id)| nudge(address, people, story, id));
        acknowledged.insert(target, Sent { story, execution });
    }
    acknowledged
}

/// Every alert that was acknowledged is one execution, and nothing else is.
fn check_accepted(verdict: &Verdict<'_>, sent: &BTreeMap<String, Sent>) {
    let mut by_target: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for execution in verdict.of_alerts() {
        let [target, id, runbook] = ["target", "id", "runbook"].map(|name| execution[name].as_str().unwrap());
        by_target.entry(target).or_default().push((id, runbook));
    }
    for (target, Sent { story, execution }) in sent {
        let expected = vec![(execution.as_str(), story.id)];
        assert_eq!(by_target.get(target.as_str()), Some(&expected), "{target} is not one execution");
    }
    assert_eq!(by_target.len(), sent.len(), "an execution nobody asked for");
}
