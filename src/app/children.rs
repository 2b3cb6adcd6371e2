//! The processes of steps: the rules for them from `[steps]` of the config, and what an earlier life left of them.
//!
//! May import: `config`, `step`. Must never: go on where the config asks for what cannot be had.

use crate::config::{Containment, Steps};
use crate::step::{Cgroups, ChildRules, Dirs, account_number, sweep_leftovers};
use std::path::Path;
use std::sync::Arc;

/// The rules for the processes of steps; and what an earlier life left running is ended, before its steps' crash
/// rules apply. Only once the store is ours: what lies where our groups and directories go is ours too.
///
/// # Errors
/// A sentence: what the config asks for and this machine does not have.
pub(super) async fn prepare(steps: &Steps, dirs: &Arc<Dirs>) -> Result<ChildRules, String> {
    let (steps, dirs) = (steps.clone(), Arc::clone(dirs));
    let prepared = tokio::task::spawn_blocking(move || {
        let (rules, words) = rules(&steps, dirs.work.parent().unwrap_or(&dirs.work))?;
        tracing::info!(containment = words, "steps can be started");
        sweep(&dirs, &rules);
        Ok(rules)
    });
    prepared
        .await
        .unwrap_or_else(|error| Err(format!("what an earlier runbookd left cannot be swept: {error}")))
}

fn sweep(dirs: &Dirs, rules: &ChildRules) {
    let swept = sweep_leftovers(dirs, rules.cgroups.as_ref());
    if swept.processes.is_empty() && swept.directories.is_empty() && swept.problems.is_empty() {
        return;
    }
    tracing::warn!(
        processes = swept.processes.len(),
        survivors = swept.survivors.len(),
        directories = swept.directories.len(),
        problems = swept.problems.join("; "),
        "an earlier runbookd left these behind; they have been ended and removed"
    );
}

/// The rules for the daemon whose data lie in `storage`, and in words how its steps are held together.
fn rules(steps: &Steps, storage: &Path) -> Result<(ChildRules, String), String> {
    let (cgroups, words) = match steps.containment {
        Containment::Processes => (None, "processes: [steps] containment says so".to_owned()),
        wish => match (Cgroups::prepare(storage), wish) {
            (Ok(cgroups), _) => {
                let kept = match cgroups.controllers() {
                    [] => "no controllers, so limits are kept process by process".to_owned(),
                    controllers => format!("controllers {}", controllers.join(", ")),
                };
                let words = format!("cgroup {} ({kept})", cgroups.base().display());
                (Some(cgroups), words)
            }
            (Err(why), Containment::Cgroup) => {
                return Err(format!("[steps] containment asks for control groups, but {why}"));
            }
            (Err(why), _) => (None, format!("processes: {why}")),
        },
    };
    let denied = steps.deny_users.iter().map(|user| account_number(user));
    let denied = denied.collect::<Result<_, _>>().map_err(|why| format!("[steps] deny_users: {why}"))?;
    Ok((ChildRules { cgroups, allow_root: steps.allow_root, denied, limits: steps.limits }, words))
}

/// What a person who starts it as root should know.
pub(super) fn warn_of_root(steps: &Steps) {
    if rustix::process::geteuid().is_root() && !steps.allow_root {
        tracing::warn!(
            "runbookd runs as root, and [steps] allow_root is false: every step needs a `user`, and those without one \
             are refused; run runbookd as a user of its own, or set RUNBOOKD_STEPS__ALLOW_ROOT=true"
        );
    }
}
