//! A value that must not be printed.

use std::fmt;

/// A secret text. It has no `Display`, no serde, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value; trailing line ends are cut, because files end with one.
    pub fn new(value: &str) -> Self {
        Self(value.trim_end_matches(['\n', '\r']).into())
    }

    /// The value itself; every caller is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"secret\"")
    }
}
