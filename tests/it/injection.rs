//! What a stranger writes into an alert stays data, on its way to real programs: Prometheus, an HTTP server, people.
//!
//! May import: `support`. Must never: weaken a payload to make a test pass.

use crate::support::alerts::{LIMIT, config, finished};
use crate::support::daemon::Daemon;
use crate::support::exporter::Exporter;
use crate::support::process::eventually;
use crate::support::prometheus::Prometheus;
use crate::support::receiver::Receiver;
use serde_json::{Value, json};

fn fire(daemon: &Daemon, alertname: &str, number: usize, value: &str) -> Value {
    let labels = json!({ "alertname": alertname, "number": number.to_string(), "value": value });
    let body =
        json!({ "alerts": [{ "status": "firing", "labels": labels, "startsAt": "2026-01-01T00:00:00Z" }] });
    let answer = daemon.webhook(&body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    finished(daemon, answer.json()["execution_ids"][0].as_str().unwrap())
}

#[test]
fn t08_no_value_ends_the_string_it_stands_in() {
    let exporter = Exporter::start();
    let address = Prometheus::reserve();
    let _prometheus = Prometheus::start(&address, &exporter.address(), "127.0.0.1:1", "groups: []\n");
    let runbook = "mode = \"auto\"\nalerts = [\"Ask\"]\n[[steps]]\nid = \"ask\"\n\
                   promql = { query = \"up{instance={{ labels.value | promql }}}\", expect = \"absent\" }\n";
    let text = config(&format!("[prometheus]\nurl = \"http://{address}\"\n"));
    let daemon = Daemon::start(&text, &[("ask", runbook)], &[]);
    // What is there is found, so that finding nothing says something.
    let mut number = 0;
    eventually("the target in Prometheus", LIMIT, || {
        number += 1;
        let execution = fire(&daemon, "Ask", number, &exporter.address());
        (execution["status"] == "failed").then_some(())
    });
    for payload in [
        "\"} or vector(1) #",
        "\"} or up{a=\"",
        "x\" or up or up{a=\"",
        "\\\"} or vector(1) #",
        "\\",
        "x\\\\\"} or vector(1) #",
        "'} or vector(1) #",
        "`} or vector(1) #",
        "\n} or vector(1) #",
        "\u{0}\"} or vector(1)",
        "\u{85}\u{2028}\"} or vector(1) #",
        "{{ labels.alertname }}\"} or vector(1) #",
        "$__all\"} or vector(1)",
    ] {
        number += 1;
        let execution = fire(&daemon, "Ask", number, payload);
        assert_eq!(execution["status"], "succeeded", "{payload:?}: {execution:#}");
    }
}

#[test]
fn t09_what_arrives_is_the_request_the_runbook_wrote() {
    let receiver = Receiver::start(&[]);
    let runbook = format!(
        "mode = \"auto\"\nalerts = [\"Put\"]\ntarget = \"{{{{ labels.number }}}}\"\n[[steps]]\nid = \"put\"\n[steps.http]\n\
         method = \"PUT\"\nurl = \"{}/{{{{ labels.value }}}}/end?of={{{{ labels.value | urlencode }}}}\"\n\
         headers = {{ \"X-Value\" = \"{{{{ labels.value | urlencode }}}}\" }}\n",
        receiver.url("/v1")
    );
    let daemon = Daemon::start(&config(""), &[("put", &runbook)], &[]);
    let fine = fire(&daemon, "Put", 0, "db-1.example:9100");
    assert_eq!(fine["status"], "succeeded", "{fine:#}");
    let told = receiver.told();
    assert_eq!(told[0].path, "/v1/db-1.example:9100/end?of=db-1.example%3A9100");
    assert_eq!(told[0].header("x-value"), "db-1.example%3A9100");
    for (at, payload) in
        ["..", ".", "../../admin", "a?admin=1", "a#b", "a\\b", "a\r\nX-Evil: 1", "a b", "%2e%2e", "%2E."]
            .iter()
            .enumerate()
    {
        let execution = fire(&daemon, "Put", at + 1, payload);
        assert_eq!(execution["status"], "failed", "{payload:?}: {execution:#}");
    }
    assert_eq!(receiver.told().len(), 1, "nothing of it was sent");
}
