//! Files that tests keep.
//!
//! May import: the standard library. Must never: write any.

use std::fs;
use std::path::Path;

/// The content of every file in `dir`, in the order of their names.
pub(crate) fn bytes_below(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}
