//! What is shipped beside the program is right as it is: runbooks and scripts. Of `alerting/` there is a room of its own.

use crate::support::process::program;
use runbookd::model::RunbookId;
use runbookd::runbook::{self, Condition, Context, Input, Kind, Runbook};
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
    // Beside them stand their tests and the guide to writing them.
    let is_runbook =
        |path: &PathBuf| !path.to_str().unwrap().ends_with(".test.toml") && !path.ends_with("README.md");
    entries.map(|entry| entry.unwrap().path()).filter(is_runbook).collect()
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

fn parsed() -> Vec<Runbook> {
    let read = |file: &PathBuf| {
        let id = RunbookId::new(file.file_stem().unwrap().to_str().unwrap()).unwrap();
        runbook::parse(&id, "runbook", &fs::read_to_string(file).unwrap()).runbook.unwrap()
    };
    runbooks().iter().map(read).collect()
}

#[test]
fn every_script_of_a_shipped_runbook_is_one_that_its_shell_can_read() {
    let mut count = 0;
    for runbook in parsed() {
        for step in &runbook.steps {
            let undo = step.undo.as_ref().map(|undo| &undo.kind);
            for kind in [Some(&step.kind), undo].into_iter().flatten() {
                let Kind::Script(script) = kind else { continue };
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(file.path(), &script.text).unwrap();
                run(Command::new(&script.shell[0]).arg("-n").arg(file.path()));
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_query_of_a_shipped_runbook_is_one_that_prometheus_can_read() {
    let mut rules = Vec::new();
    for runbook in parsed() {
        let value = |input: &Input| input.default.clone().unwrap_or_else(|| "10.0.0.1:9100".to_owned());
        let inputs = runbook.inputs.iter().map(|input| (input.name.clone(), value(input))).collect();
        let context = Context::builder().inputs(&inputs).build();
        let of_step = runbook.steps.iter().filter_map(|step| match &step.kind {
            Kind::Promql { query, .. } => Some(query),
            _ => None,
        });
        let of_verify = runbook.verify.as_ref().and_then(|verify| match &verify.condition {
            Condition::Promql { query, .. } => Some(query),
            Condition::AlertResolved => None,
        });
        for query in of_step.chain(of_verify) {
            let expr = query.render(&context).unwrap();
            rules.push(serde_json::json!({ "record": format!("query{}", rules.len()), "expr": expr }));
        }
    }
    assert!(rules.len() > 3, "{rules:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = serde_json::json!({ "groups": [{ "name": "queries", "rules": rules }] }).to_string();
    fs::write(file.path(), text).unwrap();
    run(Command::new(program("promtool", "prometheus")).args(["check", "rules"]).arg(file.path()));
}

/// What a stranger would put into a label to become a command, an option, another path or another host.
const HOSTILE: [&str; 16] = [
    "-rf",
    "--volumes",
    "$(reboot)",
    "`reboot`",
    "a;reboot",
    "a|reboot",
    "a&reboot",
    "a b",
    "a\nb",
    "a'b",
    "a\"b",
    "../etc/passwd",
    "/etc/../root",
    "a@evil.example",
    "a*",
    "{{ 7 * 7 }}",
];

#[test]
fn t01_t02_no_input_of_a_shipped_runbook_takes_a_command_an_option_or_a_way_out() {
    for runbook in parsed() {
        let id = &runbook.id;
        for input in &runbook.inputs {
            let pattern =
                input.pattern.as_ref().unwrap_or_else(|| panic!("{id}: {} has no pattern", input.name));
            let taken: Vec<_> = HOSTILE.iter().filter(|text| pattern.is_match(text)).collect();
            assert!(taken.is_empty(), "{id}: {} takes {taken:?}", input.name);
        }
    }
}

#[test]
fn every_script_is_one_that_bash_can_read() {
    for script in ["deploy/demo/run", "deploy/demo/lib.sh", ".ci/run", ".ci/packages"] {
        run(Command::new("bash").arg("-n").arg(root().join(script)));
    }
}
