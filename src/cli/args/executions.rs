//! The verbs about executions.
//!
//! May import: what `args` may. Must never: read the process environment.

use super::{Page, not_blank, pair};
use crate::model::{ExecutionId, StepId};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ExecutionsVerb {
    /// List executions, the newest first
    List(ExecutionFilter),
    /// Show one execution: what was done, step by step
    Show {
        /// Its id
        #[arg(value_parser = ExecutionId::new)]
        id: ExecutionId,
    },
    /// Follow an execution to its end, one line an event; exit code 1 unless it succeeded
    Follow {
        /// Its id
        #[arg(value_parser = ExecutionId::new)]
        id: ExecutionId,
    },
    /// Stop an execution: the step in progress is killed, nothing is rolled back
    Stop {
        /// Its id
        #[arg(value_parser = ExecutionId::new)]
        id: ExecutionId,
        /// Why, for the record
        #[arg(long, value_parser = not_blank)]
        reason: String,
    },
    /// Undo: of a live execution stop it first; of a finished one undo what it did, as a new execution
    Rollback(Act),
    /// Hold an execution: what is in progress ends, nothing more begins, no time passes
    Pause(Act),
    /// Let a paused execution go on
    Resume(Act),
    /// Consent to what an execution asks for; `show` has the plan and its hash
    Approve {
        #[command(flatten)]
        act: Act,
        #[command(flatten)]
        step: OneStep,
        /// The hash of the plan that was read: another plan is then refused
        #[arg(long, value_parser = not_blank)]
        hash: Option<String>,
    },
    /// Refuse consent
    Reject {
        #[command(flatten)]
        act: Act,
        #[command(flatten)]
        step: OneStep,
    },
    /// Say that you did what a step told you
    Acknowledge {
        #[command(flatten)]
        act: Act,
        #[command(flatten)]
        step: OneStep,
    },
    /// Try a failed step of a paused execution again; without --step all of a finished one, as a new execution
    Retry {
        #[command(flatten)]
        act: Act,
        #[command(flatten)]
        step: OneStep,
    },
    /// Leave a step of a paused execution out
    Skip {
        #[command(flatten)]
        act: Act,
        /// The step's id
        #[arg(long, value_parser = StepId::new)]
        step: StepId,
    },
    /// Change inputs of a paused execution, or the arguments of a step that is still to come
    Modify {
        #[command(flatten)]
        act: Act,
        #[command(flatten)]
        step: OneStep,
        /// An input and its new value; may be repeated
        #[arg(long = "input", value_name = "K=V", value_parser = pair)]
        inputs: Vec<(String, String)>,
        /// An argument of the step; all of them, each with its own --arg, taken as they are
        #[arg(long = "arg", value_name = "ARG", requires = "step", allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print what an attempt wrote, also while it runs
    Output(Output),
}

/// Which execution, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Act {
    /// Its id
    #[arg(value_parser = ExecutionId::new)]
    pub(in crate::cli) id: ExecutionId,
    /// Why, for the record
    #[arg(long, value_parser = not_blank)]
    pub(in crate::cli) reason: Option<String>,
}

/// Which step, where several are possible.
#[derive(Debug, Args)]
pub(in crate::cli) struct OneStep {
    /// The step's id
    #[arg(long, value_parser = StepId::new)]
    pub(in crate::cli) step: Option<StepId>,
}

/// Which stream of which attempt.
#[derive(Debug, Args)]
pub(in crate::cli) struct Output {
    /// The execution's id
    #[arg(value_parser = ExecutionId::new)]
    pub(in crate::cli) id: ExecutionId,
    /// The step's id
    #[arg(value_parser = StepId::new)]
    pub(in crate::cli) step: StepId,
    /// Which attempt [default: the last]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) attempt: Option<u32>,
    /// Standard error instead of standard output
    #[arg(long)]
    pub(in crate::cli) stderr: bool,
    /// The step's undo or probe instead of the step itself
    #[arg(long, value_enum)]
    pub(in crate::cli) part: Option<StepPart>,
    /// Of a step that is done for each item of a list: the item's place in it, from 0
    #[arg(long, value_name = "N")]
    pub(in crate::cli) item: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StepPart {
    Undo,
    Probe,
}

impl StepPart {
    pub(in crate::cli) fn as_str(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Probe => "probe",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExecutionFilter {
    /// Only in this status, such as running or failed
    #[arg(long)]
    pub(in crate::cli) status: Option<String>,
    /// Only of this runbook
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) runbook: Option<String>,
    /// Only for this alert
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) alertname: Option<String>,
    /// Only for this target
    #[arg(long)]
    pub(in crate::cli) target: Option<String>,
    /// Only from then on: a time (2026-08-01T10:00:00Z) or a duration back from now (1h)
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    /// Only until then
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) until: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
}
