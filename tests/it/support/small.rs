//! A disk that is soon full.
//!
//! May import: the standard library. Must never: outlive its test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own over a directory; unmounted at the end.
pub(crate) struct Small(PathBuf);

impl Small {
    /// Mounts one.
    pub(crate) fn over(dir: &Path) -> Self {
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(dir).output().unwrap();
        assert!(
            done.status.success(),
            "this test mounts a small file system and must be root: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Self(dir.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the daemon may still be there when a test has failed.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
