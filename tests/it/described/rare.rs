//! What the story does not come by: executions that wait for people, time or others, and answers that are seldom.

use super::story::{operations, response};
use crate::support::alerts::{LIMIT, body, config};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Answer};
use crate::support::process::eventually;
use crate::support::schema::{Question, complaints};
use serde_json::{Value, json};
use std::fs;

/// Runbooks that stop at different places, each with the status it has there.
const WAITING: &[(&str, &str, &str)] = &[
    ("asks", "awaiting_approval", "[[steps]]\nid = \"a\"\napprove = { message = \"may I?\" }\n"),
    ("tells", "running", "[[steps]]\nid = \"i\"\ninstruct = { text = \"Press it.\", acknowledge = true }\n"),
    (
        "repeats",
        "running",
        "[[steps]]\nid = \"r\"\ncommand = { program = \"/bin/false\" }\n\
         retry = { attempts = 3, initial = \"10m\", max = \"10m\" }\n",
    ),
    (
        "lists",
        "running",
        "[[steps]]\nid = \"l\"\nfor_each = { items = \"{{ ['one', 'two'] }}\", concurrency = 1 }\n\
         command = { program = \"/bin/sleep\", args = [\"{{ 0 if item == 'one' else 600 }}\"] }\n",
    ),
    (
        "holds",
        "paused",
        "[[steps]]\nid = \"h\"\ncommand = { program = \"/bin/false\" }\non_failure = \"pause\"\n",
    ),
    (
        "proves",
        "verifying",
        "[[steps]]\nid = \"p\"\ncommand = { program = \"/bin/true\" }\n[verify]\nalert_resolved = true\nwithin = \"10m\"\n",
    ),
    ("calls", "running", "[[steps]]\nid = \"c\"\nrunbook = { id = \"waits\" }\n"),
    ("waits", "running", "[[steps]]\nid = \"w\"\nwait = { for = \"10m\" }\n"),
];

fn runbooks() -> Vec<(String, String)> {
    let head = |id: &str| {
        format!("mode = \"auto\"\nalerts = [\"Alert{id}\"]\ntarget = \"{{{{ labels.target }}}}\"\n")
    };
    WAITING.iter().map(|(id, _, steps)| ((*id).to_owned(), format!("{}{steps}", head(id)))).collect()
}

struct Judge {
    document: Value,
    question: Question,
}

impl Judge {
    fn of(daemon: &Daemon) -> Self {
        let document = daemon.json("/docs/openapi.json");
        let question = Question::of(&document);
        Self { document, question }
    }

    /// Holds an answer against what is told of its operation, status, headers and body.
    fn hold(&mut self, name: &str, operation: &str, answer: &Answer) {
        let (_, _, operation) = &operations(&self.document)[operation];
        let told = response(&self.document, operation, answer.status);
        assert!(told.is_object(), "{name} is answered {}, which is not documented", answer.status);
        for header in told["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(answer.header(&header.to_lowercase()).is_some(), "{name}: no {header}");
        }
        let schema = &told["content"]["application/json"]["schema"];
        self.question.value(name, schema, &answer.json());
    }
}

#[test]
fn what_waits_for_people_time_and_others_is_as_described() {
    let runbooks = runbooks();
    let runbooks: Vec<(&str, &str)> =
        runbooks.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let daemon = Daemon::start(&config(""), &runbooks, &[]);
    let mut judge = Judge::of(&daemon);
    for (id, status, _) in WAITING {
        let answer = daemon.webhook(&body(&format!("Alert{id}"), "firing", &[id]));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let execution = answer.json()["execution_ids"][0].as_str().unwrap().to_owned();
        let path = format!("/api/executions/{execution}");
        let reached = eventually(&format!("{id} {status}"), LIMIT, || {
            let answer = daemon.try_get(&path).unwrap();
            let shown = answer.json();
            let steps = shown["steps"].as_array().unwrap();
            let begun = steps.iter().any(|step| step["status"] != "pending");
            (shown["status"] == *status && begun).then_some(answer)
        });
        judge.hold(id, "showExecution", &reached);
    }
    for (path, operation) in [
        ("/api/executions", "listExecutions"),
        ("/api/escalations", "listEscalations"),
        ("/api/decisions", "listDecisions"),
        ("/api/sre/runbooks/integration-status", "showStatus"),
    ] {
        judge.hold(path, operation, &daemon.try_get(path).unwrap());
    }
    assert_eq!(complaints(&judge.question.ask()), "");
}

#[test]
fn what_is_broken_held_or_asked_too_often_is_as_described() {
    let freeze = "[[freezes]]\nname = \"for ever\"\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"2099-01-01T00:00:00Z\"\n";
    let config = config(&format!("{freeze}[limits.http]\nper_minute = 1000\nexecute_per_minute = 1\n"));
    let daemon = Daemon::start(
        &config,
        &[("good", "mode = \"auto\"\ntarget = \"a\"\n[[steps]]\nid = \"w\"\nwait = { for = \"1ms\" }\n")],
        &[],
    );
    let mut judge = Judge::of(&daemon);
    fs::write(daemon.dir().join("runbooks/bad.toml"), "mode = 7\n").unwrap();
    daemon.hang_up();
    let broken = eventually("that the bad file is seen", LIMIT, || {
        let answer = daemon.try_get("/api/runbooks/bad").unwrap();
        (answer.status == 200).then_some(answer)
    });
    judge.hold("a broken runbook", "showRunbook", &broken);
    let frozen = daemon.try_get("/api/sre/runbooks/integration-status").unwrap();
    assert_eq!(frozen.json()["freezes"][0]["name"], "for ever");
    judge.hold("a freeze, and a broken runbook in the status", "showStatus", &frozen);
    let put =
        |body: Value| http::send(daemon.address(), "PUT", "/api/automation", &body.to_string()).unwrap();
    let order = json!({ "state": "draining", "scope": { "matchers": ["team=\"a\""] }, "reason": "a test" });
    judge.hold("an order for matchers", "setAutomation", &put(order));
    fs::write(daemon.dir().join("data/halt"), "by hand").unwrap();
    let halted = eventually("that the file counts", LIMIT, || {
        let answer = put(json!({ "state": "running", "scope": { "runbook": "other" }, "reason": "a test" }));
        (answer.json()["state"] == "halted").then_some(answer)
    });
    judge.hold("the file", "setAutomation", &halted);
    let execute = || http::post(daemon.address(), "/api/runbooks/good/execute", "{}").unwrap();
    judge.hold("by hand while halted", "executeRunbook", &execute());
    let limited = execute();
    assert_eq!(limited.status, 429, "{}", limited.text());
    judge.hold("too often", "executeRunbook", &limited);
    assert_eq!(complaints(&judge.question.ask()), "");
}
