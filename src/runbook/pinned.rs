//! A runbook together with the version and the text it came from.

use super::Runbook;

/// One version of a runbook; an execution is bound to one from its first moment.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The runbook.
    pub runbook: Runbook,
    /// Counting up from 1, a number for each content.
    pub version: u64,
    /// SHA-256 of the file's text, in hexadecimal.
    pub hash: String,
    /// The file's name.
    pub file_name: String,
}
