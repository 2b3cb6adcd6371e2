//! The words of the command line.

use super::*;

/// What the composition root is asked for, and the exit code.
fn options(line: &[&str]) -> (i32, Vec<String>) {
    let program = Recorder::default();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(words(line), &environment(&[], false), &program, &mut out, &mut err);
    assert_eq!((out, err), (Vec::new(), Vec::new()), "{line:?}");
    (code, program.0.into_inner())
}

#[test]
fn serve_takes_the_flags_of_the_prometheus_family() {
    let settings = Settings {
        file: "config/runbookd.toml".into(),
        file_given: false,
        listen_address: None,
        external_url: None,
        storage_path: None,
        runbooks_dir: None,
        web_config_file: None,
    };
    let serve = ServeOptions {
        settings: settings.clone(),
        log_level: "info".into(),
        log_format: crate::telemetry::logging::Format::Json,
        enable_lifecycle: false,
    };
    assert_eq!(options(&["serve"]), (40, vec![format!("{serve:?}")]));
    let full = ServeOptions {
        settings: Settings {
            file: "/etc/r.toml".into(),
            file_given: true,
            listen_address: Some(":9000".into()),
            external_url: Some("https://r.example".into()),
            storage_path: Some("/data".into()),
            runbooks_dir: Some("rb".into()),
            web_config_file: None,
        },
        log_level: "debug".into(),
        log_format: crate::telemetry::logging::Format::Text,
        enable_lifecycle: true,
    };
    let line = [
        "serve",
        "--config.file=/etc/r.toml",
        "--web.listen-address=:9000",
        "--web.external-url",
        "https://r.example",
        "--storage.path=/data",
        "--runbooks.dir=rb",
        "--log.level=debug",
        "--log.format=text",
        "--web.enable-lifecycle",
    ];
    assert_eq!(options(&line), (40, vec![format!("{full:?}")]));
    let named = Settings { file_given: true, ..settings.clone() };
    let check = CheckOptions { settings: named };
    assert_eq!(
        options(&["check", "--config.file", "config/runbookd.toml"]),
        (41, vec![format!("{check:?}")])
    );
}

#[test]
fn test_takes_files_or_the_directory_of_runbooks() {
    let settings = Settings {
        file: "config/runbookd.toml".into(),
        file_given: false,
        listen_address: None,
        web_config_file: None,
        external_url: None,
        storage_path: None,
        runbooks_dir: None,
    };
    let all = TestOptions { settings: settings.clone(), files: Vec::new(), coverage: false, json: false };
    assert_eq!(options(&["test"]), (43, vec![format!("{all:?}")]));
    let some = TestOptions {
        settings: Settings { runbooks_dir: Some("rb".into()), ..settings },
        files: vec!["a.test.toml".into(), "b.test.toml".into()],
        coverage: true,
        json: true,
    };
    let line = ["test", "--coverage", "--output=json", "--runbooks.dir=rb", "a.test.toml", "b.test.toml"];
    assert_eq!(options(&line), (43, vec![format!("{some:?}")]));
}

#[test]
fn execute_keeps_everything_behind_the_first_equals_sign() {
    let (code, asked) = options(&[
        "execute",
        "disk_full",
        "--label=instance=a=b",
        "--label",
        "empty=",
        "--annotation=summary=x y",
        "--env=UNIT=nginx",
        "--dry-run",
        "--runbooks.dir=rb",
    ]);
    assert_eq!(code, 42);
    let asked = &asked[0];
    for part in [
        r#"runbook: "disk_full""#,
        r#"labels: {"empty": "", "instance": "a=b"}"#,
        r#"annotations: {"summary": "x y"}"#,
        r#"env: {"UNIT": "nginx"}"#,
        "dry_run: true",
        r#"runbooks_dir: Some("rb")"#,
        "file_given: false",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error_that_names_it() {
    let check = |line: &[&str], named: &str| {
        let Outcome { code, out, err } = outcome(line);
        assert_eq!((code, out.as_str()), (2, ""), "{line:?}: {err}");
        assert!(err.contains(named), "{line:?}: {named} is not in {err}");
    };
    check(&[], "Usage: runbookd <COMMAND>");
    check(&["sreve"], "serve");
    check(&["serve", "--config.fle=x"], "--config.file");
    check(&["serve", "--log.format=xml"], "write json or text");
    check(&["execute"], "<RUNBOOK>");
    check(&["execute", "r", "--label", "instance"], "write NAME=VALUE");
    check(&["execute", "r", "--label", "=x"], "write NAME=VALUE");
    check(&["execute", "r", "--label", "a=1", "--label", "a=2"], "--label gives \"a\" twice");
    check(&["executions"], "Usage: runbookd executions");
    check(&["executions", "show", "../../etc"], "not an execution id");
    check(&["executions", "stop", ID], "--reason");
    check(&["executions", "stop", ID, "--reason", "  "], "must not be blank");
    check(&["executions", "pause"], "<ID>");
    check(&["executions", "pause", ID, "--reason", " "], "must not be blank");
    check(&["executions", "skip", ID], "--step");
    check(&["executions", "approve", ID, "--step", "a/b"], "not a step id");
    check(&["executions", "modify", ID], "say what to change");
    check(&["executions", "modify", ID, "--arg", "x"], "--step");
    check(&["executions", "modify", ID, "--input", "x"], "write NAME=VALUE");
    check(&["executions", "modify", ID, "--input", "x=1", "--input", "x=2"], "--input gives \"x\" twice");
    check(&["executions", "output", ID, "a", "--part", "main"], "undo");
    check(&["executions", "output", ID, "a/b"], "not a step id");
    check(&["executions", "output", ID, "probe", "0"], "0");
    check(&["executions", "list", "--limit", "501"], "1..=500");
    check(&["executions", "list", "--since", "yesterday"], "duration back from now");
    check(&["decisions", "show", "x"], "not a decision id");
    check(&["runbooks", "show", "a b"], "not a runbook id");
    check(&["status", "--output", "xml"], "table");
    check(&["status", "--url", "localhost:9796"], "http://");
    check(&["status", "--url", "ftp://x"], "http://");
    check(&["status", "--url", "http://u:p@x"], "--token");
    check(&["status", "--token", "a\nb"], "no token has");
}

#[test]
fn help_is_data_and_says_what_it_always_said() {
    let Outcome { code, out, err } = outcome(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, include_str!("help.txt"));
    assert!(out.lines().all(|line| line.chars().count() <= 100));
    assert_eq!(outcome(&["-h"]).out, out);
}

#[test]
fn every_verb_has_help_that_fits_and_the_version_is_that_of_the_package() {
    for verb in [
        &["serve"][..],
        &["check"],
        &["execute"],
        &["validate"],
        &["status"],
        &["config"],
        &["token"],
        &["hash-password"],
        &["runbooks", "list"],
        &["runbooks", "show"],
        &["executions", "list"],
        &["executions", "show"],
        &["executions", "follow"],
        &["executions", "stop"],
        &["executions", "rollback"],
        &["executions", "pause"],
        &["executions", "resume"],
        &["executions", "approve"],
        &["executions", "reject"],
        &["executions", "acknowledge"],
        &["executions", "retry"],
        &["executions", "skip"],
        &["executions", "modify"],
        &["executions", "output"],
        &["decisions", "list"],
        &["decisions", "show"],
        &["breakers", "list"],
        &["breakers", "reset"],
        &["breakers", "open"],
        &["quarantine", "list"],
        &["quarantine", "clear"],
        &["audit", "list"],
        &["audit", "verify"],
    ] {
        let Outcome { code, out, err } = outcome(&[verb, &["--help"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{verb:?}");
        assert!(out.contains(&format!("Usage: runbookd {}", verb.join(" "))), "{out}");
        // A usage line is never wrapped; all else is.
        let long = out.lines().find(|line| line.chars().count() > 100 && !line.starts_with("Usage:"));
        assert_eq!(long, None);
    }
    let version = format!("runbookd {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(outcome(&["--version"]), Outcome { code: 0, out: version, err: String::new() });
}
