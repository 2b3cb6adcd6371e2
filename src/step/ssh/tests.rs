//! What the client is told, and what is refused before it is asked. The real one is met in `tests/it/kinds`.

use super::*;
use crate::model::Secret;
use crate::secret::Secrets;
use crate::step::tests::{WORLD, bench, bench_with, clock};
use crate::step::{Call, Ways};

fn call() -> SshCall {
    SshCall {
        host: "db-1.example.org".into(),
        templated_host: false,
        port: 22,
        user: "ops".into(),
        program: "systemctl".into(),
        args: vec!["restart".into(), "a b".into()],
        key: "ops_key".into(),
        known_hosts: "/dev/null".into(),
        ok_exit: vec![],
        max_output: 10_000,
    }
}

#[test]
fn every_word_is_quoted_for_the_shell_there() {
    let quoted = |program: &str, args: &[&str]| {
        remote_command(program, &args.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(quoted("true", &[]).unwrap(), "'true'");
    assert_eq!(
        quoted("a b", &["", "it's", "$(id)", "`id`", "a\nb"]).unwrap(),
        "'a b' '' 'it'\\''s' '$(id)' '`id`' 'a\nb'"
    );
    assert_eq!(quoted("a\0b", &[]).unwrap_err(), "the program has a NUL byte in it");
    assert_eq!(quoted("a", &["", "\0"]).unwrap_err(), "argument 2 has a NUL byte in it");
    assert_eq!(quoted(" ", &[]).unwrap_err(), "the program is blank");
    assert!(quoted("a", &["'".repeat(40_000).as_str()]).unwrap_err().contains("bytes when quoted"));
}

#[test]
fn only_names_and_addresses_are_hosts_and_only_plain_words_are_users() {
    for good in ["a", "db-1.example.org", "db_1", "db.example.org.", "10.0.0.1", "::1", "fe80::1"] {
        assert_eq!(check_host(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "-oProxyCommand=id",
        "--",
        "a b",
        "root@a",
        "a@b",
        "a:22",
        "[::1]:22",
        "[::1]",
        "a/b",
        "a\nb",
        "a%h",
        "a..b",
        "fe80::1%eth0",
        "ü",
        "a;b",
        "$(id)",
        ".",
        "a.-b",
        "ssh://a",
    ] {
        assert!(check_host(bad).unwrap_err().contains("is not a host"), "{bad:?}");
    }
    for good in ["root", "ops-1", "a.b_c"] {
        assert_eq!(check_user(good), Ok(()), "{good}");
    }
    let long = "x".repeat(65);
    for bad in ["", "-l", "a b", "a@b", "a\n", "%u", "a:b", "ü", &long] {
        assert!(check_user(bad).unwrap_err().contains("is not a user"), "{bad:?}");
    }
}

#[test]
fn the_client_is_told_all_that_matters_and_no_path() {
    let args = arguments(Duration::from_secs(20), &call(), None, "'true'".into());
    let line = args.join(" ");
    for option in [
        "-F none",
        "-o BatchMode=yes",
        "-o StrictHostKeyChecking=yes",
        "-o UserKnownHostsFile=known_hosts",
        "-o GlobalKnownHostsFile=/dev/null",
        "-o IdentityFile=key",
        "-o IdentityAgent=none",
        "-o ConnectTimeout=10",
    ] {
        assert!(line.contains(option), "{option}: {line}");
    }
    assert!(line.ends_with(" -T -l ops -p 22 -- db-1.example.org 'true'"), "{line}");
    assert!(!line.contains("HostName"), "{line}");
    let checked = SshCall { port: 2222, ..call() };
    let line = arguments(Duration::from_secs(1), &checked, Some("10.0.0.1".parse().unwrap()), String::new())
        .join(" ");
    assert!(line.contains("-o HostName=10.0.0.1 -o HostKeyAlias=[db-1.example.org]:2222 "), "{line}");
    assert!(line.contains("-o ConnectTimeout=1 "), "{line}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_before_anything_starts() {
    let _world = WORLD.read().await;
    let secrets = Secrets::of_config([("ops_key".to_owned(), Secret::new("k3y-k3y"))].into(), Vec::new());
    let bench = bench_with(Ways { secrets, ..Ways::none(clock()) });
    let missing = bench.root.path().join("gone");
    for (call, sentence) in [
        (SshCall { host: "-oProxyCommand=id".into(), ..call() }, "\"-oProxyCommand=id\" is not a host"),
        (SshCall { user: "a@b".into(), ..call() }, "\"a@b\" is not a user"),
        (
            SshCall { key: "other".into(), ..call() },
            "there is no secret \"other\": add a section [secrets.other]",
        ),
        (SshCall { args: vec!["\0".into()], ..call() }, "argument 1 has a NUL byte in it"),
        (
            SshCall { known_hosts: "hosts".into(), ..call() },
            "the file of host keys hosts cannot be used: the path",
        ),
        (SshCall { known_hosts: missing, ..call() }, "the file of host keys /"),
        (
            SshCall { host: "192.0.2.1".into(), templated_host: true, ..call() },
            "192.0.2.1:22 is not in [outgoing] allow, and the ssh host comes from a template",
        ),
        (
            SshCall { host: "169.254.169.254".into(), templated_host: true, ..call() },
            "169.254.169.254:22 is not in",
        ),
    ] {
        let finished = bench.run(&Call::Ssh(call)).await;
        let error = finished.error.unwrap();
        assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Failed, None), "{error}");
        assert!(error.starts_with(sentence) && !error.contains("k3y"), "{error}");
    }
    assert!(!format!("{:?}", bench.runner).contains("k3y"));
}

#[test]
fn a_code_of_255_is_the_connection_and_never_success() {
    let _bench = bench();
    let with = |outcome, error: Option<&str>, stderr: &str| {
        let mut finished = Finished { exit_code: Some(255), ..Finished::refused(String::new()) };
        finished.outcome = outcome;
        finished.error = error.map(str::to_owned);
        finished.stderr.head = stderr.as_bytes().to_vec();
        explain(finished)
    };
    let refused = with(
        AttemptOutcome::Failed,
        Some("it exited with 255; two; three"),
        "x\nHost key verification failed.\r\n\n",
    );
    assert_eq!(refused.exit_code, None);
    assert_eq!(
        refused.error.unwrap(),
        "the ssh connection failed: Host key verification failed.; two; three"
    );
    let accepted = with(AttemptOutcome::Succeeded, None, "");
    assert_eq!(accepted.outcome, AttemptOutcome::Failed);
    assert!(accepted.error.unwrap().starts_with("the ssh connection failed: it said nothing"));
    let stopped = with(AttemptOutcome::Stopped, Some("it was killed on request"), "");
    assert_eq!(
        (stopped.outcome, stopped.error.as_deref()),
        (AttemptOutcome::Stopped, Some("it was killed on request"))
    );
}
