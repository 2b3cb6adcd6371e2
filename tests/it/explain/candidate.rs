//! What a reload would put in force: by the rules of a reload, beside what is in force now.

use super::{run, runbook};
use crate::support::alerts::{LIMIT, body, config};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::fs;

fn by_candidate(daemon: &Daemon, body: &str) -> Value {
    let answer = http::post(daemon.address(), "/api/simulate?config=candidate", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_broken_runbook_keeps_its_last_good_version_as_it_does_at_a_reload() {
    let texts = [runbook("Act", "disabled"), runbook("Bad", "disabled")];
    let watch = "[runbooks]\nwatch = false\n";
    let daemon = Daemon::start(&config(watch), &[("act", &texts[0]), ("bad", &texts[1])], &[]);
    let runbooks = daemon.dir().join("runbooks");
    fs::write(runbooks.join("bad.toml"), "mode = \"no").unwrap();
    fs::write(runbooks.join("never.toml"), "mode = \"no").unwrap();
    fs::write(runbooks.join("act.toml"), runbook("Act", "shadow")).unwrap();
    let told = by_candidate(&daemon, &body("Act", "firing", &["a"]));
    assert_eq!(told["broken_runbooks"], json!(["bad", "never"]), "{told:#}");
    let decision = &told["decisions"][0];
    assert_eq!((&decision["reason"], &decision["changed"]), (&"shadow".into(), &true.into()), "{told:#}");
    assert_eq!(
        (&decision["now"]["verdict"], &decision["now"]["reason"]),
        (&"skip".into(), &"disabled".into())
    );
    let bad = by_candidate(&daemon, &body("Bad", "firing", &["a"]))["decisions"][0].clone();
    assert_eq!((&bad["reason"], &bad["changed"]), (&"disabled".into(), &false.into()), "{bad:#}");
    // Nothing of it was kept: the versions are counted by what is put in force.
    assert_eq!(daemon.json("/api/runbooks/act/versions")["versions"].as_array().unwrap().len(), 1);
    assert!(
        !daemon.log().contains("runbook loaded\",\"target\":\"runbookd::app::library\",\"runbook\":\"never")
    );

    daemon.hang_up();
    eventually("the reload", LIMIT, || {
        let listed = daemon.json("/api/runbooks/act");
        (listed["mode"] == "shadow").then_some(())
    });
    for (name, then) in [("Act", "shadow"), ("Bad", "disabled")] {
        let real = daemon.webhook(&body(name, "firing", &["a"])).json();
        assert_eq!(real["decisions"][0]["reason"], then, "as was told");
    }
}

#[test]
fn whoever_may_only_read_starts_no_program_that_prints_a_secret() {
    let secret = "[secrets.told]\ncommand = [\"/bin/sh\", \"-c\", \"echo ran >> @dir@/ran; echo hunter2\"]\n";
    let daemon = Daemon::start(&config(secret), &[("act", &runbook("Act", "auto"))], &[]);
    let ran = || fs::read_to_string(daemon.dir().join("ran")).unwrap().lines().count();
    let before = ran();
    assert!(before > 0);
    let told = by_candidate(&daemon, &body("Act", "firing", &["a"]));
    assert_eq!(told["decisions"][0]["reason"], "matched");
    assert_eq!(ran(), before);
}

#[test]
fn people_see_what_is_and_what_would_be_side_by_side() {
    let mapping = "[[mappings]]\nname = \"m\"\nmatchers = ['alertname=\"Mapped\"']\nrunbook = \"act\"\n";
    let daemon = Daemon::start(&config(mapping), &[("act", &runbook("Act", "disabled"))], &[]);
    let answer = daemon.webhook(&body("Mapped", "firing", &["a"]));
    assert_eq!(answer.json()["decisions"][0]["reason"], "disabled");
    let id = daemon.json("/api/decisions?limit=1")["decisions"][0]["id"].as_str().unwrap().to_owned();
    let file = daemon.dir().join("runbookd.toml");
    fs::write(
        &file,
        fs::read_to_string(&file).unwrap().replace("alertname=\"Mapped\"", "alertname=\"Else\""),
    )
    .unwrap();
    let output = run(&daemon, &["simulate", "--decision", &id, "--candidate"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("NOW ") && text.contains("skip disabled  skip no_runbook"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 1 decisions would change"));
    assert!(text.contains("no_runbook: add alerts = [\"Mapped\"]"), "{text}");
    // One or the other, and at least one.
    assert_eq!(run(&daemon, &["simulate", "--candidate"]).status.code(), Some(2));
    assert_eq!(run(&daemon, &["simulate", "x.json", "--decision", &id]).status.code(), Some(2));
}
