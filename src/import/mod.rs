//! Other programs' configs, as runbooks: what they ran, in our words, with a remark where there is no equal.
//!
//! Pure. Each program has a file; the texts it gives have been read by `runbook` before anybody sees them, so nothing
//! is handed out that would not load. May import: `model`, `document`, `runbook`. Must never: touch the disk, or leave
//! out in silence what the other program did.

mod am_executor;

pub use am_executor::am_executor;

use crate::document::Problem;
use crate::model::RunbookId;

/// What a config became.
#[derive(Debug)]
pub struct Imported {
    /// The runbooks, each with the text of its file.
    pub runbooks: Vec<(RunbookId, String)>,
    /// What belongs into the config, with remarks: TOML.
    pub config: String,
    /// What would go otherwise than it did there.
    pub warnings: Vec<Problem>,
}

#[cfg(test)]
mod tests;
