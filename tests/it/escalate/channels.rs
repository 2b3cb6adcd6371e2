//! Every kind of channel that is reached by HTTP: told in spite of an error and of silence, by the second one where the
//! first one goes on like that, left alone where it asks for it, and taken back where its answer was lost.

use super::{BAD, states, told};
use crate::support::alerts::{config, finished, fire, resolve};
use crate::support::daemon::Daemon;
use crate::support::process::eventually;
use crate::support::receiver::{Receiver, Reply};
use serde_json::Value;
use std::time::Duration;

/// A config that tells `names`, with these `[notifiers.…]` and `[policies.…]`.
fn to(names: &str, more: &str) -> String {
    config(&format!("[automation]\nescalate_to = [{names}]\n{more}"))
}

fn start(config: &str, runbooks: &[(&str, &str)], slack: &str) -> Daemon {
    Daemon::start(config, runbooks, &[("SLACK", slack), ("KEY", "routing-key-1")])
}

fn page(url: &str) -> String {
    format!("[notifiers.page]\nkind = \"pagerduty\"\nrouting_key = {{ env = \"KEY\" }}\nurl = \"{url}\"\n")
}

fn hook(name: &str, url: &str) -> String {
    format!("[notifiers.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\n")
}

#[test]
fn each_kind_is_told_in_spite_of_an_error_and_of_silence() {
    let receivers: [Receiver; 3] =
        std::array::from_fn(|_| Receiver::start(&[Reply::Status(500), Reply::Hang]));
    let [slack, pager, manager] = &receivers;
    let more = format!(
        "[notifiers.slack]\nkind = \"slack\"\nurl = {{ env = \"SLACK\" }}\n{}[notifiers.am]\nkind = \"alertmanager\"\nurl = \"{}\"\n",
        page(&pager.url("/v2/enqueue")),
        manager.url("/am"),
    );
    let config = to("\"slack\", \"page\", \"am\"", &more);
    let daemon = start(&config, &[("bad", BAD)], &slack.url("/services/x"));
    let id = fire(&daemon, "Down", "db-1");
    let lines =
        told(&daemon, &id, |lines| lines.len() == 3 && lines.iter().all(|line| line["state"] == "sent"));
    assert_eq!(states(&lines), [("slack", "sent"), ("page", "sent"), ("am", "sent")]);
    for (line, receiver) in lines.iter().zip(&receivers) {
        assert_eq!(line["attempts"], 3, "{line}");
        let all: Vec<Value> = receiver.told().iter().map(|told| told.json()).collect();
        assert_eq!(all.len(), 3, "{line}");
    }
    let keys: Vec<_> = pager.told().iter().map(|told| told.json()["dedup_key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "one incident, however often it was tried: {keys:?}");
    assert_eq!(manager.told()[2].path, "/am/api/v2/alerts");
    assert_eq!(manager.told()[0].json()[0]["labels"], manager.told()[2].json()[0]["labels"]);
    let text = slack.told()[2].json().to_string();
    for part in [
        "|Open the execution>",
        "http://alertmanager.example/#/alerts?filter=%7Balertname",
        "|Open the graph>",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn who_goes_on_failing_is_stood_in_for_and_so_is_who_asks_for_rest() {
    let (first, second) = (Receiver::start(&[]), Receiver::start(&[]));
    first.then(Reply::Status(503));
    let more = format!(
        "{}{}[policies.team]\nlevels = [{{ to = [\"a\", \"b\"] }}]\n",
        hook("a", &first.url("/")),
        hook("b", &second.url("/"))
    );
    let daemon = start(&to("\"team\"", &more), &[("bad", BAD)], "http://127.0.0.1:1/");
    let id = fire(&daemon, "Down", "db-1");
    let lines = told(&daemon, &id, |lines| states(lines).contains(&("b", "sent")));
    assert_eq!(states(&lines), [("a", "cancelled"), ("b", "sent")]);
    assert_eq!(first.told().len(), 3, "three tries, then the second channel");
    first.then(Reply::Later(3600));
    let id = fire(&daemon, "Down", "db-2");
    told(&daemon, &id, |lines| states(lines) == [("a", "cancelled"), ("b", "sent")]);
    assert_eq!(first.told().len(), 4, "it asked to be left alone for an hour");
    let id = fire(&daemon, "Down", "db-3");
    told(&daemon, &id, |lines| states(lines) == [("a", "cancelled"), ("b", "sent")]);
    assert_eq!(first.told().len(), 4, "that counts for every message");
}

#[test]
fn an_incident_whose_answer_was_lost_is_ended_too_and_so_is_each_levels() {
    let receiver = Receiver::start(&[Reply::Hang]);
    let levels = "[policies.team]\nlevels = [{ to = [\"page\"] }, { to = [\"page\"], after = \"2s\" }]\n";
    let more = page(&receiver.url("/")) + levels;
    let daemon = start(&to("\"team\"", &more), &[("bad", BAD)], "http://127.0.0.1:1/");
    let id = fire(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("page", "sent"), ("page", "sent")]);
    let all = receiver.told();
    let keys = |action: &str| -> Vec<String> {
        let events = receiver.told();
        let events = events.iter().map(|told| told.json()).filter(|event| event["event_action"] == action);
        let mut keys: Vec<String> =
            events.map(|event| event["dedup_key"].as_str().unwrap().to_owned()).collect();
        keys.sort();
        keys.dedup();
        keys
    };
    assert_eq!(all.len(), 3, "the first level twice, the second once");
    assert_eq!(keys("trigger").len(), 2, "a later level is an incident of its own");
    resolve(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("page", "resolved"), ("page", "resolved")]);
    assert_eq!(keys("resolve"), keys("trigger"));
    // Taken by the far side, which never said so, and not needed any more.
    receiver.then(Reply::Hang);
    let id = fire(&daemon, "Down", "db-2");
    eventually("the message on its way", Duration::from_secs(30), || {
        let mine = |told: &&crate::support::receiver::Told| told.json()["payload"]["source"] == "db-2";
        receiver.told().iter().any(|told| mine(&told)).then_some(())
    });
    receiver.then(Reply::Status(202));
    resolve(&daemon, "Down", "db-2");
    told(&daemon, &id, |lines| lines[0]["state"] == "resolved");
    assert_eq!(keys("resolve"), keys("trigger"));
}

#[test]
fn a_message_that_comes_out_blank_is_refused_with_a_sentence() {
    let receiver = Receiver::start(&[]);
    let say = r#"
mode = "auto"
alerts = ["Say"]
target = "{{ labels.target }}"
[[steps]]
id = "say"
notify = { to = ["a"], message = "{{ annotations.nothing | default('') }}" }
[escalate]
to = []
"#;
    let daemon = start(&to("\"a\"", &hook("a", &receiver.url("/"))), &[("say", say)], "http://127.0.0.1:1/");
    let execution = finished(&daemon, &fire(&daemon, "Say", "x"));
    let error = execution["steps"][0]["attempts"][0]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("the message is blank"), "{execution:#}");
    assert!(receiver.told().is_empty());
}

#[test]
fn a_notifier_is_tested_before_the_night() {
    let receiver = Receiver::start(&[Reply::Status(200), Reply::Status(403)]);
    let daemon = start(&to("\"a\"", &hook("a", &receiver.url("/"))), &[("bad", BAD)], "http://127.0.0.1:1/");
    let test = |name: &str| super::cli(&daemon, &["escalations", "test", name, "--reason", "new key"]);
    let good = test("a");
    assert_eq!(String::from_utf8(good.stdout).unwrap(), "a took the test message\n");
    assert_eq!(good.status.code(), Some(0));
    let said = receiver.told()[0].json();
    let subject = said["subject"].as_str().unwrap();
    assert!(subject.starts_with("This is a test of a, asked for by"), "{said}");
    assert_eq!(said["link"], Value::Null, "it is about nothing");
    let refused = test("a");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stdout).unwrap().contains("it answered 403"), "what the channel said");
    assert_eq!(test("nobody").status.code(), Some(1));
    assert_eq!(receiver.told().len(), 2);
    let log = daemon.json("/api/audit?action=notifier.test");
    assert_eq!((&log["audit"][0]["target"], &log["audit"][0]["reason"]), (&"a".into(), &"new key".into()));
    assert_eq!(log["audit"].as_array().unwrap().len(), 2);
}
