//! The runbooks of the crash tests, and how each may end: every kind of step and every effect class is in one of them.
//!
//! Both the failpoints (`points`) and the random kills (`random`) play all of [`STORIES`]: a new feature is one more
//! story here. `@line@` and `@ledger@` are the ledger's, `@far@` is a server that answers, `@dir@` the test's directory.
//! May import: `support`. Must never: take longer than a second or two.

use crate::support::alerts::{WEBHOOK, body};
use crate::support::http;
use serde_json::Value;

/// A runbook and what may become of it.
pub(super) struct Story {
    /// The runbook's id; its alert has the same name.
    pub(super) id: &'static str,
    /// The runbook, but for `mode`, `alerts` and `target`, which are the same in all.
    pub(super) text: &'static str,
    /// How it may end, `status` or `status:reason`. `failed:unknown_outcome` is always allowed where a step is unknown.
    pub(super) ends: &'static [&'static str],
    /// Whether its steps come one after the other.
    pub(super) in_order: bool,
    /// What people and senders do when they see it like this; asked again and again, also after a crash.
    pub(super) nudge: Option<fn(&str, &Value)>,
}

impl Story {
    /// The whole runbook.
    pub(super) fn runbook(&self, far: &str) -> String {
        let Self { id, text, .. } = self;
        let head = format!("mode = \"auto\"\nalerts = [\"{id}\"]\ntarget = \"{{{{ labels.target }}}}\"\n");
        super::ledger::with_ledger(&format!("{head}{text}")).replace("@far@", far)
    }
}

/// All of them.
pub(super) const STORIES: &[Story] = &[
    Story { id: "classes", text: CLASSES, ends: &["succeeded"], in_order: true, nudge: None },
    Story { id: "far", text: FAR, ends: &["succeeded"], in_order: true, nudge: None },
    Story { id: "failing", text: FAILING, ends: &["failed:step_failed"], in_order: true, nudge: None },
    Story {
        id: "proven",
        text: PROVEN,
        ends: &["succeeded"],
        in_order: true,
        nudge: Some(resolve_when_proving),
    },
    Story {
        id: "stopped",
        text: STOPPED,
        ends: &["stopped:stopped"],
        in_order: true,
        nudge: Some(stop_when_held),
    },
];

const CLASSES: &str = r#"
[[steps]]
id = "idem"
effect = "idempotent"
[steps.script]
text = '''
@line@
line begin; sleep 0.05; line end
'''
@ledger@
[[steps]]
id = "once"
effect = "at_most_once"
[steps.script]
text = '''
@line@
line begin; sleep 0.03
'''
@ledger@
[[steps]]
id = "nap"
wait = { for = "100ms" }
[[steps]]
id = "keyed"
effect = "keyed"
[steps.script]
text = '''
@line@
line begin; sleep 0.05; line end
'''
@ledger@
[[steps]]
id = "look"
effect = "read_only"
[steps.script]
text = '''
@line@
line begin; line end
'''
@ledger@
[[steps]]
id = "last"
effect = "at_most_once"
[steps.script]
text = '''
@line@
line begin
'''
@ledger@
"#;

const FAR: &str = r#"
[[steps]]
id = "get"
http = { url = "http://@far@/{{ execution.id }}/get" }
[[steps]]
id = "put"
http = { method = "PUT", url = "http://@far@/{{ execution.id }}/put", body = "x" }
[[steps]]
id = "is_there"
check = { file_exists = "@dir@/runbookd.toml", must = true }
[[steps]]
id = "is_true"
check = { expr = "steps.put.ok", must = true }
[[steps]]
id = "says_yes"
check = { command = { program = "true" }, must = true }
[[steps]]
id = "text"
instruct = { text = "Look at {{ labels.target }}." }
[[steps]]
id = "post"
http = { method = "POST", url = "http://@far@/{{ execution.id }}/post", json = { target = "{{ labels.target }}" } }
[[steps]]
id = "plain"
effect = "idempotent"
command = { program = "true", args = ["{{ labels.target }}"] }
"#;

const FAILING: &str = r#"
[[steps]]
id = "unlucky"
effect = "idempotent"
on_failure = "continue"
[steps.script]
text = '''
@line@
line begin; exit 3
'''
@ledger@
[[steps]]
id = "only_if_fine"
when = "steps.unlucky.ok"
effect = "idempotent"
command = { program = "true" }
[[steps]]
id = "slow"
effect = "idempotent"
timeout = "100ms"
on_failure = "stop"
[steps.script]
text = '''
@line@
line begin; exec sleep 20
'''
@ledger@
[[steps]]
id = "never"
effect = "at_most_once"
[steps.script]
text = '''
@line@
line begin
'''
@ledger@
"#;

const PROVEN: &str = r#"
[[steps]]
id = "act"
effect = "keyed"
[steps.script]
text = '''
@line@
line begin; line end
'''
@ledger@
[verify]
alert_resolved = true
within = "1m"
"#;

fn resolve_when_proving(address: &str, execution: &Value) {
    if execution["status"] == "verifying" {
        let target = execution["target"].as_str().unwrap();
        // It may die of it, and then the alert is told resolved once more.
        drop(http::post(address, WEBHOOK, &body("proven", "resolved", &[target])));
    }
}

const STOPPED: &str = r#"
[[steps]]
id = "first"
effect = "at_most_once"
[steps.script]
text = '''
@line@
line begin
'''
@ledger@
[[steps]]
id = "held"
effect = "idempotent"
[steps.script]
text = '''
@line@
line begin; exec sleep 20
'''
@ledger@
[[steps]]
id = "never"
effect = "idempotent"
[steps.script]
text = '''
@line@
line begin
'''
@ledger@
"#;

fn stop_when_held(address: &str, execution: &Value) {
    if execution["steps"][1]["status"] == "running" {
        let id = execution["id"].as_str().unwrap();
        drop(http::post(address, &format!("/api/executions/{id}/stop"), ""));
    }
}
