//! The verbs that need no server, on the real program: `execute`, `check`, `validate`, `token`, usage errors.

use crate::support::alerts::LIMIT;
use crate::support::daemon::BINARY;
use crate::support::process::Process;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn site(runbooks: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    let config =
        "[webhook]\nallow_unauthenticated = true\n[runbooks]\ndir = \"runbooks\"\n[store]\npath = \"data\"\n";
    fs::write(dir.path().join("runbookd.toml"), config).unwrap();
    for (id, text) in runbooks {
        fs::write(dir.path().join("runbooks").join(format!("{id}.toml")), text).unwrap();
    }
    dir
}

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(BINARY).args(args).current_dir(dir).env_remove("RUNBOOKD_URL").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const GREET: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[inputs.instance]
from = "labels.instance"
pattern = '[a-z0-9-]+'
required = true
[[steps]]
id = "greet"
script = { text = "echo to $WHO; echo aside >&2; exit ${CODE:-0}", env = { WHO = "{{ inputs.instance }}", CODE = "{{ annotations.code }}" } }
[[steps]]
id = "after"
command = { program = "echo", args = ["after"] }
"#;

#[test]
fn execute_shows_the_output_and_ends_with_the_failed_commands_code() {
    let dir = site(&[("greet", GREET)]);
    let execute = |code: &str, more: &[&str]| {
        let annotation = format!("code={code}");
        let fixed =
            ["execute", "greet", "--config.file=runbookd.toml", "--label", "instance=web-1", "--annotation"];
        run(dir.path(), &[&fixed[..], &[annotation.as_str()], more].concat())
    };
    let good = execute("0", &[]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert_eq!(text(&good.stdout), "to web-1\nafter\n");
    assert!(text(&good.stderr).contains("aside"));
    let bad = execute("7", &[]);
    assert_eq!(bad.status.code(), Some(7), "{}", text(&bad.stderr));
    assert_eq!(text(&bad.stdout), "to web-1\n");
    let dry = execute("7", &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    assert!(text(&dry.stdout).contains("step greet (script, at_most_once)"), "{}", text(&dry.stdout));
    assert!(!text(&dry.stdout).contains("to web-1\n"));
    assert!(!dir.path().join("data").exists(), "execute wrote to the daemon's storage");
}

#[test]
fn execute_refuses_an_input_that_does_not_fit_and_runs_nothing() {
    let dir = site(&[("greet", GREET)]);
    let output = run(
        dir.path(),
        &[
            "execute",
            "runbooks/greet.toml",
            "--label",
            "instance=web 1; touch canary",
            "--annotation",
            "code=0",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("instance"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty() && !dir.path().join("canary").exists());
}

#[test]
fn check_and_validate_say_every_problem_with_its_place() {
    let broken = GREET
        .replace("exit ${CODE:-0}", "exit {{ 1 }}")
        .replace("program = \"echo\"", "program = \"bin/echo\"");
    let dir = site(&[("greet", GREET), ("broken", &broken)]);
    let check = run(dir.path(), &["check", "--config.file=runbookd.toml"]);
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check.stdout);
    assert!(said.contains("broken.toml:10:") && said.contains("broken.toml:13:"), "{said}");
    assert!(!said.contains("greet.toml"), "{said}");
    let validate = run(dir.path(), &["validate", "runbooks/broken.toml"]);
    assert_eq!(validate.status.code(), Some(1), "{}", text(&validate.stderr));
    let good = run(dir.path(), &["validate", "runbooks/greet.toml"]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    fs::remove_file(dir.path().join("runbooks/broken.toml")).unwrap();
    let check = run(dir.path(), &["check", "--config.file=runbookd.toml"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let asking = format!("{GREET}[verify]\npromql = \"up\"\nexpect = \"== 1\"\n");
    fs::write(dir.path().join("runbooks/asking.toml"), asking).unwrap();
    let check = run(dir.path(), &["check", "--config.file=runbookd.toml"]);
    assert_eq!(check.status.code(), Some(1), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains("asking.toml: verify asks Prometheus, and the config names none"));
}

#[test]
fn exit_codes_tell_usage_from_an_unreachable_server() {
    let dir = site(&[]);
    assert_eq!(run(dir.path(), &["no-such-verb"]).status.code(), Some(2));
    assert_eq!(
        run(dir.path(), &["executions", "stop", "x_1"]).status.code(),
        Some(2),
        "a stop needs a reason"
    );
    let away = run(dir.path(), &["status", "--url", "http://127.0.0.1:1"]);
    assert_eq!(away.status.code(), Some(3), "{}", text(&away.stderr));
    assert!(text(&away.stderr).contains("127.0.0.1:1"));
    assert_eq!(run(dir.path(), &["serve", "--config.file=nowhere.toml"]).status.code(), Some(1));
}

/// Fails at its third step, for each of two items, after a second try.
const UNDOING: &str = r#"
mode = "auto"
target = "x"
[[steps]]
id = "one"
script = { text = "echo one" }
undo = { script = { text = "echo one back" } }
[[steps]]
id = "each"
for_each = { items = ["a", "b"], concurrency = 2 }
script = { text = "echo $IT", env = { IT = "{{ item }}" } }
[[steps]]
id = "fails"
retry = { attempts = 2, initial = "10ms", max = "10ms" }
script = { text = "exit 9" }
"#;

#[test]
fn execute_tells_of_retries_items_and_the_rollback() {
    let dir = site(&[("undoing", UNDOING)]);
    let done = run(dir.path(), &["execute", "undoing", "--config.file=runbookd.toml"]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(9), "{err}");
    let mut lines: Vec<&str> = out.lines().collect();
    lines[1..3].sort_unstable();
    assert_eq!(lines, ["one", "a", "b", "one back"], "{err}");
    for said in [
        "==> each: for each of: a, b",
        "==> each item1: ",
        "fails: attempt 2 at ",
        "==> rollback: ",
        "==> one undo: ",
        "==> rolled_back",
    ] {
        assert!(err.contains(said), "no {said:?} in {err}");
    }
}

#[test]
fn execute_says_what_nobody_can_answer_and_an_interrupt_stops_it() {
    let asking =
        "mode = \"auto\"\ntarget = \"x\"\n[[steps]]\nid = \"ask\"\napprove = { message = \"Restart it?\" }\n";
    let telling = "mode = \"auto\"\ntarget = \"x\"\n[[steps]]\nid = \"tell\"\ninstruct = { text = \"Do it.\", acknowledge = true }\n";
    let dir = site(&[("asking", asking), ("telling", telling)]);
    for (runbook, awaited) in
        [("asking", "consent is awaited until"), ("telling", "an acknowledgement is awaited until")]
    {
        let mut command = Command::new(BINARY);
        command.args(["execute", runbook, "--config.file=runbookd.toml"]).current_dir(dir.path());
        let mut process = Process::start(runbook, command, dir.path());
        let mut said = String::new();
        let log = dir.path().join(format!("{runbook}.log"));
        process.wait_until(LIMIT, || {
            said = fs::read_to_string(&log).unwrap_or_default();
            said.contains(awaited)
        });
        assert!(said.contains("Ctrl-C stops"), "{said}");
        let status = process.interrupt(LIMIT);
        assert_eq!(status.code(), Some(1));
        assert!(process.log().contains("==> stopped"), "{}", process.log());
    }
}
