//! The lines of the table, and the page they stand on.

use super::numbers::{count, median};
use super::{Options, machine};
use std::fmt;
use std::time::Duration;

/// One line.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// The program's figure: the median of the rounds.
    pub(crate) ours: String,
    /// What it is held against, from the same run.
    pub(crate) floor: String,
    /// Program to floor, one for each round; empty where the goal is not a ratio.
    pub(crate) ratios: Vec<f64>,
    /// The goal, in words.
    pub(crate) goal: String,
    /// Whether it is met; nothing where the line has none.
    pub(crate) met: Option<bool>,
}

impl Row {
    /// A line whose goal is a bound on the median of its ratios.
    pub(crate) fn ratio(what: &str, ours: String, floor: String, ratios: Vec<f64>, goal: &Bound) -> Self {
        let met = match goal {
            Bound::AtLeast(bound) => median(&ratios) >= *bound,
            Bound::AtMost(bound) => median(&ratios) <= *bound,
        };
        let goal = match goal {
            Bound::AtLeast(bound) => format!("≥ {bound} × floor"),
            Bound::AtMost(bound) => format!("≤ {bound} × floor"),
        };
        Self { what: what.to_owned(), ours, floor, ratios, goal, met: Some(met) }
    }

    /// A line whose goal is not a ratio.
    pub(crate) fn plain(what: &str, ours: String, floor: String, goal: &str, met: Option<bool>) -> Self {
        Self { what: what.to_owned(), ours, floor, ratios: Vec::new(), goal: goal.to_owned(), met }
    }

    fn spread(&self) -> String {
        if self.ratios.is_empty() {
            return "–".to_owned();
        }
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} ({}–{})", count(median(&self.ratios)), count(least), count(most))
    }

    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        }
    }
}

/// A goal that is a ratio.
pub(crate) enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ours, floor, goal, .. } = self;
        write!(f, "{what}: {ours}; floor {floor}; ratio {}; goal {goal}: {}", self.spread(), self.verdict())
    }
}

/// The page.
pub(crate) fn page(rows: &[Row], options: &Options, took: Duration) -> String {
    let mut text = format!(
        "# Speed and size, measured\n\n\
         Made by `make bench`; do not edit. Each line is the release program beside its floor: the bare work that\n\
         cannot be avoided, done on the same machine in the same minute. Program and floor take turns; the ratio is\n\
         the median over {} rounds, with the least and the greatest. The load comes from the same processors.\n\
         The figures say something about each other, and nothing about another machine.\n\n{}\n\
         - took: {} s{}\n\n\
         | what | runbookd | floor, same run | ratio (spread) | goal | met |\n|---|---|---|---|---|---|\n",
        options.rounds(),
        machine::facts(),
        took.as_secs(),
        if options.quick { ", `--quick`: too short to quote" } else { "" },
    );
    for row in rows {
        let Row { what, ours, floor, goal, .. } = row;
        text += &format!("| {what} | {ours} | {floor} | {} | {goal} | {} |\n", row.spread(), row.verdict());
    }
    text
}
