//! A table a person can read: columns aligned, at most 100 wide, only what may be cut is cut.
//!
//! May import: nothing of this crate outside this room. Must never: cut an id, because it is there to be copied.

use super::escape::{cut, width};
use super::quit::Quit;
use super::screen::{COLUMNS, Screen};

const GAP: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Whole,
    Status,
    /// May be cut down to so many columns.
    Elastic(usize),
}

/// A table being filled.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: Vec<(&'static str, Style)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A column that is always shown whole.
    pub(super) fn whole(mut self, title: &'static str) -> Self {
        self.columns.push((title, Style::Whole));
        self
    }

    /// A column of statuses, whole and coloured where colour is wanted.
    pub(super) fn status(mut self, title: &'static str) -> Self {
        self.columns.push((title, Style::Status));
        self
    }

    /// A column that may be cut, but not below `least` columns.
    pub(super) fn elastic(mut self, title: &'static str, least: usize) -> Self {
        self.columns.push((title, Style::Elastic(least)));
        self
    }

    /// Adds a row of escaped texts, one for each column; an empty one is shown as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { cell }).collect());
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, each line after `indent` blanks.
    pub(super) fn print(&self, indent: usize, screen: &mut Screen<'_>) -> Result<(), Quit> {
        let widths = self.widths(COLUMNS.saturating_sub(indent));
        let titles = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        for (index, cells) in std::iter::once(&titles).chain(&self.rows).enumerate() {
            let mut line = " ".repeat(indent);
            for (at, ((cell, (_, style)), &wide)) in cells.iter().zip(&self.columns).zip(&widths).enumerate()
            {
                let cell = if matches!(style, Style::Elastic(_)) { cut(cell, wide) } else { cell.clone() };
                let pad = wide.saturating_sub(width(&cell)) + GAP;
                line += &if index > 0 && *style == Style::Status { screen.paint(&cell) } else { cell };
                if at + 1 < cells.len() {
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            screen.line(line.trim_end())?;
        }
        Ok(())
    }

    /// The columns' widths. While the whole is too wide, the widest column that may shrink does.
    fn widths(&self, most: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(title, _)| width(title)).collect();
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = (*wide).max(width(cell));
            }
        }
        loop {
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let shrinks = self.columns.iter().zip(widths.iter_mut()).filter_map(|((title, style), wide)| {
                let least = match style {
                    Style::Elastic(least) => (*least).max(width(title)),
                    Style::Whole | Style::Status => return None,
                };
                (*wide > least).then_some((*wide, wide, least))
            });
            let Some((_, wide, least)) = shrinks.max_by_key(|(now, ..)| *now).filter(|_| total > most) else {
                return widths;
            };
            // A label of 64 KiB must not take 64 Ki turns.
            *wide = (*wide).min(most).max(least + 1) - 1;
        }
    }
}
