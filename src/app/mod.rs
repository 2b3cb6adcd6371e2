//! The composition root: builds the rooms, joins them, runs them, takes them down in order.
//!
//! May import everything but `cli`. Must never: decide anything a room should decide. `lifecycle` is the
//! story of a process from start to end; `build` turns the config into rooms; `library` keeps the runbooks
//! live; `oneshot` is one execution without a server, `rehearse` plays the unit tests of runbooks; `check` is what can be known before starting,
//! `candidate` what a reload would put in force, `audit` what can be checked of a stopped one.

mod audit;
mod build;
mod candidate;
mod check;
mod clock;
mod keeper;
mod library;
mod lifecycle;
mod needs;
mod oneshot;
mod rehearse;
mod scheduler;
mod siblings;
mod world;

pub use audit::verify_audit;
pub use check::{CheckOptions, check};
pub use clock::SystemClock;
pub use lifecycle::{ServeOptions, serve};
pub use oneshot::{ExecuteOptions, execute};
pub use rehearse::{TestOptions, test};

use crate::config::{self, Config, Loaded, Overrides};
use crate::document::{Problem, Problems, Severity};
use crate::step::OutgoingPolicy;
use std::collections::BTreeMap;
use std::path::Path;

/// The process's environment, read once at the start.
pub type Environment = BTreeMap<String, String>;

/// Reads and checks the config, with what only other rooms know to be wrong.
///
/// # Errors
/// Everything that is wrong, as a person reads it.
fn load_config(file: &str, env: &Environment, flags: &Overrides) -> Result<(Config, Vec<Problem>), String> {
    let path = Path::new(file);
    let text = config::read(path).map_err(|error| error.to_string())?;
    let Loaded { config, mut problems, text } = config::load(file, path, &text, env, flags);
    if let Some(config) = &config {
        problems.extend(config.check_outgoing(|entry| {
            OutgoingPolicy::parse_entry(entry).map(|_| ()).map_err(|error| error.to_string())
        }));
    }
    let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    match config {
        Some(config) if !refused => Ok((config, problems)),
        _ => Err(Problems::render(&problems, &text)),
    }
}
