//! What was stopped: told where it had begun to change something, whoever stopped it, and to nobody where it had not.

use super::{BAD, hook, start, states, told};
use crate::support::alerts::{finished, fire, wait_for_step};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::receiver::Receiver;
use serde_json::json;

const WAITS: &str = r#"
mode = "auto"
alerts = ["Waits"]
target = "{{ labels.target }}"
[[steps]]
id = "look"
wait = { for = "1h" }
timeout = "2h"
[[steps]]
id = "act"
command = { program = "true" }
"#;

const ACTS: &str = r#"
mode = "auto"
alerts = ["Acts"]
target = "{{ labels.target }}"
[[steps]]
id = "act"
command = { program = "sleep", args = ["600"] }
timeout = "20m"
"#;

fn stop(daemon: &Daemon, id: &str) {
    let answer = http::post(daemon.address(), &format!("/api/executions/{id}/stop"), r#"{"reason":"mine"}"#);
    assert_eq!(answer.unwrap().status, 202);
}

#[test]
fn a_stop_is_told_where_something_was_half_done_and_only_there() {
    let receiver = Receiver::start(&[]);
    let daemon = start(&hook(&receiver.url("/"), ""), &[("waits", WAITS), ("acts", ACTS), ("bad", BAD)]);
    let (waits, acts) = (fire(&daemon, "Waits", "a"), fire(&daemon, "Acts", "b"));
    wait_for_step(&daemon, &waits, 0, "waiting");
    wait_for_step(&daemon, &acts, 0, "running");
    stop(&daemon, &waits);
    assert_eq!(finished(&daemon, &waits)["status"], "stopped");
    stop(&daemon, &acts);
    assert_eq!(finished(&daemon, &acts)["status"], "stopped");
    told(&daemon, &acts, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!(receiver.told()[0].json()["subject"], "acts: stopped (stopped) on b");
    assert_eq!(daemon.execution(&waits)["escalations"], json!([]));

    // The kill switch ends what is under way: the same.
    let (waits, acts) = (fire(&daemon, "Waits", "c"), fire(&daemon, "Acts", "d"));
    wait_for_step(&daemon, &waits, 0, "waiting");
    wait_for_step(&daemon, &acts, 0, "running");
    let abort = http::send(
        daemon.address(),
        "PUT",
        "/api/automation",
        r#"{"state":"aborted","reason":"wrong host"}"#,
    );
    assert_eq!(abort.unwrap().status, 200);
    for id in [&waits, &acts] {
        assert_eq!(finished(&daemon, id)["reason"], "aborted");
    }
    told(&daemon, &acts, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!(daemon.execution(&waits)["escalations"], json!([]));
    assert_eq!(receiver.told()[1].json()["subject"], "acts: stopped (aborted) on d");
}
