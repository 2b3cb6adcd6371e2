//! The private directory of one attempt: made 0700, removed in all cases.
//!
//! May import: nothing of this crate. Must never: follow a link out of it while removing it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory that goes with this value.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
    gone: bool,
}

impl PrivateDir {
    /// Makes `name` below `work`. What an earlier life left there goes first.
    pub(crate) fn create(work: &Path, name: &str) -> io::Result<Self> {
        let path = work.join(name);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                remove(&path)?;
                builder.create(&path)?;
            }
            other => other?,
        }
        Ok(Self { path, gone: false })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it and the files in it to a user and a group.
    pub(crate) fn give_to(&self, (user, group): (u32, u32)) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            std::os::unix::fs::lchown(entry?.path(), Some(user), Some(group))?;
        }
        std::os::unix::fs::lchown(&self.path, Some(user), Some(group))
    }

    /// Removes it if it is empty: one cheap call. Says whether it is gone.
    pub(crate) fn remove_if_empty(&mut self) -> bool {
        self.gone = self.gone || std::fs::remove_dir(&self.path).is_ok();
        self.gone
    }

    /// Removes it with all that is in it. Blocks.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        let removed = if self.gone { Ok(()) } else { remove(&self.path) };
        self.gone = true;
        removed
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if !self.gone {
            // Nobody is left to tell; the sweep at the next start tries again and reports it.
            drop(remove(&self.path));
        }
    }
}

/// Removes `path`, whatever it is, also when its directories were made unreadable.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if !found.is_dir() => return std::fs::remove_file(path),
        _ => {}
    }
    match std::fs::remove_dir_all(path) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path, 64)?;
            std::fs::remove_dir_all(path)
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes directories ours to read and write again, `depth` levels down.
fn open_up(path: &Path, depth: u32) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if depth > 0 && entry.file_type()?.is_dir() {
            open_up(&entry.path(), depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_with_its_contents_but_not_beyond_a_link() {
        let work = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        std::fs::create_dir_all(work.path().join("a/leftover")).unwrap();
        let home = PrivateDir::create(work.path(), "a").unwrap();
        assert_eq!(std::fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "leftovers must go first");
        std::os::unix::fs::symlink(outside.path(), home.path().join("link")).unwrap();
        std::fs::create_dir(home.path().join("shut")).unwrap();
        std::fs::write(home.path().join("shut/file"), "x").unwrap();
        std::fs::set_permissions(home.path().join("shut"), Permissions::from_mode(0o000)).unwrap();
        drop(home);
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
