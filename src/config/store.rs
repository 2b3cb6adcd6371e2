//! `[store]`: where what must survive is kept.
//!
//! May import: `document`. Must never: open or create the store.

use super::source::{Section, Sources};
use crate::document::Table;
use std::path::PathBuf;
use std::time::Duration;

/// `[store]` after checking.
#[derive(Debug, Clone)]
pub struct Store {
    /// Which engine.
    pub kind: StoreKind,
    /// The directory of the data; made when missing.
    pub path: PathBuf,
    /// How long what is over is kept: executions with their output, decisions, episodes.
    pub retention: Duration,
    /// How long records of the audit log are kept.
    pub audit_retention: Duration,
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

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A time to keep things: a day at least, a hundred years at most.
fn days(section: &mut Section<'_, '_>, key: &'static str, default: u32) -> Duration {
    let show = |value: &Duration| match (value.as_secs() % DAY.as_secs(), value.as_secs() / DAY.as_secs()) {
        (0, days) => format!("{days}d"),
        _ => humantime::format_duration(*value).to_string(),
    };
    section.setting(key, || default * DAY, show, |value, _| value.duration(DAY..=36525 * DAY)).value
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
        let store = Self {
            kind,
            path: section.path("path", "../data"),
            retention: days(&mut section, "retention", 90),
            audit_retention: days(&mut section, "audit_retention", 365),
        };
        section.finish();
        store
    }
}
