//! What an open episode costs in memory.

use super::Options;
use super::daemon::{Daemon, alerts, deliver};
use super::numbers::{count, mebibytes};
use super::report::Row;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let daemon = Daemon::start(32, &[]);
    let idle = daemon.settled_rss();
    let mut client = daemon.client();
    for _ in 0..options.many() / 1000 {
        deliver(&mut client, &alerts("Unmatched", 1000), 0);
    }
    let full = daemon.settled_rss();
    let each = (full - idle) / options.many() as f64;
    let what = format!("{} open episodes: RSS each above idle", count(options.many() as f64));
    let floor = format!("idle {}, now {}", mebibytes(idle), mebibytes(full));
    vec![Row::plain(&what, format!("{} B", count(each)), floor, "≤ 1 KiB each", Some(each <= 1024.0))]
}
