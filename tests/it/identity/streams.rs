//! A stream of events is worth no more than the credential it was opened with.

use super::{ENV, LIMIT, With, ask, config, make_key, session, token, users};
use crate::support::daemon::Daemon;
use crate::support::process::eventually;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const SLOW: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[[steps]]
id = "sleep"
command = { program = "sleep", args = ["600"] }
timeout = "15m"
"#;

#[test]
fn t20_a_stream_ends_with_the_credential_it_was_opened_with() {
    let dir = tempfile::tempdir().unwrap();
    let people = users(dir.path(), &[("bob", "\"viewer\"")]);
    let daemon = Daemon::start(&config(&format!("users_file = \"{people}\"")), &[("slow", SLOW)], ENV);
    let ada = &With::Bearer(token("ada", &["operator"], &[]));
    let wish = json!({ "labels": { "instance": "a" }, "reason": "test" });
    let begun = ask(&daemon, "POST", "/api/runbooks/slow/execute", ada, &wish);
    assert_eq!(begun.status, 202, "{}", begun.text());
    let id = begun.json()["execution_id"].as_str().unwrap().to_owned();
    let (key_id, key) = make_key(&daemon, ada, &["operator"], "1h");
    let (bob, _) = session(&daemon, "bob");

    let path = format!("/api/executions/{id}/events");
    let ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for who in [&key, &bob, ada] {
            let (daemon, path, ended) = (&daemon, &path, &ended);
            scope.spawn(move || {
                let seen = ask(daemon, "GET", path, who, &Value::Null);
                assert_eq!(seen.status, 200, "{}", seen.text());
                // Whoever may go on sees the end of the execution, the others do not.
                assert_eq!(seen.text().contains("event: end"), who == ada, "{who:?}: {}", seen.text());
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        let route = "route=\"/api/executions/{id}/events\",method=\"GET\",code=\"200\"";
        let open = || daemon.metric(&format!("runbookd_http_requests_total{{{route}}}"));
        eventually("the streams being open", LIMIT, || (open() == 3.0).then_some(()));
        assert_eq!(ask(&daemon, "DELETE", &format!("/api/keys/{key_id}"), ada, &json!({})).status, 200);
        assert_eq!(ask(&daemon, "POST", "/api/users/logout", &bob, &json!({})).status, 200);
        eventually("two streams being over", LIMIT, || (ended.load(Ordering::SeqCst) == 2).then_some(()));
        let stop = json!({ "reason": "the test is over" });
        assert_eq!(ask(&daemon, "POST", &format!("/api/executions/{id}/stop"), ada, &stop).status, 202);
    });
    assert_eq!(daemon.logged("a stream was ended", 2).matches("a stream was ended").count(), 2);
}
