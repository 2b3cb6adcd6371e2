//! `runbookd test`: every shipped runbook has tests, and they pass; what is wrong is told where it stands.

use crate::support::daemon::BINARY;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(BINARY).arg("test").args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_shipped_runbook_has_tests_that_pass_and_see_every_end_of_every_step() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = run(root, &["--config.file=config/runbookd.toml", "--output=json"]);
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert!(output.status.success() && answer["success"] == true, "{answer:#}");
    let files = answer["files"].as_array().unwrap();
    let tested: BTreeSet<String> =
        files.iter().map(|file| file["runbook"].as_str().unwrap().to_owned()).collect();
    let shipped = fs::read_dir(root.join("runbooks")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        Some(name.strip_suffix(".toml")?.to_owned()).filter(|id| !id.ends_with(".test"))
    });
    assert_eq!(tested, shipped.collect());
    for file in files {
        let never = file["coverage"]["never"].as_array().unwrap();
        assert!(never.is_empty(), "{}: no test has seen {never:?}", file["runbook"]);
    }
}

const BOOK: &str = r#"
mode = "auto"
alerts = ["Acts"]
target = "{{ labels.host }}"
[[steps]]
id = "look"
command = { program = "looks", ok_exit = [3] }
effect = "read_only"
on_failure = "continue"
[[steps]]
id = "act"
when = "not steps.look.ok"
command = { program = "acts", args = ["on", "{{ labels.host }}"] }
retry = { attempts = 2 }
[steps.undo]
command = { program = "undoes" }
"#;

/// Puts the runbook and its tests into a directory, and plays them.
fn played(tests: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("book.toml"), BOOK).unwrap();
    fs::write(dir.path().join("book.test.toml"), tests).unwrap();
    run(dir.path(), &[&["book.test.toml"], args].concat())
}

#[test]
fn what_is_as_expected_is_a_success_with_its_coverage() {
    let output = played(
        r#"
[[tests]]
name = "it acts"
trigger = { labels = { host = "a" } }
steps.look = { exit = 4 }
steps.act = ["timeout", "ok"]
expect = { status = "succeeded", ran = ["look", "act"], attempts = { act = 2 }, calls.act = { plan = "acts on a" } }
"#,
        &["--coverage"],
    );
    assert_eq!(output.status.code(), Some(0));
    let wanted = "book.test.toml: SUCCESS (1 test)\n  coverage of the steps of book: ok 1/2, failed 1/2, skipped 0/1, undone 0/1\n    \
                  never ok: look\n    never failed: act\n    never skipped: act\n    never undone: act\n";
    assert_eq!(text(&output.stdout), wanted);
}

#[test]
fn what_is_not_as_expected_is_told_with_what_was_expected_and_what_there_was() {
    let output = played(
        r#"
[[tests]]
name = "it acts"
trigger = { labels = { host = "a" } }
steps.look = "failed"
steps.act = "failed"
expect = { status = "succeeded", ran = ["act"], target = "b", calls.act = { args = ["on", "b"] } }
"#,
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    for wanted in [
        "book.test.toml: FAILED\n  book.test.toml:2: it acts\n",
        "    status\n      expected: succeeded\n      got:      rolled_back",
        "    ran\n      expected: [act]\n      got:      [look, act]\n",
        "    undone\n      expected: []\n      got:      [act]\n",
        "    target\n      expected: b\n      got:      a\n",
        "    calls.act.args\n      expected: [\"on\",\"b\"]\n      got:      [\"on\",\"a\"]\n",
    ] {
        assert!(told.contains(wanted), "{wanted}\nis not in\n{told}");
    }
}

#[test]
fn what_is_wrong_with_a_test_file_is_told_all_at_once_with_its_place() {
    let output = played(
        r#"
[[tests]]
name = "wrong"
steps.lok = "ok"
steps.act = "maybe"
[tests.expect]
statsu = "succeeded"
ran = ["act", "acts"]
"#,
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    for wanted in [
        "the runbook `book` has no step `lok`",
        "book.test.toml:4:7",
        "did you mean `look`?",
        "\"maybe\" is not known here",
        "book.test.toml:5:13",
        "unknown key `statsu`",
        "book.test.toml:7:1",
        "nothing says how it must end",
        "there is no step `acts`",
        "book.test.toml:8:15",
    ] {
        assert!(told.contains(wanted), "{wanted}\nis not in\n{told}");
    }
}

#[test]
fn a_test_of_a_runbook_that_is_not_there_or_not_right_is_no_success() {
    let output =
        played("runbook = \"other\"\n[[tests]]\nname = \"x\"\nexpect = { status = \"failed\" }\n", &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(told.contains("other.toml") && told.contains("book.test.toml:1:11"), "{told}");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("book.toml"), "mode = \"loud\"\n").unwrap();
    fs::write(
        dir.path().join("book.test.toml"),
        "[[tests]]\nname = \"x\"\nexpect = { status = \"failed\" }\n",
    )
    .unwrap();
    let output = run(dir.path(), &["book.test.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("book.toml:1:8"), "{}", text(&output.stdout));

    let output = run(dir.path(), &["missing.test.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("missing.test.toml"), "{}", text(&output.stdout));
    fs::remove_file(dir.path().join("book.test.toml")).unwrap();
    let output = run(dir.path(), &["--runbooks.dir", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no test in ."), "{}", text(&output.stderr));
}

#[test]
fn a_rehearsal_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let book = BOOK.replace(
        "\"acts\", args = [\"on\", \"{{ labels.host }}\"]",
        &format!("\"touch\", args = [{:?}]", mark),
    );
    fs::write(dir.path().join("book.toml"), book).unwrap();
    let tests = "[[tests]]\nname = \"x\"\ntrigger = { labels = { host = \"a\" } }\nsteps.look = \"failed\"\n\
                 expect = { status = \"succeeded\", ran = [\"look\", \"act\"] }\n";
    fs::write(dir.path().join("book.test.toml"), tests).unwrap();
    let output = run(dir.path(), &["book.test.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(!mark.exists());
}
