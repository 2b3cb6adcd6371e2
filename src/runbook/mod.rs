//! One runbook: its shape, its file, its templates, its inputs.
//!
//! A file becomes a [`Runbook`] only when nothing is wrong with it; every problem is found at once, with
//! its line and column. May import: `model`, `document`, `guard` (its settings). Must never: do I/O, read a clock, start anything.

mod definition;
pub mod inputs;
pub mod links;
mod parse;
mod pinned;
pub mod template;

pub use definition::{
    Approval, Approve, Body, Command, Condition, ForEach, Guard, Http, Input, InputSource, Items, Kind,
    MaxUnhealthy, Mode, Notify, OnFailure, OnResolved, Precheck, Question, Retry, RetryOn, Runbook, Script,
    Silence, Ssh, Step, Undo, Unhealthy, Until, UntilCondition, Verify,
};
pub use inputs::InputProblem;
pub use links::Links;
pub use parse::{MAX_FILE, MAX_STEPS, Parsed, parse};
pub use pinned::Pinned;
pub use template::{Context, Expression, Template, TemplateError};

#[cfg(test)]
mod tests;
