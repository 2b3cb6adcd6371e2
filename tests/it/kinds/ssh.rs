//! Steps of the kind `ssh` against the real sshd.

use super::Bench;
use crate::support::process::eventually;
use crate::support::sshd::Sshd;
use runbookd::model::{AttemptOutcome, Secret};
use runbookd::secret::Secrets;
use runbookd::step::{Call, Finished, HttpClient, SshCall, Ways, kill_pair};
use std::process::Command;
use std::time::{Duration, Instant};

fn bench(sshd: &Sshd) -> Bench {
    let secrets = ["user", "stranger"].map(|name| (name.to_owned(), Secret::new(&sshd.key(name))));
    let secrets = Secrets::of_config(secrets.into(), Vec::new());
    Bench::new(HttpClient::build().unwrap(), |none| Ways { secrets, ..none })
}

fn call(sshd: &Sshd, program: &str, args: &[&str]) -> SshCall {
    SshCall {
        host: "127.0.0.1".into(),
        templated_host: false,
        port: sshd.port(),
        user: sshd.user().into(),
        program: program.into(),
        args: args.iter().map(ToString::to_string).collect(),
        key: "user".into(),
        known_hosts: sshd.file("known_hosts"),
        ok_exit: vec![],
        max_output: 1 << 20,
    }
}

/// Values that mean something to a shell, to the client, to a terminal or to a template.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "  two  blanks ",
    "'",
    "\"",
    "''",
    "'\"'\"'",
    "'\\''",
    "\\",
    "\\\\",
    "\\n",
    "`id`",
    "$(id)",
    "$HOME",
    "${HOME}",
    "$$",
    "!!",
    "~",
    "*",
    "?",
    "{a,b}",
    ";",
    "&",
    "&&",
    "|",
    ">",
    "<",
    "2>&1",
    "#",
    "-",
    "--",
    "-oProxyCommand=id",
    "a\nb",
    "\n",
    "\r\n",
    "\t",
    "\x1b[31m",
    "\x01",
    "\x7f",
    "\u{202e}x",
    "ünïcödé",
    "日本語",
    "🔥",
    "A=B",
    "() { :; }; id",
    "%h%u",
    "{{ labels.x }}",
    "EOF",
    "exit 9",
];

#[tokio::test]
async fn hostile_values_arrive_byte_for_byte_as_one_argument_each_and_run_nothing() {
    let sshd = Sshd::start();
    let bench = bench(&sshd);
    let canary = bench.root.path().join("canary");
    let canary = canary.to_str().unwrap();
    let mut values: Vec<String> = HOSTILE.iter().map(ToString::to_string).collect();
    for form in [
        "$(touch {})",
        "`touch {}`",
        "; touch {}",
        "\ntouch {}\n",
        "'; touch {}; '",
        "'\\''; touch {} #",
        "\" && touch {} \"",
    ] {
        values.push(form.replace("{}", canary));
    }
    values.push("x".repeat(60_000));
    let mut args = vec!["%s\\0".to_owned()];
    args.extend(values.iter().cloned());
    let finished = bench.run(Call::Ssh(SshCall { args, ..call(&sshd, "printf", &[]) })).await;
    assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Succeeded, Some(0)), "{finished:?}");
    let printed = String::from_utf8(bench.stdout(&finished)).unwrap();
    let arrived: Vec<&str> = printed.strip_suffix('\0').unwrap().split('\0').collect();
    assert_eq!(arrived, values);
    assert!(!bench.root.path().join("canary").exists());
    // A program's name is no less a word than an argument is.
    let odd = bench.run(Call::Ssh(call(&sshd, "echo $(id); true", &[]))).await;
    assert_eq!(odd.exit_code, Some(127), "{odd:?}");
}

#[tokio::test]
async fn what_the_program_there_prints_and_how_it_exits_is_carried_over() {
    let sshd = Sshd::start();
    let bench = bench(&sshd);
    let script = "echo out; echo err >&2; exit 7";
    let failed = bench.run(Call::Ssh(call(&sshd, "sh", &["-c", script]))).await;
    assert_eq!((failed.outcome, failed.exit_code), (AttemptOutcome::Failed, Some(7)), "{failed:?}");
    assert_eq!((&failed.stdout.head[..], &failed.stderr.head[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(failed.error.as_deref(), Some("it exited with 7"));
    let accepted = SshCall { ok_exit: vec![7], ..call(&sshd, "sh", &["-c", script]) };
    assert_eq!(bench.run(Call::Ssh(accepted)).await.outcome, AttemptOutcome::Succeeded);
    // Neither the daemon's variables nor those of the attempt go along, and nothing is read from here.
    let env = bench.run(Call::Ssh(call(&sshd, "sh", &["-c", "env; cat"]))).await;
    let printed = String::from_utf8(env.stdout.head).unwrap();
    assert!(printed.contains("SSH_CONNECTION=") && !printed.contains("RUNBOOKD_"), "{printed}");
    let templated = SshCall { templated_host: true, ..call(&sshd, "true", &[]) };
    assert_eq!(bench.run(Call::Ssh(templated)).await.outcome, AttemptOutcome::Succeeded);
    let killed = bench.run(Call::Ssh(call(&sshd, "sh", &["-c", "kill -9 $$"]))).await;
    assert_eq!(
        (killed.outcome, killed.exit_code),
        (AttemptOutcome::Failed, None),
        "not to be told from the client's own end"
    );
}

async fn refused(bench: &Bench, call: SshCall) -> Finished {
    let finished = bench.run(Call::Ssh(call)).await;
    assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Failed, None), "{finished:?}");
    finished
}

#[tokio::test]
async fn only_a_known_host_with_its_own_key_and_only_the_right_key_connect() {
    let sshd = Sshd::start();
    let bench = bench(&sshd);
    let canary = bench.root.path().join("ran");
    let call = call(&sshd, "touch", &[canary.to_str().unwrap()]);
    let hosts = |name: &str| SshCall { known_hosts: sshd.file(name), ..call.clone() };
    for (call, word) in [
        (hosts("wrong_hosts"), "Host key verification failed"),
        (hosts("other_hosts"), "Host key verification failed"),
        (SshCall { key: "stranger".into(), ..call.clone() }, "Permission denied"),
        (SshCall { user: "nobody-of-that-name".into(), ..call.clone() }, "Permission denied"),
        (SshCall { port: 1, ..call.clone() }, "Connection refused"),
        (SshCall { host: "nowhere.invalid".into(), ..call.clone() }, "Could not resolve hostname"),
    ] {
        let finished = refused(&bench, call).await;
        let error = finished.error.unwrap();
        assert!(error.starts_with("the ssh connection failed: "), "{error}");
        let stderr = String::from_utf8(finished.stderr.head).unwrap();
        assert!(stderr.contains(word) && error.contains(word), "{word}: {stderr}");
    }
    assert!(!canary.exists());
    assert_eq!(bench.run(Call::Ssh(call)).await.outcome, AttemptOutcome::Succeeded, "{}", sshd.log());
    assert!(canary.exists());
}

/// Processes here with this argument of their own.
fn with_argument(word: &str) -> Vec<i32> {
    let found = Command::new("pgrep").args(["-f", &format!("^sleep {word}$")]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(|pid| pid.parse().unwrap()).collect()
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        let pid = rustix::process::Pid::from_raw(*pid).unwrap();
        // It may be gone already.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_and_a_kill_end_the_client_and_leave_no_key_behind() {
    let sshd = Sshd::start();
    let bench = bench(&sshd);
    let start = Instant::now();
    let late = bench.run_for(Call::Ssh(call(&sshd, "sleep", &["70101"])), Duration::from_secs(3)).await;
    assert_eq!((late.outcome, late.exit_code), (AttemptOutcome::TimedOut, None), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(20));

    let (killer, signal) = kill_pair();
    let (context, stopped_call) =
        (bench.context(Duration::from_secs(60)), Call::Ssh(call(&sshd, "sleep", &["70102"])));
    let work = bench.root.path().join("work");
    let look = async {
        tokio::task::spawn_blocking(move || {
            eventually("the program there runs", Duration::from_secs(20), || {
                (!with_argument("70102").is_empty()).then_some(())
            });
            let home = std::fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&home.join("key").metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
            let clients =
                Command::new("pgrep").args(["-f", "-a", "sleep. .70102.$"]).output().unwrap().stdout;
            let clients = String::from_utf8(clients).unwrap();
            assert!(clients.contains("IdentityFile=key") && !clients.contains("PRIVATE"), "{clients}");
            killer.kill(Duration::from_secs(1));
        })
        .await
        .unwrap();
    };
    let (stopped, ()) = tokio::join!(bench.runner.run(&context, &stopped_call, signal), look);
    assert_eq!(stopped.outcome, AttemptOutcome::Stopped, "{stopped:?}");
    assert_eq!(std::fs::read_dir(bench.root.path().join("work")).unwrap().count(), 0, "the key is gone");
    // As documented: without a terminal there, what the client's end does to them is up to them.
    kill_all(&with_argument("70101"));
    kill_all(&with_argument("70102"));
}
