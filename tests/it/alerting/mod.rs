//! What lies in `alerting/`: rules that fire when they should and only then, an Alertmanager config that leads alerts to
//! where they belong, and dashboards on which every panel shows something.

mod alertmanager;
mod dashboards;
mod panels;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The files of a directory below `alerting/` that end so, sorted; there must be some.
fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("alerting").join(dir)).unwrap();
    let all = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in alerting/{dir}");
    found
}

/// The file's name without its extension.
fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// Runs a program in `alerting/`, which must succeed; what it wrote.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.current_dir(root().join("alerting")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {said}");
    said
}
