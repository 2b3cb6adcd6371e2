//! `[runbooks]`: where the runbooks are.
//!
//! May import: `document`. Must never: look into the directory.

use super::source::{Section, Sources};
use crate::document::Table;
use std::path::PathBuf;

/// `[runbooks]` after checking.
#[derive(Debug, Clone)]
pub struct Runbooks {
    /// The directory of the runbook files; it may be missing for a while.
    pub dir: PathBuf,
    /// Whether changes of the directory are picked up by themselves; without, only a reload reads it again.
    pub watch: bool,
}

impl Runbooks {
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let mut section = Section::open(sources, root, "runbooks");
        let runbooks =
            Self { dir: section.path("dir", "../runbooks"), watch: section.boolean("watch", true).value };
        section.finish();
        runbooks
    }
}
