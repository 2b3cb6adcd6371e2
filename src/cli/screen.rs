//! Where a verb writes: data to stdout, messages to stderr, colour only for a status and only where it is wanted.
//!
//! May import: nothing of this crate outside this room. Must never: be given text from a server that was not escaped.

use super::Environment;
use super::quit::Quit;
use std::io::Write;

/// The most columns a table or a timeline takes, whatever the terminal: it is read on phones and in tickets too.
pub(super) const COLUMNS: usize = 100;

/// Stdout and stderr of a verb.
pub(super) struct Screen<'w> {
    out: &'w mut dyn Write,
    err: &'w mut dyn Write,
    color: bool,
    terminal: bool,
}

impl<'w> Screen<'w> {
    pub(super) fn new(out: &'w mut dyn Write, err: &'w mut dyn Write, env: &Environment) -> Self {
        Self { out, err, color: env.color(), terminal: env.terminal }
    }

    /// Whether stdout is a terminal, which obeys what is written to it.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Data: one line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Quit> {
        // One write, so that a reader of a pipe never sees half a line.
        let text = format!("{text}\n");
        self.bytes(text.as_bytes())
    }

    /// Data: text with its own line ends.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Quit> {
        self.bytes(text.as_bytes())
    }

    /// Data as it is.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Quit> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Hands everything written so far to whoever reads it.
    pub(super) fn flush(&mut self) -> Result<(), Quit> {
        Ok(self.out.flush()?)
    }

    /// A message for people. Stderr that is gone takes nothing away from the answer.
    pub(super) fn message(&mut self, text: &str) {
        self.err.write_all(format!("{}\n", text.trim_end_matches('\n')).as_bytes()).ok();
        self.err.flush().ok();
    }

    /// `text` in the colour of the status it shows; the same `text` where colour is not wanted.
    pub(super) fn paint(&self, text: &str) -> String {
        match color_of(text.trim()) {
            Some(color) if self.color => format!("\u{1b}[{color}m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }
}

fn color_of(status: &str) -> Option<u8> {
    const GREEN: u8 = 32;
    const RED: u8 = 31;
    const YELLOW: u8 = 33;
    match status {
        "succeeded" | "enabled" | "execute" | "pass" | "closed" => Some(GREEN),
        "failed" | "not_verified" | "rollback_failed" | "timed_out" | "unknown" | "halted" | "error"
        | "deny" | "open" => Some(RED),
        "queued" | "awaiting_approval" | "running" | "paused" | "verifying" | "rolling_back" | "waiting"
        | "interrupted" | "stopped" | "rejected" | "expired" | "rolled_back" | "draining" | "disabled"
        | "approve" | "half_open" => Some(YELLOW),
        _ => None,
    }
}
