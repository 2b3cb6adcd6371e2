//! Identifiers. Each is a checked newtype, so a path, a key or a metric label can be built from it.

use serde::{Deserialize, Serialize};
use std::fmt;
use ulid::Ulid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct IdError {
    what: &'static str,
    text: String,
}

impl IdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

/// The most messages of one escalation, over all names and levels.
pub const MAX_MESSAGES: usize = 64;

/// Whether `text` is 1 to 64 of `A-Z a-z 0-9 _ -`: what everything is called that people name in files.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and wraps `text`.
            ///
            /// # Errors
            /// [`IdError`] naming what was expected.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(IdError::new($what, text)) }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
    };
}

text_id! {
    /// A runbook's name: the stem of its file.
    RunbookId, "a runbook id (1 to 64 of A-Z a-z 0-9 _ -)", is_word
}
text_id! {
    /// A step's name within its runbook.
    StepId, "a step id (1 to 64 of A-Z a-z 0-9 _ -)", is_word
}
text_id! {
    /// What an execution acts on. Never empty, never blank, never a pattern: "no target" must not mean "all".
    Target, "a target (1 to 1024 bytes, not blank, without * ? or control characters)",
    |text| {
        (1..=1024).contains(&text.len())
            && !text.trim().is_empty()
            && !text.contains(['*', '?'])
            && !text.chars().any(char::is_control)
    }
}
text_id! {
    /// One execution: `<runbook id>_<ULID>`.
    ExecutionId, "an execution id (<runbook id>_<ULID>)",
    |text| {
        text.rsplit_once('_').is_some_and(|(runbook, ulid)| {
            is_word(runbook) && ulid.len() == 26 && Ulid::from_string(ulid).is_ok()
        })
    }
}
text_id! {
    /// One decision: a ULID.
    DecisionId, "a decision id (a ULID)",
    |text| text.len() == 26 && Ulid::from_string(text).is_ok()
}

impl ExecutionId {
    /// The id of an execution of `runbook`, ordered by `ulid`.
    pub fn of(runbook: &RunbookId, ulid: Ulid) -> Self {
        Self(format!("{runbook}_{ulid}").into())
    }

    /// The id of an execution of `runbook` whose ULID is `number`.
    pub fn numbered(runbook: &RunbookId, number: u128) -> Self {
        Self::of(runbook, Ulid(number))
    }

    /// The number that its ULID is.
    pub fn number(&self) -> u128 {
        Ulid::from_string(self.ulid()).map_or(0, |ulid| ulid.0)
    }

    /// The ULID's text: its order is the order of creation across runbooks.
    pub fn ulid(&self) -> &str {
        self.0.rsplit_once('_').map_or("", |(_, ulid)| ulid)
    }

    /// The runbook's id.
    pub fn runbook(&self) -> &str {
        self.0.rsplit_once('_').map_or("", |(runbook, _)| runbook)
    }
}

impl DecisionId {
    /// The decision id for `ulid`.
    pub fn of(ulid: Ulid) -> Self {
        Self(ulid.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runbook_id_with_underscores_keeps_its_ulid_apart() {
        let runbook = RunbookId::new("service_unavailable").unwrap();
        let id = ExecutionId::of(&runbook, Ulid::from_parts(1, 2));
        assert_eq!(id.runbook(), "service_unavailable");
        assert_eq!(ExecutionId::new(id.as_str()).unwrap(), id);
    }

    #[test]
    fn a_path_a_blank_and_a_wildcard_are_refused() {
        for bad in ["", "../etc/passwd", "a b", "a/b", "a\0b", "ü"] {
            assert!(RunbookId::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "  ", "web-*", "db?", "a\nb"] {
            assert!(Target::new(bad).is_err(), "{bad:?}");
        }
        assert!(Target::new("10.0.0.1:9100").is_ok());
    }
}
