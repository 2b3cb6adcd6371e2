//! SIGKILL at every append to a journal, right before and right after it, in every story.
//!
//! A first life without a failpoint counts the appends; then each of them is a round, with a store of its own: begin,
//! deliver, die there, begin again, wait for the end, compare. With `RUNBOOKD_CRASH=all`, all of it once more with a
//! second death at the first append of the life that recovers.
//! May import: `support`. Must never: look into the storage.

use super::far_side::FarSide;
use super::ledger::Counts;
use super::people::People;
use super::stories::{self, STORIES, Story};
use super::verdict::Verdict;
use crate::support::alerts::{LIMIT, WEBHOOK, body, config};
use crate::support::daemon::is_final;
use crate::support::http;
use crate::support::lives::Lives;
use crate::support::process::eventually;
use serde_json::Value;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds at once: most of their time is waiting.
const ABREAST: usize = 4;

/// Where a round dies.
#[derive(Debug, Clone, Copy)]
struct Point {
    append: u64,
    side: &'static str,
    /// Whether the life that recovers dies as well, at its first append.
    twice: bool,
}

impl Point {
    /// One that is never reached.
    const NEVER: Self = Self { append: u64::MAX, side: "before", twice: false };

    /// Those of a story with so many appends.
    fn of(appends: u64) -> impl Iterator<Item = Self> {
        let all = std::env::var("RUNBOOKD_CRASH").is_ok_and(|which| which == "all");
        (1..=appends).flat_map(move |append| {
            let sides = ["before", "after"].into_iter();
            let points = sides.flat_map(move |side| [false, true].map(|twice| Self { append, side, twice }));
            points.filter(move |point| all || !point.twice)
        })
    }
}

/// One life of a story that dies at an append.
struct Round<'s> {
    story: &'s Story,
    lives: Lives,
    people: People,
    // Answers as long as anything may ask.
    far: FarSide,
}

/// How a round ended.
struct Outcome {
    deaths: usize,
    appends: u64,
    counts: Counts,
}

impl<'s> Round<'s> {
    fn new(story: &'s Story) -> Self {
        let far = FarSide::start();
        let texts = stories::runbooks(&far.address());
        let runbooks: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let lives = Lives::new(&config(&far.config()), &runbooks);
        far.write_to(lives.dir());
        Self { story, people: People::at(lives.address()), lives, far }
    }

    /// Begins, delivers, dies at the append, begins again, and plays to the end.
    fn play(mut self, point: Point) -> Outcome {
        let Point { append, side, twice } = point;
        self.begin(&format!("append:{append}:{side}"));
        self.lives.wait_ready();
        let id = self.deliver().map(|id| {
            id.unwrap_or_else(|| panic!("the first alert starts an execution:\n{}", self.lives.log()))
        });
        let over = id.as_deref().and_then(|id| self.until_it_is_over(id));
        let mut deaths = 0;
        if over.is_none() || self.times_reached(append) > 0 {
            assert!(self.lives.ended_by_a_kill(), "it ended in another way:\n{}", self.lives.log());
            deaths = 1 + self.recover(id.as_deref(), if twice { Some(side) } else { None });
        }
        // As Alertmanager does, whether it had an answer or not: what was accepted is only repeated.
        let repeated = eventually("an answer", LIMIT, || self.deliver());
        let again = id.or(repeated).expect("the repeat of an alert without an answer starts its execution");
        let over = self.until_it_is_over(&again);
        over.unwrap_or_else(|| panic!("it died again:\n{}", self.lives.log()));
        let verdict = Verdict::look(&self.lives, &self.far, &self.people);
        assert_eq!(verdict.of_alerts().count(), 1, "one alert, one execution");
        let counts = verdict.judge();
        let log = self.lives.log();
        let appends = log.lines().filter(|line| line.starts_with("failpoint: append")).count() as u64;
        Outcome { deaths, appends, counts }
    }

    /// How many lives reached this append: what it made durable may have been seen before they died of it.
    fn times_reached(&self, append: u64) -> usize {
        let reached = format!("failpoint: append {append}");
        self.lives.log().lines().filter(|line| *line == reached).count()
    }

    fn begin(&mut self, failpoint: &str) {
        let mut command = self.lives.command();
        command.env("RUNBOOKD_FAILPOINT", failpoint);
        self.lives.begin(command);
    }

    /// Begins again; where a side is given, dies there once more at the first append, if there is one. How many more
    /// deaths that were.
    fn recover(&mut self, id: Option<&str>, side: Option<&str>) -> usize {
        if let Some(side) = side {
            self.begin(&format!("append:1:{side}"));
            if self.lives.wait_ready_or_killed() {
                // What was never accepted appends nothing before it is delivered again.
                let lived = match id {
                    Some(id) => self.until_it_is_over(id).is_some(),
                    None => self
                        .deliver()
                        .is_some_and(|id| id.is_none_or(|id| self.until_it_is_over(&id).is_some())),
                };
                if lived && self.times_reached(1) < 2 {
                    return 0;
                }
                assert!(self.lives.ended_by_a_kill(), "it ended in another way:\n{}", self.lives.log());
            }
        }
        self.lives.begin(self.lives.command());
        self.lives.wait_ready();
        usize::from(side.is_some())
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
                nudge(&self.people, &execution);
            }
            assert!(Instant::now() < end, "it is not over: {execution:#}\n{}", self.lives.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Plays all of them, some at once; gives what each came to.
fn play_all(rounds: Vec<(&Story, Point)>) -> Vec<(&Story, Point, Outcome)> {
    let (rounds, outcomes) = (Mutex::new(rounds), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                loop {
                    let next = rounds.lock().unwrap().pop();
                    let Some((story, point)) = next else { return };
                    let outcome = std::panic::catch_unwind(|| Round::new(story).play(point));
                    let outcome = outcome.unwrap_or_else(|panic| {
                        eprintln!("this was {} {point:?}", story.id);
                        // The others need not be played to say that it fails.
                        rounds.lock().unwrap().clear();
                        std::panic::resume_unwind(panic)
                    });
                    outcomes.lock().unwrap().push((story, point, outcome));
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

#[test]
fn a_kill_at_any_append_loses_nothing_and_repeats_nothing() {
    let began = Instant::now();
    let told: Vec<&Story> = STORIES.iter().filter(|story| !story.is_child).collect();
    let mut rounds: Vec<(&Story, Point)> = Vec::new();
    for (story, _, counted) in play_all(told.iter().map(|story| (*story, Point::NEVER)).collect()) {
        assert!(counted.deaths == 0 && counted.appends > 2, "{} appends in {}", counted.appends, story.id);
        rounds.extend(Point::of(counted.appends).map(|point| (story, point)));
        println!("{}: {} appends, {:?}", story.id, counted.appends, counted.counts.ends);
    }
    let all = rounds.len();
    let (mut deaths, mut died, mut total) = (0, 0, Counts::default());
    for (_, _, outcome) in play_all(rounds) {
        died += usize::from(outcome.deaths > 0);
        deaths += outcome.deaths;
        total.add(outcome.counts);
    }
    println!(
        "{} stories, {all} rounds, {died} died, {deaths} deaths, {total:?}, {:?}",
        told.len(),
        began.elapsed()
    );
    // Where two commits became one, the last number is not reached.
    assert!(died * 10 >= all * 9, "only {died} of {all} rounds died at their append");
    assert!(total.interrupted > 3 && total.unknown > 0, "hardly a step was cut: {total:?}");
}
