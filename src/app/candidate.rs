//! The config file and the runbooks as they lie on the disk: what a reload would put in force.
//!
//! May import: what the composition root may. Must never: put any of it in force, run the programs that print secrets
//! (whoever may only read decisions may ask for it, and their values decide none), or say a word of the files but which
//! runbooks are broken.

use super::library::Origin;
use super::lifecycle::ServeOptions;
use super::{build, load_config};
use crate::http::handler::{Read, ReadCandidate};
use crate::intake::Candidate;
use futures_util::FutureExt as _;

/// Who reads it, each time anew.
pub(super) fn reader(options: &ServeOptions, instance: &str, origin: Origin) -> ReadCandidate {
    let mut options = options.clone();
    options.overrides.leave_programs = true;
    let instance = instance.to_owned();
    Box::new(move || read(options.clone(), instance.clone(), origin.clone()).boxed())
}

/// Reads it, by the rules of a reload: a bad runbook keeps its last good version, a bad config is refused.
///
/// # Errors
/// What to do, where a reload would refuse it.
async fn read(options: ServeOptions, instance: String, origin: Origin) -> Result<Read, String> {
    let not_good = || "the config on the server's disk is not good; run `runbookd check` there".to_owned();
    let config = tokio::task::spawn_blocking(move || {
        load_config(&options.config_file, &options.env, &options.overrides).map(|(config, _)| config)
    });
    let config = config.await.map_err(|_| not_good())?.map_err(|_| not_good())?;
    let (library, broken) = origin.would_be(&config.breakers).await;
    if !config.check_runbooks(|id| library.get(id).is_some()).is_empty() {
        return Err(not_good());
    }
    Ok(Read { candidate: Candidate { options: build::intake_options(&config, &instance), library }, broken })
}
