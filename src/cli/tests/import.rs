//! Files of another program become files of ours.

use super::*;

const SAMPLE: &str = "commands:\n  - cmd: /opt/fix\n    match_labels: { team: web }\n  - cmd: uptime\n";

fn executor(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("executor.yml"), text).unwrap();
    dir
}

/// What `import` came to, with the directory called D.
fn import(dir: &tempfile::TempDir) -> Outcome {
    let path = dir.path().display().to_string();
    let (file, out) = (format!("{path}/executor.yml"), format!("{path}/new/runbooks"));
    let outcome = outcome(&["import", "am-executor", &file, "--out", &out]);
    let named = |text: String| text.replace(&path, "D");
    Outcome { code: outcome.code, out: named(outcome.out), err: named(outcome.err) }
}

#[test]
fn runbooks_are_written_and_the_config_is_printed() {
    let dir = executor(SAMPLE);
    let got = import(&dir);
    assert_eq!(got.code, 0, "{}", got.err);
    let config: toml::Table = got.out.parse().unwrap();
    assert_eq!(config["mappings"].as_array().unwrap().len(), 2);
    assert!(
        got.err.contains("executor.yml:4:") && got.err.contains("can match the same alert"),
        "{}",
        got.err
    );
    for name in ["fix", "uptime"] {
        assert!(got.err.contains(&format!("wrote D/new/runbooks/{name}.toml\n")), "{}", got.err);
        let path = dir.path().join(format!("new/runbooks/{name}.toml"));
        assert_eq!(outcome(&["validate", path.to_str().unwrap()]).code, 0);
    }
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_written() {
    let dir = executor(SAMPLE);
    let runbooks = dir.path().join("new/runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("uptime.toml"), "mine").unwrap();
    let got = import(&dir);
    assert_eq!((got.code, got.out.as_str()), (1, ""));
    assert!(got.err.contains("D/new/runbooks/uptime.toml is there already"), "{}", got.err);
    assert_eq!(std::fs::read_to_string(runbooks.join("uptime.toml")).unwrap(), "mine");
    assert!(!runbooks.join("fix.toml").exists());
}

#[test]
fn what_is_wrong_is_shown_and_nothing_is_written() {
    let dir = executor("commands:\n  - cmd: ./fix\n  - args: [x]\n");
    let got = import(&dir);
    assert_eq!((got.code, got.out.as_str()), (1, ""));
    assert!(got.err.contains("D/executor.yml:2:") && got.err.contains("D/executor.yml:3:"), "{}", got.err);
    assert!(!dir.path().join("new").exists());
    std::fs::remove_file(dir.path().join("executor.yml")).unwrap();
    let got = import(&dir);
    assert!(got.code == 1 && got.err.contains("D/executor.yml cannot be read"), "{}", got.err);
}
