//! Rehearsals: a runbook's unit tests, played by the real engine in a world that answers from the test file.
//!
//! `script` is what a `*.test.toml` says and `read` reads it, `stage` plays one case with a clock that jumps from timer
//! to timer, `world` answers what steps ask of the world, `people` says what people say, `judge` compares what happened
//! with what was wanted, `coverage` counts which ends of which steps were seen.
//! May import: what the engine needs. Must never: touch the real world, or know better than the engine what follows.

mod coverage;
mod judge;
mod people;
mod read;
mod script;
mod stage;
mod world;

pub use coverage::{Coverage, Seen};
pub use judge::Difference;
pub use read::read;
pub use script::{Case, Suite};

use crate::model::{ExecutionId, RunbookId};
use crate::runbook::Pinned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A runbook of a rehearsal, with its text.
#[derive(Debug)]
pub struct Book {
    /// As parsed.
    pub pinned: Arc<Pinned>,
    /// As written.
    pub text: String,
}

/// The runbook that is tested, and all that its steps start.
pub type Library = BTreeMap<RunbookId, Book>;

/// The runbook that an execution is of.
fn book_of<'l>(library: &'l Library, id: &ExecutionId) -> Option<&'l Book> {
    library.get(&RunbookId::new(id.runbook()).ok()?)
}

/// What came of one case.
#[derive(Debug)]
pub struct Outcome {
    /// Where what happened is not what was wanted; nothing for a success.
    pub differences: Vec<Difference>,
}

/// Plays every case of `suite`; the outcomes are in its order.
///
/// # Errors
/// A sentence, when a case cannot be played at all.
pub fn play(suite: &Suite) -> Result<(Vec<Outcome>, Coverage), String> {
    let mut coverage = Coverage::of(suite.runbook());
    let mut outcomes = Vec::new();
    for case in &suite.cases {
        let played = stage::play(suite, case).map_err(|why| format!("{}: {why}", case.name))?;
        coverage.add(&played);
        outcomes.push(Outcome { differences: judge::differences(suite, case, &played) });
    }
    Ok((outcomes, coverage))
}

#[cfg(test)]
mod tests;
