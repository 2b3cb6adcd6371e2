//! Every panel shows something: a daemon that has had all sorts of work, a real Prometheus that scraped it, and each
//! query of each dashboard.

use super::dashboards::{dashboards, list, panels, text};
use crate::support::alerts::{body, config, finished, fire, resolve, wait_for_status};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::eventually;
use crate::support::prometheus::Prometheus;
use crate::support::receiver::Receiver;
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// How an execution ends, and its runbook: the head is the same for all.
const RUNBOOKS: &[(&str, &str)] = &[
    ("works", "[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\nbreaker = \"named\"\n"),
    (
        "fails",
        "[[steps]]\nid = \"a\"\ncommand = { program = \"false\" }\neffect = \"idempotent\"\nretry = { attempts = 2, initial = \"1ms\" }\n",
    ),
    (
        "undoes",
        "[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\n[steps.undo]\ncommand = { program = \"true\" }\n\
         [[steps]]\nid = \"b\"\ncommand = { program = \"false\" }\n",
    ),
    (
        "breaks",
        "[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\n[steps.undo]\ncommand = { program = \"false\" }\n\
         [[steps]]\nid = \"b\"\ncommand = { program = \"false\" }\n",
    ),
    (
        "asks",
        "[[steps]]\nid = \"ask\"\napprove = { message = \"may I?\" }\n[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\n",
    ),
    ("looks", "[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\n"),
];

fn start(receiver: &Receiver) -> Daemon {
    let texts: Vec<(&str, String)> = RUNBOOKS
        .iter()
        .map(|(id, steps)| {
            let mode = if *id == "looks" { "shadow" } else { "auto" };
            let head =
                format!("mode = \"{mode}\"\nalerts = [\"{id}\"]\ntarget = \"{{{{ labels.target }}}}\"\n");
            (*id, head + steps)
        })
        .collect();
    let runbooks: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let url = receiver.url("/");
    let people = format!(
        "[automation]\nescalate_to = [\"hook\"]\n[notifiers.hook]\nkind = \"webhook\"\nurl = \"{url}\""
    );
    Daemon::start(&config(&people), &runbooks, &[])
}

/// A control that must be obeyed.
fn order(daemon: &Daemon, method: &str, path: &str, body: &str) {
    let answer = http::send(daemon.address(), method, path, body).unwrap();
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
}

/// What is decided about an alert that starts nothing.
fn denied(daemon: &Daemon, alertname: &str, target: &str) -> String {
    let answer = daemon.webhook(&body(alertname, "firing", &[target])).json();
    assert_eq!(answer["runbooks_triggered"], 0, "{answer:#}");
    answer["decisions"][0]["reason"].as_str().unwrap().to_owned()
}

/// A bit of everything that can happen.
fn use_it(daemon: &Daemon, receiver: &Receiver) {
    for (runbook, status) in [
        ("works", "succeeded"),
        ("fails", "failed"),
        ("undoes", "rolled_back"),
        ("breaks", "rollback_failed"),
    ] {
        // Each on a target of its own: one that is half undone is quarantined.
        let id = fire(daemon, runbook, runbook);
        assert_eq!(finished(daemon, &id)["status"], status, "{runbook}");
    }
    resolve(daemon, "works", "works");
    let asking = fire(daemon, "asks", "one");
    wait_for_status(daemon, &asking, "awaiting_approval");
    order(daemon, "POST", "/api/breakers/runbook:works:two/open", r#"{"reason": "to see it"}"#);
    assert_eq!(denied(daemon, "works", "two"), "breaker_open");
    let halt = r#"{"state": "halted", "scope": {"runbook": "works"}, "reason": "to see it"}"#;
    order(daemon, "PUT", "/api/automation", halt);
    assert_eq!(denied(daemon, "works", "three"), "halted");
    assert_eq!(denied(daemon, "looks", "one"), "shadow");
    assert_eq!(denied(daemon, "nobody", "one"), "no_runbook");
    assert_eq!(daemon.webhook("no JSON").status, 400);
    assert_eq!(daemon.try_get("/nowhere").unwrap().status, 404);
    assert_eq!(daemon.executions().len(), 5);
    // One that failed, one rolled back, one half rolled back, one that asks.
    receiver.wait_for(4);
}

/// A query with what Grafana puts in for its variables when all is chosen.
fn filled_in(query: &str) -> String {
    let filled =
        ["$job", "$instance", "$runbook"].iter().fold(query.to_owned(), |it, name| it.replace(name, ".+"));
    let filled = filled.replace("$__rate_interval", "2m");
    assert!(!filled.contains('$'), "an unknown variable: {filled}");
    filled
}

/// What is wrong with the answer to a query: it must have a series with a number.
fn complaint(prometheus: &Prometheus, query: &str) -> Option<String> {
    let series = prometheus.query(&filled_in(query));
    let number = |sample: &Value| sample["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    let shown = series.iter().any(|sample| number(sample).is_finite());
    (!shown).then(|| format!("{query}: {} series, none with a number", series.len()))
}

/// `label_values(SELECTION, LABEL)` as a query; Grafana asks for the label's values.
fn choice(definition: &str) -> String {
    let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (selection, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
    format!("count by ({label}) ({selection})")
}

#[test]
fn every_panel_choice_and_mark_shows_series_of_a_daemon_in_use() {
    let receiver = Receiver::start(&[]);
    let daemon = start(&receiver);
    let address = Prometheus::reserve();
    let prometheus = Prometheus::start(&address, daemon.address(), "127.0.0.1:9", "groups: []\n");
    // Rates need a scrape from before.
    eventually("the first scrape", LIMIT, || {
        (!prometheus.query("runbookd_build_info").is_empty()).then_some(())
    });
    use_it(&daemon, &receiver);
    eventually("a scrape after the last execution", LIMIT, || {
        let seen = [
            ("sum(runbookd_executions_total)", 4.0),
            ("runbookd_decisions_total{reason=\"no_runbook\"}", 1.0),
            ("sum(runbookd_escalations_total{outcome=\"sent\"})", 4.0),
        ];
        seen.iter()
            .all(|(query, least)| !prometheus.query(&format!("{query} >= {least}")).is_empty())
            .then_some(())
    });
    let mut complaints = Vec::new();
    let mut asked = 0;
    for (name, dashboard) in dashboards() {
        let choices = list(&dashboard, "/templating/list").iter().skip(1);
        let choices =
            choices.map(|variable| (text(variable, "/name"), choice(text(variable, "/definition"))));
        let targets = panels(&dashboard).flat_map(|panel| {
            list(panel, "/targets")
                .iter()
                .map(|target| (text(panel, "/title"), text(target, "/expr").to_owned()))
        });
        let marks = list(&dashboard, "/annotations/list").iter();
        let marks = marks.map(|mark| (text(mark, "/name"), text(mark, "/expr").to_owned()));
        for (title, query) in choices.chain(marks).chain(targets) {
            asked += 1;
            complaints.extend(complaint(&prometheus, &query).map(|it| format!("{name}: {title}: {it}")));
        }
    }
    assert!(complaints.is_empty(), "of {asked} queries {}: {complaints:#?}", complaints.len());
    assert!(asked > 70, "{asked}");
}
