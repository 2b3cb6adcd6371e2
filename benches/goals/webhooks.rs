//! Webhooks: how many a second are durable, and how long one takes at half of that.

use super::Options;
use super::client::per_second;
use super::daemon::{Daemon, alerts, deliver};
use super::floor::{GroupLog, Log};
use super::numbers::{count, median, micros, percentile, time};
use super::report::{Bound, Row};
use std::time::{Duration, Instant};

/// Durable, and parked at once: what the engine then does is the same for all.
const PARKS: &str = r#"
title = "Waits"
mode = "auto"
alerts = ["Parks"]
target = "{{ labels.instance }}"
timeout = "1d"
[[steps]]
id = "wait"
wait = { for = "23h" }
"#;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let kinds = [
        ("one alert, decided", "Unmatched", 0),
        ("one alert, that becomes an execution which is driven to a timer", "Parks", 1),
    ];
    let mut rows = Vec::new();
    let mut reached = 0.0;
    for (words, alertname, started) in kinds {
        for concurrency in [16, 128] {
            let (row, rate) = throughput(options, words, (alertname, started), concurrency);
            rows.push(row);
            if (started, concurrency) == (0, 16) {
                reached = rate;
            }
        }
    }
    rows.push(latency(options, reached / 2.0));
    rows
}

fn throughput(
    options: &Options,
    words: &str,
    (alertname, started): (&str, usize),
    concurrency: usize,
) -> (Row, f64) {
    let daemon = Daemon::start(32, &[("parks", PARKS)]);
    let (mut ours, mut floors, mut ratios, mut empty) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        // No part of the floor, but what the edge and this load generator leave of the processors.
        empty.push(per_second(concurrency, options.seconds() / 2.0, |_| {
            let mut client = daemon.client();
            move || assert_eq!(client.get("/-/healthy").unwrap().status, 200)
        }));
        let log = GroupLog::new();
        let floor = per_second(concurrency, options.seconds(), |_| {
            let log = &log;
            move || log.commit(alerts("Unmatched", 1).as_bytes())
        });
        let rate = per_second(concurrency, options.seconds(), |_| {
            let mut client = daemon.client();
            move || deliver(&mut client, &alerts(alertname, 1), started)
        });
        // What is left to drive must not lie on the floor's round.
        daemon.wait_until("the executions are parked", |daemon| daemon.queued_and_active().0 == 0);
        ours.push(rate);
        floors.push(floor);
        ratios.push(rate / floor);
    }
    let what = format!("webhooks accepted and durable, {concurrency} at a time ({words})");
    let per_second = |rates: &[f64]| format!("{}/s", count(median(rates)));
    let floor = format!(
        "{} group-committed fdatasync of the same bytes (and {} requests for `/-/healthy`, which store nothing)",
        per_second(&floors),
        per_second(&empty)
    );
    (Row::ratio(&what, per_second(&ours), floor, ratios, &Bound::AtLeast(0.5)), median(&ours))
}

/// Requests leave at fixed times whatever the answers do, and are timed from when they were to leave.
fn latency(options: &Options, rate: f64) -> Row {
    const CONNECTIONS: usize = 16;
    let daemon = Daemon::start(32, &[]);
    let pause = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let mut log = Log::new();
        let body = alerts("Unmatched", 1);
        let alone: Vec<f64> = (0..200).map(|_| micros(log.append(body.as_bytes()))).collect();
        let began = Instant::now() + Duration::from_millis(20);
        let until = began + Duration::from_secs_f64(2.0 * options.seconds());
        let took: Vec<f64> = std::thread::scope(|scope| {
            let send = |number: usize| {
                let mut client = daemon.client();
                let mut due = began + pause.mul_f64(number as f64 / CONNECTIONS as f64);
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while due < until {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        deliver(&mut client, &alerts("Unmatched", 1), 0);
                        took.push(micros(due.elapsed()));
                        due += pause;
                    }
                    took
                })
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(send).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        ours.push(percentile(&took, 0.99));
        floors.push(median(&alone));
        ratios.push(percentile(&took, 0.99) / median(&alone));
    }
    let what = format!("webhook p99 at half of the load of 16 ({}/s)", count(rate));
    let floor = format!("{} one fdatasync, median", time(median(&floors)));
    Row::ratio(&what, time(median(&ours)), floor, ratios, &Bound::AtMost(3.0))
}
