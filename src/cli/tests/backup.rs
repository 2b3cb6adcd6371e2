//! A backup gets its name when it is whole, and a restore says what comes next.

use super::*;
use serde_json::Value;
use std::fs;

/// What a line came to, with the directory called D.
fn told(dir: &tempfile::TempDir, line: &[&str]) -> Outcome {
    let path = dir.path().display().to_string();
    let line: Vec<String> = line.iter().map(|word| word.replace("D/", &format!("{path}/"))).collect();
    let got = outcome(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let named = |text: String| text.replace(&path, "D");
    Outcome { code: got.code, out: named(got.out), err: named(got.err) }
}

#[test]
fn a_backup_is_told_in_a_line_and_never_overwrites_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let line = ["backup", "D/b", "--storage.path", "whole"];
    let got = told(&dir, &line);
    let said = "wrote: D/b, of here as of 2026-08-01T10:10:00Z: 0 records, 0 output files\n";
    assert_eq!((got.code, got.out.as_str(), got.err.as_str()), (0, said, ""));
    let again = told(&dir, &line);
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    assert!(again.err.contains("D/b is there already") && again.err.contains("--overwrite"), "{}", again.err);
    let over = told(&dir, &[&line[..], &["--overwrite", "--output", "json"]].concat());
    let value: Value = serde_json::from_str(&over.out).unwrap();
    assert_eq!((over.code, &value["instance"], &value["records"]), (0, &"here".into(), &0.into()));
    assert_eq!(value["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn what_is_not_whole_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    for (storage, why) in
        [("half", "no backup was taken: it is cut off at byte 16"), ("none", "holds no store")]
    {
        let got = told(&dir, &["backup", "D/b", "--storage.path", storage]);
        assert_eq!((got.code, got.out.as_str()), (1, ""));
        assert!(got.err.contains(why), "{}", got.err);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    let got = told(&dir, &["backup", "D/none/b", "--storage.path", "whole"]);
    assert!(
        got.code == 1 && got.err.contains("D/none/b.partial cannot be written: No such file"),
        "{}",
        got.err
    );
}

#[test]
fn a_restore_says_that_everything_is_halted_and_how_much_was_in_progress() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(told(&dir, &["backup", "D/b", "--storage.path", "whole"]).code, 0);
    let dry = told(&dir, &["restore", "D/b", "--dry-run"]);
    assert_eq!((dry.code, dry.err.as_str()), (0, ""));
    assert!(dry.out.starts_with("whole: D/b, of here"), "{}", dry.out);
    for (storage, live) in [("a", "1 execution was"), ("ab", "2 executions were")] {
        let got = told(&dir, &["restore", "D/b", "--storage.path", storage]);
        assert_eq!(got.code, 0);
        assert!(got.out.starts_with("restored: D/b, of here as of 2026-08-01T10:10:00Z"), "{}", got.out);
        assert!(got.err.contains("starts halted") && got.err.contains(live), "{}", got.err);
        assert!(got.err.contains("runbookd unhalt --reason"), "{}", got.err);
    }
    let json = told(&dir, &["restore", "D/b", "--storage.path", "abc", "--output", "json"]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&value["live"], &value["instance"]), (&3.into(), &"here".into()));
    let none = told(&dir, &["restore", "D/none", "--storage.path", "a"]);
    assert!(
        none.code == 1 && none.err.contains("D/none cannot be restored: it cannot be read"),
        "{}",
        none.err
    );
}

#[test]
fn what_cannot_be_meant_is_a_matter_of_usage() {
    for line in [
        &["backup"][..],
        &["restore", "b"],
        &["backup", "b", "--storage.path", "d", "--reason", "r"],
        &["backup", "b", "--storage.path", "d", "--url", "http://127.0.0.1:1"],
    ] {
        assert_eq!(outcome(line).code, USAGE, "{line:?}");
    }
}
