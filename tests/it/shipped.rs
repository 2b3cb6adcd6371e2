//! What is shipped beside the program is right as it is: runbooks and scripts. Of `alerting/` there is a room of its own.

use runbookd::model::RunbookId;
use runbookd::runbook;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
}

fn runbooks() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("runbooks")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_runbook_can_be_read_without_a_problem() {
    let files = runbooks();
    assert!(files.iter().any(|file| file.ends_with("service_unavailable.toml")), "{files:?}");
    for file in files {
        let id = RunbookId::new(file.file_stem().unwrap().to_str().unwrap()).unwrap();
        assert_eq!(file.extension().unwrap(), "toml", "{file:?}");
        let parsed = runbook::parse(&id, "runbook", &fs::read_to_string(&file).unwrap());
        assert!(parsed.problems.is_empty(), "{file:?}: {:#?}", parsed.problems);
        assert!(parsed.is_valid());
    }
}

#[test]
fn every_script_is_one_that_bash_can_read() {
    for script in ["deploy/demo/run", ".ci/run", ".ci/packages"] {
        run(Command::new("bash").arg("-n").arg(root().join(script)));
    }
}
