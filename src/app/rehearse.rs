//! `test`: finds the test files, has them played, and tells what came of them.

use super::{Environment, load_config};
use crate::config::Overrides;
use crate::rehearsal::{self, Coverage, Outcome, Seen, Suite};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How a test file's name ends; before it stands the runbook's id.
const ENDING: &str = ".test.toml";

/// What `test` is told.
#[derive(Debug, Clone)]
pub struct TestOptions {
    /// The files; none: all of the directory of runbooks.
    pub files: Vec<PathBuf>,
    /// Name every end of a step that no test has seen.
    pub coverage: bool,
    /// Tell it as JSON.
    pub json: bool,
    /// `--config.file`; for the directory, where no file is named.
    pub config_file: String,
    /// Flags that win over the file.
    pub overrides: Overrides,
    /// The environment.
    pub env: Environment,
}

/// Plays the tests; what came of them goes to `out`. 0 when all of them are right, else 1.
pub fn test(options: &TestOptions, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let files = match files(options) {
        Ok(files) => files,
        Err(why) => {
            say(err, &format!("runbookd: {}\n", why.trim_end()));
            return 1;
        }
    };
    let played: Vec<Played> = files.iter().map(|file| Played::of(file)).collect();
    let good = played.iter().all(Played::is_good);
    if options.json {
        let files: Vec<Value> = played.iter().map(Played::json).collect();
        let told = json!({ "success": good, "files": files });
        say(out, &format!("{told:#}\n"));
    } else {
        played.iter().for_each(|played| say(out, &played.text(options.coverage)));
    }
    i32::from(!good)
}

fn files(options: &TestOptions) -> Result<Vec<PathBuf>, String> {
    if !options.files.is_empty() {
        return Ok(options.files.clone());
    }
    let dir = match &options.overrides.runbooks_dir {
        Some(dir) => PathBuf::from(dir),
        None => load_config(&options.config_file, &options.env, &options.overrides)?.0.runbooks.dir,
    };
    let cannot = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING)) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("there is no test in {}: its name would be ID{ENDING}", dir.display()));
    }
    Ok(files)
}

/// One file and what came of it.
struct Played {
    file: String,
    result: Result<(Suite, Vec<Outcome>, Coverage), String>,
}

impl Played {
    fn of(path: &Path) -> Self {
        let file = path.display().to_string();
        let result = read(path, &file).and_then(|suite| {
            let (outcomes, coverage) = rehearsal::play(&suite)?;
            Ok((suite, outcomes, coverage))
        });
        Self { file, result }
    }

    fn is_good(&self) -> bool {
        self.result.as_ref().is_ok_and(|(_, outcomes, _)| outcomes.iter().all(|it| it.differences.is_empty()))
    }

    fn text(&self, all: bool) -> String {
        let Self { file, result } = self;
        let (suite, outcomes, coverage) = match result {
            Ok(played) => played,
            Err(why) => return format!("{file}: FAILED\n{}\n", indented(why)),
        };
        let mut text = match self.is_good() {
            true if outcomes.len() == 1 => format!("{file}: SUCCESS (1 test)\n"),
            true => format!("{file}: SUCCESS ({} tests)\n", outcomes.len()),
            false => format!("{file}: FAILED\n"),
        };
        for (case, outcome) in suite.cases.iter().zip(outcomes).filter(|(_, it)| !it.differences.is_empty()) {
            text += &format!("  {file}:{}: {}\n", case.line, case.name);
            for difference in &outcome.differences {
                text += &format!("    {}\n", difference.what);
                text += &format!("      expected: {}\n", difference.expected);
                text += &format!("      got:      {}\n", difference.got);
            }
        }
        let counts = Seen::ALL.map(|seen| {
            let (count, of) = coverage.count(seen);
            format!("{} {count}/{of}", seen.as_str())
        });
        text += &format!("  coverage of the steps of {}: {}\n", suite.id, counts.join(", "));
        for (step, seen) in coverage.never().filter(|_| all) {
            text += &format!("    never {}: {step}\n", seen.as_str());
        }
        text
    }

    fn json(&self) -> Value {
        let (suite, outcomes, coverage) = match &self.result {
            Ok(played) => played,
            Err(why) => return json!({ "file": self.file, "success": false, "error": why }),
        };
        let tests: Vec<Value> = suite
            .cases
            .iter()
            .zip(outcomes)
            .map(|(case, outcome)| {
                let told = outcome.differences.iter().map(
                    |it| json!({ "what": it.what, "expected": it.expected, "got": it.got }),
                );
                let told: Vec<Value> = told.collect();
                json!({ "name": case.name, "line": case.line, "success": told.is_empty(), "differences": told })
            })
            .collect();
        let words = |seen: &[Seen]| -> Vec<&str> { seen.iter().map(|seen| seen.as_str()).collect() };
        let seen: Map<String, Value> =
            coverage.seen().map(|(step, seen)| (step.to_string(), json!(words(seen)))).collect();
        let never: Vec<Value> = coverage
            .never()
            .map(|(step, seen)| json!({ "step": step.as_str(), "end": seen.as_str() }))
            .collect();
        json!({
            "file": self.file,
            "runbook": suite.id.as_str(),
            "success": self.is_good(),
            "tests": tests,
            "coverage": { "seen": seen, "never": never },
        })
    }
}

fn read(path: &Path, file: &str) -> Result<Suite, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.strip_suffix(ENDING).or_else(|| name.strip_suffix(".toml")).unwrap_or(name);
    let dir = path.parent().unwrap_or(Path::new("."));
    rehearsal::read(file, stem, &text, &mut |id| {
        let beside = dir.join(format!("{id}.toml"));
        std::fs::read_to_string(&beside).map_err(|error| format!("{}: {error}", beside.display()))
    })
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn say(to: &mut dyn Write, text: &str) {
    // A reader that has gone has read enough.
    let _gone = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
