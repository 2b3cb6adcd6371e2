//! A daemon on which the things have happened that the examples speak of.

use crate::identity::{ENV, HOOK, config, token, users};
use crate::support::alerts::LIMIT;
use crate::support::daemon::Daemon;
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use crate::support::receiver::Receiver;
use serde_json::{Value, json};
use std::sync::LazyLock;

const RESTART: &str = r#"
title = "Restart a service that is down"
description = "Restarts the unit, once its probe says that it is really down."
mode = "auto"
alerts = ["ServiceDown"]
target = "{{ labels.instance }}"
[inputs.unit]
from = "labels.unit"
default = "web.service"
pattern = '[a-z.]+'
[[steps]]
id = "probe"
title = "Is it really down?"
command = { program = "/bin/sh", args = ["-c", "echo down"] }
effect = "read_only"
[[steps]]
id = "restart"
command = { program = "/bin/echo", args = ["restarted {{ inputs.unit }} on {{ labels.instance }}"] }
effect = "idempotent"
"#;
const CLEANUP: &str = r#"
title = "Make room on a disk"
mode = "auto"
target = "{{ labels.instance }}"
[[steps]]
id = "clean"
timeout = "10m"
command = { program = "/bin/sleep", args = ["600"] }
[[steps]]
id = "report"
wait = { for = "1ms" }
"#;
const FAILOVER: &str = r#"
title = "Fail over to the replica"
mode = "auto"
target = "{{ labels.instance }}"
[[steps]]
id = "promote"
command = { program = "/bin/sh", args = ["-c", "echo 'the replica refuses' >&2; exit 3"] }
[steps.undo]
command = { program = "/bin/false" }
"#;
const SCALE: &str = r#"
title = "Add an instance"
mode = "shadow"
alerts = ["HighLoad"]
target = "{{ labels.instance }}"
[[steps]]
id = "add"
command = { program = "/bin/echo", args = ["one more beside {{ labels.instance }}"] }
"#;
const BACKUP: &str = "title = \"Back up redis\"\nmode = \"auto\"\ntarget = \"redis\"\n\
    [[steps]]\nid = \"save\"\ncommand = { program = \"/bin/true\" }\n";

/// The keys of the vault in tests: 32 bytes in base64.
const VAULT_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// The ids that the examples use, which are other ones on every daemon.
const RESTARTED: &str = "restart_service_01KB4CT6Z0QN4R8Y1W3E5G7J9M";
const CLEANING: &str = "clean_disk_01KB4CV2A1B3D5F7H9K2M4P6R8";
const FAILED_OVER: &str = "fail_over_01KB4CV9X8V6T4R2P0N7M5K3J1";
const DECISION: &str = "01KB4CT6YZ7W5V3T1S9R8Q6P4N";
const ESCALATION: &str = "01KB4CVC3E5G7J9M1P3R5T7V9X";
const KEY: &str = "01KB4D0K2M4P6R8T0W2Y4A6C8E";

/// The document, as a daemon on which nothing has happened serves it.
pub(super) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| Daemon::start(&config(""), &[], ENV).json("/docs/openapi.json"));

pub(super) struct Site {
    pub(super) daemon: Daemon,
    pub(super) admin: String,
    /// An id of the examples, and the one it is here.
    pub(super) ids: Vec<(&'static str, String)>,
    _receiver: Receiver,
    _dir: tempfile::TempDir,
}

impl Site {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = users(dir.path(), &[("erin", "\"operator\"")]);
        let receiver = Receiver::start(&[]);
        let more = format!(
            "users_file = \"{file}\"\nsignup = true\ndev_login = true\n[vault]\nkey = {{ env = \"VAULT\" }}\n\
             [automation]\nescalate_to = [\"oncall\"]\n[automation.guard]\nmax_concurrent = 5\n\
             [notifiers.oncall]\nkind = \"webhook\"\nurl = \"{}\"\n\
             [[mappings]]\nname = \"errors\"\nmatchers = ['alertname=\"HighErrorRate\"', 'severity=~\"critical|page\"']\n\
             runbook = \"restart_service\"\n\
             [[schedules]]\nname = \"redis backup\"\ncron = \"0 2 * * *\"\nzone = \"UTC\"\nrunbook = \"back_up_redis\"\n",
            receiver.url("/page")
        );
        let runbooks = [
            ("restart_service", RESTART),
            ("clean_disk", CLEANUP),
            ("fail_over", FAILOVER),
            ("scale_up", SCALE),
            ("back_up_redis", BACKUP),
        ];
        let env = [ENV, &[("VAULT", VAULT_KEY)]].concat();
        let daemon = Daemon::start(&config(&more), &runbooks, &env);
        let admin = token("dana", &["admin", "operator"], &[]);
        let mut site = Self { daemon, admin, ids: Vec::new(), _receiver: receiver, _dir: dir };
        site.happen();
        site
    }

    /// What the examples look back on.
    fn happen(&mut self) {
        let alert = |name: &str, instance: &str| json!({ "alerts": [{ "status": "firing", "labels": { "alertname": name, "instance": instance } }] });
        let restarted = self.hook(&alert("ServiceDown", "web-1"));
        let restarted = restarted["execution_ids"][0].as_str().unwrap().to_owned();
        self.until(&restarted, "succeeded");
        let decided = self.hook(&alert("HighLoad", "web-2"));
        assert_eq!(decided["decisions"][0]["reason"], "shadow", "{decided}");
        let decision = self.get("/api/decisions?reason=matched")["decisions"][0]["id"].clone();
        let begin = |runbook: &str, instance: &str, reason: &str| {
            let body = json!({ "labels": { "instance": instance }, "reason": reason });
            let answer = self.send("POST", &format!("/api/runbooks/{runbook}/execute"), &[], Some(&body));
            answer.json()["execution_id"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
        };
        let failed = begin("fail_over", "db-1", "the primary is gone");
        self.until(&failed, "rollback_failed");
        let cleaning = begin("clean_disk", "files-1", "it is full");
        self.until(&cleaning, "running");
        let escalation = eventually("that people were told", LIMIT, || {
            let all = self.get("/api/escalations")["escalations"].clone();
            (all[0]["deliveries"][0]["state"] == "sent").then(|| all[0]["id"].as_str().unwrap().to_owned())
        });
        self.ids = vec![
            (RESTARTED, restarted),
            (CLEANING, cleaning),
            (FAILED_OVER, failed),
            (DECISION, decision.as_str().unwrap().to_owned()),
            (ESCALATION, escalation),
        ];
    }

    /// The key that an example made, by which later ones know it.
    pub(super) fn made_key(&mut self, id: &str) {
        self.ids.push((KEY, id.to_owned()));
    }

    fn until(&self, id: &str, status: &str) {
        eventually(&format!("{id} {status}"), LIMIT, || {
            (self.get(&format!("/api/executions/{id}"))["status"] == status).then_some(())
        });
    }

    fn hook(&self, body: &Value) -> Value {
        let bearer = format!("Bearer {HOOK}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let body = body.to_string();
        let path = "/api/sre/alerts/webhook";
        http::request(self.daemon.address(), "POST", path, &headers, body.as_bytes()).unwrap().json()
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, &[], None);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// A request of the administrator.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let bearer = format!("Bearer {}", self.admin);
        self.send_as(&[&[("Authorization", bearer.as_str())], more].concat(), method, path, body)
    }

    /// A request with these header fields.
    pub(super) fn send_as(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let headers =
            [headers, if body.is_some() { &[("Content-Type", "application/json")] } else { &[] }].concat();
        let body = body.map(Value::to_string).unwrap_or_default();
        http::request(self.daemon.address(), method, path, &headers, body.as_bytes()).unwrap()
    }
}
