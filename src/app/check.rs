//! What can be known before starting: `check`, for the config and every runbook.

use super::{Environment, load_config};
use crate::config::Overrides;
use crate::document::{Problem, Problems, Severity};
use crate::guard::Profiles;
use crate::model::RunbookId;
use crate::runbook::{self, Runbook};
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
    let mut failed = config.is_none();
    if let Some(config) = config {
        let mut known = Vec::new();
        let files = match runbook_files(&config.runbooks.dir) {
            Ok(files) => files,
            Err(error) => {
                text.push_str(&format!("{}: {error}\n", config.runbooks.dir.display()));
                failed = true;
                Vec::new()
            }
        };
        for (id, path) in files {
            known.push(id.clone());
            failed |= !report(&id, &path, &config.breakers, &mut text);
        }
        let unknown = config.check_runbooks(|id| known.contains(id));
        failed |= !unknown.is_empty();
        text.extend(unknown.iter().map(|problem| format!("{problem}\n")));
        if !failed {
            text.push_str(&format!("{}: good, and {} runbooks are good\n", options.config_file, known.len()));
        }
    }
    say(out, &text);
    i32::from(failed)
}

fn good(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.severity != Severity::Error)
}

/// Adds what is wrong with one runbook to `text`; whether it is good.
fn report(id: &RunbookId, path: &Path, profiles: &Profiles, text: &mut String) -> bool {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(file) => {
            let parsed = runbook::parse(id, &name, &file);
            text.push_str(&Problems::render(&parsed.problems, &file));
            let profile = parsed.runbook.as_ref().and_then(|runbook| unknown_profile(runbook, profiles));
            text.extend(profile.iter().map(|why| format!("{name}: {why}\n")));
            good(&parsed.problems) && profile.is_none()
        }
        Err(error) => {
            text.push_str(&format!("{name}: {error}\n"));
            false
        }
    }
}

/// What is wrong with the breaker profile a runbook names, if it is none of the config's.
pub(super) fn unknown_profile(runbook: &Runbook, profiles: &Profiles) -> Option<String> {
    let known: Vec<&str> = profiles.names().collect();
    profiles.get(&runbook.breaker).is_none().then(|| {
        let (name, known) = (&runbook.breaker, known.join(", "));
        format!("there is no breaker profile {name:?} (known: {known}; add [breakers.{name}] to the config)")
    })
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
        let text = "title = \"T\"\nmode = \"auto\"\n[[steps]]\nid = \"a\"\nwait = { for = \"1s\" }\n";
        let mut runbook = runbook::parse(&id, "act.toml", text).runbook.unwrap();
        assert_eq!(unknown_profile(&runbook, &Profiles::default()), None);
        runbook.breaker = "agressive".to_owned();
        assert_eq!(
            unknown_profile(&runbook, &Profiles::default()).as_deref(),
            Some(
                "there is no breaker profile \"agressive\" (known: default, aggressive, tolerant; \
                 add [breakers.agressive] to the config)"
            )
        );
    }
}
