//! Verbs on runbooks.

use super::runbook_id;
use crate::model::RunbookId;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RunbooksVerb {
    /// List the runbooks
    List,
    /// Show one runbook
    Show {
        /// Its id
        #[arg(value_parser = runbook_id)]
        id: RunbookId,
    },
    /// Show what a runbook in shadow mode would have done, and what the guards would have denied it
    Shadow {
        /// Its id
        #[arg(value_parser = runbook_id)]
        id: RunbookId,
    },
}
