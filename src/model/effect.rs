//! What a crash may do to a step.

use serde::{Deserialize, Serialize};

/// The effect class of a step; all but [`Effect::ReadOnly`] are *changing*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks, never changes; runs again after a crash.
    ReadOnly,
    /// Twice is the same as once; runs again after a crash.
    Idempotent,
    /// The far side deduplicates by key; runs again with the same key.
    Keyed,
    /// Never a second run: after a crash its outcome is unknown.
    AtMostOnce,
}

impl Effect {
    /// Every class, in the order of growing care.
    pub const ALL: [Self; 4] = [Self::ReadOnly, Self::Idempotent, Self::Keyed, Self::AtMostOnce];

    /// Whether it can change something, so that its intent must be durable before it starts.
    pub fn is_changing(self) -> bool {
        self != Self::ReadOnly
    }

    /// The word in files, records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Idempotent => "idempotent",
            Self::Keyed => "keyed",
            Self::AtMostOnce => "at_most_once",
        }
    }
}
