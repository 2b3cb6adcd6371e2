//! Executions of three durable steps a second, beside the bare commits and processes, and beside Restate.

use super::client::per_second;
use super::daemon::{Daemon, alerts, deliver};
use super::floor::{GroupLog, spawn_and_wait};
use super::numbers::{count, median};
use super::report::Row;
use super::restate::Restate;
use super::{Options, restate};
use std::time::Instant;

/// Executions at a time, ours, the floor's and Restate's.
const CONCURRENCY: usize = 32;
/// What is written before, between and after three steps that may each run only once: accepted, the first intent,
/// two outcomes with the next intent, the last outcome with the end.
const COMMITS: usize = 5;

const RUNBOOK: &str = r#"
title = "Three steps"
mode = "auto"
alerts = ["Three"]
target = "{{ labels.instance }}"
[[steps]]
id = "one"
command = { program = "/bin/true" }
[[steps]]
id = "two"
command = { program = "/bin/true" }
[[steps]]
id = "three"
command = { program = "/bin/true" }
"#;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let daemon = Daemon::start(CONCURRENCY, &[("three", RUNBOOK)]);
    let restate = restate::start();
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut theirs: [(Vec<f64>, Vec<f64>); 2] = Default::default();
    for _ in 0..options.rounds() {
        let log = GroupLog::new();
        let floor = per_second(CONCURRENCY, options.seconds(), |_| || bare(&log));
        let rate = executions(&daemon, (floor * options.seconds() / 2.0) as usize + CONCURRENCY);
        ours.push(rate);
        floors.push(floor);
        ratios.push(rate / floor);
        if let Ok(restate) = &restate {
            for (handler, (rates, ratios)) in Restate::HANDLERS.iter().zip(&mut theirs) {
                rates.push(restate.per_second(handler, CONCURRENCY, options.seconds()));
                ratios.push(rate / rates.last().unwrap());
            }
        }
    }
    let per_second = |rates: &[f64]| format!("{}/s", count(median(rates)));
    let what = format!("three durable steps, each a process: executions, {CONCURRENCY} at a time");
    let floor = format!("{} of {COMMITS} group commits and 3 posix_spawn each", per_second(&floors));
    let goal = "see the next lines".to_owned();
    let mut rows = vec![Row { what: what.clone(), ours: per_second(&ours), floor, ratios, goal, met: None }];
    match restate {
        Err(why) => rows.push(Row::plain(&what, per_second(&ours), why, "above Restate's", None)),
        Ok(_) => {
            let words = ["the same steps: /bin/true by node", "empty steps: no process at all"];
            for ((rates, ratios), words) in theirs.into_iter().zip(words) {
                let floor = format!("{} Restate {}, {words}", per_second(&rates), restate::VERSION);
                let met = Some(median(&ratios) > 1.0);
                let goal = "above Restate's".to_owned();
                rows.push(Row { what: what.clone(), ours: per_second(&ours), floor, ratios, goal, met });
            }
        }
    }
    rows
}

/// One execution's worth of durable commits and processes.
fn bare(log: &GroupLog) {
    // About what the program writes at each.
    let entry = [b'x'; 400];
    log.commit(&entry);
    for _ in 0..3 {
        log.commit(&entry);
        spawn_and_wait();
    }
    for _ in 4..COMMITS {
        log.commit(&entry);
    }
}

/// Delivers `wanted` alerts at once; how many executions a second came to their end.
fn executions(daemon: &Daemon, wanted: usize) -> f64 {
    let body = alerts("Three", wanted);
    let (mut client, before) = (daemon.client(), daemon.finished());
    let began = Instant::now();
    deliver(&mut client, &body, wanted);
    daemon.wait_until("all are over", |daemon| daemon.queued_and_active() == (0, 0));
    let took = began.elapsed();
    assert_eq!(daemon.finished() - before, wanted as u64, "some executions are lost");
    wanted as f64 / took.as_secs_f64()
}
