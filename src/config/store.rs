//! `[store]`: where what must survive is kept.
//!
//! May import: `document`. Must never: open or create the store.

use super::source::{Section, Sources};
use crate::document::Table;
use std::path::PathBuf;

/// `[store]` after checking.
#[derive(Debug, Clone)]
pub struct Store {
    /// Which engine.
    pub kind: StoreKind,
    /// The directory of the data; made when missing.
    pub path: PathBuf,
}

/// Which engine keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Embedded, for one instance.
    Sled,
}

impl StoreKind {
    const WORDS: [(&'static str, Self); 1] = [("sled", Self::Sled)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
        }
    }
}

impl Store {
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let mut section = Section::open(sources, root, "store");
        let kind = section
            .setting(
                "kind",
                || StoreKind::Sled,
                |kind| kind.as_str().to_owned(),
                |value, _| value.one_of(&StoreKind::WORDS),
            )
            .value;
        let store = Self { kind, path: section.path("path", "../data") };
        section.finish();
        store
    }
}
