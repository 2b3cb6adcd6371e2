//! Verbs on runbooks, and on what starts them.

use super::{not_blank, once, pair, runbook_id};
use crate::model::{RunbookId, StepId};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;

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
    /// Execute a runbook on the server, whatever the guards of automation say; the kill switch holds it
    Execute(Begin),
}

/// What is to be executed, with what, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Begin {
    /// Its id
    #[arg(value_parser = runbook_id)]
    pub(in crate::cli) id: RunbookId,
    /// A label, as the alert would have it; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// An annotation; may be repeated
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// The value of an input; may be repeated
    #[arg(long = "input", value_name = "K=V", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// A variable for inputs with from = "env.K"; may be repeated
    #[arg(long = "env", value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Only the steps from this one on
    #[arg(long, value_name = "STEP", value_parser = StepId::new)]
    pub(in crate::cli) from: Option<StepId>,
    /// Only the steps up to this one
    #[arg(long, value_name = "STEP", value_parser = StepId::new)]
    pub(in crate::cli) to: Option<StepId>,
    /// Why, for the record
    #[arg(long, value_parser = not_blank)]
    pub(in crate::cli) reason: String,
    /// Follow it to its end; exit code 1 unless it succeeded
    #[arg(long, conflicts_with = "dry_run")]
    pub(in crate::cli) wait: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

/// A sort of values, and its values.
type Given = (&'static str, BTreeMap<String, String>);

impl Begin {
    /// What is given, by the names that the API has for it.
    pub(in crate::cli) fn given(&self) -> Result<Vec<Given>, String> {
        Ok(vec![
            ("labels", once(self.labels.clone(), "--label")?),
            ("annotations", once(self.annotations.clone(), "--annotation")?),
            ("inputs", once(self.inputs.clone(), "--input")?),
            ("env_vars", once(self.env.clone(), "--env")?),
        ])
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MappingsVerb {
    /// List the mappings in the order in which they are asked: those set here, then those of the config
    List {
        #[command(flatten)]
        page: super::Page,
    },
    /// Set a mapping, for the next alert; one of that name is replaced and keeps its place
    Set {
        /// Its name
        #[arg(value_parser = not_blank)]
        name: String,
        /// What the labels of an alert must be, such as severity="page"; may be repeated, and all must hold
        #[arg(long = "matcher", value_name = "MATCHER", required = true)]
        matchers: Vec<String>,
        /// What it starts
        #[arg(long, value_name = "ID", value_parser = runbook_id)]
        runbook: RunbookId,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
    /// Delete a mapping that was set; those of the config stay
    Delete {
        /// Its name
        #[arg(value_parser = not_blank)]
        name: String,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SchedulesVerb {
    /// List what runs by the clock, when next, and what became of the last time
    List {
        #[command(flatten)]
        page: super::Page,
    },
}
