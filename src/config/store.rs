//! `[store]`: where what must survive is kept.
//!
//! May import: `document`. Must never: open or create the store.

use super::source::{Section, Source, Sources, not_empty};
use crate::document::{Severity, Table, Value};
use std::path::{Path, PathBuf};
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
    /// Backups by the clock, where they are wanted.
    pub backup: Option<Export>,
}

/// `[store] backup`: backups that are taken by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The directory they are put into; made when missing.
    pub path: PathBuf,
    /// The time between two, a minute to 30 days.
    pub every: Duration,
    /// How many of them stay, 1 to 10,000.
    pub keep: usize,
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

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Backups that stay, unless the file says.
const KEEP: i64 = 7;

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
        let path = section.path("path", "../data");
        let store = Self {
            kind,
            backup: read_backup(&mut section, &path),
            path,
            retention: days(&mut section, "retention", 90),
            audit_retention: days(&mut section, "audit_retention", 365),
        };
        section.finish();
        store
    }
}

fn read_backup(section: &mut Section<'_, '_>, data: &Path) -> Option<Export> {
    let backup = section.take("backup").and_then(Value::table).and_then(|mut table| {
        let help = "name the directory of the backups, such as path = \"/var/backups/runbookd\"";
        let path = table.require("path", help);
        let every = table.take("every").map_or(Some(DAY), |value| value.duration(MINUTE..=30 * DAY));
        let keep = table.take("keep").map_or(Some(KEEP), |value| value.integer(1..=10_000));
        table.finish();
        let path = path?;
        let place = path.place();
        let path = section.sources.resolve(
            &path.parsed("write a path, relative to this file or absolute", not_empty)?,
            Source::File,
        );
        if path.starts_with(data) {
            let message = "these backups lie in the data directory: what destroys the one destroys the other";
            section.sources.problems.add(place.problem(
                Severity::Warning,
                message,
                "name a directory on another disk",
            ));
        }
        Some(Export { path, every: every?, keep: usize::try_from(keep?).ok()? })
    });
    let show = |Export { path, every, keep }: &Export| {
        format!("{}, every {}, {keep} are kept", path.display(), humantime::format_duration(*every))
    };
    section.item("backup", backup.as_ref().map_or_else(String::new, show), backup.is_some());
    backup
}
