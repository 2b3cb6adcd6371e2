//! What a step's process is given, and what is kept of it. Real processes; `process/tests.rs` is about their end.

use super::*;
use crate::model::{ManualClock, Role, RunbookId, Timestamp};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use tokio::sync::RwLock;
use ulid::Ulid;

/// Held shared by tests that run steps, and alone by those that look at all processes.
pub(super) static WORLD: LazyLock<RwLock<()>> = LazyLock::new(RwLock::default);

pub(super) struct Bench {
    /// Of this test alone: processes are known by it.
    pub(super) execution: ExecutionId,
    pub(super) root: tempfile::TempDir,
    pub(super) runner: Runner,
    pub(super) dirs: Arc<Dirs>,
    pub(super) groups: Option<Groups>,
}

pub(super) fn bench() -> Bench {
    bench_with(Ways::none(clock()))
}

/// A bench whose runner reaches these.
pub(super) fn bench_with(ways: Ways) -> Bench {
    prepare_daemon().unwrap();
    let root = tempfile::tempdir().unwrap();
    let dirs = Arc::new(Dirs::prepare(root.path()).unwrap());
    let policy = OutgoingPolicy::new(vec![OutgoingPolicy::parse_entry("127.0.0.1").unwrap()]);
    let runner = Runner::new(Arc::clone(&dirs), HttpClient::build().unwrap(), Arc::new(policy), ways);
    let execution = ExecutionId::of(&RunbookId::new("web_down").unwrap(), Ulid::generate());
    Bench { execution, root, runner, dirs, groups: None }
}

/// How what a step starts is held together; each must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Containment {
    Processes,
    Cgroup,
}

pub(super) const BOTH: [Containment; 2] = [Containment::Processes, Containment::Cgroup];

/// A bench whose steps are held together this way.
pub(super) fn bench_in(containment: Containment) -> Bench {
    let mut bench = bench();
    if containment == Containment::Cgroup {
        let cgroups = Cgroups::prepare(&bench.dirs.work);
        let cgroups = cgroups.unwrap_or_else(|why| panic!("this test needs cgroup v2, writable, and {why}"));
        bench.groups = Some(Groups(cgroups.base().to_owned()));
        bench.runner =
            bench.runner.with_children(ChildRules { cgroups: Some(cgroups), ..ChildRules::default() });
    }
    bench
}

/// Where attempts have their control groups; goes with the bench.
pub(super) struct Groups(PathBuf);

impl Drop for Groups {
    fn drop(&mut self) {
        // One with groups in it stays, and the test has said so.
        drop(std::fs::remove_dir(&self.0));
    }
}

/// A clock that stands still at a round time.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()))
}

pub(super) fn command(program: &str, args: &[&str]) -> CommandCall {
    CommandCall {
        program: program.into(),
        args: args.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cwd: None,
        stdin: None,
        ok_exit: vec![],
        max_output: 1024 * 1024,
        confinement: Box::default(),
    }
}

pub(super) fn sh(text: &str) -> Call {
    Call::Command(command("/bin/sh", &["-c", text]))
}

impl Bench {
    pub(super) fn context(&self) -> AttemptContext {
        AttemptContext {
            execution: self.execution.clone(),
            step: StepId::new("restart").unwrap(),
            part: Part::MAIN,
            attempt: 1,
            idempotency_key: "key-1".into(),
            timeout: Duration::from_secs(20),
            amx: [("AMX_STATUS".to_owned(), "firing".to_owned())].into(),
        }
    }

    pub(super) async fn run(&self, call: &Call) -> Finished {
        self.run_for(call, Duration::from_secs(20)).await
    }

    pub(super) async fn run_for(&self, call: &Call, timeout: Duration) -> Finished {
        let context = AttemptContext { timeout, ..self.context() };
        let finished = self.runner.run(&context, call, KillSignal::never()).await;
        self.check_nothing_left();
        finished
    }

    pub(super) fn check_nothing_left(&self) {
        assert_eq!(std::fs::read_dir(&self.dirs.work).unwrap().count(), 0, "private directory left");
        if let Some(Groups(groups)) = &self.groups {
            let is_group = |entry: &std::fs::DirEntry| entry.file_type().unwrap().is_dir();
            let left: Vec<_> = std::fs::read_dir(groups).unwrap().flatten().filter(is_group).collect();
            assert!(left.is_empty(), "a group left: {left:?}");
        }
        assert!(lock(&self.runner.live).is_empty());
    }

    async fn text(&self, call: CommandCall) -> String {
        let finished = self.run(&Call::Command(call)).await;
        assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
        String::from_utf8(finished.stdout.head).unwrap()
    }

    async fn refusal(&self, call: CommandCall) -> String {
        let finished = self.run(&Call::Command(call)).await;
        assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Failed, None));
        finished.error.unwrap()
    }

    fn kept(&self, captured: &Captured) -> Vec<u8> {
        captured.file.as_ref().map_or_else(
            || captured.head.clone(),
            |name| std::fs::read(self.dirs.outputs.join(name)).unwrap(),
        )
    }
}

fn hostile(canary: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "  two  blanks ",
        "a b",
        "'",
        "\"",
        "''",
        "\"\"",
        "'\"'\"'",
        "\\",
        "\\\\",
        "\\n",
        "\\'",
        "`",
        "$",
        "$$",
        "$HOME",
        "${HOME}",
        "$(id)",
        "`id`",
        "$((1+1))",
        "!!",
        "!1",
        "~",
        "~root",
        "*",
        "?",
        "[a-z]*",
        "/*",
        "{a,b}",
        "a;b",
        ";",
        "&",
        "&&",
        "|",
        "||",
        "<",
        ">",
        ">>/dev/null",
        "2>&1",
        "#",
        "# comment",
        "-",
        "--",
        "-rf",
        "--help",
        "-oProxyCommand=id",
        "-e",
        "-c",
        "{{7*7}}",
        "{% for x in y %}",
        "{{ labels.instance }}",
        "%s%n%x",
        "%00",
        "%2e%2e%2f",
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a\nb",
        "\n",
        "\r\n",
        "\t",
        "a\rb",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x07",
        "\x7f",
        "\x01",
        "\u{202e}txt.exe",
        "\u{200b}",
        "\u{feff}bom",
        "\u{2028}",
        "ünïcödé",
        "日本語",
        "🔥",
        "A=B",
        "=B",
        "LD_PRELOAD=/x.so",
        "<script>",
        "' OR 1=1 --",
        "\"; DROP TABLE x; --",
        "${jndi:ldap://x}",
        "() { :; }; id",
        "@everyone",
        "=cmd|' /C calc'!A0",
    ]
    .map(String::from)
    .into();
    all.push(format!("$(touch {canary})"));
    all.push(format!("`touch {canary}`"));
    all.push(format!("; touch {canary}"));
    all.push(format!("\ntouch {canary}\n"));
    all.push(format!("'; touch {canary}; '"));
    all.push(format!("\"; touch {canary}; \""));
    all.push("x".repeat(100_000));
    all
}

#[tokio::test]
async fn hostile_values_arrive_byte_for_byte_as_one_argument_and_run_nothing() {
    let _world = WORLD.read().await;
    let bench = bench();
    let canary = bench.root.path().join("canary");
    let corpus = hostile(canary.to_str().unwrap());
    assert!(corpus.len() >= 60);
    for value in corpus {
        let text = "cat /proc/$$/cmdline; exit 0";
        let finished = bench.run(&Call::Command(command("/bin/sh", &["-c", text, "name", &value]))).await;
        assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
        let expected = format!("/bin/sh\0-c\0{text}\0name\0{value}\0");
        assert!(bench.kept(&finished.stdout) == expected.as_bytes(), "{value:?}");
    }
    assert!(!canary.exists());
}

#[tokio::test]
async fn hostile_values_reach_a_script_by_its_environment_only_and_run_nothing() {
    let _world = WORLD.read().await;
    let bench = bench();
    let canary = bench.root.path().join("canary");
    for value in hostile(canary.to_str().unwrap()) {
        let script = ScriptCall {
            shell: ScriptCall::default_shell(),
            text: "printf %s \"$VALUE\"; case $0 in \"$HOME\"/*) ;; *) exit 9 ;; esac".into(),
            env: [("VALUE".to_owned(), value.clone())].into(),
            secrets: BTreeMap::new(),
            cwd: None,
            stdin: None,
            ok_exit: vec![],
            max_output: 1024 * 1024,
            confinement: Box::default(),
        };
        let finished = bench.run(&Call::Script(script)).await;
        assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
        assert!(bench.kept(&finished.stdout) == value.as_bytes(), "{value:?}");
    }
    assert!(!canary.exists());
}

#[tokio::test]
async fn t04_the_environment_is_exactly_the_promised_one() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let bench = bench_in(containment);
        let mut call = command("/bin/cat", &["/proc/self/environ"]);
        call.env.insert("UNIT".into(), "nginx".into());
        call.env.insert("LANG".into(), "de_DE.UTF-8".into());
        let text = bench.text(call).await;
        let found: std::collections::BTreeSet<&str> = text.split_terminator('\0').collect();
        let home = format!("HOME={}/{}", bench.dirs.work.display(), bench.context().name());
        let path = format!("PATH={SEARCH_PATH}");
        let id = format!("RUNBOOKD_EXECUTION_ID={}", bench.execution);
        let expected = [
            &path,
            &home,
            "LANG=de_DE.UTF-8",
            &id,
            "RUNBOOKD_STEP=restart",
            "RUNBOOKD_ATTEMPT=1",
            "RUNBOOKD_IDEMPOTENCY_KEY=key-1",
            "AMX_STATUS=firing",
            "UNIT=nginx",
        ];
        assert_eq!(found, expected.into_iter().collect());
    }
}

#[tokio::test]
async fn t36_a_child_has_three_descriptors_default_signals_its_own_session_and_umask_077() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let bench = bench_in(containment);
        // One descriptor that would be inherited, and the signal every Rust program ignores.
        let leak = rustix::io::dup(std::io::stderr().as_fd()).unwrap();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = own.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        assert_ne!(u64::from_str_radix(ignored, 16).unwrap() & (1 << 12), 0, "SIGPIPE: {ignored}");

        let listed = bench.text(command("/bin/ls", &["-l", "/proc/self/fd"])).await;
        drop(leak);
        let links: Vec<&str> =
            listed.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
        assert_eq!(links.len(), 4, "0, 1, 2 and the directory being listed: {listed}");
        assert_eq!(links[0], "/dev/null");
        assert!(links[1].starts_with("pipe:") && links[2].starts_with("pipe:"), "{listed}");
        assert!(links[3].ends_with("/fd"), "{listed}");

        let status = bench.text(command("cat", &["/proc/self/status"])).await;
        for line in ["SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000", "SigCgt:\t0000000000000000"] {
            assert!(status.contains(line), "{status}");
        }
        assert!(status.contains("Umask:\t0077"), "{status}");

        let stat = bench.text(command("cat", &["/proc/self/stat"])).await;
        let fields: Vec<&str> = stat.split(' ').collect();
        let (pid, group, session, terminal) = (fields[0], fields[4], fields[5], fields[6]);
        assert_eq!((group, session, terminal), (pid, pid, "0"));

        let cwd = bench.text(command("pwd", &[])).await;
        assert_eq!(cwd.trim_end(), bench.dirs.work.join(bench.context().name()).to_str().unwrap());
        let mut elsewhere = command("pwd", &[]);
        elsewhere.cwd = Some("/usr".into());
        assert_eq!(bench.text(elsewhere).await, "/usr\n");
    }
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused_with_a_sentence() {
    let _world = WORLD.read().await;
    let bench = bench();
    let with_env = |name: &str, value: &str| {
        let mut call = command("true", &[]);
        call.env.insert(name.into(), value.into());
        call
    };
    let mut relative = command("true", &[]);
    relative.cwd = Some("tmp".into());
    let big = "x".repeat(2_000_000);
    let many = vec!["y".repeat(120_000); 40];
    let cases = [
        (command("true", &["a\0b"]), "argument 1 has a NUL byte in it"),
        (command("tr\0ue", &[]), "the program has a NUL byte in it"),
        (with_env("A", "b\0"), "the environment variable A has a NUL byte in it"),
        (
            with_env("LD_PRELOAD", "x"),
            "the environment variable \"LD_PRELOAD\" is refused: it can make the child run other code",
        ),
        (
            with_env("A", &big),
            "the environment variable A has 2000000 bytes; the kernel takes at most 131071",
        ),
        (command("true", &[&big]), "argument 1 has 2000000 bytes; the kernel takes at most 131071"),
        (CommandCall { args: many, ..command("true", &[]) }, "true was not started: its arguments and"),
        (command("no-such-program", &[]), "there is no program \"no-such-program\" in /usr/local/sbin:"),
        (command("bin/sh", &[]), "the program \"bin/sh\" is neither an absolute path nor a bare name"),
        (command("../bin/sh", &[]), "the program \"../bin/sh\" is neither"),
        (command("", &[]), "the program \"\" is neither"),
        (command("/no/such", &[]), "/no/such could not be started: No such file"),
        (command("/etc/passwd", &[]), "/etc/passwd could not be started: Permission denied"),
        (relative, "the working directory tmp is not an existing absolute path"),
    ];
    for (call, sentence) in cases {
        let error = bench.refusal(call).await;
        assert!(error.starts_with(sentence), "{error}");
    }
    let script = ScriptCall {
        shell: vec![],
        text: "a\0".into(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cwd: None,
        stdin: None,
        ok_exit: vec![],
        max_output: 0,
        confinement: Box::default(),
    };
    assert_eq!(bench.run(&Call::Script(script.clone())).await.error.unwrap(), "the script's shell is empty");
    let nul = ScriptCall { shell: ScriptCall::default_shell(), ..script };
    assert_eq!(bench.run(&Call::Script(nul)).await.error.unwrap(), "the script has a NUL byte in it");
}

#[tokio::test]
async fn standard_input_is_what_was_given_and_else_empty() {
    let _world = WORLD.read().await;
    let bench = bench();
    assert_eq!(bench.text(command("cat", &[])).await, "");
    // More than a pipe holds, and nobody reads it: that must not hang either.
    let input = vec![b'i'; 1_000_000];
    let given = CommandCall { stdin: Some(input.clone()), ..command("cat", &[]) };
    let finished = bench.run(&Call::Command(given)).await;
    assert!(bench.kept(&finished.stdout) == input);
    let unread = CommandCall { stdin: Some(input), ..command("true", &[]) };
    assert_eq!(bench.run(&Call::Command(unread)).await.outcome, AttemptOutcome::Succeeded);
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_and_ok_exit_is_success() {
    let _world = WORLD.read().await;
    let bench = bench();
    let failed = bench.run(&sh("echo out; echo err >&2; exit 3")).await;
    assert_eq!((failed.outcome, failed.exit_code, failed.signal), (AttemptOutcome::Failed, Some(3), None));
    assert_eq!((&failed.stdout.head[..], &failed.stderr.head[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(failed.error.as_deref(), Some("it exited with 3"));
    let accepted = CommandCall { ok_exit: vec![3], ..command("sh", &["-c", "exit 3"]) };
    let accepted = bench.run(&Call::Command(accepted)).await;
    assert_eq!((accepted.outcome, accepted.exit_code), (AttemptOutcome::Succeeded, Some(3)));
    let signalled = bench.run(&sh("kill -9 $$")).await;
    assert_eq!((signalled.outcome, signalled.signal), (AttemptOutcome::Failed, Some(9)));
    assert_eq!(signalled.error.as_deref(), Some("it was ended by signal 9"));
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn t35_a_flood_is_bounded_in_memory_and_on_disk_and_the_cut_is_counted() {
    let _world = WORLD.read().await;
    let bench = bench();
    let before = resident();
    let flood = bench.run_for(&sh("exec yes"), Duration::from_secs(1)).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes");
    assert_eq!(flood.outcome, AttemptOutcome::TimedOut);
    let limit = 1024 * 1024;
    let captured = &flood.stdout;
    assert!(captured.total > 4 * limit, "{}", captured.total);
    assert_eq!(captured.truncated, captured.total - limit);
    let kept = String::from_utf8(bench.kept(captured)).unwrap();
    let mark = format!("\n[... {} bytes cut ...]\n", captured.truncated);
    assert_eq!(kept.len() as u64, limit + mark.len() as u64);
    assert_eq!(&kept[limit as usize / 2..][..mark.len()], mark);
    assert_eq!(std::fs::read_dir(&bench.dirs.outputs).unwrap().count(), 1);
}

#[tokio::test]
async fn t35_fifty_megabytes_without_a_line_end_are_taken() {
    let _world = WORLD.read().await;
    let bench = bench();
    let finished = bench.run(&sh("head -c 50000000 /dev/zero | tr '\\0' x; printf END")).await;
    assert_eq!(finished.outcome, AttemptOutcome::Succeeded);
    assert_eq!((finished.stdout.total, finished.stdout.truncated), (50_000_003, 50_000_003 - 1024 * 1024));
    assert!(bench.kept(&finished.stdout).ends_with(b"xxxEND"));
}

#[tokio::test]
async fn output_can_be_read_while_it_runs_and_small_output_leaves_no_file() {
    let _world = WORLD.read().await;
    let bench = Arc::new(bench());
    let (killer, signal) = kill_pair();
    let running = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.runner.run(&bench.context(), &sh("echo oops >&2; echo first; sleep 60"), signal).await }
    });
    let AttemptContext { execution, step, .. } = bench.context();
    let mut seen = Vec::new();
    while seen.len() < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Some(live) = bench.runner.live(&execution, &step, Part::MAIN, 1) else { continue };
        seen = live.read(OutputStream::Stdout, 0, 1000).unwrap().bytes;
    }
    assert_eq!(seen, b"first\n");
    let live = bench.runner.live(&execution, &step, Part::MAIN, 1).unwrap();
    assert_eq!(live.read(OutputStream::Stdout, 3, 2).unwrap().bytes, b"st");
    assert!(bench.runner.live(&execution, &step, Part::MAIN, 2).is_none());
    assert!(bench.runner.live(&execution, &step, Part::item(0), 1).is_none());
    killer.kill(Duration::from_secs(1));
    let finished = running.await.unwrap();
    assert_eq!((finished.outcome, finished.signal), (AttemptOutcome::Stopped, Some(15)));
    assert_eq!(finished.stderr.head, b"oops\n");
    assert_eq!(std::fs::read_dir(&bench.dirs.outputs).unwrap().count(), 0);
    bench.check_nothing_left();
}

#[test]
fn the_future_of_a_run_is_small() {
    let bench = bench();
    let (context, call) = (bench.context(), sh("true"));
    let future = bench.runner.run(&context, &call, KillSignal::never());
    assert!(size_of_val(&future) < 512, "{}", size_of_val(&future));
}

#[test]
fn every_part_has_a_name_of_its_own_and_that_of_the_step_itself_is_the_old_one() {
    let bench = bench();
    let name = |part| AttemptContext { part, ..bench.context() }.name();
    let start = format!("{}.restart", bench.execution);
    assert_eq!(name(Part::MAIN), format!("{start}.1"));
    assert_eq!(name(Part::MAIN.with(Role::Undo)), format!("{start}.undo.1"));
    assert_eq!(name(Part::item(3).with(Role::Probe)), format!("{start}.probe-item3.1"));
}
