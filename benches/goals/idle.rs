//! A daemon that has nothing to do: its memory, how often it wakes, and how big its program is.

use super::Options;
use super::daemon::{BINARY, Daemon};
use super::numbers::{count, mebibytes};
use super::report::Row;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const RUNBOOK: &str = "title = \"One\"\nmode = \"auto\"\nalerts = [\"One\"]\ntarget = \"one\"\n\
                       [[steps]]\nid = \"one\"\ncommand = { program = \"/bin/true\" }\n";
const LIMIT: f64 = 20.0 * 1048576.0;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let daemon = Daemon::start(32, &[("one", RUNBOOK)]);
    let rss = daemon.settled_rss();
    let seconds = if options.quick { 3.0 } else { 10.0 };
    let before: BTreeMap<String, u64> = daemon.sleeps().into_iter().collect();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let woken: Vec<(String, u64)> = daemon
        .sleeps()
        .into_iter()
        .map(|(name, number)| (name.clone(), number - before.get(&name).copied().unwrap_or(0)))
        .filter(|(_, number)| *number > 0)
        .collect();
    let all = woken.iter().map(|(_, number)| *number).sum::<u64>() as f64 / seconds;
    let whose: Vec<String> = woken
        .iter()
        .map(|(name, number)| format!("{} {:.1}", name.split('/').next().unwrap(), *number as f64 / seconds))
        .collect();
    // The scheduler looks every five seconds whatever happens, and one thread may wake another.
    let met = Some(all <= 1.0);
    let mut rows = vec![
        Row::plain("idle: RSS", mebibytes(rss), "–".to_owned(), "≤ 20 MiB", Some(rss <= LIMIT)),
        Row::plain(
            "idle: wake-ups a second, of all threads",
            count(all),
            format!("by thread: {}", if whose.is_empty() { "none".to_owned() } else { whose.join(", ") }),
            "none but timers (≤ 1/s)",
            met,
        ),
    ];
    let release = Path::new(BINARY);
    let dist = release.parent().unwrap().with_file_name("dist").join("runbookd");
    for (profile, path) in [("release", release), ("dist", &dist)] {
        let what = format!("binary, stripped, profile {profile}");
        rows.push(match std::fs::metadata(path) {
            Ok(found) => {
                let size = found.len() as f64;
                Row::plain(&what, mebibytes(size), "–".to_owned(), "≤ 20 MiB", Some(size <= LIMIT))
            }
            Err(_) => Row::plain(&what, "not built here".to_owned(), "–".to_owned(), "≤ 20 MiB", None),
        });
    }
    rows
}
