//! A file that gets its name only once it is whole.
//!
//! It is written beside its place under a name that ends with `.partial`, readable by its owner alone, synced, and
//! renamed. May import: nothing of this crate. Must never: overwrite a file unless told to, or leave half of one behind
//! under the name that was asked for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What the name of a file that is not whole ends with.
pub(super) const PARTIAL: &str = ".partial";

/// Why a file did not get its name.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is a file of that name.
    #[error("{} is there already; nothing was written", .0.display())]
    Exists(PathBuf),
    /// Somebody else is writing it.
    #[error("{} is being written by another process", .0.display())]
    Busy(PathBuf),
    /// It has no name.
    #[error("{} is no name of a file", .0.display())]
    Nameless(PathBuf),
    /// There is no room.
    #[error("there is no room for {}: make some, or choose another disk", .0.display())]
    Full(PathBuf),
    /// The system refused.
    #[error("{} cannot be written: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A file on its way. Dropped before [`NewFile::put_in_place`] it is gone.
#[derive(Debug)]
pub struct NewFile {
    out: BufWriter<File>,
    partial: PathBuf,
    target: PathBuf,
    overwrite: bool,
    is_placed: bool,
}

impl NewFile {
    /// Begins the file that will be called `target`.
    ///
    /// # Errors
    /// [`PlaceError`]; without `overwrite` also when there is one of that name.
    pub fn create(target: &Path, overwrite: bool) -> Result<Self, PlaceError> {
        let Some(name) = target.file_name() else { return Err(PlaceError::Nameless(target.to_owned())) };
        if !overwrite && target.symlink_metadata().is_ok() {
            return Err(PlaceError::Exists(target.to_owned()));
        }
        let mut partial = name.to_owned();
        partial.push(PARTIAL);
        let partial = target.with_file_name(partial);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&partial).map_err(|cause| wrong(&partial, cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PlaceError::Busy(target.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(wrong(&partial, cause)),
        }
        // Whoever had it before may have given it its name between our opening and our lock.
        let is_same =
            |found: fs::Metadata, ours: fs::Metadata| (found.dev(), found.ino()) == (ours.dev(), ours.ino());
        let found = partial.symlink_metadata().and_then(|found| Ok(is_same(found, file.metadata()?)));
        if !found.is_ok_and(|same| same) {
            return Err(PlaceError::Busy(target.to_owned()));
        }
        // What an earlier one left that was killed.
        file.set_len(0).map_err(|cause| wrong(&partial, cause))?;
        let out = BufWriter::with_capacity(256 << 10, file);
        Ok(Self { out, partial, target: target.to_owned(), overwrite, is_placed: false })
    }

    /// Where it is until it is put in place.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// What a failed write means.
    pub fn wrong(&self, cause: io::Error) -> PlaceError {
        wrong(&self.target, cause)
    }

    /// Makes what was written durable. To be called before it is checked and put in place.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn sync(&mut self) -> Result<(), PlaceError> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|cause| wrong(&self.target, cause))
    }

    /// Gives it its name, durably.
    ///
    /// # Errors
    /// [`PlaceError`]; then the name stands for what it stood for before.
    pub fn put_in_place(mut self) -> Result<(), PlaceError> {
        self.sync()?;
        let renamed = match self.overwrite {
            true => fs::rename(&self.partial, &self.target),
            false => rename_new(&self.partial, &self.target),
        };
        match renamed {
            Ok(()) => self.is_placed = true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(PlaceError::Exists(self.target.clone()));
            }
            Err(cause) => return Err(wrong(&self.target, cause)),
        }
        let dir = self.target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(dir).map_err(|cause| wrong(dir, cause))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // Under this name nobody takes it for anything.
            fs::remove_file(&self.partial).ok();
        }
    }
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Renames to a name that is free.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can; then there is a moment between the question and the name.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if to.symlink_metadata().is_err() => {
            fs::rename(from, to)
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Err(ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

fn wrong(path: &Path, cause: io::Error) -> PlaceError {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => PlaceError::Full(path.to_owned()),
        _ => PlaceError::Io { path: path.to_owned(), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        let mut file = NewFile::create(&target, false).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(dir.path()), ["b.partial"]);
        drop(file);
        assert!(names(dir.path()).is_empty());
        let mut file = NewFile::create(&target, false).unwrap();
        file.write_all(b"whole").unwrap();
        file.put_in_place().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["b"]);
    }

    #[test]
    fn a_file_that_is_there_stays_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        let mut late = NewFile::create(&target, false).unwrap();
        late.write_all(b"new").unwrap();
        fs::write(&target, "old").unwrap();
        assert!(matches!(late.put_in_place(), Err(PlaceError::Exists(path)) if path == target));
        assert!(matches!(NewFile::create(&target, false), Err(PlaceError::Exists(_))));
        assert_eq!(names(dir.path()), ["b"]);
        let mut over = NewFile::create(&target, true).unwrap();
        over.write_all(b"new").unwrap();
        over.put_in_place().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn two_at_once_do_not_write_one_file_and_leftovers_are_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        fs::write(dir.path().join("b.partial"), "what a killed one left, and that is long").unwrap();
        let mut first = NewFile::create(&target, false).unwrap();
        assert!(matches!(NewFile::create(&target, false), Err(PlaceError::Busy(_))));
        first.write_all(b"short").unwrap();
        first.put_in_place().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"short");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = NewFile::create(&dir.path().join("none/b"), false).unwrap_err();
        assert!(error.to_string().contains("none/b.partial cannot be written"), "{error}");
        assert!(matches!(NewFile::create(Path::new("/"), false), Err(PlaceError::Nameless(_))));
    }
}
