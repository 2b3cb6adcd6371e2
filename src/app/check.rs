//! What can be known before starting: `check`, for the config and every runbook.

use super::needs::Given;
use super::{Environment, load_config};
use crate::config::Overrides;
use crate::document::{Problem, Problems, Severity};
use crate::model::RunbookId;
use crate::runbook;
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
            failed |= !report(&id, &path, &Given::of(&config), &mut text);
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

/// Adds what is wrong with one runbook to `text`, also with what it needs of the config; false when that is an error.
fn report(id: &RunbookId, path: &Path, given: &Given<'_>, text: &mut String) -> bool {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(file) => {
            let parsed = runbook::parse(id, &name, &file);
            text.push_str(&Problems::render(&parsed.problems, &file));
            let lacking = parsed.runbook.map(|runbook| given.lacks(&runbook)).unwrap_or_default();
            text.extend(lacking.iter().map(|lack| format!("{name}: {lack}\n")));
            good(&parsed.problems) && lacking.is_empty()
        }
        Err(error) => {
            text.push_str(&format!("{name}: {error}\n"));
            false
        }
    }
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
