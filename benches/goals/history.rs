//! Many live executions: what each costs parked, how long a restart takes, and whether lists stay fast.

use super::Options;
use super::daemon::{Daemon, alerts, deliver};
use super::numbers::{count, mebibytes, median, micros, percentile, time};
use super::report::Row;
use std::fs;
use std::time::{Duration, Instant};

const RUNBOOK: &str = r#"
title = "Waits"
mode = "auto"
alerts = ["Parks"]
target = "{{ labels.instance }}"
timeout = "1d"
[[steps]]
id = "wait"
wait = { for = "23h" }
"#;

const FEW: usize = 1000;
const PATHS: [(&str, &str); 3] = [
    ("integration status", "/api/sre/runbooks/integration-status"),
    ("executions, a page of 100", "/api/executions?limit=100"),
    ("decisions, a page of 100", "/api/decisions?limit=100"),
];
/// The least a request over this edge can do.
const NOTHING: &str = "/-/healthy";

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let mut daemon = Daemon::start(256, &[("parks", RUNBOOK)]);
    let idle = daemon.settled_rss();
    park(&daemon, FEW);
    let before = tails(&daemon, options);
    let many = options.many();
    let began = Instant::now();
    park(&daemon, many - FEW);
    let rate = (many - FEW) as f64 / began.elapsed().as_secs_f64();
    let full = daemon.settled_rss();
    let mut rows = Vec::new();
    let words = count(many as f64);
    let each = |rss: f64| (rss - idle) / many as f64;
    let floor = format!("idle {}, now {}; parked at {}/s", mebibytes(idle), mebibytes(full), count(rate));
    let what = format!("{words} parked executions: RSS each above idle");
    let bytes = |rss: f64| format!("{} B", count(each(rss)));
    rows.push(Row::plain(&what, bytes(full), floor, "≤ 1 KiB each", Some(each(full) <= 1024.0)));
    let after = tails(&daemon, options);
    rows.extend(lists(&before, &after, &words));
    let (took, read, size) = restarts(&mut daemon, options);
    let again = daemon.settled_rss();
    let what = format!("restart after SIGKILL with {words} live executions: start to ready");
    let floor = format!("{} to read the {} of the store once", time(median(&read)), mebibytes(size));
    let ratios = took.iter().zip(&read).map(|(took, read)| took / read).collect();
    let (ours, met) = (time(median(&took)), Some(median(&took) <= 2e6));
    rows.push(Row { what, ours, floor, ratios, goal: "≤ 2 s".to_owned(), met });
    let what = format!("{words} parked executions after that restart: RSS each above idle");
    let floor = format!("idle {}, now {}", mebibytes(idle), mebibytes(again));
    rows.push(Row::plain(&what, bytes(again), floor, "≤ 1 KiB each", Some(each(again) <= 1024.0)));
    rows
}

/// Delivers alerts by the thousand and waits until all their executions wait.
fn park(daemon: &Daemon, wanted: usize) {
    let mut client = daemon.client();
    let (_, before) = daemon.queued_and_active();
    for _ in 0..wanted / FEW {
        deliver(&mut client, &alerts("Parks", FEW), FEW);
    }
    let all = before + wanted as u64;
    daemon.wait_until("all are parked", |daemon| daemon.queued_and_active() == (0, all));
}

/// The p99 of each path in microseconds, and of nothing.
fn tails(daemon: &Daemon, options: &Options) -> Vec<(f64, f64)> {
    let mut client = daemon.client();
    let mut tail = |path: &str| {
        let mut ask = || {
            let began = Instant::now();
            let answer = client.get(path).unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            micros(began.elapsed())
        };
        let took: Vec<f64> = (0..if options.quick { 100 } else { 300 }).map(|_| ask()).collect();
        percentile(&took, 0.99)
    };
    let median_tail = |tail: &mut dyn FnMut(&str) -> f64, path: &str| {
        // The floor takes turns with what stands on it.
        let rounds: Vec<(f64, f64)> = (0..options.rounds()).map(|_| (tail(path), tail(NOTHING))).collect();
        let (ours, floors): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        (median(&ours), median(&floors))
    };
    PATHS.iter().map(|(_, path)| median_tail(&mut tail, path)).collect()
}

fn lists(before: &[(f64, f64)], after: &[(f64, f64)], words: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (((name, _), (few, _)), (many, nothing)) in PATHS.iter().zip(before).zip(after) {
        let (few_words, nothing) = (count(FEW as f64), time(*nothing));
        rows.push(Row {
            what: format!("{name}, p99 with {words} executions"),
            ours: time(*many),
            floor: format!("{} with {few_words}; {nothing} an answer without content", time(*few)),
            ratios: vec![many / few],
            goal: "≤ 10 ms, flat".to_owned(),
            // Twice is what noise makes of a p99; a walk through a history a hundred times longer would be more.
            met: Some(*many <= 10e3 && (many / few <= 2.0 || *many < 500.0)),
        });
    }
    rows
}

/// Restarts, and between them the files of the store read once; and their size.
fn restarts(daemon: &mut Daemon, options: &Options) -> (Vec<f64>, Vec<f64>, f64) {
    let (mut took, mut read, mut size) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..if options.quick { 1 } else { 3 } {
        // Longer than anything it may still write: a kill finds it at rest.
        std::thread::sleep(Duration::from_secs(1));
        took.push(micros(daemon.kill_and_start()));
        let began = Instant::now();
        size = 0.0;
        for entry in fs::read_dir(daemon.dir().path().join("data/store")).unwrap().flatten() {
            if entry.metadata().unwrap().is_file() {
                size += fs::read(entry.path()).unwrap().len() as f64;
            }
        }
        read.push(micros(began.elapsed()));
    }
    (took, read, size)
}
