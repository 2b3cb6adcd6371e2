//! The demo does what it says, on this machine, and leaves nothing behind.

use crate::support::daemon::BINARY;
use crate::support::process::{Process, program};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn the_demo_tells_the_whole_story_within_two_minutes_and_removes_what_it_made() {
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
    // It ends with 0 only after it has compared all of this with what the services and the pager saw.
    for told in [
        "Nobody was woken.",
        "rolled back (not_verified)",
        "open_breakers: succeeded, undone",
        " targets (too_many_targets)",
        "allowed=10 others=10",
        "Status      succeeded",
        "Status      rolled_back",
        "Done: all of it happened",
    ] {
        assert!(said.contains(told), "{told:?} is missing: {said}");
    }
    assert!(!said.contains('\u{1b}'), "nobody looks at colours in a file: {said}");
    let made =
        said.lines().find_map(|line| line.split_once(", in /tmp/")).map(|(_, rest)| format!("/tmp/{rest}"));
    let made = made.unwrap_or_else(|| panic!("no directory is named: {said}"));
    assert!(!Path::new(&made).exists(), "{made} is still there");
}
