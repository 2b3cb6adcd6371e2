//! Backups of the real program, taken while it works, and what is restored of them.
//!
//! May import: `support`. Must never: look into the storage, but for moving it aside whole.

use crate::support::alerts::{LIMIT, body, config, finished, fire, wait_for_status};
use crate::support::daemon::{BINARY, Daemon, ledger, touch};
use crate::support::http;
use crate::support::process::{eventually, free_address};
use crate::support::small::Small;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const VAULT: (&str, &str) = ("KEY", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=");
const CANARY: &str = "canary-51c0-canary-51c0";

/// Says much, and notes that it ran.
const QUICK: &str = r#"
mode = "auto"
alerts = ["Quick"]
target = "{{ labels.target }}"
[[steps]]
id = "say"
script = { shell = "/bin/sh -eu", text = "echo quick $RUNBOOKD_EXECUTION_ID >> @dir@/ledger; head -c 5000 /dev/zero | tr '\\0' x; echo end" }
"#;

/// Waits in the middle of a step that may run twice.
const HELD: &str = r#"
mode = "auto"
alerts = ["Held"]
target = "{{ labels.target }}"
[[steps]]
id = "hold"
effect = "idempotent"
script = { shell = "/bin/sh -eu", text = "echo held >> @dir@/ledger; until [ -e @dir@/go ]; do sleep 0.05; done" }
[[steps]]
id = "after"
script = { shell = "/bin/sh -eu", text = "echo after >> @dir@/ledger" }
"#;

/// Eight megabytes of output.
const LOUD: &str = r#"
mode = "auto"
alerts = ["Loud"]
target = "{{ labels.target }}"
[[steps]]
id = "shout"
script = { shell = "/bin/sh -eu", text = "head -c 8388608 /dev/urandom" }
"#;

fn daemon(more: &str, runbooks: &[(&str, &str)]) -> Daemon {
    let text = config(&format!("[vault]\nkey = {{ env = \"KEY\" }}\n{more}"));
    Daemon::start_at(&free_address(), &text, runbooks, &[VAULT])
}

fn command(line: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(line).env_remove("RUNBOOKD_TOKEN").stdin(Stdio::null());
    command
}

fn run(line: &[&str]) -> Output {
    command(line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes a backup of the daemon.
fn back_up(daemon: &Daemon, file: &Path) -> Value {
    let url = format!("http://{}", daemon.address());
    let file = file.to_str().unwrap();
    let done = run(&["backup", file, "--url", &url, "--reason", "a test", "--output", "json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Puts a backup in the place of the stopped daemon's data, and starts it.
fn restore(daemon: &mut Daemon, file: &Path) -> Value {
    let data = daemon.dir().join("data");
    fs::rename(&data, daemon.dir().join("data.old")).unwrap();
    let done = restore_into(file, &data);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    daemon.start_again();
    serde_json::from_slice(&done.stdout).unwrap()
}

fn restore_into(file: &Path, data: &Path) -> Output {
    run(&["restore", file.to_str().unwrap(), "--storage.path", data.to_str().unwrap(), "--output", "json"])
}

fn unhalt(daemon: &Daemon) {
    let body = json!({ "state": "running", "reason": "looked at it" }).to_string();
    let answer = http::send(daemon.address(), "PUT", "/api/automation", &body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Every decision, by id.
fn decisions(daemon: &Daemon) -> BTreeMap<String, Value> {
    let (mut all, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = daemon.json(&format!("/api/decisions?limit=500{cursor}"));
        for decision in page["decisions"].as_array().unwrap() {
            all.insert(decision["id"].as_str().unwrap().to_owned(), decision.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A backup while alerts come; its summary, and what the alerts started.
fn back_up_under_load(daemon: &Daemon, file: &Path) -> (Value, Vec<String>) {
    let (stop, busy) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut accepted = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                accepted.push(fire(daemon, "Quick", &format!("load-{}", accepted.len())));
                busy.store(accepted.len() > 10, Ordering::SeqCst);
            }
            accepted
        });
        eventually("the load", LIMIT, || busy.load(Ordering::SeqCst).then_some(()));
        let summary = back_up(daemon, file);
        stop.store(true, Ordering::SeqCst);
        (summary, load.join().unwrap())
    })
}

/// Of the load there is a beginning without a gap, and what was over is as it was.
fn check_the_load(daemon: &Daemon, load: &[(&String, Value)]) {
    let there: Vec<bool> = load
        .iter()
        .map(|(id, _)| daemon.try_get(&format!("/api/executions/{id}")).unwrap().status == 200)
        .collect();
    assert!(there[..10].iter().all(|there| *there), "what was accepted before the backup began is in it");
    assert!(there.is_sorted_by(|a, b| a >= b), "a gap: {there:?}");
    for ((id, as_it_was), _) in load.iter().zip(&there).filter(|(_, there)| **there) {
        let execution = daemon.execution(id);
        // What was in progress then is dealt with as after a crash, and otherwise held.
        let is_held = execution["finished_at"].is_null() || execution["reason"] == "unknown_outcome";
        assert!(is_held || execution == *as_it_was, "{execution:#}");
    }
}

/// What was handled before starts nothing, halted or not; what is new starts once people allow it.
fn check_repeats(daemon: &Daemon, before: &[String]) {
    let lines = ledger(daemon);
    let repeat = |target: &str| {
        let answer = daemon.webhook(&body("Quick", "firing", &[target])).json();
        (answer["execution_ids"].clone(), answer["decisions"][0]["reason"].clone())
    };
    assert_eq!(repeat("before-3"), (json!([]), "repeat".into()));
    assert_eq!(repeat("load-2"), (json!([]), "repeat".into()));
    assert_eq!(repeat("never-seen"), (json!([]), "halted".into()));
    unhalt(daemon);
    assert_eq!(repeat("before-4"), (json!([]), "repeat".into()));
    finished(daemon, &fire(daemon, "Quick", "after"));
    let ran_again = |line: &&String| before.iter().any(|id| line.ends_with(id.as_str()));
    assert_eq!(ledger(daemon).iter().skip(lines.len()).filter(ran_again).count(), 0);
}

#[test]
fn a_backup_under_load_is_restored_with_the_same_answers_and_repeats_nothing() {
    let mut daemon = daemon("", &[("quick", QUICK)]);
    let file = daemon.dir().join("b");
    let credential = json!({ "name": "wiki", "type": "api", "secret": CANARY }).to_string();
    assert_eq!(http::post(daemon.address(), "/api/credentials", &credential).unwrap().status, 201);
    let mapping = json!({ "matchers": ["a=\"b\""], "runbook": "quick", "reason": "a test" }).to_string();
    assert_eq!(http::send(daemon.address(), "PUT", "/api/mappings/mine", &mapping).unwrap().status, 200);
    let before: Vec<String> = (0..12).map(|n| fire(&daemon, "Quick", &format!("before-{n}"))).collect();
    let told: Vec<Value> = before.iter().map(|id| finished(&daemon, id)).collect();
    let (decided, mappings) = (decisions(&daemon), daemon.json("/api/mappings"));
    let credentials = daemon.json("/api/credentials");
    let output = |daemon: &Daemon, id: &str| {
        daemon.try_get(&format!("/api/executions/{id}/output/say/1/stdout")).unwrap().text()
    };
    let said = output(&daemon, &before[0]);
    assert_eq!(said.len(), 5004);

    let (summary, accepted) = back_up_under_load(&daemon, &file);
    assert!(summary["files"].as_u64().unwrap() >= 12, "{summary:#}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    for secret in [CANARY, VAULT.1] {
        assert!(!bytes.windows(secret.len()).any(|found| found == secret.as_bytes()), "a secret in clear");
    }
    accepted.iter().for_each(|id| drop(finished(&daemon, id)));
    let as_it_was: Vec<(&String, Value)> = accepted.iter().map(|id| (id, daemon.execution(id))).collect();
    daemon.kill();

    let restored = restore(&mut daemon, &file);
    assert_eq!(restored["sha256"], summary["sha256"]);
    for (id, told) in before.iter().zip(&told) {
        assert_eq!(&daemon.execution(id), told);
    }
    assert_eq!(output(&daemon, &before[0]), said);
    let found = decisions(&daemon);
    assert!(decided.iter().all(|(id, decision)| found[id] == *decision));
    assert_eq!((daemon.json("/api/mappings"), daemon.json("/api/credentials")), (mappings, credentials));
    check_the_load(&daemon, &as_it_was);
    let verified = daemon.json("/api/audit/verify");
    assert_eq!(verified["ok"], true, "{verified:#}");
    let audit = daemon.json("/api/audit?limit=500");
    let actions: Vec<&str> =
        audit["audit"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions[..3], ["automation.set", "backup.restore", "backup.take"]);

    let status = daemon.json("/api/sre/runbooks/integration-status");
    assert_eq!(status["status"], "halted");
    assert!(status["reason"].as_str().unwrap().contains("restored from a backup of "), "{status:#}");
    check_repeats(&daemon, &before);
}

#[test]
fn what_was_in_progress_waits_for_a_person_after_a_restore() {
    let mut daemon = daemon("", &[("held", HELD)]);
    let file = daemon.dir().join("b");
    let id = fire(&daemon, "Held", "t");
    wait_for_status(&daemon, &id, "running");
    eventually("the step", LIMIT, || (ledger(&daemon) == ["held"]).then_some(()));
    back_up(&daemon, &file);
    // What the backup knows nothing of.
    touch(&daemon, "go");
    finished(&daemon, &id);
    assert_eq!(ledger(&daemon), ["held", "after"]);
    assert_eq!(daemon.terminate().code(), Some(0));
    let restored = restore(&mut daemon, &file);
    assert_eq!(restored["live"], 1);
    let held = eventually("the hold", LIMIT, || {
        let execution = daemon.execution(&id);
        (execution["status"] == "paused").then_some(execution)
    });
    assert_eq!(held["paused"]["code"], "halted", "{held:#}");
    assert!(held["paused"]["reason"].as_str().unwrap().contains("restored from a backup of "), "{held:#}");
    // A person who has looked stops it, and then lets the rest go on.
    let stop = json!({ "reason": "it was done" }).to_string();
    assert_eq!(
        http::post(daemon.address(), &format!("/api/executions/{id}/stop"), &stop).unwrap().status,
        202
    );
    unhalt(&daemon);
    assert_eq!(finished(&daemon, &id)["status"], "stopped");
    finished(&daemon, &fire(&daemon, "Held", "another"));
    assert_eq!(ledger(&daemon), ["held", "after", "held", "after"], "only the new one ran");
}

#[test]
fn a_stopped_server_is_backed_up_without_it_and_one_at_work_is_not() {
    let mut daemon = daemon("", &[("quick", QUICK)]);
    let (file, data) = (daemon.dir().join("b"), daemon.dir().join("data"));
    let id = fire(&daemon, "Quick", "t");
    let told = finished(&daemon, &id);
    let line =
        ["backup", file.to_str().unwrap(), "--storage.path", data.to_str().unwrap(), "--output", "json"];
    let refused = run(&line);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is in use by another process"), "{}", text(&refused.stderr));
    assert!(!file.exists());
    assert_eq!(daemon.terminate().code(), Some(0));
    let done = run(&line);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    restore(&mut daemon, &file);
    assert_eq!(daemon.execution(&id), told);
    let over = restore_into(&file, &data);
    assert_eq!(over.status.code(), Some(1));
    assert!(text(&over.stderr).contains("is not empty, it holds "), "{}", text(&over.stderr));
}

/// The way to a server, on which an answer stops after so many bytes until it may go on.
struct Slow {
    address: String,
    goes_on: mpsc::Sender<()>,
}

impl Slow {
    const BYTES: u64 = 4 << 20;

    fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (goes_on, may_go_on) = mpsc::channel();
        let server = server.to_owned();
        std::thread::spawn(move || {
            let (mut near, _) = listener.accept().unwrap();
            let mut far = TcpStream::connect(server).unwrap();
            let (mut asks, mut asked) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            // Either side may have gone by then.
            drop(std::io::copy(&mut (&mut far).take(Self::BYTES), &mut near));
            let _hung_up = may_go_on.recv();
            drop(std::io::copy(&mut far, &mut near));
            drop(near.shutdown(Shutdown::Both));
        });
        Self { address, goes_on }
    }

    fn begin(&self, file: &Path) -> Child {
        let url = format!("http://{}", self.address);
        let mut line = command(&["backup", file.to_str().unwrap(), "--url", &url]);
        let child = line.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let partial = PathBuf::from(format!("{}.partial", file.display()));
        let begun = || partial.metadata().is_ok_and(|facts| facts.len() > 0).then_some(());
        eventually("the beginning of the backup", LIMIT, begun);
        child
    }
}

#[test]
fn whoever_dies_in_the_middle_of_a_backup_leaves_no_half_file() {
    let mut daemon = daemon("", &[("loud", LOUD)]);
    let ids: Vec<String> = (0..6).map(|n| fire(&daemon, "Loud", &format!("t{n}"))).collect();
    ids.iter().for_each(|id| assert_eq!(finished(&daemon, id)["status"], "succeeded"));
    let dir = daemon.dir().join("backups");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("b");

    // The client is killed.
    let slow = Slow::before(daemon.address());
    let mut client = slow.begin(&file);
    let busy = http::post(daemon.address(), "/api/backup", "{}").unwrap();
    assert_eq!((busy.status, &busy.json()["code"]), (409, &"backup_in_progress".into()));
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(names(&dir), ["b.partial"]);
    drop(slow);
    eventually("the end of the backup", LIMIT, || {
        let url = format!("http://{}", daemon.address());
        let again = run(&["backup", file.to_str().unwrap(), "--url", &url]);
        again.status.success().then_some(())
    });
    assert_eq!(names(&dir), ["b"]);
    fs::remove_file(&file).unwrap();

    // The server is killed.
    let slow = Slow::before(daemon.address());
    let client = slow.begin(&file);
    daemon.kill();
    slow.goes_on.send(()).unwrap();
    let ended = client.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended.stderr));
    assert!(names(&dir).is_empty(), "{:?}", names(&dir));
}

#[test]
fn a_restore_that_is_killed_leaves_no_half_store_to_serve_from() {
    let mut daemon = daemon("", &[("loud", LOUD), ("quick", QUICK)]);
    let loud: Vec<String> = (0..2).map(|n| fire(&daemon, "Loud", &format!("t{n}"))).collect();
    let told: Vec<Value> = loud.iter().map(|id| finished(&daemon, id)).collect();
    let (file, data) = (daemon.dir().join("b"), daemon.dir().join("data"));
    back_up(&daemon, &file);
    assert_eq!(daemon.terminate().code(), Some(0));
    fs::rename(&data, daemon.dir().join("data.old")).unwrap();
    let (mut halves, mut wholes) = (0, 0);
    for round in 0..12 {
        let line = ["restore", file.to_str().unwrap(), "--storage.path", data.to_str().unwrap()];
        let mut child = command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the restore", LIMIT, || data.exists().then_some(()));
        std::thread::sleep(Duration::from_millis(round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        if data.join("store").exists() {
            wholes += 1;
            let verified = run(&["audit", "verify", "--storage.path", data.to_str().unwrap()]);
            assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
            fs::remove_dir_all(&data).unwrap();
        } else if data.join("restoring").exists() {
            halves += 1;
            let serve = run(&[
                "serve",
                &format!("--config.file={}", daemon.dir().join("runbookd.toml").display()),
                &format!("--storage.path={}", data.display()),
                "--web.listen-address=127.0.0.1:0",
            ]);
            assert_eq!(serve.status.code(), Some(1));
            assert!(!data.join("store").exists());
        }
    }
    assert!(halves > 0, "{wholes} restores were whole, and none was interrupted");
    let done = restore_into(&file, &data);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    daemon.start_again();
    for told in told {
        assert_eq!(daemon.execution(told["id"].as_str().unwrap()), told);
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let daemon = daemon("", &[("loud", LOUD)]);
    let ids: Vec<String> = (0..8).map(|n| fire(&daemon, "Loud", &format!("t{n}"))).collect();
    ids.iter().for_each(|id| drop(finished(&daemon, id)));
    let (file, small) = (daemon.dir().join("b"), daemon.dir().join("small"));
    fs::create_dir(&small).unwrap();
    let _small = Small::over(&small);
    let url = format!("http://{}", daemon.address());
    let refused = run(&["backup", small.join("b").to_str().unwrap(), "--url", &url]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("there is no room for "), "{}", text(&refused.stderr));
    assert!(names(&small).is_empty());
    let taken = eventually("the end of the first", LIMIT, || {
        let done = run(&["backup", file.to_str().unwrap(), "--url", &url]);
        done.status.success().then_some(done)
    });
    assert!(text(&taken.stdout).contains("8 output files"), "{}", text(&taken.stdout));
    for dir in [small.clone(), small.join("data")] {
        let refused = restore_into(&file, &dir);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains("there is no room for ") && said.contains("choose another disk"), "{said}");
        assert!(names(&small).is_empty(), "{:?}", names(&small));
    }
    let absent = run(&["restore", file.to_str().unwrap(), "--storage.path", "/proc/none"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("/proc/none"), "{}", text(&absent.stderr));
}

#[test]
fn a_backup_is_taken_by_the_clock_and_can_be_restored() {
    let mut daemon = daemon(
        "[store]\nbackup = { path = \"@dir@/exports\", every = \"1h\", keep = 3 }\n",
        &[("quick", QUICK)],
    );
    let id = fire(&daemon, "Quick", "t");
    let told = finished(&daemon, &id);
    let exports = daemon.dir().join("exports");
    let file = eventually("the export", 3 * LIMIT, || {
        let name = names_or_none(&exports).into_iter().find(|name| name.ends_with(".backup"))?;
        Some(exports.join(name))
    });
    assert_eq!(exports.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    eventually("the metric", LIMIT, || {
        (daemon.metric("runbookd_backup_last_success_timestamp_seconds") > 1.7e9).then_some(())
    });
    assert_eq!(daemon.metric("runbookd_backup_failures_total"), 0.0);
    assert_eq!(daemon.terminate().code(), Some(0));
    restore(&mut daemon, &file);
    assert_eq!(daemon.execution(&id), told);
}

fn names_or_none(dir: &Path) -> Vec<String> {
    if dir.exists() { names(dir) } else { Vec::new() }
}
