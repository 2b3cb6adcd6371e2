//! The verbs about decisions: those that were made, and those that would be.
//!
//! May import: what `args` may. Must never: read the process environment.

use super::{Page, pair};
use crate::model::DecisionId;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DecisionsVerb {
    /// List decisions, the newest first
    List(DecisionFilter),
    /// Show one decision with every gate's answer
    Show {
        /// Its id
        #[arg(value_parser = DecisionId::new)]
        id: DecisionId,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DecisionFilter {
    /// Only with this reason code, such as cooldown
    #[arg(long, value_name = "CODE")]
    pub(in crate::cli) reason: Option<String>,
    /// Only with this verdict: execute, approve or skip
    #[arg(long)]
    pub(in crate::cli) verdict: Option<String>,
    /// Only for this alert
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) alertname: Option<String>,
    /// Only of this runbook
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) runbook: Option<String>,
    /// Only from then on: a time (2026-08-01T10:00:00Z) or a duration back from now (1h)
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
}

/// Which alert, as it would fire now.
#[derive(Debug, Args)]
pub(in crate::cli) struct WhichAlert {
    /// Its labels, alertname among them
    #[arg(value_name = "K=V", required = true, value_parser = pair)]
    pub(in crate::cli) labels: Vec<(String, String)>,
    /// An annotation, such as automation_runbook=disk_full; may be repeated
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    pub(in crate::cli) annotations: Vec<(String, String)>,
}

/// Which body, and when.
#[derive(Debug, Args)]
pub(in crate::cli) struct WhichBody {
    /// A webhook's body as a file, or - for stdin; or {"decision_id": "..."}
    #[arg(value_name = "FILE", required_unless_present = "decision")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// The alert of this past decision, instead of a file
    #[arg(long, value_name = "ID", conflicts_with = "file", value_parser = DecisionId::new)]
    pub(in crate::cli) decision: Option<DecisionId>,
    /// As if it were this time (2026-08-01T10:00:00Z); counts are those of now
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) at: Option<String>,
    /// By the config file and the runbooks as they lie on the server's disk, before a reload, beside what is decided now
    #[arg(long)]
    pub(in crate::cli) candidate: bool,
}
