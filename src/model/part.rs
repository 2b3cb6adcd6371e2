//! Which part of a step an attempt belongs to: the step itself, its probe or its undo, each perhaps for one item.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an attempt does for its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the step is for.
    #[default]
    Main,
    /// Looks whether an attempt with an unknown outcome happened.
    Probe,
    /// Takes the step back.
    Undo,
}

/// One part of a step: attempts are counted per part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Part {
    /// What it does for the step.
    #[serde(default)]
    pub role: Role,
    /// The position in the list of a `for_each`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

impl Part {
    /// The step itself, where it has no list.
    pub const MAIN: Self = Self { role: Role::Main, item: None };

    /// The step itself for the item at `index`.
    pub fn item(index: usize) -> Self {
        Self { role: Role::Main, item: u32::try_from(index).ok() }
    }

    /// The same item in another role.
    #[must_use]
    pub fn with(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Whether it is the step itself, where it has no list. For serde, which passes a reference.
    pub fn is_main(&self) -> bool {
        *self == Self::MAIN
    }
}

/// A plain word for file names and keys: empty for the step itself, else `undo`, `item3`, `undo-item3`, …
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Main => "",
            Role::Probe => "probe",
            Role::Undo => "undo",
        };
        match (role, self.item) {
            (role, None) => f.write_str(role),
            ("", Some(item)) => write!(f, "item{item}"),
            (role, Some(item)) => write!(f, "{role}-item{item}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_word_of_its_own() {
        let words = [
            (Part::MAIN, ""),
            (Part::MAIN.with(Role::Probe), "probe"),
            (Part::MAIN.with(Role::Undo), "undo"),
            (Part::item(3), "item3"),
            (Part::item(3).with(Role::Undo), "undo-item3"),
        ];
        for (part, word) in words {
            assert_eq!(part.to_string(), word);
        }
    }
}
