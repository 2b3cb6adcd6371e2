//! The command line from its words to its exit code, against a server that says what the test wants.

mod args;
mod backup;
mod codes;
mod docs;
mod follow;
mod guard;
mod import;
mod show;
mod stub;
mod token;
mod triggers;
mod validate;

use super::*;
use crate::backup::{Head, check, take};
use crate::model::{ManualClock, Timestamp};
use std::cell::RefCell;
use std::io;

const ID: &str = "service_unavailable_01J9ZQ5K3M8N7P6R5S4T3V2W1X";
const DECISION: &str = "01J9ZQ5K3M8N7P6R5S4T3V2W1Y";

/// Remembers what it was asked for, and answers with a code of its own.
#[derive(Default)]
struct Recorder(RefCell<Vec<String>>);

impl Program for Recorder {
    fn serve(&self, options: ServeOptions) -> i32 {
        self.0.borrow_mut().push(format!("{options:?}"));
        40
    }
    fn check(&self, options: CheckOptions) -> i32 {
        self.0.borrow_mut().push(format!("{options:?}"));
        41
    }
    fn execute(&self, options: ExecuteOptions) -> i32 {
        self.0.borrow_mut().push(format!("{options:?}"));
        42
    }
    fn test(&self, options: TestOptions) -> i32 {
        self.0.borrow_mut().push(format!("{options:?}"));
        43
    }
    fn verify_audit(&self, storage: &Path) -> Result<serde_json::Value, String> {
        match storage.to_str() {
            Some("whole") => {
                Ok(serde_json::json!({ "ok": true, "records": 3, "head": "00ff", "problem": null }))
            }
            Some("broken") => Ok(
                serde_json::json!({ "ok": false, "records": 1, "head": "00", "problem": "record 2 is not what was written" }),
            ),
            other => Err(format!("{other:?} holds no store")),
        }
    }
    fn backup(&self, storage: &Path, out: &mut dyn Write) -> Result<(), String> {
        match storage.to_str() {
            Some("whole") => {
                let (store, head) = (crate::store::MemoryStore::new(), Head::new("here", now()));
                let taken = take(
                    crate::store::Store::copy(&store).unwrap(),
                    Path::new("/nowhere"),
                    &head,
                    out,
                    &|| true,
                );
                taken.map(drop).map_err(|error| error.to_string())
            }
            Some("half") => out.write_all(b"runbookd backup\n").map_err(|error| error.to_string()),
            other => Err(format!("{other:?} holds no store")),
        }
    }
    fn restore(&self, file: &Path, storage: &Path) -> Result<Restored, String> {
        let live = u64::try_from(storage.as_os_str().len()).unwrap();
        let (head, contents) = check(file).map_err(|error| error.to_string())?;
        Ok(Restored { head, contents, live })
    }
}

/// What a command line came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

fn now() -> Timestamp {
    "2026-08-01T10:10:00Z".parse().unwrap()
}

fn environment(variables: &[(&str, &str)], terminal: bool) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Environment { variables, terminal, clock: Arc::new(ManualClock::new(now())) }
}

fn words(line: &[&str]) -> impl Iterator<Item = OsString> {
    std::iter::once("runbookd")
        .chain(line.iter().copied())
        .map(OsString::from)
        .collect::<Vec<_>>()
        .into_iter()
}

fn outcome_in(env: &Environment, line: &[&str]) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(words(line), env, &Recorder::default(), &mut out, &mut err);
    Outcome { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn outcome(line: &[&str]) -> Outcome {
    outcome_in(&environment(&[], false), line)
}

/// A command line for the server at `url`.
fn asked(url: &str, line: &[&str]) -> Outcome {
    outcome_in(&environment(&[("RUNBOOKD_URL", url)], false), line)
}

/// Stdout that fails as its reader does.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
