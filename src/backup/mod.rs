//! Backups: everything durable in one file, as of one moment; how it is written, checked and put back.
//!
//! `format` is the bytes of the file, `take` what goes into it, `place` how a file gets its name only once it is whole,
//! `restore` the way back. In it are the records of the store and the files that hold long outputs; not in it are
//! config, runbooks and the key of the vault, which are files of their own. May import: `model`, `guard`, `journal`,
//! `store`. Must never: put anything in its place that was not checked to its end, or overwrite what it was not told to.

mod format;
mod place;
mod restore;
mod take;

pub use format::{Contents, Head, Unfit};
pub use place::{NewFile, PlaceError};
pub use restore::{RestoreError, Restored, check, restore, unfinished};
pub use take::{TakeError, take};
