//! Starting, reloading, draining and being refused.
//!
//! May import: `support`. Must never: look into the storage, but for the lock that says who holds it.

use crate::support::alerts::{
    LIMIT, WEBHOOK, body, config, finished, fire, journal, only, outcomes, steps, wait_for_status,
    wait_for_step,
};
use crate::support::daemon::{BINARY, Daemon, ledger};
use crate::support::http;
use crate::support::process::eventually;
use crate::support::small::Small;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Begins, waits for the file `gate`, ends.
const GATED: &str = r#"
title = "First"
mode = "auto"
alerts = ["Gated"]
target = "{{ labels.target }}"
[[steps]]
id = "gated"
effect = "idempotent"
[steps.script]
text = '''
exec 9>"$DIR/lock"
flock -n 9 || echo overlap >> "$DIR/ledger"
echo begin >> "$DIR/ledger"
while [ ! -e "$DIR/gate" ]; do sleep 0.02; done
'''
env = { DIR = "@dir@" }
[[steps]]
id = "after"
effect = "idempotent"
[steps.script]
text = 'echo after >> "$DIR/ledger"'
env = { DIR = "@dir@" }
"#;

const GOOD: &str = "metric runbookd_config_last_reload_successful";

fn wait_for_lines(daemon: &Daemon, count: usize) {
    eventually(&format!("{count} lines in the ledger"), LIMIT, || {
        (ledger(daemon).len() >= count).then_some(())
    });
}

fn send(daemon: &Daemon, what: Signal) {
    let pid = fs::read_to_string(daemon.dir().join("data/store/lock")).unwrap();
    kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), what).unwrap();
}

fn reload(daemon: &Daemon, config: &str) {
    fs::write(daemon.dir().join("runbookd.toml"), config).unwrap();
    send(daemon, Signal::HUP);
}

fn write_runbook(daemon: &Daemon, id: &str, text: &str) {
    let root = daemon.dir().to_str().unwrap();
    let whole = daemon.dir().join(format!("{id}.new"));
    fs::write(&whole, text.replace("@dir@", root)).unwrap();
    fs::rename(whole, daemon.dir().join(format!("runbooks/{id}.toml"))).unwrap();
}

fn wait_for_good(daemon: &Daemon, expected: f64) {
    eventually(&format!("{GOOD} {expected}"), LIMIT, || {
        (daemon.metric("runbookd_config_last_reload_successful") == expected).then_some(())
    });
}

/// A second daemon that must refuse to start: what it says on stderr, within a few seconds.
fn refusal(config: &Path, listen: &str, storage: &Path, runbooks: &Path) -> String {
    let mut child = Command::new(BINARY)
        .arg("serve")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address={listen}"))
        .arg(format!("--storage.path={}", storage.display()))
        .arg(format!("--runbooks.dir={}", runbooks.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it started, or hangs");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

struct Place {
    _dir: tempfile::TempDir,
    config: PathBuf,
    storage: PathBuf,
    runbooks: PathBuf,
}

fn place(config: &str) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (file, storage, runbooks) =
        (dir.path().join("runbookd.toml"), dir.path().join("data"), dir.path().join("runbooks"));
    fs::write(&file, config).unwrap();
    fs::create_dir(&runbooks).unwrap();
    Place { _dir: dir, config: file, storage, runbooks }
}

#[test]
fn a_drain_takes_nothing_new_lets_the_running_step_end_and_begins_no_other() {
    let mut daemon = Daemon::start(&config("[server]\ndrain_timeout = \"15s\""), &[("gated", GATED)], &[]);
    let id = fire(&daemon, "Gated", "a");
    wait_for_lines(&daemon, 1);
    send(&daemon, Signal::TERM);
    // No runbook is for this one: it may come before the signal is heard.
    eventually("a webhook that is refused", LIMIT, || {
        match http::post(daemon.address(), WEBHOOK, &body("Nobody", "firing", &["b"])) {
            Err(_) => Some(()),
            Ok(answer) => (answer.status == 503).then_some(()),
        }
    });
    fs::write(daemon.dir().join("gate"), "").unwrap();
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    assert_eq!(ledger(&daemon), ["begin"], "a step began while it drained");
    daemon.start_again();
    let execution = finished(&daemon, &id);
    assert_eq!(execution["status"], "succeeded", "{execution:#}");
    assert_eq!(outcomes(&execution, 0), ["succeeded"], "its end was not recorded");
    assert_eq!(ledger(&daemon), ["begin", "after"]);
}

#[test]
fn a_step_longer_than_the_drain_is_killed_and_then_the_crash_rules_hold() {
    for (effect, last) in [("idempotent", "succeeded"), ("at_most_once", "failed")] {
        let runbook = GATED.replacen("effect = \"idempotent\"", &format!("effect = \"{effect}\""), 1);
        let mut daemon =
            Daemon::start(&config("[server]\ndrain_timeout = \"1s\""), &[("gated", &runbook)], &[]);
        let id = fire(&daemon, "Gated", "a");
        wait_for_lines(&daemon, 1);
        let began = Instant::now();
        assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
        assert!((1..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        fs::write(daemon.dir().join("gate"), "").unwrap();
        daemon.start_again();
        let execution = finished(&daemon, &id);
        assert_eq!(execution["status"], last, "{execution:#}");
        let (attempts, lines): (&[&str], &[&str]) = match effect {
            "idempotent" => (&["interrupted", "succeeded"], &["begin", "begin", "after"]),
            _ => (&["unknown"], &["begin"]),
        };
        assert_eq!(outcomes(&execution, 0), attempts);
        assert_eq!(ledger(&daemon), lines);
        // Recorded when it was killed, not when the next life found it.
        let time = |value: &serde_json::Value| {
            value.as_str().unwrap().parse::<runbookd::model::Timestamp>().unwrap()
        };
        let ended = time(&execution["steps"][0]["attempts"][0]["finished_at"]);
        let log = daemon.log();
        let second = log.lines().filter(|line| line.contains("\"listening\"")).nth(1).unwrap();
        let second: serde_json::Value = serde_json::from_str(second).unwrap();
        assert!(ended < time(&second["ts"]), "{ended} is not before {second}");
    }
}

#[test]
fn what_waits_while_the_daemon_drains_goes_on_in_the_next_life() {
    let waiting = "mode = \"auto\"\nalerts = [\"Waiting\"]\n[[steps]]\nid = \"pause\"\nwait = { for = \"2s\" }\n[verify]\nalert_resolved = true\nwithin = \"1m\"\n";
    let mut daemon = Daemon::start(&config(""), &[("waiting", waiting)], &[]);
    let id = fire(&daemon, "Waiting", "a");
    wait_for_step(&daemon, &id, 0, "waiting");
    let began = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "a parked execution held the drain up");
    daemon.start_again();
    wait_for_status(&daemon, &id, "verifying");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.start_again();
    assert_eq!(daemon.execution(&id)["status"], "verifying");
    daemon.webhook(&body("Waiting", "resolved", &["a"]));
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
}

#[test]
fn a_second_daemon_on_the_same_storage_refuses_and_harms_nothing() {
    let daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    let id = fire(&daemon, "Gated", "a");
    wait_for_lines(&daemon, 1);
    let (dir, storage) = (daemon.dir(), daemon.dir().join("data"));
    let listen = fs::read_to_string(storage.join("listen")).unwrap();
    let said = refusal(&dir.join("runbookd.toml"), "127.0.0.1:0", &storage, &dir.join("runbooks"));
    assert!(said.contains(storage.to_str().unwrap()) && said.contains("in use by another process"), "{said}");
    assert_eq!(fs::read_to_string(storage.join("listen")).unwrap(), listen);
    fs::write(dir.join("gate"), "").unwrap();
    let execution = finished(&daemon, &id);
    assert_eq!(
        (steps(&execution), outcomes(&execution, 0)),
        (vec!["succeeded".into(); 2], vec!["succeeded".into()])
    );
}

#[test]
fn an_address_in_use_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = place(&config(""));
    let said = refusal(&place.config, &address, &place.storage, &place.runbooks);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn all_problems_of_a_config_are_said_at_once_with_their_places() {
    let place = place(
        "[webhook]\nallow_unauthenticated = true\n[automation]\nmax_runing = 3\nqueue_deadline = \"soon\"\n[nonsense]\n",
    );
    let said = refusal(&place.config, "127.0.0.1:0", &place.storage, &place.runbooks);
    for (name, line) in [("max_runing", 4), ("queue_deadline", 5), ("nonsense", 6)] {
        assert!(said.contains(name) && said.contains(&format!("runbookd.toml:{line}:")), "{name}: {said}");
    }
    let unknown = "[[mappings]]\nname = \"m\"\nmatchers = ['alertname=\"A\"']\nrunbook = \"absent\"\n";
    let place = self::place(&config(unknown));
    let said = refusal(&place.config, "127.0.0.1:0", &place.storage, &place.runbooks);
    assert!(said.contains("absent"), "{said}");
}

#[test]
fn a_reload_puts_a_mapping_in_force_and_a_bad_config_changes_nothing() {
    let daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    fs::write(daemon.dir().join("gate"), "").unwrap();
    let mapped = |name: &str| {
        config(&format!(
            "[[mappings]]\nname = \"m\"\nmatchers = ['alertname=\"{name}\"']\nrunbook = \"gated\""
        ))
    };
    let knows = |alertname: &str| {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        status["runbook_alert_mappings"][alertname] == "gated"
    };
    wait_for_good(&daemon, 1.0);
    assert!(!knows("Other"));
    reload(&daemon, &mapped("Other"));
    eventually("the mapping", LIMIT, || knows("Other").then_some(()));
    let id = fire(&daemon, "Other", "a");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");

    reload(&daemon, &format!("{}\nnonsense = 1", mapped("Third")));
    wait_for_good(&daemon, 0.0);
    assert!(knows("Other") && !knows("Third"));
    // A runbook that changes well does not hide that the config is bad.
    write_runbook(&daemon, "gated", &GATED.replace("First", "Second"));
    eventually("the runbook's second version", LIMIT, || {
        (daemon.json("/api/runbooks/gated")["version"] == 2).then_some(())
    });
    assert_eq!(daemon.metric("runbookd_config_last_reload_successful"), 0.0);
    let absent = mapped("Third").replace("runbook = \"gated\"", "runbook = \"absent\"");
    reload(&daemon, &absent);
    eventually("word of the absent runbook", LIMIT, || daemon.log().contains("absent").then_some(()));
    assert!(knows("Other") && !knows("Third"));
    assert_eq!(daemon.metric("runbookd_config_last_reload_successful"), 0.0);

    reload(&daemon, &mapped("Third"));
    wait_for_good(&daemon, 1.0);
    assert!(!knows("Other") && knows("Third"));
}

#[test]
fn t40_a_broken_runbook_keeps_its_last_good_version_and_a_running_execution_its_own() {
    let mut daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    let running = fire(&daemon, "Gated", "a");
    wait_for_lines(&daemon, 1);

    write_runbook(&daemon, "gated", "mode = \"auto\"\nsteps = 3\n");
    wait_for_good(&daemon, 0.0);
    let broken = |daemon: &Daemon| {
        let status = daemon.json("/api/sre/runbooks/integration-status");
        let broken = status["broken_runbooks"].as_array().unwrap();
        broken.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(broken(&daemon), ["gated"]);
    assert_eq!(daemon.json("/api/runbooks/gated")["title"], "First");
    let second = fire(&daemon, "Gated", "b");
    // Also a new life goes by the last good one, which it has from its store.
    daemon.kill();
    daemon.start_again();
    assert_eq!(broken(&daemon), ["gated"]);
    wait_for_good(&daemon, 0.0);
    assert_eq!(daemon.json("/api/runbooks/gated")["title"], "First");

    let changed = GATED.replace("First", "Repaired").replace("echo after", "echo changed");
    write_runbook(&daemon, "gated", &changed);
    wait_for_good(&daemon, 1.0);
    assert_eq!(broken(&daemon), [""; 0]);
    assert_eq!(daemon.json("/api/runbooks/gated")["version"], 2);
    fs::write(daemon.dir().join("gate"), "").unwrap();
    for id in [&running, &second] {
        let execution = finished(&daemon, id);
        assert_eq!((&execution["version"], &execution["status"]), (&1.into(), &"succeeded".into()));
    }
    assert_eq!(ledger(&daemon).iter().filter(|line| *line == "changed").count(), 0);
    let third = fire(&daemon, "Gated", "c");
    assert_eq!(finished(&daemon, &third)["version"], 2);
    assert!(ledger(&daemon).contains(&"changed".to_owned()));
}

#[test]
fn a_full_disk_refuses_alerts_still_kills_and_is_recovered_from_without_help() {
    let mut daemon = Daemon::start(&config(""), &[("gated", GATED)], &[]);
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = daemon.dir().join("data");
    let _small = Small::over(&data);
    daemon.start_again();
    let running = fire(&daemon, "Gated", "a");
    wait_for_lines(&daemon, 1);
    let unlucky = fire(&daemon, "Gated", "b");
    wait_for_lines(&daemon, 2);

    let filler = data.join("filler");
    // All but 2 MiB; less than what the store keeps in reserve.
    let free = rustix::fs::statvfs(&data).map(|it| it.f_bavail * it.f_frsize).unwrap();
    fs::write(&filler, vec![0; usize::try_from(free).unwrap() - (2 << 20)]).unwrap();
    let refused = daemon.webhook(&body("Gated", "firing", &["c"]));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());

    let gone = |id: &str| {
        let its = |entry: fs::DirEntry| {
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            environ.windows(id.len()).any(|part| part == id.as_bytes())
        };
        eventually(&format!("the death of what {id} runs"), Duration::from_secs(5), || {
            (!fs::read_dir("/proc").unwrap().flatten().any(its)).then_some(())
        });
    };
    let stop = |id: &str| {
        let path = format!("/api/executions/{id}/stop");
        http::post(daemon.address(), &path, "{\"reason\":\"enough\"}").unwrap().status
    };
    thread::scope(|scope| {
        // Its end cannot be recorded yet; its kill must not wait for that.
        let mut stops = vec![scope.spawn(|| stop(&unlucky))];
        gone(&unlucky);
        fs::write(daemon.dir().join("gate"), "").unwrap();
        gone(&running);
        // Heard together, once the outcome of its step is recorded.
        stops.extend((0..3).map(|_| scope.spawn(|| stop(&running))));
        assert_eq!(daemon.webhook(&body("Gated", "firing", &["c"])).status, 503);
        assert_eq!(daemon.execution(&running)["status"], "running");
        fs::remove_file(&filler).unwrap();
        for stop in stops {
            assert_eq!(stop.join().unwrap(), 202);
        }
    });
    for id in [&running, &unlucky] {
        assert_eq!(finished(&daemon, id)["status"], "stopped");
        only(&journal(&daemon, id), "stop_requested");
    }
    assert_eq!(outcomes(&daemon.execution(&running), 0), ["succeeded"]);
    let late = eventually("a webhook that is taken again", LIMIT, || {
        let answer = daemon.webhook(&body("Gated", "firing", &["c"]));
        (answer.status == 200).then(|| answer.json()["execution_ids"][0].as_str().unwrap().to_owned())
    });
    assert_eq!(finished(&daemon, &late)["status"], "succeeded");
    assert_eq!(daemon.executions().len(), 3, "something of a refused webhook remained");
    daemon.kill();
}

#[test]
fn a_body_the_disk_has_no_room_for_leaves_no_trace_in_the_queue() {
    let config = config("[automation]\nmax_running = 1\nqueue_limit = 2");
    let mut daemon = Daemon::start(&config, &[("gated", GATED)], &[]);
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = daemon.dir().join("data");
    let _small = Small::over(&data);
    daemon.start_again();
    fire(&daemon, "Gated", "a");
    wait_for_lines(&daemon, 1);
    let filler = data.join("filler");
    // More than the store's reserve, so that the body is decided on; too little for what it would write.
    let free = rustix::fs::statvfs(&data).map(|it| it.f_bavail * it.f_frsize).unwrap();
    fs::write(&filler, vec![0; usize::try_from(free).unwrap() - (22 << 20)]).unwrap();
    let large = "x".repeat(1_000_000);
    let large: Vec<String> = (0..4).map(|name| format!("\"a{name}\":\"{large}\"")).collect();
    let two = body("Gated", "firing", &["b", "c"]);
    let large = two.replace("\"summary\":\"it is broken\"", &large.join(","));
    for _ in 0..2 {
        let refused = daemon.webhook(&large);
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"store_unavailable".into()));
    }
    fs::remove_file(&filler).unwrap();
    let taken = daemon.webhook(&two);
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert_eq!(taken.json()["runbooks_triggered"], 2);
    let refused = daemon.webhook(&body("Gated", "firing", &["d"]));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"queue_full".into()));
    assert_eq!(daemon.executions().len(), 3);
    daemon.kill();
}

/// An arena of glibc but the first is 64 MiB of addresses at a multiple of them, of which the beginning is in use.
#[cfg(target_env = "gnu")]
#[test]
fn many_threads_share_few_arenas() {
    const ARENA: u64 = 64 << 20;
    let daemon = Daemon::start(&config(""), &[], &[]);
    let pid = fs::read_to_string(daemon.dir().join("data/store/lock")).unwrap();
    let sent: Vec<_> = (0..8)
        .map(|number| {
            let address = daemon.address().to_owned();
            let path = format!("/api/executions?limit={}", number + 1);
            thread::spawn(move || http::get(&address, &path).unwrap().status)
        })
        .collect();
    assert!(sent.into_iter().all(|thread| thread.join().unwrap() == 200));
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid.trim())).unwrap();
    let mappings: Vec<(u64, u64, &str)> = maps
        .lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap(), &rest[..4])
        })
        .collect();
    let is_arena = |pair: &&[(u64, u64, &str)]| {
        let [(from, to, used), (then, end, unused)] = pair else { return false };
        (*used, *unused) == ("rw-p", "---p") && to == then && from % ARENA == 0 && *end == from + ARENA
    };
    let arenas = mappings.windows(2).filter(is_arena).count();
    // One of the log's thread, which is older than the setting, and one for all others.
    assert!(arenas <= 2, "{arenas} arenas:\n{maps}");
}
