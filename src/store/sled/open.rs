//! Opening a directory as a store, with an error of its own for everything an operator can do something about.
//!
//! May import: `store`'s own types and sled. Must never: panic on what is in the directory, touch a file before the
//! lock is held, or report success before the names and the first records are durable.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SledOptions;
use super::table::{FORMAT, Table, Unfit};
use crate::store::overlay::panic_text;

/// Why a directory cannot be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the store {} is in use by another process{}; stop that one, or choose another directory", dir.display(), by.as_ref().map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The process, as far as it told.
        by: Option<String>,
    },
    /// What is stored is not what was written.
    #[error("the store {} is damaged: {why}; move the data directory aside and put a backup in its place with `runbookd restore FILE --storage.path DIR`, or begin anew without it", dir.display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Commits that were acknowledged are gone; what is left is consistent.
    #[error("the store {} has lost the last {} groups of commits that were acknowledged; put a backup in its place with `runbookd restore FILE --storage.path DIR`, or remove the file {} to go on without them if the rest can still be read", dir.display(), expected - found, dir.join(WATERMARK).display())]
    Lost {
        /// The directory.
        dir: PathBuf,
        /// Groups found.
        found: u64,
        /// Groups that were acknowledged.
        expected: u64,
    },
    /// A newer runbookd wrote it.
    #[error("the store {} has format {found}, this program knows formats up to {known}; use the newer runbookd, or put a backup made before the upgrade in its place with `runbookd restore FILE --storage.path DIR`", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The permissions do not allow it.
    #[error("no permission for {} of the store; give the user that runs runbookd read and write access to it", path.display())]
    Permission {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is no room to open it: recovery writes too.
    #[error("the disk of the store {} is full; make room and start again", dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
    },
    /// Anything else the system said.
    #[error("the store cannot be opened: {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// An open directory.
pub(super) struct Opened {
    pub(super) table: Table,
    pub(super) log: File,
    pub(super) watermark: File,
    pub(super) lock: File,
}

const LOCK: &str = "lock";
pub(super) const WATERMARK: &str = "acknowledged";
/// How long a lock may outlive its last owner in this process: sled's threads end a little later, and a program that
/// is being started shares our files until it runs.
const LINGER: Duration = Duration::from_secs(2);

/// Opens `dir`, creating it where it does not exist. Blocks; reads the whole store once, unless that is for later.
///
/// # Errors
/// [`OpenError`].
pub(super) fn open(dir: &Path, options: &SledOptions) -> Result<Opened, OpenError> {
    create_dir(dir)?;
    let lock = take_lock(dir)?;
    remove_leftovers(dir)?;
    let opening = || open_table(dir, options);
    let table = match catch_unwind(AssertUnwindSafe(opening)) {
        Ok(table) => table?,
        Err(panic) => return Err(damaged(dir, &format!("the engine gave up: {}", panic_text(&*panic)))),
    };
    let path = dir.join("db");
    let log =
        OpenOptions::new().read(true).write(true).open(&path).map_err(|cause| io_error(&path, cause))?;
    let watermark = check_watermark(dir, table.totals().groups)?;
    sync_everything(dir)?;
    Ok(Opened { table, log, watermark, lock })
}

/// The bytes that say how many groups were acknowledged.
pub(super) fn watermark(groups: u64) -> [u8; 12] {
    let groups = groups.to_le_bytes();
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&groups);
    bytes[8..].copy_from_slice(&crc32fast::hash(&groups).to_le_bytes());
    bytes
}

fn create_dir(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    let missing: Vec<_> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| io_error(dir, cause))?;
    for created in missing {
        let parent =
            created.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(parent)?;
    }
    Ok(())
}

/// sled has a lock of its own, but only on a file that it opens late; the leftovers are ours to remove before.
fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let mut lock = create_file(&path)?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let by = holder(&lock);
                let us = by.as_deref() == Some(std::process::id().to_string().as_str());
                if !us || began.elapsed() > LINGER {
                    return Err(OpenError::Held { dir: dir.to_owned(), by });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::Error(cause)) => return Err(io_error(&path, cause)),
        }
    }
    let note = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    // Only for the message above; a full disk must not hide behind it.
    drop(note);
    Ok(lock)
}

/// The process that noted itself in the lock.
fn holder(lock: &File) -> Option<String> {
    let mut noted = [0; 20];
    let length = lock.read_at(&mut noted, 0).ok()?;
    let pid = std::str::from_utf8(&noted[..length]).ok()?.trim();
    (!pid.is_empty()).then(|| pid.to_owned())
}

/// A snapshot that was being written when the process ended makes sled refuse the store. It is not needed:
/// whatever is in it is in the log too.
fn remove_leftovers(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(|cause| io_error(dir, cause))? {
        let path = entry.map_err(|cause| io_error(dir, cause))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(|cause| io_error(&path, cause))?;
            tracing::info!(path = %path.display(), "removed what an interrupted start left");
        }
    }
    Ok(())
}

fn open_table(dir: &Path, options: &SledOptions) -> Result<Table, OpenError> {
    let began = Instant::now();
    // The writer flushes each group: a thread that flushes now and then would only wake for nothing.
    let config = || ::sled::Config::new().path(dir).cache_capacity(options.cache).flush_every_ms(None).open();
    let db = loop {
        match config() {
            Err(error) if is_lock(&error) && began.elapsed() < LINGER => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(sled_error(dir, error)),
            Ok(db) => break db,
        }
    };
    let checked = Table::over(db).and_then(|table| {
        if !options.check_later {
            table.check_all()?;
        }
        Ok(table)
    });
    checked.map_err(|wrong| unfit(dir, wrong))
}

/// What an operator is told of a table that cannot be used.
pub(super) fn unfit(dir: &Path, wrong: Unfit) -> OpenError {
    match wrong {
        Unfit::Newer(found) => OpenError::Newer { dir: dir.to_owned(), found, known: FORMAT },
        Unfit::Damaged(why) => damaged(dir, &why),
        Unfit::Engine(error) => sled_error(dir, error),
    }
}

/// Compares with what was acknowledged. A note that cannot be read says nothing, and nothing is lost with it.
fn check_watermark(dir: &Path, found: u64) -> Result<File, OpenError> {
    let path = dir.join(WATERMARK);
    let file = create_file(&path)?;
    let mut bytes = [0; 12];
    if file.read_exact_at(&mut bytes, 0).is_ok() {
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        let expected = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if watermark(expected) != bytes {
            tracing::warn!(path = %path.display(), "the count of acknowledged groups is unreadable; it begins anew");
        } else if expected > found {
            return Err(OpenError::Lost { dir: dir.to_owned(), found, expected });
        }
    }
    file.write_all_at(&watermark(found), 0).map_err(|cause| io_error(&path, cause))?;
    Ok(file)
}

/// sled makes its files with the process's mask and syncs neither their names nor its configuration.
fn sync_everything(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(|cause| io_error(dir, cause))? {
        let entry = entry.map_err(|cause| io_error(dir, cause))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|cause| io_error(&path, cause))?;
        let name = entry.file_name();
        let ours = name == LOCK || name == WATERMARK || name == "db" || name == "conf" || name == "blobs";
        if ours || name.to_string_lossy().starts_with("snap.") {
            let mode = if kind.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(|cause| io_error(&path, cause))?;
            sync(&path)?;
        }
    }
    sync(dir)
}

fn create_file(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|cause| io_error(path, cause))
}

fn sync(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|cause| io_error(path, cause))
}

fn damaged(dir: &Path, why: &str) -> OpenError {
    OpenError::Damaged { dir: dir.to_owned(), why: why.to_owned() }
}

fn io_error(path: &Path, cause: io::Error) -> OpenError {
    let path = path.to_owned();
    match cause.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::Permission { path, cause },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            OpenError::Full { dir: path.parent().filter(|_| !path.is_dir()).unwrap_or(&path).to_owned() }
        }
        _ => OpenError::Io { path, cause },
    }
}

fn is_lock(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(cause) if cause.to_string().starts_with("could not acquire lock"))
}

fn sled_error(dir: &Path, error: ::sled::Error) -> OpenError {
    match error {
        error if is_lock(&error) => OpenError::Held { dir: dir.to_owned(), by: None },
        // sled speaks of what it found in its files as of other, unexpected or invalid input and output.
        ::sled::Error::Io(cause)
            if !matches!(
                cause.kind(),
                ErrorKind::Other
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::InvalidData
                    | ErrorKind::InvalidInput
            ) =>
        {
            io_error(dir, cause)
        }
        error => damaged(dir, &error.to_string()),
    }
}
