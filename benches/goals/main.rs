//! The goals of speed and size, measured: `cargo bench --bench goals -- [NAME…] [--quick] [--full] [--write FILE]`.
//!
//! Every figure is taken from the release program, started as a child on a directory and a loopback port of its
//! own, and stands beside its floor: what the same machine needs, in the same minute, for the bare work that cannot
//! be avoided. Floor and program take turns, round by round; a ratio is the median over the rounds. Nothing here
//! fails because something is slow; it fails when something is lost or wrong.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by a panic")]

mod client;
mod daemon;
mod episodes;
mod first;
mod floor;
mod history;
mod idle;
mod machine;
mod numbers;
mod report;
mod restate;
mod steps;
mod storm;
mod webhooks;

use report::Row;
use std::time::Instant;

/// What was asked for.
pub(crate) struct Options {
    /// Fewer and shorter rounds, for a first look.
    pub(crate) quick: bool,
    /// The million of everything that has one.
    pub(crate) full: bool,
}

impl Options {
    /// How often floor and program take turns.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    /// How long one side of a round lasts, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        if self.quick { 0.5 } else { 1.5 }
    }

    /// How many of what the goal counts by the hundred thousand.
    pub(crate) fn many(&self) -> usize {
        match (self.quick, self.full) {
            (true, _) => 10_000,
            (_, true) => 1_000_000,
            _ => 100_000,
        }
    }
}

type Goal = fn(&Options) -> Vec<Row>;

const GOALS: &[(&str, Goal)] = &[
    ("idle", idle::measure),
    ("webhooks", webhooks::measure),
    ("first", first::measure),
    ("steps", steps::measure),
    ("storm", storm::measure),
    ("episodes", episodes::measure),
    ("history", history::measure),
];

fn main() {
    let mut options = Options { quick: false, full: false };
    let (mut names, mut file) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo itself adds.
            "--bench" => {}
            "--quick" => options.quick = true,
            "--full" => options.full = true,
            "--write" => file = arguments.next(),
            name if GOALS.iter().any(|(goal, _)| *goal == name) => names.push(name.to_owned()),
            other => {
                let known: Vec<&str> = GOALS.iter().map(|(name, _)| *name).collect();
                eprintln!("{other:?} is none of: {}, --quick, --full, --write FILE", known.join(", "));
                std::process::exit(2);
            }
        }
    }
    let began = Instant::now();
    let mut rows = Vec::new();
    for (name, goal) in GOALS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            let fresh = goal(&options);
            fresh.iter().for_each(|row| eprintln!("  {row}"));
            rows.extend(fresh);
        }
    }
    let text = report::page(&rows, &options, began.elapsed());
    println!("{text}");
    if let Some(file) = file {
        // cargo runs a bench in the package's directory.
        std::fs::write(&file, text).unwrap();
        eprintln!("written to {file}");
    }
}
