//! `validate`: one runbook file, all its errors and warnings, without a server.
//!
//! May import: `model`, `document`, `runbook`. Must never: read the process environment for a runbook's variables, or
//! execute anything.

use super::args::{Shape, Validate, once};
use super::escape::{visible, visible_lines};
use super::quit::Quit;
use super::screen::Screen;
use super::{Environment, yes_or_no};
use crate::document::{Problems, Severity};
use crate::model::RunbookId;
use crate::runbook::{InputSource, MAX_FILE, Runbook, inputs, parse};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where runbooks are unless a flag or a variable says otherwise: where the default config has them.
const RUNBOOKS_DIR: &str = "runbooks";

/// What is wrong beyond the file itself.
#[derive(Debug, Default)]
struct Beyond {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Checks a runbook and prints what is wrong with it; no when there is an error.
pub(super) fn run(args: &Validate, env: &Environment, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let given = once(args.env.clone(), "--env").map_err(Quit::Usage)?;
    let path = file_of(args, env)?;
    let (id, text) = (id_of(&path)?, read(&path)?);
    let file = path.display().to_string();
    let parsed = parse(&id, &file, &text);
    let beyond = parsed.runbook.as_ref().map(|runbook| variables(runbook, &given)).unwrap_or_default();
    let (errors, warnings): (Vec<_>, Vec<_>) =
        parsed.problems.iter().partition(|problem| problem.severity == Severity::Error);
    let valid = parsed.is_valid() && beyond.errors.is_empty();
    if args.output == Shape::Json {
        let all = |problems: Vec<_>, more: &[String]| -> Vec<String> {
            problems.into_iter().map(ToString::to_string).chain(more.iter().cloned()).collect()
        };
        let answer = json!({
            "success": valid,
            "runbook": id.as_str(),
            "errors": all(errors, &beyond.errors),
            "warnings": all(warnings, &beyond.warnings),
        });
        screen.line(&super::json::pretty(&answer.to_string()))?;
        return Ok(yes_or_no(valid));
    }
    screen.text(&visible_lines(&Problems::render(&parsed.problems, &text)))?;
    for (word, sentences) in [("error", &beyond.errors), ("warning", &beyond.warnings)] {
        for sentence in sentences {
            screen.line(&format!("{word}: {}: {}", visible(&file), visible(sentence)))?;
        }
    }
    let verdict = if valid { "valid" } else { "not valid" };
    let (errors, warnings) = (errors.len() + beyond.errors.len(), warnings.len() + beyond.warnings.len());
    let found = format!("{errors} {}, {warnings} {}", plural(errors, "error"), plural(warnings, "warning"));
    screen.line(&format!("{}: {verdict} ({found})", visible(&file)))?;
    Ok(yes_or_no(valid))
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// A path where there is a file or it looks like one, else an id in the directory of runbooks.
fn file_of(args: &Validate, env: &Environment) -> Result<PathBuf, Quit> {
    let named = Path::new(&args.runbook);
    if args.runbook.contains('/') || named.extension().is_some() || named.is_file() {
        return Ok(named.to_owned());
    }
    let id = RunbookId::new(&args.runbook).map_err(|error| Quit::Usage(error.to_string()))?;
    let dir = args.runbooks.dir.as_deref().or_else(|| env.get("RUNBOOKD_RUNBOOKS__DIR"));
    Ok(Path::new(dir.unwrap_or(RUNBOOKS_DIR)).join(format!("{id}.toml")))
}

fn id_of(path: &Path) -> Result<RunbookId, Quit> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    RunbookId::new(stem)
        .map_err(|error| Quit::no(format!("{}: the file's name gives the id: {error}", path.display())))
}

/// The text of a file, if it is one.
pub(super) fn read(path: &Path) -> Result<String, Quit> {
    let cannot = |cause: std::io::Error| Quit::no(format!("{} cannot be read: {cause}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(Quit::no(format!("{} is not a file", path.display())));
    }
    let mut text = String::new();
    // One byte more than allowed is enough for the parser to refuse it with its own words.
    file.take(MAX_FILE as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

/// The variables that a caller must give, against those given.
fn variables(runbook: &Runbook, given: &BTreeMap<String, String>) -> Beyond {
    let mut beyond = Beyond::default();
    let from_env = |name: &str| {
        let input = runbook.inputs.iter().find(|input| input.name == name);
        input.is_some_and(|input| matches!(input.from, Some(InputSource::Env(_))))
    };
    let none = BTreeMap::new();
    if let Err(problems) = inputs::resolve(runbook, &none, &none, given, &none) {
        // What an alert or a caller will say is not known here.
        let ours = problems.into_iter().filter(|problem| from_env(&problem.input));
        beyond.errors = ours.map(|problem| problem.to_string()).collect();
    }
    for name in given.keys() {
        let used = runbook.inputs.iter().any(|input| input.from == Some(InputSource::Env(name.clone())));
        if !used {
            beyond.warnings.push(format!("no input has from = \"env.{name}\", so its value is not used"));
        }
    }
    beyond
}
