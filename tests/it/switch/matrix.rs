//! Every way to throw the kill switch, at every level it has, while one execution is in a step, one waits for consent
//! and one is being rolled back.
//!
//! That it counts at once is shown by order, not by a clock: the steps that were in progress are still in progress when
//! the next alert is decided.

use super::*;

const STEPS: &str = r#"
mode = "auto"
alerts = ["Stepping"]
target = "{{ labels.target }}"
[[steps]]
id = "one"
script = { text = 'echo "one $T" >> "$DIR/ledger"', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
[steps.undo]
script = { text = 'echo "undo one $T" >> "$DIR/ledger"', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
[[steps]]
id = "two"
script = { text = 'echo "two $T" >> "$DIR/ledger"; while [ ! -e "$DIR/gate" ]; do sleep 0.02; done', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
[steps.undo]
script = { text = 'echo "undo two $T" >> "$DIR/ledger"; while [ ! -e "$DIR/undone" ]; do sleep 0.02; done', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
[[steps]]
id = "three"
script = { text = 'echo "three $T" >> "$DIR/ledger"', env = { DIR = "@dir@", T = "{{ labels.target }}" } }
"#;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Api,
    CommandLine,
    File,
    Signal,
}

impl Way {
    fn throw(self, daemon: &Daemon, state: &str) {
        match self {
            Self::Api => drop(set(daemon, state)),
            Self::CommandLine => {
                let verb = match state {
                    "draining" => "drain",
                    "halted" => "halt",
                    _ => "abort",
                };
                assert_eq!(command(daemon, &[verb, "--reason", "a test"]).status.code(), Some(0));
            }
            Self::File => fs::write(daemon.dir().join("data/halt"), "").unwrap(),
            Self::Signal => daemon.user_signal(),
        }
    }

    fn take_back(self, daemon: &Daemon) {
        match self {
            Self::Api => drop(set(daemon, "running")),
            Self::CommandLine | Self::Signal => assert_eq!(unhalt(daemon).status.code(), Some(0)),
            Self::File => fs::remove_file(daemon.dir().join("data/halt")).unwrap(),
        }
    }

    fn actor(self) -> &'static str {
        match self {
            Self::Api | Self::CommandLine => "anonymous",
            Self::File => "file",
            Self::Signal => "signal",
        }
    }
}

/// One execution in each phase.
struct Phases {
    daemon: Daemon,
    running: String,
    asking: String,
    rolling: String,
}

impl Phases {
    fn begin() -> Self {
        let runbooks = [("stepping", STEPS), ("asking", ASKING)];
        let daemon = Daemon::start_at(&free_address(), &config(""), &runbooks, &[]);
        let rolling = fire(&daemon, "Stepping", "b");
        until(&daemon, "two b");
        let body = json!({ "action": "rollback", "reason": "wrong" }).to_string();
        let path = format!("/api/executions/{rolling}/control");
        assert_eq!(http::post(daemon.address(), &path, &body).unwrap().status, 202);
        until(&daemon, "undo two b");
        let (running, asking) = (fire(&daemon, "Stepping", "a"), fire(&daemon, "Asking", "c"));
        until(&daemon, "two a");
        wait_for_status(&daemon, &asking, "awaiting_approval");
        Self { daemon, running, asking, rolling }
    }

    /// Throws it; when it is seen the steps that had begun go on, and nothing new begins.
    fn throw(&self, way: Way, state: &str) {
        let daemon = &self.daemon;
        way.throw(daemon, state);
        eventually("the order being in force", LIMIT, || {
            (daemon.json("/api/automation")["state"] == state).then_some(())
        });
        let answer = daemon.webhook(&body("Stepping", "firing", &["d"])).json();
        assert_eq!(answer["decisions"][0]["reason"], state, "{answer:#}");
        assert_eq!(answer["execution_ids"], json!([]));
        eventually("its audit record", LIMIT, || {
            let audit = daemon.json("/api/audit?action=automation.set");
            let last = &audit["audit"][0];
            (last["user"] == way.actor() && last["detail"]["state"] == state).then_some(())
        });
        if state != "aborted" {
            for (id, status) in [(&self.running, "running"), (&self.rolling, "rolling_back")] {
                assert_eq!(daemon.execution(id)["status"], status, "it was to be in progress all the while");
            }
        }
    }

    /// Consents, which must be answered so.
    fn approve(&self, status: u16) {
        let approve = json!({ "action": "approve", "reason": "fine" }).to_string();
        let path = format!("/api/executions/{}/control", self.asking);
        let answer = http::post(self.daemon.address(), &path, &approve).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
    }

    fn end_as(&self, [running, asking, rolling]: [(&str, Value); 3]) {
        for (id, (status, reason)) in
            [(&self.running, running), (&self.asking, asking), (&self.rolling, rolling)]
        {
            let execution = finished(&self.daemon, id);
            assert_eq!((&execution["status"], &execution["reason"]), (&status.into(), &reason), "{id}");
        }
    }
}

/// Waits for a line in the ledger.
fn until(daemon: &Daemon, line: &str) {
    eventually(line, LIMIT, || ledger(daemon).iter().any(|found| found == line).then_some(()));
}

fn drains(way: Way) {
    let phases = Phases::begin();
    phases.throw(way, "draining");
    phases.approve(409);
    touch(&phases.daemon, "gate");
    touch(&phases.daemon, "undone");
    for (id, status) in [(&phases.running, "succeeded"), (&phases.rolling, "rolled_back")] {
        assert_eq!(finished(&phases.daemon, id)["status"], status, "what has begun goes on");
    }
    assert_eq!(phases.daemon.execution(&phases.asking)["status"], "awaiting_approval", "it has not begun");
    way.take_back(&phases.daemon);
    phases.approve(202);
    assert_eq!(finished(&phases.daemon, &phases.asking)["status"], "succeeded");
    fire(&phases.daemon, "Stepping", "d");
}

fn halts(way: Way) {
    let phases = Phases::begin();
    phases.throw(way, "halted");
    let daemon = &phases.daemon;
    phases.approve(202);
    touch(daemon, "gate");
    touch(daemon, "undone");
    for id in [&phases.running, &phases.asking, &phases.rolling] {
        wait_for_status(daemon, id, "paused");
        assert_eq!(daemon.execution(id)["paused"]["code"], "halted");
    }
    let lines = ledger(daemon);
    for begun in ["three a", "act", "undo one b"] {
        assert!(!lines.iter().any(|line| line == begun), "{begun} was beyond the boundary: {lines:?}");
    }
    way.take_back(daemon);
    for (id, status) in
        [(&phases.running, "succeeded"), (&phases.asking, "succeeded"), (&phases.rolling, "rolled_back")]
    {
        assert_eq!(finished(daemon, id)["status"], status, "it goes on by itself");
    }
    eventually("the audit record of its end", LIMIT, || {
        let audit = daemon.json("/api/audit?action=automation.set");
        (audit["audit"][0]["detail"]["state"] == "running").then_some(())
    });
    for line in ["three a", "act", "undo one b"] {
        assert_eq!(ledger(daemon).iter().filter(|found| *found == line).count(), 1, "{line}");
    }
}

fn aborts(way: Way) {
    let phases = Phases::begin();
    phases.throw(way, "aborted");
    phases.end_as([
        ("stopped", "aborted".into()),
        ("stopped", "aborted".into()),
        ("rollback_failed", "aborted".into()),
    ]);
    let lines = ledger(&phases.daemon);
    assert!(!lines.iter().any(|line| ["three a", "act", "undo one b"].contains(&line.as_str())), "{lines:?}");
    way.take_back(&phases.daemon);
    fire(&phases.daemon, "Stepping", "d");
}

#[test]
fn by_api_it_drains_in_every_phase() {
    drains(Way::Api);
}

#[test]
fn by_api_it_halts_in_every_phase() {
    halts(Way::Api);
}

#[test]
fn by_api_it_aborts_in_every_phase() {
    aborts(Way::Api);
}

#[test]
fn by_command_line_it_drains_in_every_phase() {
    drains(Way::CommandLine);
}

#[test]
fn by_command_line_it_halts_in_every_phase() {
    halts(Way::CommandLine);
}

#[test]
fn by_command_line_it_aborts_in_every_phase() {
    aborts(Way::CommandLine);
}

#[test]
fn by_file_it_halts_in_every_phase() {
    halts(Way::File);
}

#[test]
fn by_signal_it_halts_in_every_phase() {
    halts(Way::Signal);
}
