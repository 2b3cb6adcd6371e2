//! What can be known before starting: `check`, for the config and every runbook.

use super::clock::SystemClock;
use super::needs::Given;
use super::{Environment, load_config};
use crate::config::{Config, Doubt, Overrides};
use crate::document::{Problem, Problems, Severity};
use crate::guard::Profiles;
use crate::intake::foresight;
use crate::model::{Clock as _, RunbookId, Timestamp};
use crate::runbook::links::{self, Calls};
use crate::runbook::{self, Links, Mode, Parsed, Pinned, Runbook};
use crate::schedule::Schedule;
use std::io::Write;
use std::path::Path;

/// What `check` is told.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// `--config.file`
    pub config_file: String,
    /// Flags that win over the file.
    pub overrides: Overrides,
    /// The environment.
    pub env: Environment,
}

/// Checks the config and every runbook; all problems at once, on `out`. 0 when there is none.
pub fn check(options: &CheckOptions, out: &mut dyn Write) -> i32 {
    let mut text = String::new();
    let config = match load_config(&options.config_file, &options.env, &options.overrides) {
        Ok((config, warnings)) => {
            text.extend(warnings.iter().map(|warning| format!("{warning}\n")));
            Some(config)
        }
        Err(problems) => {
            text.push_str(&problems);
            None
        }
    };
    let tls = config.as_ref().map_or(Ok(None), super::edge::load_tls);
    if let Err(why) = &tls {
        text.push_str(&format!("{why}\n"));
    }
    let good = config.and_then(|config| examine(&config, &mut text)).filter(|_| tls.is_ok());
    if let Some(good) = &good {
        text.push_str(&format!("{}: good, and {} runbooks are good\n", options.config_file, good.len()));
    }
    say(out, &text);
    i32::from(good.is_none())
}

/// Every runbook of `config`, where each of them is good and the config fits them; what is to be said of them is
/// added to `text`.
fn examine(config: &Config, text: &mut String) -> Option<Vec<(RunbookId, Parsed)>> {
    let files = match runbook_files(&config.runbooks.dir) {
        Ok(files) => files,
        Err(error) => {
            text.push_str(&format!("{}: {error}\n", config.runbooks.dir.display()));
            return None;
        }
    };
    let (known, paths): (Vec<RunbookId>, Vec<_>) = files.into_iter().unzip();
    let given = Given::of(config);
    let each = known.iter().zip(&paths);
    let mut read: Vec<Read> = each.map(|(id, path)| read_one(id, path, &given, &config.breakers)).collect();
    note_calls(&known, &mut read);
    text.extend(read.iter().map(Read::rendered));
    let mut unfit = config.check_runbooks(|id| known.contains(id));
    let pinned = |schedule: &Schedule| as_pinned(&schedule.runbook, &known, &read);
    let now = SystemClock.now();
    unfit.extend(config.check_schedules(|schedule| foresight::refusal(schedule, &pinned(schedule)?, now)));
    let doubtful = config.doubt_schedules(|schedule| {
        pinned(schedule).map(|pinned| doubts(schedule, &pinned, config, now)).unwrap_or_default()
    });
    text.extend(unfit.iter().chain(&doubtful).map(|problem| format!("{problem}\n")));
    text.extend(untold(config, &known, &read));
    let good = unfit.is_empty() && read.iter().all(Read::is_good);
    let parsed = read.into_iter().filter_map(|file| file.parsed.ok());
    good.then(|| known.into_iter().zip(parsed).collect())
}

/// A warning of the runbooks that act while nobody would be told how they ended, and nobody said that this is meant.
fn untold(config: &Config, known: &[RunbookId], read: &[Read]) -> Option<String> {
    let acts = |file: &&Read| {
        let runbook = file.parsed.as_ref().ok().and_then(|parsed| parsed.runbook.as_ref());
        runbook.is_some_and(|runbook| {
            runbook.escalate_to.is_none() && matches!(runbook.mode, Mode::Auto | Mode::Approve)
        })
    };
    let silent = known.iter().zip(read).filter(|(_, file)| acts(file)).map(|(id, _)| id.as_str());
    let silent: Vec<&str> = silent.collect();
    if silent.is_empty() || !config.automation.escalate_to.is_empty() {
        return None;
    }
    Some(format!(
        "warning: nobody is told when these runbooks end badly: {} (help: set automation.escalate_to, or write \
         [escalate] to = [...] in each; to = [] says that this is meant)\n",
        silent.join(", ")
    ))
}

/// One runbook, or why it cannot be read.
struct Read {
    text: String,
    parsed: Result<Parsed, String>,
    /// What it needs of the config that is not there, a line each.
    lacking: Vec<String>,
}

impl Read {
    fn is_good(&self) -> bool {
        let good = |problem: &Problem| problem.severity != Severity::Error;
        self.lacking.is_empty() && self.parsed.as_ref().is_ok_and(|parsed| parsed.problems.iter().all(good))
    }

    fn rendered(&self) -> String {
        match &self.parsed {
            Ok(parsed) => Problems::render(&parsed.problems, &self.text) + &self.lacking.concat(),
            Err(why) => why.clone(),
        }
    }
}

fn read_one(id: &RunbookId, path: &Path, given: &Given<'_>, profiles: &Profiles) -> Read {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mut parsed = runbook::parse(id, &name, &text);
            let profile =
                parsed.runbook.as_ref().map(|runbook| unknown_profile(runbook, &parsed.links, profiles));
            parsed.problems.extend(profile.flatten());
            let lacking = parsed.runbook.as_ref().map(|runbook| given.lacks(runbook)).unwrap_or_default();
            let lacking = lacking.iter().map(|lack| format!("{name}: {lack}\n")).collect();
            Read { parsed: Ok(parsed), text, lacking }
        }
        Err(error) => {
            let (parsed, lacking) = (Err(format!("{name}: {error}\n")), Vec::new());
            Read { parsed, text: String::new(), lacking }
        }
    }
}

/// A runbook as it would be started; nothing where it cannot be read.
fn as_pinned(id: &RunbookId, known: &[RunbookId], read: &[Read]) -> Option<Pinned> {
    let at = known.iter().position(|known| known == id)?;
    let parsed = read[at].parsed.as_ref().ok()?;
    let (runbook, hash) = (parsed.runbook.clone()?, parsed.hash.clone());
    Some(Pinned { runbook, version: 1, hash, file_name: format!("{id}.toml") })
}

/// Why a schedule whose runbook takes what it gives will still not run each time.
fn doubts(schedule: &Schedule, pinned: &Pinned, config: &Config, now: Timestamp) -> Vec<Doubt> {
    let Runbook { id, mode, guard, .. } = &pinned.runbook;
    let of_mode = |what| Doubt {
        what: format!("the mode of the runbook {:?} is {}: {what}", id.as_str(), mode.as_str()),
        help: "set the mode \"auto\" or \"approve\" in the runbook, or remove the schedule",
    };
    match mode {
        Mode::Disabled => vec![of_mode("nothing will run")],
        Mode::Shadow => vec![of_mode("each due time is shown, and nothing will run")],
        Mode::Approve | Mode::Auto => {
            let settings = guard.settings.over(&config.automation.guard);
            let help = "let it be due less often, or set cooldown and max_runs in the [guard] of the runbook";
            let what = foresight::too_often(schedule, &settings, now);
            what.map(|what| Doubt { what, help }).into_iter().collect()
        }
    }
}

/// Adds what is wrong with the calls among all the runbooks, each to the one that calls.
fn note_calls(ids: &[RunbookId], read: &mut [Read]) {
    let runbooks = ids.iter().zip(&*read).filter_map(|(id, file)| Some((id, file.parsed.as_ref().ok()?)));
    let calls: Calls = runbooks
        .filter_map(|(id, parsed)| Some((id.clone(), parsed.runbook.as_ref()?.calls().cloned().collect())))
        .collect();
    for fault in links::faults(&calls, &ids.iter().cloned().collect()) {
        let Some(at) = ids.iter().position(|id| *id == fault.caller) else { continue };
        let Ok(parsed) = &mut read[at].parsed else { continue };
        let problem = parsed.links.calls.get(fault.call).map(|place| fault.problem(place));
        parsed.problems.extend(problem);
        parsed.problems.sort_by_key(|problem| (problem.span.start, problem.severity));
    }
}

/// What is wrong with the breaker profile a runbook names, if it is none of the config's.
pub(super) fn unknown_profile(runbook: &Runbook, links: &Links, profiles: &Profiles) -> Option<Problem> {
    links::unknown_breaker(&runbook.breaker, links, profiles.names())
}

fn runbook_files(dir: &Path) -> std::io::Result<Vec<(RunbookId, std::path::PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).map(RunbookId::new);
        if let (Some(Ok(id)), Some("toml")) = (stem, path.extension().and_then(|ext| ext.to_str())) {
            files.push((id, path));
        }
    }
    files.sort();
    Ok(files)
}

fn say(out: &mut dyn Write, text: &str) {
    // A reader that has gone has read enough.
    let _gone = out.write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_the_config_does_not_have_is_named_with_those_it_has() {
        let id = RunbookId::new("act").unwrap();
        let problem = |profile: &str| {
            let text = format!("breaker = \"{profile}\"\n[[steps]]\nid = \"a\"\nwait = {{ for = \"1s\" }}\n");
            let parsed = runbook::parse(&id, "act.toml", &text);
            unknown_profile(&parsed.runbook.unwrap(), &parsed.links, &Profiles::default())
        };
        assert_eq!(problem("tolerant"), None);
        let problem = problem("agressive").unwrap();
        assert_eq!((problem.line, problem.column), (1, 11));
        assert_eq!(problem.message, "there is no breaker profile `agressive`");
        assert_eq!(problem.help, "did you mean \"aggressive\"?");
    }
}
