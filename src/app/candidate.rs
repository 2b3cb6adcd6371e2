//! The config file and the runbooks as they lie on the disk: what a reload would put in force.
//!
//! May import: what the composition root may. Must never: put any of it in force, or say a word of the files to those
//! who may only read decisions.

use super::check::examine;
use super::lifecycle::ServeOptions;
use super::{build, load_config};
use crate::http::handler::ReadCandidate;
use crate::intake::Candidate;
use crate::model::RunbookId;
use crate::routing::{Library, Listed};
use crate::runbook::{Parsed, Pinned};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who reads it, each time anew.
pub(super) fn reader(options: &ServeOptions, instance: &str) -> ReadCandidate {
    let (options, instance) = (options.clone(), instance.to_owned());
    Box::new(move |current| read(&options, &instance, current))
}

/// Reads it; `current` are the runbooks in force, whose versions count on.
///
/// # Errors
/// What to do, where a reload would refuse it.
fn read(options: &ServeOptions, instance: &str, current: &Library) -> Result<Candidate, String> {
    let not_good = |_| "the files on the server's disk are not good; run `runbookd check` there".to_owned();
    let (config, _) =
        load_config(&options.config_file, &options.env, &options.overrides).map_err(not_good)?;
    let mut said = String::new();
    let runbooks = examine(&config, &mut said).ok_or(said).map_err(not_good)?;
    let listed: BTreeMap<RunbookId, Listed> = runbooks
        .into_iter()
        .filter_map(|(id, parsed)| Some((id.clone(), pinned(&id, parsed, current)?)))
        .collect();
    Ok(Candidate {
        options: build::intake_options(&config, instance),
        library: Arc::new(Library::new(listed)),
    })
}

fn pinned(id: &RunbookId, parsed: Parsed, current: &Library) -> Option<Listed> {
    let before = match current.get(id) {
        Some(Listed::Good(pinned)) if pinned.hash == parsed.hash => {
            return Some(Listed::Good(Arc::clone(pinned)));
        }
        Some(Listed::Good(pinned)) => pinned.version,
        Some(Listed::Broken) | None => 0,
    };
    let (runbook, hash) = (parsed.runbook?, parsed.hash);
    Some(Listed::Good(Arc::new(Pinned {
        runbook,
        version: before + 1,
        hash,
        file_name: format!("{id}.toml"),
    })))
}
