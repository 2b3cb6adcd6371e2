//! The composition root: builds the rooms, joins them, runs them, takes them down in order.
//!
//! May import everything but `cli`. Must never: decide anything a room should decide. `lifecycle` is the
//! story of a process from start to end; `build` turns the config into rooms, `door` into who may come in; `library`
//! keeps the runbooks live; `edge` opens the server; `oneshot` is one execution without a server,
//! `rehearse` plays the unit tests of runbooks; `check` is what can be
//! known before starting, `candidate` what a reload would put in force, `audit` what can be checked of a stopped one,
//! `backup` what is taken of it and put back, and what is exported by the clock.

mod audit;
mod backup;
mod build;
mod candidate;
mod check;
mod children;
mod clock;
mod credentials;
mod door;
mod edge;
mod keeper;
mod library;
mod lifecycle;
mod needs;
mod oneshot;
mod opening;
mod rehearse;
mod retention;
mod scheduler;
mod service;
mod siblings;
mod signals;
mod world;

pub use audit::verify_audit;
pub use backup::{restore_backup, take_backup};
pub use check::{CheckOptions, check};
pub use clock::SystemClock;
pub use lifecycle::{ServeOptions, serve};
pub use oneshot::{ExecuteOptions, execute};
pub use rehearse::{TestOptions, test};

use crate::auth::PasswordHash;
use crate::config::{self, Config, Loaded, Overrides, Stored};
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
    load_config_with(file, env, flags, None)
}

/// As [`load_config`], once it is known which credentials are stored.
///
/// # Errors
/// As [`load_config`].
fn load_config_with(
    file: &str,
    env: &Environment,
    flags: &Overrides,
    stored: Option<&Stored>,
) -> Result<(Config, Vec<Problem>), String> {
    let path = Path::new(file);
    let text = config::read(path).map_err(|error| error.to_string())?;
    let Loaded { mut config, mut problems, text } = config::load_with(file, path, &text, env, flags, stored);
    if let (Some(config), Some(web)) = (&mut config, &flags.web_config_file) {
        let path = Path::new(web);
        let text =
            config::read(path).map_err(|error| error.to_string().replace("--config", "--web.config"))?;
        // Without the lines of the file: they hold hashes, or passwords by mistake.
        let said = |problems: Vec<Problem>| problems.iter().map(|problem| format!("{problem}\n")).collect();
        config.web = Some(config::load_web(web, path, &text).map_err::<String, _>(said)?);
    }
    if let Some(config) = &config {
        problems.extend(config.check_tls());
        problems.extend(config.check_outgoing(|entry| {
            OutgoingPolicy::parse_entry(entry).map(|_| ()).map_err(|error| error.to_string())
        }));
        problems
            .extend(config.check_users(|hash| {
                PasswordHash::parse(hash).map(|_| ()).map_err(|error| error.to_string())
            }));
    }
    let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    match config {
        Some(config) if !refused => Ok((config, problems)),
        _ => Err(Problems::render(&problems, &text)),
    }
}
