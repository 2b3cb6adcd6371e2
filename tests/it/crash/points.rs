//! SIGKILL at every append to a journal, right before and right after it, in every story.
//!
//! A first life without a failpoint counts the appends; then each of them is one round, with a store of its own: begin,
//! deliver, die there, begin again, wait for the end, compare. May import: `support`. Must never: look into the storage.

use super::far_side::FarSide;
use super::ledger::{self, Counts};
use super::stories::{STORIES, Story};
use crate::support::alerts::{LIMIT, WEBHOOK, body, config};
use crate::support::daemon::is_final;
use crate::support::http;
use crate::support::lives::Lives;
use crate::support::process::eventually;
use serde_json::Value;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds at once.
const ABREAST: usize = 2;
/// A number that is never reached.
const NEVER: u64 = u64::MAX;

/// One life of a story that dies at an append.
struct Round<'s> {
    story: &'s Story,
    lives: Lives,
    // Answers as long as anything may ask.
    _far: FarSide,
}

/// How a round ended.
struct Outcome {
    died: bool,
    execution: Value,
    appends: u64,
    end: String,
}

impl<'s> Round<'s> {
    fn new(story: &'s Story) -> Self {
        let far = FarSide::start();
        let lives = Lives::new(&config(""), &[(story.id, &story.runbook(&far.address()))]);
        far.write_to(lives.dir());
        Self { story, lives, _far: far }
    }

    /// Begins, delivers, dies at the append, begins again, and plays to the end.
    fn play(mut self, number: u64, side: &str, counts: &mut Counts) -> Outcome {
        let mut command = self.lives.command();
        command.env("RUNBOOKD_FAILPOINT", format!("append:{number}:{side}"));
        self.lives.begin(command);
        self.lives.wait_ready();
        let id = self.deliver().map(|id| id.expect("the first alert starts an execution"));
        let mut died = id.as_deref().is_none_or(|id| self.until_it_is_over(id).is_none());
        if died {
            died = self.lives.ended_by_a_kill();
            assert!(died, "it ended in another way:\n{}", self.lives.log());
            self.lives.begin(self.lives.command());
            self.lives.wait_ready();
        }
        // As Alertmanager does, whether it had an answer or not: what was accepted is only repeated.
        let repeated = eventually("an answer", LIMIT, || self.deliver());
        let again = id.or(repeated).expect("the repeat of an alert without an answer starts its execution");
        let execution =
            self.until_it_is_over(&again).unwrap_or_else(|| panic!("it died again:\n{}", self.lives.log()));
        assert_eq!(self.lives.executions().len(), 1, "one alert, one execution");
        let lines = ledger::read(self.lives.dir()).remove(&again).unwrap_or_default();
        let end = ledger::judge(&execution, &lines, counts);
        if self.story.in_order {
            ledger::check_order(&execution, &lines);
        }
        let log = self.lives.log();
        let appends = log.lines().filter(|line| line.starts_with("failpoint: append")).count() as u64;
        Outcome { died, execution, appends, end }
    }

    /// Delivers the alert; the execution it became or belongs to, if any. Nothing when the daemon died of it.
    fn deliver(&self) -> Option<Option<String>> {
        let answer =
            http::post(self.lives.address(), WEBHOOK, &body(self.story.id, "firing", &["a"])).ok()?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        Some(answer["decisions"][0]["execution_id"].as_str().map(str::to_owned))
    }

    /// Waits for the end, and does what people do until then; nothing when the daemon died before.
    fn until_it_is_over(&self, id: &str) -> Option<Value> {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = http::get(self.lives.address(), &format!("/api/executions/{id}")).ok()?;
            assert_eq!(answer.status, 200, "{id} was accepted: {}", answer.text());
            let execution = answer.json();
            if is_final(&execution) {
                return Some(execution);
            }
            if let Some(nudge) = self.story.nudge {
                nudge(self.lives.address(), &execution);
            }
            assert!(Instant::now() < end, "it is not over: {execution:#}\n{}", self.lives.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn check_end(story: &Story, outcome: &Outcome) {
    let Outcome { execution, end, .. } = outcome;
    let unknown = execution["steps"].as_array().unwrap().iter().any(|step| step["status"] == "unknown");
    let expected = match unknown {
        true => end == "failed:unknown_outcome" || story.ends.contains(&end.as_str()),
        false => story.ends.contains(&end.as_str()),
    };
    assert!(expected, "{end} is no end of {}: {execution:#}", story.id);
}

#[test]
fn a_kill_at_any_append_loses_nothing_and_repeats_nothing() {
    let began = Instant::now();
    let mut rounds: Vec<(&Story, u64, &str)> = Vec::new();
    for story in STORIES {
        let counted = Round::new(story).play(NEVER, "before", &mut Counts::default());
        assert!(!counted.died && counted.appends > 2, "{} appends in {}", counted.appends, story.id);
        assert!(story.ends.contains(&counted.end.as_str()), "{}: {:#}", counted.end, counted.execution);
        rounds.extend(
            (1..=counted.appends).flat_map(|number| [(story, number, "before"), (story, number, "after")]),
        );
    }
    let all = rounds.len();
    let (rounds, deaths) = (Mutex::new(rounds), Mutex::new(0_usize));
    let total = Mutex::new(Counts::default());
    thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                loop {
                    let next = rounds.lock().unwrap().pop();
                    let Some((story, number, side)) = next else { return };
                    println!("{} append:{number}:{side}", story.id);
                    let mut counts = Counts::default();
                    let outcome = Round::new(story).play(number, side, &mut counts);
                    check_end(story, &outcome);
                    *deaths.lock().unwrap() += usize::from(outcome.died);
                    let mut total = total.lock().unwrap();
                    total.interrupted += counts.interrupted;
                    total.unknown += counts.unknown;
                }
            });
        }
    });
    let (deaths, total) = (deaths.into_inner().unwrap(), total.into_inner().unwrap());
    println!("{all} rounds, {deaths} deaths, {total:?}, {:?}", began.elapsed());
    // Where two commits became one, the last number is not reached.
    assert!(deaths * 10 >= all * 9, "only {deaths} of {all} rounds died at their append");
    assert!(total.interrupted > 3 && total.unknown > 0, "hardly a step was cut: {total:?}");
}
