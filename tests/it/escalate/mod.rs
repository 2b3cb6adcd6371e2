//! People are told what automation did not settle: by every kind of channel, in spite of channels that fail and of a
//! kill at the worst moment, once, and no longer than needed.

mod channels;
mod denials;
mod mail;
mod stops;

use crate::support::alertmanager::Alertmanager;
use crate::support::alerts::{LIMIT, body, config, finished, fire, resolve, wait_for_status, wait_for_step};
use crate::support::daemon::{BINARY, Daemon};
use crate::support::http;
use crate::support::process::{Process, eventually, free_address, program};
use crate::support::receiver::{Receiver, Reply};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Output};
use std::time::Duration;

const BAD: &str = r#"
title = "Restart it"
mode = "auto"
alerts = ["Down"]
target = "{{ labels.target }}"
[[steps]]
id = "restart"
command = { program = "false" }
"#;

/// A config in which the notifier `hook` is the webhook at `url`, and everybody is told by it.
fn hook(url: &str, more: &str) -> String {
    config(&format!(
        "[automation]\nescalate_to = [\"hook\"]\n[notifiers.hook]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ env = \"HOOK_SECRET\" }}\n{more}"
    ))
}

fn start(config: &str, runbooks: &[(&str, &str)]) -> Daemon {
    Daemon::start(config, runbooks, &[("HOOK_SECRET", "a shared secret"), ("KEY", "routing-key-1")])
}

/// The lines of an execution's `escalations`, once `fits` holds for them.
fn told(daemon: &Daemon, id: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually(&format!("what people were told of {id}"), Duration::from_secs(60), || {
        let lines = daemon.execution(id)["escalations"].as_array().unwrap().clone();
        fits(&lines).then_some(lines)
    })
}

fn states(lines: &[Value]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|line| (line["notifier"].as_str().unwrap_or(""), line["state"].as_str().unwrap()))
        .collect()
}

fn cli(daemon: &Daemon, args: &[&str]) -> Output {
    Command::new(BINARY).args(args).args(["--url", &format!("http://{}", daemon.address())]).output().unwrap()
}

#[test]
fn a_failed_execution_is_told_in_spite_of_errors_and_silence_and_signed() {
    let receiver = Receiver::start(&[Reply::Status(500), Reply::Hang]);
    let daemon = start(&hook(&receiver.url("/in?x=1"), ""), &[("bad", BAD)]);
    let id = fire(&daemon, "Down", "db-1");
    let lines = told(&daemon, &id, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!((&lines[0]["attempts"], &lines[0]["cause"]), (&json!(3), &json!("finished")), "{lines:?}");
    let all = receiver.told();
    assert_eq!(all.len(), 3);
    let last = &all[2];
    let said = last.json();
    assert_eq!(last.path, "/in?x=1");
    for one in &all {
        assert_eq!(
            one.header("idempotency-key"),
            last.header("idempotency-key"),
            "the same key in every try"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a shared secret").unwrap();
        mac.update(&one.body);
        let sum: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(one.header("x-runbookd-signature"), format!("sha256={sum}"));
        assert_eq!(one.header("x-runbookd-timestamp"), one.json()["timestamp"].to_string());
    }
    assert_eq!(said["subject"], "bad: failed (step_failed) on db-1");
    let text = said["body"].as_str().unwrap();
    for part in ["Restart it", "Alert: Down", "a step failed", "- restart: failed (exit 1)"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(said["link"], format!("http://{}/api/executions/{id}", daemon.address()));
    assert_eq!(said["source_link"], "http://prometheus.example/graph");
    assert_eq!(
        said["alert_link"],
        "http://alertmanager.example/#/alerts?filter=%7Balertname%3D%22Down%22%2Ctarget%3D%22db-1%22%7D"
    );
    assert_eq!(daemon.metric(r#"runbookd_escalations_total{notifier="hook",outcome="sent"}"#), 1.0);
    assert_eq!(daemon.metric(r#"runbookd_escalations_total{notifier="hook",outcome="retried"}"#), 2.0);
    let log = daemon.logged("people could not be told", 1);
    assert!(!log.contains("a shared secret"));
}

#[test]
fn t41_a_refusal_goes_to_the_second_channel_whose_markup_is_only_ours() {
    let (first, second) = (Receiver::start(&[]), Receiver::start(&[]));
    first.then(Reply::Status(404));
    let config = config(&format!(
        "[automation]\nescalate_to = [\"team\"]\n[notifiers.a]\nkind = \"webhook\"\nurl = \"{}\"\n[notifiers.b]\nkind = \"slack\"\nurl = {{ env = \"SLACK\" }}\n{}",
        first.url("/"),
        "[policies.team]\nlevels = [{ to = [\"a\", \"b\"] }]\n[policies.late]\nlevels = [{ to = [\"a\"] }, { to = [\"b\"], after = \"7d\" }]\n"
    ));
    let late = BAD.replace("\"Down\"", "\"Late\"") + "[escalate]\nto = [\"late\"]\n";
    let slack = second.url("/services/T0/canary-in-path");
    let daemon = Daemon::start(&config, &[("bad", BAD), ("late", &late)], &[("SLACK", &slack)]);
    let id = fire(&daemon, "Down", "<!everyone> _x_ <http://evil|ok>");
    let lines = told(&daemon, &id, |lines| lines.iter().any(|line| line["state"] == "sent"));
    assert_eq!(states(&lines), [("a", "failed"), ("b", "sent")]);
    assert_eq!(lines[0]["error"], "it answered 404: ok");
    let slack = second.told()[0].json();
    assert_eq!(slack["text"], "bad: failed (step_failed) on &lt;!everyone&gt; _x_ &lt;http://evil|ok&gt;");
    let kinds: Vec<_> =
        slack["blocks"].as_array().unwrap().iter().map(|b| b["text"]["type"].clone()).collect();
    assert_eq!(
        kinds,
        ["plain_text", "plain_text", "mrkdwn", "mrkdwn", "mrkdwn"],
        "only our own links are markup"
    );
    for place in 2..5 {
        let link = slack["blocks"][place]["text"]["text"].as_str().unwrap();
        assert!(link.matches(['<', '>']).count() == 2 && !link.contains("http://evil"), "{slack}");
    }
    // Nobody of the first level can be told, so the second does not wait its week.
    let id = fire(&daemon, "Late", "db-1");
    let lines = told(&daemon, &id, |lines| lines.iter().any(|line| line["state"] == "sent"));
    assert_eq!(states(&lines), [("a", "failed"), ("b", "sent")]);
    assert_eq!(lines[1]["level"], 2);
    assert!(!daemon.log().contains("canary-in-path"), "the address is a secret");
}

#[test]
fn a_kill_between_commit_and_delivery_loses_nothing_and_keeps_the_key() {
    let receiver = Receiver::start(&[Reply::Hang]);
    let mut daemon = start(&hook(&receiver.url("/"), ""), &[("bad", BAD)]);
    let id = fire(&daemon, "Down", "db-1");
    receiver.wait_for(1);
    assert_eq!(states(&told(&daemon, &id, |lines| !lines.is_empty())), [("hook", "waiting")]);
    daemon.kill();
    daemon.start_again();
    let all = receiver.wait_for(2);
    let lines = told(&daemon, &id, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!(all[0].header("idempotency-key"), all[1].header("idempotency-key"));
    assert_eq!(all[0].json()["id"], lines[0]["id"]);
    // Told is told: no later life says it again.
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.start_again();
    let other = fire(&daemon, "Down", "db-2");
    told(&daemon, &other, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!(receiver.told().len(), 3);
}

fn pager(url: &str) -> String {
    config(&format!(
        "[automation]\nescalate_to = [\"team\"]\n[notifiers.page]\nkind = \"pagerduty\"\nrouting_key = {{ env = \"KEY\" }}\nurl = \"{url}\"\n{}",
        "[policies.team]\nlevels = [{ to = [\"page\"] }, { to = [\"page\"], after = \"1h\" }]\n"
    ))
}

#[test]
fn taking_it_cancels_what_is_to_come_and_ends_the_incident() {
    let receiver = Receiver::start(&[Reply::Status(202), Reply::Status(503)]);
    let daemon = start(&pager(&receiver.url("/v2/enqueue")), &[("bad", BAD)]);
    let id = fire(&daemon, "Down", "db-1");
    let lines = told(&daemon, &id, |lines| lines.first().is_some_and(|line| line["state"] == "sent"));
    assert_eq!(states(&lines), [("page", "sent"), ("page", "waiting")]);
    let trigger = receiver.told()[0].json();
    assert_eq!(
        (&trigger["event_action"], &trigger["routing_key"]),
        (&json!("trigger"), &json!("routing-key-1"))
    );
    assert_eq!(trigger["payload"]["summary"], "bad: failed (step_failed) on db-1");
    assert_eq!(trigger["payload"]["source"], "db-1");

    let taken = cli(&daemon, &["executions", "acknowledge", &id, "--reason", "I am on it"]);
    assert_eq!(taken.status.code(), Some(0), "{}", String::from_utf8_lossy(&taken.stderr));
    // The first try to end it is answered 503.
    let lines = told(&daemon, &id, |lines| lines.first().is_some_and(|line| line["state"] == "resolved"));
    assert_eq!(states(&lines), [("page", "resolved"), ("page", "cancelled")]);
    let ends = receiver.told()[2].json();
    assert_eq!((&ends["event_action"], &ends["dedup_key"]), (&json!("resolve"), &trigger["dedup_key"]));

    let listed = daemon.json("/api/escalations?state=acknowledged&runbook=bad");
    let one = &listed["escalations"][0];
    assert_eq!((&one["closed"]["reason"], &one["execution_id"]), (&json!("I am on it"), &json!(id)));
    assert_eq!(daemon.json("/api/audit?action=escalation.acknowledge")["audit"][0]["target"], json!(id));
    let shown = cli(&daemon, &["escalations", "list"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("acknowledged") && shown.contains("page res"), "{shown}");
    // Once more is no error; of what never was, there is nothing to take.
    assert_eq!(cli(&daemon, &["executions", "acknowledge", &id, "--reason", "x"]).status.code(), Some(0));
    let escalation = one["id"].as_str().unwrap();
    let again = cli(&daemon, &["escalations", "acknowledge", escalation, "--reason", "x"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), format!("{escalation} acknowledged\n"));
    let path = "/api/escalations/01J9ZQ5K3M8N7P6R5S4T3V2W1X/acknowledge";
    assert_eq!(http::post(daemon.address(), path, "{}").unwrap().status, 404);
    assert_eq!(http::get(daemon.address(), "/api/escalations?state=ajar").unwrap().status, 422);
}

#[test]
fn an_alert_that_resolves_ends_the_incident() {
    let receiver = Receiver::start(&[]);
    let daemon = start(&pager(&receiver.url("/")), &[("bad", BAD)]);
    let id = fire(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| lines.first().is_some_and(|line| line["state"] == "sent"));
    resolve(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("page", "resolved"), ("page", "cancelled")]);
    assert_eq!(
        daemon.json("/api/escalations?state=resolved")["escalations"][0]["closed"]["reason"],
        "the alert resolved"
    );
}

#[test]
fn what_a_person_or_the_runbook_asked_for_is_told_to_nobody() {
    let receiver = Receiver::start(&[]);
    let slow = BAD
        .replace("\"Down\"", "\"Slow\"")
        .replace("command = { program = \"false\" }", "wait = { for = \"60s\" }");
    let silent = BAD.replace("\"Down\"", "\"Silent\"") + "[escalate]\nto = []\n";
    let daemon = start(&hook(&receiver.url("/"), ""), &[("slow", &slow), ("silent", &silent), ("bad", BAD)]);
    let stopped = fire(&daemon, "Slow", "a");
    wait_for_step(&daemon, &stopped, 0, "waiting");
    let answer =
        http::post(daemon.address(), &format!("/api/executions/{stopped}/stop"), r#"{"reason":"mine"}"#);
    assert_eq!(answer.unwrap().status, 202);
    let silent = fire(&daemon, "Silent", "b");
    assert_eq!(finished(&daemon, &stopped)["status"], "stopped");
    assert_eq!(finished(&daemon, &silent)["status"], "failed");
    // Told of this one, there was nothing to tell of those.
    let loud = fire(&daemon, "Down", "c");
    told(&daemon, &loud, |lines| states(lines) == [("hook", "sent")]);
    assert_eq!(receiver.told().len(), 1);
    assert_eq!(daemon.json("/api/escalations")["escalations"].as_array().unwrap().len(), 1);
    let conflict = cli(&daemon, &["executions", "acknowledge", &silent, "--reason", "x"]);
    assert_eq!(conflict.status.code(), Some(1));
}

#[test]
fn a_storm_of_denials_is_one_message_with_totals() {
    let receiver = Receiver::start(&[]);
    let daemon = start(&hook(&receiver.url("/"), ""), &[("bad", BAD)]);
    for target in ["t0", "t1", "t2"] {
        let id = fire(&daemon, "Down", target);
        told(&daemon, &id, |lines| states(lines) == [("hook", "sent")]);
        let path = format!("/api/breakers/runbook:bad:{target}/open");
        assert_eq!(http::post(daemon.address(), &path, "{}").unwrap().status, 200);
        resolve(&daemon, "Down", target);
    }
    receiver.wait_for(3);
    let again =
        body("Down", "firing", &["t0", "t1", "t2"]).replace("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    for _ in 0..3 {
        assert_eq!(daemon.webhook(&again).status, 200);
    }
    let all = receiver.wait_for(4);
    assert_eq!(all[3].json()["subject"], "bad: not run 3 times on 3 targets (breaker_open)");
    let text = all[3].json()["body"].as_str().unwrap().to_owned();
    assert!(text.contains("Targets: t0, t1, t2"), "{text}");
    let denied = daemon.json("/api/escalations")["escalations"][0].clone();
    assert_eq!((&denied["cause"], &denied["totals"]["count"]), (&json!("denied"), &json!(3)));
}

#[test]
fn consent_and_instructions_are_asked_for_and_the_asking_ends_with_the_answer() {
    let receiver = Receiver::start(&[]);
    let ask = r#"
mode = "auto"
alerts = ["Ask"]
target = "{{ labels.target }}"
[[steps]]
id = "ask"
approve = { message = "May I?" }
[[steps]]
id = "look"
instruct = { text = "Look at the disk.", acknowledge = true }
[[steps]]
id = "say"
notify = { to = ["page"], message = "done with {{ labels.target }}" }
"#;
    let daemon = start(&pager(&receiver.url("/")), &[("ask", ask)]);
    let id = fire(&daemon, "Ask", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("page", "sent"), ("page", "waiting")]);
    assert_eq!(receiver.told()[0].json()["payload"]["severity"], "warning");
    let control = |action: &str| {
        let body = json!({ "action": action, "reason": "seen" }).to_string();
        http::post(daemon.address(), &format!("/api/executions/{id}/control"), &body).unwrap().status
    };
    assert_eq!(control("approve"), 202);
    let lines = told(&daemon, &id, |lines| {
        lines.len() == 4 && lines[2]["state"] == "sent" && lines[0]["state"] == "resolved"
    });
    assert_eq!((&lines[0]["cause"], &lines[2]["cause"]), (&json!("approval"), &json!("instruction")));
    assert_eq!(control("acknowledge"), 202);
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    told(&daemon, &id, |lines| lines[2]["state"] == "resolved");
    let all: Vec<Value> = receiver.told().iter().map(|told| told.json()).collect();
    let note = all.iter().find(|event| event["payload"]["summary"] == "done with db-1").unwrap();
    assert!(note["dedup_key"].as_str().unwrap().starts_with(&format!("{id}.say")), "{note}");
}

#[test]
fn a_notify_step_fails_with_what_the_channel_said_and_is_tried_again() {
    let receiver = Receiver::start(&[Reply::Status(500), Reply::Status(200), Reply::Status(403)]);
    let say = r#"
mode = "auto"
alerts = ["Say"]
target = "{{ labels.target }}"
[[steps]]
id = "first"
notify = { to = ["hook"], message = "one" }
retry = { attempts = 2, initial = "10ms" }
[[steps]]
id = "second"
notify = { to = ["hook"], message = "two" }
[escalate]
to = []
"#;
    let daemon = start(&hook(&receiver.url("/"), ""), &[("say", say)]);
    let execution = finished(&daemon, &fire(&daemon, "Say", "x"));
    assert_eq!(execution["status"], "failed", "{execution:#}");
    let steps = execution["steps"].as_array().unwrap();
    assert_eq!(steps[0]["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(steps[0]["effect"], "keyed");
    assert_eq!(steps[1]["attempts"][0]["error"], "hook was not told (hook: it answered 403: ok)");
    let all = receiver.told();
    assert_eq!(all[0].header("idempotency-key"), all[1].header("idempotency-key"));
    assert_ne!(all[1].header("idempotency-key"), all[2].header("idempotency-key"));
}

#[test]
fn mail_arrives_at_a_real_server_without_a_header_more_than_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (address, mails) = (free_address(), dir.path().join("mails"));
    let mut command = Command::new(program("aiosmtpd", "python3-aiosmtpd"));
    command.args(["-n", "-l", &address, "-c", "aiosmtpd.handlers.Mailbox"]).arg(&mails);
    // Root would become nobody, who cannot write there.
    let mut server = Process::start("smtp", command, dir.path());
    server.wait_until(LIMIT, || {
        let stream = std::net::TcpStream::connect(&address);
        stream.is_ok_and(|mut stream| stream.read(&mut [0; 4]).is_ok_and(|read| read > 0))
    });
    let daemon = start(
        &config(&format!(
            "[automation]\nescalate_to = [\"mail\"]\n[notifiers.mail]\nkind = \"email\"\nsmtp = \"{address}\"\ntls = \"none\"\nfrom = \"runbookd@example.org\"\nto = [\"oncall@example.org\", \"Ada <ada@example.org>\"]\n"
        )),
        &[("bad", BAD)],
    );
    let id = fire(&daemon, "Down", "ü-1 Bcc: eve@example.org");
    told(&daemon, &id, |lines| states(lines) == [("mail", "sent")]);
    let found: Vec<_> = fs::read_dir(mails.join("new")).unwrap().collect();
    assert_eq!(found.len(), 2, "one for each receiver");
    let mails = found.iter().map(|file| fs::read_to_string(file.as_ref().unwrap().path()).unwrap());
    let mut mails: Vec<String> = mails.map(|mail| mail.replace("\r\n", "\n")).collect();
    mails.sort_by_key(|mail| mail.contains("X-RcptTo: ada@example.org"));
    assert!(mails[1].contains("X-RcptTo: ada@example.org"), "{}", mails[1]);
    let (head, text) = mails[0].split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(head.contains("To: oncall@example.org, Ada <ada@example.org>"), "{head}");
    assert!(head.lines().any(|line| line == "X-RcptTo: oncall@example.org"), "{head}");
    assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc:")), "{head}");
    assert!(head.contains("@runbookd>"), "{head}");
    assert!(text.contains(&id), "{text}");
}

#[test]
fn a_real_alertmanager_fires_the_alert_and_lets_it_end() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let daemon = start(
        &config(&format!(
            "[automation]\nescalate_to = [\"am\"]\n[notifiers.am]\nkind = \"alertmanager\"\nurl = \"http://{}\"\n",
            alertmanager.address()
        )),
        &[("bad", BAD)],
    );
    let alerts = || -> Vec<Value> {
        let answer = http::get(
            alertmanager.address(),
            "/api/v2/alerts?filter=alertname=%22RunbookdExecutionFailed%22",
        );
        answer.unwrap().json().as_array().unwrap().clone()
    };
    let id = fire(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("am", "sent")]);
    let found = alerts();
    let labels = &found[0]["labels"];
    let of = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (of("runbook"), of("target"), of("reason")),
        ("bad".into(), "db-1".into(), "step_failed".into())
    );
    assert_eq!((of("source_alertname"), of("severity")), ("Down".into(), "critical".into()));
    assert_eq!(found[0]["generatorURL"], format!("http://{}/api/executions/{id}", daemon.address()));
    resolve(&daemon, "Down", "db-1");
    told(&daemon, &id, |lines| states(lines) == [("am", "resolved")]);
    eventually("the end of the alert", LIMIT, || alerts().is_empty().then_some(()));
}

#[test]
fn what_is_due_when_the_daemon_ends_is_still_told() {
    let receiver = Receiver::start(&[]);
    let slow = BAD.replace(
        "program = \"false\"",
        "program = \"sh\", args = [\"-c\", \"touch begun; sleep 1; exit 3\"]",
    );
    let mut daemon = start(&hook(&receiver.url("/"), ""), &[("slow", &slow)]);
    let id = fire(&daemon, "Down", "db-1");
    wait_for_status(&daemon, &id, "running");
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(receiver.told().len(), 1);
    daemon.start_again();
    assert_eq!(states(&told(&daemon, &id, |lines| !lines.is_empty())), [("hook", "sent")]);
}

#[test]
fn check_names_whom_the_config_does_not_have() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    let text = BAD.to_owned()
        + "[[steps]]\nid = \"say\"\nnotify = { to = [\"bos\"], message = \"x\" }\n[escalate]\nto = [\"nobody\"]\n";
    fs::write(dir.path().join("runbooks/bad.toml"), text).unwrap();
    let config = "[webhook]\nallow_unauthenticated = true\n[automation]\nescalate_to = [\"oncal\"]\n[notifiers.oncall]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\n[notifiers.boss]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\n[runbooks]\ndir = \"runbooks\"\n";
    let check = |config: &str| {
        fs::write(dir.path().join("c.toml"), config).unwrap();
        let output = Command::new(BINARY)
            .args(["check", "--config.file=c.toml"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check(config);
    assert!(said.contains("c.toml:4:16") && said.contains("did you mean \"oncall\"?"), "{said}");
    let said = check(&config.replace("oncal\"", "oncall\""));
    assert!(
        said.contains("the step `say` tells \"bos\"") && said.contains("did you mean \"boss\"?"),
        "{said}"
    );
    assert!(said.contains("[escalate] tells \"nobody\""), "{said}");
}
