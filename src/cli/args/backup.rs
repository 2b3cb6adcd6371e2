//! The verbs about backups.
//!
//! May import: what `args` may. Must never: read the process environment.

use super::{Shape, not_blank};
use clap::Args;
use std::path::PathBuf;

/// Of what, and where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct WhichBackup {
    /// The file to make; it appears when it is whole and was read back
    pub(in crate::cli) file: PathBuf,
    /// Take it of the storage of a stopped server, without a server
    #[arg(long = "storage.path", value_name = "DIR", conflicts_with_all = ["url", "token", "reason"])]
    pub(in crate::cli) storage_path: Option<PathBuf>,
    /// Put it in the place of a file that is there
    #[arg(long)]
    pub(in crate::cli) overwrite: bool,
    /// Why, for the record
    #[arg(long, value_parser = not_blank)]
    pub(in crate::cli) reason: Option<String>,
}

/// Of what, and where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// The backup
    pub(in crate::cli) file: PathBuf,
    /// Where the data is to be: a directory that is empty, or does not exist
    #[arg(long = "storage.path", value_name = "DIR", required_unless_present = "dry_run")]
    pub(in crate::cli) storage_path: Option<PathBuf>,
    /// Only read the backup to its end and say whether it could be restored
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    pub(in crate::cli) output: Shape,
}
