//! The catalogue: the live set of runbooks, each at its last good version.
//!
//! [`scan`] reads the directory, [`Catalogue::apply`] compares it with what is live and publishes a new
//! [`Snapshot`], `watch` says when to look again. A bad file keeps its last good version, one bad file never
//! stops the others, and a directory that cannot be read changes nothing.
//! Generic over the runbook `R`: how a text becomes one is handed in, and so are version numbers, which the
//! store keeps. May import: `model`, `document`. Must never: change the directory.

mod scan;
mod watch;

pub use scan::{Content, FileState, MAX_FILE, ScanError, scan};
pub use watch::{Pace, Watch};

use crate::document::{Problem, Problems, Severity};
use crate::model::RunbookId;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What became of a text.
#[derive(Debug, Clone)]
pub struct Parsed<R> {
    /// The runbook, when it can be used.
    pub runbook: Option<R>,
    /// Errors when there is no runbook, else warnings.
    pub problems: Vec<Problem>,
    /// The content hash a version is bound to.
    pub hash: String,
}

/// How a text becomes a runbook: its id, the file as people know it, the text.
type Parse<R> = Box<dyn Fn(&RunbookId, &str, &str) -> Parsed<R> + Send + Sync>;

/// Binds contents to version numbers, durably. The store is behind it.
pub trait Versions: Send + Sync {
    /// The version of `hash` for the runbook `id`: the number it already has, else the next, from 1. `text` is
    /// to be kept with a new one.
    ///
    /// The error is a sentence for people; the file then counts as broken and is tried again at the next apply.
    fn version_of(&self, id: &RunbookId, hash: &str, text: &str) -> BoxFuture<'_, Result<u64, String>>;
}

/// A runbook as it is live.
#[derive(Debug)]
pub struct Live<R> {
    /// The runbook.
    pub runbook: R,
    /// Counting up from 1 for each runbook.
    pub version: u64,
    /// The content hash that the version is bound to.
    pub hash: String,
    /// What the file held.
    pub text: Arc<str>,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// Why a file cannot be used as it is now.
#[derive(Debug)]
pub struct Broken {
    /// At least one error.
    pub problems: Vec<Problem>,
    /// What the file holds, to render the problems with.
    pub text: Arc<str>,
}

/// One runbook of the catalogue. At least one of `live` and `broken` is there.
#[derive(Debug)]
pub struct Entry<R> {
    /// The file, as people know it.
    pub file_name: String,
    /// The last good version.
    pub live: Option<Arc<Live<R>>>,
    /// What is wrong with the file now.
    pub broken: Option<Arc<Broken>>,
    /// Of the content this was made from; `None` when it must be tried again.
    digest: Option<[u8; 32]>,
}

impl<R> Clone for Entry<R> {
    fn clone(&self) -> Self {
        let Self { file_name, live, broken, digest } = self;
        Self { file_name: file_name.clone(), live: live.clone(), broken: broken.clone(), digest: *digest }
    }
}

/// The catalogue at one moment.
#[derive(Debug)]
pub struct Snapshot<R> {
    entries: BTreeMap<RunbookId, Entry<R>>,
}

impl<R> Snapshot<R> {
    /// The live version of `id`.
    pub fn get(&self, id: &RunbookId) -> Option<&Arc<Live<R>>> {
        self.entries.get(id)?.live.as_ref()
    }

    /// All that is known of `id`, also when it is broken.
    pub fn entry(&self, id: &RunbookId) -> Option<&Entry<R>> {
        self.entries.get(id)
    }

    /// Every runbook with a live version, by id.
    pub fn live(&self) -> impl Iterator<Item = (&RunbookId, &Arc<Live<R>>)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id, entry.live.as_ref()?)))
    }

    /// Every file that is broken now, by id.
    pub fn broken(&self) -> impl Iterator<Item = (&RunbookId, &Arc<Broken>)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id, entry.broken.as_ref()?)))
    }
}

/// What happened to one runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub id: RunbookId,
    /// What.
    pub kind: ChangeKind,
}

/// What happened to a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new and good.
    Added,
    /// It was good and is good in another version.
    Updated,
    /// Its file is gone, and so is it.
    Removed,
    /// Its file cannot be used; its last good version, if any, stays live.
    Broke(Vec<Problem>),
    /// Its file was broken and is good again.
    Repaired,
}

/// The live set of runbooks.
pub struct Catalogue<R> {
    parse: Parse<R>,
    /// Held only to read or replace the pointer.
    current: RwLock<Arc<Snapshot<R>>>,
    /// One apply at a time.
    turn: tokio::sync::Mutex<()>,
}

impl<R> Catalogue<R> {
    /// An empty catalogue whose files are read by `parse`.
    pub fn new(parse: impl Fn(&RunbookId, &str, &str) -> Parsed<R> + Send + Sync + 'static) -> Self {
        let current = RwLock::new(Arc::new(Snapshot { entries: BTreeMap::new() }));
        Self { parse: Box::new(parse), current, turn: tokio::sync::Mutex::new(()) }
    }

    /// The catalogue as it is now. Cheap; what was taken never changes.
    pub fn snapshot(&self) -> Arc<Snapshot<R>> {
        // The lock only guards the pointer, which is whole whatever happened to another holder.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the catalogue follow `files`, the result of a [`scan`], and says what changed, by id. Only files
    /// whose content changed are parsed.
    ///
    /// # Cancel safety
    /// Dropped half-way, the catalogue is unchanged; versions may have been recorded that are not live yet.
    pub async fn apply(&self, files: Vec<FileState>, versions: &dyn Versions) -> Vec<Change> {
        let _turn = self.turn.lock().await;
        let old = self.snapshot();
        let mut entries = BTreeMap::new();
        let mut changes = Vec::new();
        for file in files {
            let id = file.id.clone();
            let before = old.entries.get(&id);
            let (entry, kind) = self.follow(before, file, versions).await;
            changes.extend(kind.map(|kind| Change { id: id.clone(), kind }));
            entries.insert(id, entry);
        }
        let gone = old.entries.keys().filter(|id| !entries.contains_key(*id));
        changes.extend(gone.map(|id| Change { id: id.clone(), kind: ChangeKind::Removed }));
        changes.sort_by(|a, b| a.id.cmp(&b.id));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Snapshot { entries });
        changes
    }

    async fn follow(
        &self,
        before: Option<&Entry<R>>,
        file: FileState,
        versions: &dyn Versions,
    ) -> (Entry<R>, Option<ChangeKind>) {
        let digest = file.content.digest();
        if let Some(entry) = before.filter(|entry| entry.digest == Some(digest)) {
            return (entry.clone(), None);
        }
        let last = before.and_then(|entry| entry.live.clone());
        let broke = |text: Arc<str>, problems: Vec<Problem>, digest| {
            let is_news =
                before.and_then(|entry| entry.broken.as_ref()).is_none_or(|old| old.problems != problems);
            let kind = is_news.then(|| ChangeKind::Broke(problems.clone()));
            let broken = Some(Arc::new(Broken { problems, text }));
            (Entry { file_name: file.file_name.clone(), live: last.clone(), broken, digest }, kind)
        };
        let text = match file.content {
            Content::Text(text) => text,
            Content::Unreadable(text, problem) => return broke(text, vec![problem], Some(digest)),
        };
        let Parsed { runbook, problems, hash } = (self.parse)(&file.id, &file.file_name, &text);
        let Some(runbook) = runbook else {
            return broke(text, problems, Some(digest));
        };
        let version = match versions.version_of(&file.id, &hash, &text).await {
            Ok(version) => version,
            // Not the file's fault, so the same content is tried again.
            Err(why) => return broke(text, vec![unversioned(&file.file_name, &why)], None),
        };
        let kind = match before {
            None => Some(ChangeKind::Added),
            Some(entry) if entry.broken.is_some() => Some(ChangeKind::Repaired),
            Some(entry) => {
                let is_new = entry.live.as_ref().is_none_or(|live| live.version != version);
                is_new.then_some(ChangeKind::Updated)
            }
        };
        let live = Some(Arc::new(Live { runbook, version, hash, text, warnings: problems }));
        (Entry { file_name: file.file_name, live, broken: None, digest: Some(digest) }, kind)
    }
}

fn unversioned(file_name: &str, why: &str) -> Problem {
    let message = format!("its version cannot be recorded: {why}");
    let help = "the last good version stays; it is tried again by itself";
    Problems::outside(file_name).place(0..0, "").problem(Severity::Error, message, help)
}

#[cfg(test)]
mod tests;
