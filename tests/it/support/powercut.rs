//! Power cuts: runs a program under a shim that keeps what was synced apart, and makes that the next start.
//!
//! What the shim models is told at the top of `tests/it/powercut/shim.c`. May import: the standard library. Must
//! never: know what the program keeps in its directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// When the name of a file (its creation, rename, removal) survives a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// When its directory was synced.
    AtSync,
    /// At once.
    AtOnce,
}

/// One directory, and the copy of it that a power cut would leave.
pub(crate) struct Shim {
    root: PathBuf,
    shadow: PathBuf,
}

impl Shim {
    /// Watches `root`, which is created empty where it does not exist. Its neighbours `<root>.shadow` and
    /// `<root>.shadow.inodes` are the shim's.
    pub(crate) fn over(root: &Path) -> Self {
        fs::create_dir_all(root).unwrap();
        Self { root: root.to_owned(), shadow: beside(root, ".shadow") }
    }

    /// Makes `command` run under the shim, from what is in the root now. End it with SIGKILL, then [`Shim::cut`].
    ///
    /// Only the process itself is watched, not its children; one at a time.
    pub(crate) fn arm(&self, command: &mut Command, names: Names) {
        self.clear();
        copy(&self.root, &self.shadow);
        command
            .env("LD_PRELOAD", library())
            .env("RUNBOOKD_SHIM_ROOT", &self.root)
            .env("RUNBOOKD_SHIM_SHADOW", &self.shadow)
            .env("RUNBOOKD_SHIM_NAMES", if names == Names::AtSync { "sync" } else { "once" });
    }

    /// The power is gone: what was synced is now all that is in the root.
    pub(crate) fn cut(&self) {
        fs::remove_dir_all(&self.root).unwrap();
        fs::rename(&self.shadow, &self.root).unwrap();
        self.clear();
    }

    fn clear(&self) {
        for dir in [self.shadow.clone(), beside(&self.shadow, ".inodes")] {
            if dir.exists() {
                fs::remove_dir_all(dir).unwrap();
            }
        }
    }
}

/// Copies a directory and what is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// The compiled shim, once per run of the tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/powercut/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .args([&library, Path::new(source)])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("the power-cut tests need a C compiler named cc");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        library
    })
}
