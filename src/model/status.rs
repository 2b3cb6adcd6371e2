//! The states of an execution, a step and an attempt, spelled as users see them.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in records, answers and metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value spelled `word`, if there is one.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::parse(word).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("must be one of: {}", known.join(", "))
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an execution stands. No event leads out of a final status.
    ExecutionStatus {
        /// Accepted and durable, waiting for a slot or for its lock.
        Queued = "queued",
        /// Waiting for a person to allow it.
        AwaitingApproval = "awaiting_approval",
        /// Has a step in progress or a timer running.
        Running = "running",
        /// Held by a person or by the kill switch.
        Paused = "paused",
        /// Steps are done; proving that they helped.
        Verifying = "verifying",
        /// Undoing, in reverse order.
        RollingBack = "rolling_back",
        /// Steps succeeded and the verify, where declared, held.
        Succeeded = "succeeded",
        /// A step failed for good, or time ran out.
        Failed = "failed",
        /// Steps succeeded but the verify did not hold in time.
        NotVerified = "not_verified",
        /// A person or the kill switch ended it.
        Stopped = "stopped",
        /// A gate or a person refused it before its first step.
        Rejected = "rejected",
        /// It waited too long, or its alert resolved before it began.
        Expired = "expired",
        /// Something was undone.
        RolledBack = "rolled_back",
        /// An undo failed: a person is needed.
        RollbackFailed = "rollback_failed",
    }
}

impl ExecutionStatus {
    /// Whether nothing can follow it.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued
            | Self::AwaitingApproval
            | Self::Running
            | Self::Paused
            | Self::Verifying
            | Self::RollingBack => false,
            Self::Succeeded
            | Self::Failed
            | Self::NotVerified
            | Self::Stopped
            | Self::Rejected
            | Self::Expired
            | Self::RolledBack
            | Self::RollbackFailed => true,
        }
    }

    /// The live statuses, in order.
    pub fn live() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|status| !status.is_final())
    }
}

words! {
    /// Where a step stands.
    StepStatus {
        /// Not begun.
        Pending = "pending",
        /// Its `when` was false, or the execution turned away from it.
        Skipped = "skipped",
        /// An attempt is in progress.
        Running = "running",
        /// Between attempts, or waiting for time, a condition or a person.
        Waiting = "waiting",
        /// Done.
        Succeeded = "succeeded",
        /// Failed for good.
        Failed = "failed",
        /// Its time ran out.
        TimedOut = "timed_out",
        /// Killed on request.
        Stopped = "stopped",
        /// A crash hid the outcome of a step that must not run twice.
        Unknown = "unknown",
    }
}

words! {
    /// How one attempt ended.
    AttemptOutcome {
        /// Done.
        Succeeded = "succeeded",
        /// It ran and said no.
        Failed = "failed",
        /// Its time ran out and it was killed.
        TimedOut = "timed_out",
        /// Killed on request.
        Stopped = "stopped",
        /// A crash hid the outcome.
        Unknown = "unknown",
        /// The daemon ended under it; it runs again with the same number.
        Interrupted = "interrupted",
    }
}
