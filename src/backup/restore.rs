//! Putting a backup back into an empty directory, and telling whether one could be.
//!
//! The file is read to its end and checked before anything is written. Then everything is made in `restoring` inside the
//! directory; the last step is one rename of the store, and only a directory with a store is one that a daemon serves
//! from. The store says `halted` when it gets its place: what happened since the backup was taken is not known to it, and
//! a person should look first. May import: `model`, `guard`, `journal`, `store`. Must never: touch a directory in which
//! something is.

use super::format::{Contents, Head, Piece, Reader, Unfit};
use super::place::sync_dir;
use crate::guard::{Order, Scope, SwitchState};
use crate::journal::AuditEntry;
use crate::model::Timestamp;
use crate::store::records::Records;
use crate::store::records::switch::GivenUp;
use crate::store::{Change, CommitError, OpenError, ReadError, SledOptions, SledStore, Store};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Where everything is until it is complete.
const RESTORING: &str = "restoring";
const STORE: &str = "store";
const OUTPUTS: &str = "outputs";
/// What every file system puts into its own top directory.
const LOST_AND_FOUND: &str = "lost+found";
/// Who acts where no person does.
const AUTOMATION: &str = "runbookd";
/// Changes and bytes of one commit.
const GROUP: usize = 2000;
const GROUP_BYTES: usize = 2 << 20;
/// Live executions that are counted in one go.
const COUNTED: usize = 500;

/// Why a backup was not restored. Nothing of it is in place then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be used.
    #[error("{} cannot be restored: {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Unfit,
    },
    /// There is something in the directory.
    #[error("{} is not empty, it holds {found}; a backup is restored into an empty directory only: move that one aside", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        found: String,
    },
    /// Another restore is at work in it.
    #[error("another restore is at work in {}", .0.display())]
    Busy(PathBuf),
    /// There is no room.
    #[error("there is no room for the backup in {}: make some, or choose another disk", .0.display())]
    Full(PathBuf),
    /// The system refused.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The new store could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be written.
    #[error(transparent)]
    Commit(CommitError),
    /// It could not be read again.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<CommitError> for RestoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Read(error) => Self::Read(error),
            error => Self::Commit(error),
        }
    }
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub head: Head,
    /// What was in it.
    pub contents: Contents,
    /// Executions that were not over.
    pub live: u64,
}

/// Reads the backup `file` to its end. Blocks.
///
/// # Errors
/// [`RestoreError::Unfit`], which says what is wrong with it.
pub fn check(file: &Path) -> Result<(Head, Contents), RestoreError> {
    each(file, |_| Ok(()))
}

/// Gives each piece of the backup `file` behind its head to `take`.
fn each(
    file: &Path,
    mut take: impl FnMut(Piece) -> Result<(), RestoreError>,
) -> Result<(Head, Contents), RestoreError> {
    let unfit = |why: Unfit| RestoreError::Unfit { file: file.to_owned(), why };
    let opened = File::open(file).map_err(|cause| unfit(cause.into()))?;
    let mut reader = Reader::begin(opened).map_err(unfit)?;
    let mut head = None;
    while let Some(piece) = reader.next().map_err(unfit)? {
        match piece {
            Piece::Head(found) => head = Some(found),
            piece => take(piece)?,
        }
    }
    // A reader that says that there is no more has seen both.
    match (head, reader.contents()) {
        (Some(head), Some(contents)) => Ok((head, contents)),
        _ => Err(unfit(Unfit::Damaged { at: 0, why: "it has no head".to_owned() })),
    }
}

/// What stands in the way of serving from `dir`: a restore that was interrupted.
pub fn unfinished(dir: &Path) -> Option<String> {
    let is_half =
        dir.join(RESTORING).symlink_metadata().is_ok() && dir.join(STORE).symlink_metadata().is_err();
    is_half.then(|| {
        let dir = dir.display();
        format!("a restore into {dir} was interrupted: run `runbookd restore FILE --storage.path {dir}` again, or remove {dir}/{RESTORING} to begin anew")
    })
}

/// Puts the backup `file` into the directory `dir`, which must be empty or absent. Blocks.
///
/// # Errors
/// [`RestoreError`]; then `dir` is as it was, or only holds what the next restore removes.
pub fn restore(file: &Path, dir: &Path, now: Timestamp) -> Result<Restored, RestoreError> {
    let checked = check(file)?;
    let site = Site::open(dir)?;
    let made = site.make(file, &checked, now);
    match made.and_then(|live| site.put_in_place().map(|()| live)) {
        Ok(live) => Ok(Restored { head: checked.0, contents: checked.1, live }),
        Err(error) => {
            site.clear();
            Err(error)
        }
    }
}

/// A directory that is being restored into.
struct Site {
    dir: PathBuf,
    restoring: PathBuf,
    /// Whether it did not exist before.
    is_ours: bool,
    /// Waits for the store.
    runtime: Runtime,
    _lock: File,
}

impl Site {
    fn open(dir: &Path) -> Result<Self, RestoreError> {
        let is_ours = dir.symlink_metadata().is_err();
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| wrong(dir, cause))?;
        let lock = File::open(dir).map_err(|cause| wrong(dir, cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RestoreError::Busy(dir.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(wrong(dir, cause)),
        }
        let runtime = Builder::new_current_thread().build().map_err(|cause| wrong(dir, cause))?;
        let restoring = dir.join(RESTORING);
        let was_begun = restoring.symlink_metadata().is_ok();
        for entry in fs::read_dir(dir).map_err(|cause| wrong(dir, cause))? {
            let name = entry.map_err(|cause| wrong(dir, cause))?.file_name();
            // Outputs get their place before the store; without a store they are of a restore that was interrupted.
            let is_nothing = name == LOST_AND_FOUND || name == RESTORING || (was_begun && name == OUTPUTS);
            if !is_nothing {
                let found = name.to_string_lossy().into_owned();
                return Err(RestoreError::NotEmpty { dir: dir.to_owned(), found });
            }
        }
        let site = Self { dir: dir.to_owned(), restoring, is_ours, runtime, _lock: lock };
        if was_begun {
            site.remove();
        }
        for made in [site.restoring.clone(), site.restoring.join(OUTPUTS)] {
            let builder = || DirBuilder::new().mode(0o700).create(&made);
            builder().map_err(|cause| wrong(&made, cause))?;
        }
        sync_dir(dir).map_err(|cause| wrong(dir, cause))?;
        Ok(site)
    }

    /// Makes everything beside its place; how many executions are live in it.
    fn make(&self, file: &Path, checked: &(Head, Contents), now: Timestamp) -> Result<u64, RestoreError> {
        let path = self.restoring.join(STORE);
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&path, SledOptions::default())?);
        let made = self.fill(file, checked, &store).and_then(|()| {
            let halted = halt(&store, &checked.0, now);
            self.runtime.block_on(halted)
        });
        self.runtime.block_on(store.shut());
        let live = made.map_err(|error| self.full(error))?;
        let outputs = self.restoring.join(OUTPUTS);
        for dir in [&outputs, &self.restoring] {
            sync_dir(dir).map_err(|cause| wrong(dir, cause))?;
        }
        Ok(live)
    }

    /// A full disk is told in the words of who restores.
    fn full(&self, error: RestoreError) -> RestoreError {
        match error {
            RestoreError::Commit(CommitError::Full { .. }) => RestoreError::Full(self.dir.clone()),
            error => error,
        }
    }

    fn fill(
        &self,
        file: &Path,
        checked: &(Head, Contents),
        store: &Arc<dyn Store>,
    ) -> Result<(), RestoreError> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut output: Option<(PathBuf, File)> = None;
        let found = each(file, |piece| {
            match piece {
                Piece::Head(_) => {}
                Piece::Change(key, value) => {
                    bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                    group.push((key, value));
                    if group.len() >= GROUP || bytes >= GROUP_BYTES {
                        bytes = 0;
                        self.commit(store, std::mem::take(&mut group))?;
                    }
                }
                Piece::File(name) => {
                    let path = self.restoring.join(OUTPUTS).join(name);
                    let mut options = OpenOptions::new();
                    let file = options.write(true).create_new(true).mode(0o600).open(&path);
                    output = Some((path.clone(), file.map_err(|cause| wrong(&path, cause))?));
                }
                Piece::Bytes(more) => {
                    if let Some((path, file)) = &mut output {
                        file.write_all(&more).map_err(|cause| wrong(path, cause))?;
                    }
                }
                Piece::Close => {
                    if let Some((path, file)) = output.take() {
                        file.sync_all().map_err(|cause| wrong(&path, cause))?;
                    }
                }
            }
            Ok(())
        })?;
        if found != *checked {
            let why = Unfit::Damaged { at: 0, why: "it was changed while it was read".to_owned() };
            return Err(RestoreError::Unfit { file: file.to_owned(), why });
        }
        self.commit(store, group)
    }

    fn commit(&self, store: &Arc<dyn Store>, group: Vec<Change>) -> Result<(), RestoreError> {
        let done = store.commit(Box::new(move |txn| {
            for (key, value) in &group {
                match value {
                    Some(value) => txn.put(key.clone(), value.clone()),
                    None => txn.delete(key.clone()),
                }
            }
            Ok(())
        }));
        Ok(self.runtime.block_on(done)?)
    }

    /// The store comes last: with it, the directory is one that a daemon serves from.
    fn put_in_place(&self) -> Result<(), RestoreError> {
        for name in [OUTPUTS, STORE] {
            let place = self.dir.join(name);
            fs::rename(self.restoring.join(name), &place).map_err(|cause| wrong(&place, cause))?;
            sync_dir(&self.dir).map_err(|cause| wrong(&self.dir, cause))?;
        }
        // Empty, and beside a store it means nothing.
        fs::remove_dir(&self.restoring).ok();
        Ok(())
    }

    /// Removes what an interrupted restore made, outputs first: as long as `restoring` is there, nobody serves from it.
    fn remove(&self) {
        for name in [OUTPUTS, RESTORING] {
            // What cannot be removed is found by the next step, which makes it anew.
            fs::remove_dir_all(self.dir.join(name)).ok();
        }
    }

    fn clear(&self) {
        if self.dir.join(STORE).symlink_metadata().is_err() {
            self.remove();
            if self.is_ours {
                // With something in it, it stays.
                fs::remove_dir(&self.dir).ok();
            }
        }
    }
}

/// Halts everything and says so in the audit log; how many executions are live.
async fn halt(store: &Arc<dyn Store>, head: &Head, now: Timestamp) -> Result<u64, RestoreError> {
    let records = Records::new(Arc::clone(store));
    let reason = format!("restored from a backup of {}", head.at);
    let entry = AuditEntry {
        at: now,
        user: AUTOMATION.to_owned(),
        action: "backup.restore",
        target: "store".to_owned(),
        reason: reason.clone(),
        detail: [("instance", &head.instance), ("program", &head.program)]
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .into(),
    };
    records.note(entry).await?;
    let (scope, state) = (Scope::Global, SwitchState::Halted);
    let order = Order { scope, state, by: AUTOMATION.to_owned(), reason, at: now, expires_at: None };
    records.put_order(&order, GivenUp::default()).await?;
    let (mut live, mut behind) = (0, None);
    loop {
        let headers = records.live(behind.as_deref(), COUNTED).await?;
        live += headers.len() as u64;
        match headers.last() {
            Some(last) => behind = Some(last.id.ulid().to_owned()),
            None => return Ok(live),
        }
    }
}

fn wrong(path: &Path, cause: io::Error) -> RestoreError {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => RestoreError::Full(path.to_owned()),
        _ => RestoreError::Io { path: path.to_owned(), cause },
    }
}

#[cfg(test)]
mod tests;
