//! One runbook file, checked without a server.

use super::*;
use serde_json::Value;

const RUNBOOK: &str = r#"
title = "Look"
mode = "auto"
[inputs.region]
from = "env.REGION"
required = true
pattern = "[a-z]+"
[inputs.instance]
from = "labels.instance"
required = true
[[steps]]
id = "look"
effect = "read_only"
command = { program = "uptime", args = ["{{ inputs.region }}", "{{ inputs.instance }}"] }
"#;

fn directory(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("look.toml"), text).unwrap();
    dir
}

#[test]
fn a_variable_that_must_be_given_is_missed_until_it_is() {
    let dir = directory(RUNBOOK);
    let file = dir.path().join("look.toml");
    let file = file.to_str().unwrap();
    let got = outcome(&["validate", file]);
    let expected = format!(
        "error: {file}: input `region`: it is required, and no variable `REGION` was given\n{file}: not valid (1 error, 0 warnings)\n"
    );
    assert_eq!(got, Outcome { code: 1, out: expected, err: String::new() });
    let got = outcome(&["validate", file, "--env", "REGION=eu"]);
    assert_eq!(
        got,
        Outcome { code: 0, out: format!("{file}: valid (0 errors, 0 warnings)\n"), err: String::new() }
    );
    let got = outcome(&["validate", file, "--env", "REGION=eu1", "--env", "REGON=eu"]);
    assert_eq!(got.code, 1);
    assert!(got.out.contains("\"eu1\" does not match its pattern [a-z]+"), "{}", got.out);
    assert!(
        got.out.contains("warning: ") && got.out.contains("no input has from = \"env.REGON\""),
        "{}",
        got.out
    );
}

#[test]
fn an_id_is_found_in_the_directory_of_flag_or_variable() {
    let dir = directory(RUNBOOK);
    let path = dir.path().to_str().unwrap();
    let line = ["validate", "look", "--env", "REGION=eu"];
    assert_eq!(outcome(&[&line[..], &["--runbooks.dir", path]].concat()).code, 0);
    assert_eq!(outcome_in(&environment(&[("RUNBOOKD_RUNBOOKS__DIR", path)], false), &line).code, 0);
    let missing = outcome(&["validate", "none", "--runbooks.dir", path]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("none.toml cannot be read: No such file"), "{}", missing.err);
    assert_eq!(outcome(&["validate", path]).code, 1, "a directory is no runbook");
}

#[test]
fn every_problem_is_shown_in_its_line_and_nothing_a_terminal_obeys() {
    let broken = RUNBOOK
        .replace("mode =", "mood =")
        .replace("uptime", "up\u{202e}time")
        .replace("inputs.region }}", "inputs.regon }}");
    let dir = directory(&broken);
    let file = dir.path().join("look.toml");
    let got = outcome(&["validate", file.to_str().unwrap()]);
    assert_eq!((got.code, got.err.as_str()), (1, ""));
    for part in ["unknown key `mood`", "look.toml:3:1", "there is no input `regon`", "did you mean"] {
        assert!(got.out.contains(part), "{part}: {}", got.out);
    }
    assert!(!got.out.chars().any(|c| c != '\n' && escape::is_unseen(c)), "{}", got.out);
    let got = outcome(&["validate", file.to_str().unwrap(), "--output=json"]);
    let answer: Value = serde_json::from_str(&got.out).unwrap();
    assert_eq!(
        (got.code, &answer["success"], &answer["runbook"]),
        (1, &Value::Bool(false), &Value::from("look"))
    );
    assert!(answer["errors"].as_array().is_some_and(|errors| errors.len() >= 2), "{answer}");
}
