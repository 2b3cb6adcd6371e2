//! Reading what people write: TOML files, with every problem found at once and placed exactly.
//!
//! A [`Table`] is read key by key; each read either gives a value or notes a [`Problem`] with
//! `file:line:column` and goes on, and [`Table::finish`] notes the keys nobody asked for.
//! Used by `config` and `runbook`. May import: nothing of this crate. Must never: touch the disk.

mod problem;
mod value;

pub use problem::{Place, Problem, Problems, Severity};
pub use value::{Shape, Sited, Table, Value, nearest, parse, parse_size};

#[cfg(test)]
mod tests;
