//! The shipped unit and its drop-ins, by systemd's own judgement.

use crate::support::daemon::BINARY;
use crate::support::process::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(name)
}

fn analyze(args: &[&str], unit: &Path) -> Output {
    Command::new(program("systemd-analyze", "systemd")).args(args).arg(unit).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn t44_the_unit_is_exposed_to_less_than_two_of_ten() {
    // The threshold is in tenths; what is above it makes the exit status 1.
    let unit = shipped("runbookd.service");
    let judged = analyze(&["security", "--offline=true", "--threshold=20"], &unit);
    assert!(judged.status.success(), "{}", said(&judged));
    let strict = analyze(&["security", "--offline=true", "--threshold=1"], &unit);
    assert!(!strict.status.success(), "a threshold nothing passes must fail, or the first shows nothing");
}

#[test]
fn t44_the_unit_and_every_drop_in_are_free_of_mistakes() {
    let text = fs::read_to_string(shipped("runbookd.service")).unwrap();
    let text = text.replace("/usr/local/bin/runbookd", BINARY);
    let drop_ins: Vec<PathBuf> =
        fs::read_dir(shipped("drop-ins")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!drop_ins.is_empty());
    for drop_in in std::iter::once(None).chain(drop_ins.iter().map(Some)) {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("runbookd.service");
        fs::write(&unit, &text).unwrap();
        if let Some(drop_in) = drop_in {
            let place = dir.path().join("runbookd.service.d");
            fs::create_dir(&place).unwrap();
            fs::copy(drop_in, place.join(drop_in.file_name().unwrap())).unwrap();
        }
        let judged = analyze(&["verify", "--man=no"], &unit);
        let words = said(&judged);
        let ours: Vec<&str> = words.lines().filter(|line| line.contains("runbookd")).collect();
        assert!(judged.status.success() && ours.is_empty(), "{drop_in:?}: {words}");
    }
}
