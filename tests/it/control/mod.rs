//! What people do to executions, on the real program: every verb where it is allowed and where it is not.
//!
//! `begin` is what may begin, `below` what steps start; `hold` pauses and changes, `undo` takes back and repeats,
//! `consent` asks people, `crowd` many at once, `words` holds requests to their form and answers to every watcher.
//! May import: `support`. Must never: end a process itself.

mod begin;
mod below;
mod consent;
mod crowd;
mod hold;
mod undo;
mod words;

use crate::support::daemon::{Daemon, ledger, touch};
use crate::support::http::{self, Answer};
use serde_json::{Value, json};

/// Sends a control.
fn act(daemon: &Daemon, id: &str, body: &Value) -> Answer {
    http::post(daemon.address(), &format!("/api/executions/{id}/control"), &body.to_string()).unwrap()
}

/// Sends a control that must be carried out; its answer.
fn done(daemon: &Daemon, id: &str, body: &Value) -> Value {
    let answer = act(daemon, id, body);
    assert_eq!(answer.status, 202, "{body}: {}", answer.text());
    answer.json()
}

/// Does `action` without anything more.
fn simply(daemon: &Daemon, id: &str, action: &str) -> Value {
    done(daemon, id, &json!({ "action": action, "reason": format!("to {action}") }))
}

/// Sends a control that must be refused with this status and code; the sentence.
fn refused(daemon: &Daemon, id: &str, body: &Value, status: u16, code: &str) -> String {
    let answer = act(daemon, id, body);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (status, Some(code)),
        "{body}: {}",
        answer.text()
    );
    answer.json()["error"].as_str().unwrap().to_owned()
}

fn conflict(daemon: &Daemon, id: &str, action: &str) -> String {
    refused(daemon, id, &json!({ "action": action }), 409, "wrong_state")
}
