//! Many people who want the same thing of one execution at the same moment.

use super::act;
use crate::support::alerts::{config, finished, fire, journal, wait_for_status};
use crate::support::daemon::{Daemon, ledger};
use serde_json::json;
use std::sync::Barrier;
use std::thread;

const ASKS: &str = r#"
mode = "auto"
alerts = ["Asks"]
target = "{{ labels.target }}"
[[steps]]
id = "ask"
approve = { message = "may I?", count = 1, not_requester = false }
[[steps]]
id = "act"
script = { text = 'echo act >> "$DIR/ledger"', env = { DIR = "@dir@" } }
"#;

const CROWD: usize = 50;

#[test]
fn fifty_who_approve_at_once_are_one_consent_and_one_run() {
    let daemon = Daemon::start(&config(""), &[("asks", ASKS)], &[]);
    let id = fire(&daemon, "Asks", "a");
    wait_for_status(&daemon, &id, "awaiting_approval");
    let barrier = Barrier::new(CROWD);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let approve = |number: usize| {
            let (daemon, id, barrier) = (&daemon, &id, &barrier);
            scope.spawn(move || {
                let body = json!({ "action": "approve", "reason": format!("fine, says {number}") });
                barrier.wait();
                act(daemon, id, &body).status
            })
        };
        let asked: Vec<_> = (0..CROWD).map(approve).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(statuses.contains(&202), "{statuses:?}");
    assert!(statuses.iter().all(|status| [202, 409].contains(status)), "{statuses:?}");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    let events = journal(&daemon, &id);
    let approved = events.iter().filter(|(kind, _)| kind == "approved").count();
    assert_eq!((approved, ledger(&daemon)), (1, vec!["act".to_owned()]), "{events:#?}");
}
