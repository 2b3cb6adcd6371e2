//! A storm: thousands of alerts in seconds, each wanting a command that takes one.

use super::Options;
use super::daemon::{Daemon, alerts, deliver};
use super::numbers::{count, mebibytes};
use super::report::Row;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RUNBOOK: &str = r#"
title = "Sleeps"
mode = "auto"
alerts = ["Storm"]
target = "{{ labels.instance }}"
[[steps]]
id = "sleep"
command = { program = "/bin/sleep", args = ["1"] }
"#;

/// Bodies a storm comes in, and how far apart.
const BODIES: usize = 100;
const APART: Duration = Duration::from_millis(100);

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let daemon = Daemon::start(32, &[("sleeps", RUNBOOK)]);
    let idle = daemon.settled_rss();
    let (each, after) = if options.quick { (10, 3) } else { (100, 15) };
    let (most, over, slowest) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(daemon.children(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (mut client, began) = (daemon.client(), Instant::now());
        for number in 0..BODIES {
            std::thread::sleep((APART * number as u32).saturating_sub(began.elapsed()));
            let sent = Instant::now();
            deliver(&mut client, &alerts("Storm", each), each);
            slowest.fetch_max(sent.elapsed().as_millis() as usize, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_secs(after));
        over.store(true, Ordering::Relaxed);
    });
    let accepted = (BODIES * each) as u64;
    // Between two questions some may have moved on: what is over, then what is not, then what is over again.
    let first = daemon.finished();
    let (queued, active) = daemon.queued_and_active();
    let last = daemon.finished();
    let kept = first + queued + active <= accepted && last + queued + active >= accepted;
    assert!(kept, "{accepted} accepted; {first} to {last} over, {active} active, {queued} queued");
    let (most, limit) = (most.into_inner(), daemon.max_running());
    let words = format!("storm of {} alerts in 10 s to a 1 s command", count(accepted as f64));
    let seen = format!(
        "{last} over, {active} active, {queued} queued of {accepted} after {after} s more; the slowest body of {each} answered in {} ms",
        slowest.into_inner()
    );
    let peak = daemon.peak_rss();
    vec![
        Row::plain(
            &format!("{words}: children at a time"),
            most.to_string(),
            format!("`max_running` {limit}"),
            "never more than `max_running`",
            Some(most <= limit),
        ),
        Row::plain(&format!("{words}: executions lost"), "0".to_owned(), seen, "none", Some(true)),
        Row::plain(
            &format!("{words}: greatest RSS"),
            mebibytes(peak),
            format!("idle {}", mebibytes(idle)),
            "bounded (≤ 200 MiB)",
            Some(peak <= 200.0 * 1048576.0),
        ),
    ]
}
