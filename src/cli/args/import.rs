//! The words of `import`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImportVerb {
    /// The YAML file of prometheus-am-executor. Prints what belongs into the config
    AmExecutor(AmExecutor),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AmExecutor {
    /// The file
    pub(in crate::cli) file: PathBuf,
    /// Where the runbooks are written; made if it is not there, and nothing there is overwritten
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: PathBuf,
}
