//! The verbs about what guards: breakers, quarantine, the kill switch and the audit log.
//!
//! May import: what `args` may. Must never: read the process environment.

use super::{Page, lifetime, not_blank, runbook_id};
use crate::model::RunbookId;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BreakersVerb {
    /// List the breakers that failed since their last success, or are not closed
    List {
        /// Only in this state: closed, open or half_open
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Close a breaker and forgive its failures
    Reset(Breaker),
    /// Open a breaker; it stays open until it is reset
    Open(Breaker),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Breaker {
    /// Its key, such as runbook:disk_full:db-1
    #[arg(value_parser = not_blank)]
    pub(in crate::cli) key: String,
    /// Why, for the record
    #[arg(long, value_parser = not_blank)]
    pub(in crate::cli) reason: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum QuarantineVerb {
    /// List the quarantined targets
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Let automation act on a target again
    Clear {
        /// The target, as the list shows it
        #[arg(value_parser = not_blank)]
        target: String,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EscalationsVerb {
    /// List what people were told, the newest first
    List {
        /// Only in this state: open, acknowledged, resolved, silent or dropped
        #[arg(long)]
        state: Option<String>,
        /// Only of this runbook
        #[arg(long, value_name = "ID")]
        runbook: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Send a test message by a notifier or a policy, now: does it arrive?
    Test {
        /// The name of a section [notifiers.NAME] or [policies.NAME]
        #[arg(value_parser = not_blank)]
        name: String,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
    /// Take one: nobody else is told of it
    Acknowledge {
        /// Its id, as the list shows it
        #[arg(value_parser = not_blank)]
        id: String,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditVerb {
    /// List what was changed, the newest first
    List(AuditFilter),
    /// Check every record against the one before it; exit code 1 when one was changed or is missing
    Verify {
        /// Check the storage of a stopped server here, without a server
        #[arg(long = "storage.path", value_name = "DIR")]
        storage_path: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AuditFilter {
    /// Only by this person, or by runbookd for what automation did
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
    /// Only this action, such as breaker.reset
    #[arg(long)]
    pub(in crate::cli) action: Option<String>,
    /// Only on this
    #[arg(long)]
    pub(in crate::cli) target: Option<String>,
    /// Only from then on: a time (2026-08-01T10:00:00Z) or a duration back from now (1h)
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
}

/// What the kill switch is to hold, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Switch {
    /// Only this runbook
    #[arg(long, value_parser = runbook_id, conflicts_with = "matchers")]
    pub(in crate::cli) runbook: Option<RunbookId>,
    /// Only what alerts start whose labels match, such as team="db"; all of them must hold
    #[arg(long = "matcher", value_name = "MATCHER")]
    pub(in crate::cli) matchers: Vec<String>,
    /// Only for so long, such as 2h
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime)]
    pub(in crate::cli) time: Option<Duration>,
    /// Why, for those who find it so
    #[arg(long, value_parser = not_blank)]
    pub(in crate::cli) reason: String,
}
