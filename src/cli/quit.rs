//! Why a verb ends without its answer, as a sentence with a way out and as an exit code.
//!
//! May import: nothing of this crate outside this room. Must never: hold a credential.

use super::escape::visible;
use super::screen::Screen;
use std::io;

/// Yes, or done.
pub(super) const YES: i32 = 0;
/// No: denied, failed, refused, not found, problems found.
pub(super) const NO: i32 = 1;
/// The command line is wrong.
pub(super) const USAGE: i32 = 2;
/// The server cannot be reached, or what answers is not one.
pub(super) const UNREACHABLE: i32 = 3;
/// Who asks is unknown, or may not.
pub(super) const UNAUTHORIZED: i32 = 4;

/// Why a verb ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Quit {
    /// The command line asks for something that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The answer is no.
    #[error("{message}")]
    No {
        /// What was refused, and why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// No server answers.
    #[error("{message}")]
    Unreachable {
        /// Which URL was tried, and what happened.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// 401 or 403.
    #[error("{message}")]
    Unauthorized {
        /// What the server said.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Stdout cannot be written to.
    #[error("stdout cannot be written to: {0}")]
    Output(#[from] io::Error),
}

impl Quit {
    /// A no without a hint.
    pub(super) fn no(message: impl Into<String>) -> Self {
        Self::No { message: message.into(), hint: String::new() }
    }

    /// The exit code. A reader that went away has seen what it wanted to see.
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::Usage(_) => USAGE,
            Self::No { .. } => NO,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Unauthorized { .. } => UNAUTHORIZED,
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => YES,
            Self::Output(_) => NO,
        }
    }

    /// Tells a person, where there is anything to tell. Lines of a message stay lines; all else is escaped.
    pub(super) fn tell(&self, screen: &mut Screen<'_>) {
        let hint = match self {
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return,
            Self::Usage(_) => "try --help",
            Self::No { hint, .. } | Self::Unreachable { hint, .. } | Self::Unauthorized { hint, .. } => hint,
            Self::Output(_) => "",
        };
        let mut text = String::from("runbookd: ");
        for line in self.to_string().lines() {
            text += &visible(line);
            text.push('\n');
        }
        if !hint.is_empty() {
            text += &format!("hint: {}\n", visible(hint));
        }
        screen.message(&text);
    }
}
