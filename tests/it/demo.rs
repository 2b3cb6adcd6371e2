//! The demo does what it says, on this machine, and leaves nothing behind.

use crate::support::daemon::BINARY;
use crate::support::process::{Process, program};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn the_demo_shows_a_repair_within_two_minutes_and_removes_what_it_made() {
    let bin = Path::new(BINARY).parent().unwrap();
    let target = bin.join("examples/demo-target");
    assert!(
        target.exists(),
        "{target:?} is not built: `cargo test` does it, or `cargo build --example demo-target`"
    );
    for (name, package) in
        [("prometheus", "prometheus"), ("prometheus-alertmanager", "prometheus-alertmanager")]
    {
        program(name, package);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo/run"));
    command.env("DEMO_BIN", bin).env_remove("RUNBOOKD_TOKEN");
    let mut demo = Process::start("demo", command, dir.path());
    let status = demo.wait(Duration::from_secs(120));
    let said = demo.log();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("one alert, one execution, repaired and proved"), "{said}");
    let made =
        said.lines().find_map(|line| line.split_once(", in /tmp/")).map(|(_, rest)| format!("/tmp/{rest}"));
    let made = made.unwrap_or_else(|| panic!("no directory is named: {said}"));
    assert!(!Path::new(&made).exists(), "{made} is still there");
}
