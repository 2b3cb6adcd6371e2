//! Steps of the kind `silence` and their undo against the real Alertmanager.

use super::Bench;
use crate::support::alertmanager::Alertmanager;
use crate::support::http;
use runbookd::model::AttemptOutcome;
use runbookd::step::{AlertmanagerClient, Call, ExpireSilenceCall, Finished, HttpClient, SilenceCall, Ways};
use serde_json::Value;
use std::time::Duration;

fn bench(urls: &[&str]) -> Bench {
    let client = HttpClient::build().unwrap();
    let urls: Vec<String> = urls.iter().map(|address| format!("http://{address}")).collect();
    let alertmanager = AlertmanagerClient::new(client.clone(), &urls, None, &[]).unwrap();
    Bench::new(client, |none| Ways { alertmanager: Some(alertmanager), ..none })
}

fn silence(key: &str, matchers: &[&str]) -> Call {
    Call::Silence(SilenceCall {
        matchers: matchers.iter().map(ToString::to_string).collect(),
        duration: Duration::from_secs(600),
        comment: "restarting \"db\"\nnow".into(),
        key: key.into(),
    })
}

fn expire(key: &str) -> Call {
    Call::ExpireSilence(ExpireSilenceCall { key: key.into() })
}

fn json(finished: &Finished) -> Value {
    assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
    serde_json::from_slice(&finished.stdout.head).unwrap()
}

fn silences(address: &str) -> Vec<Value> {
    let answer = http::get(address, "/api/v2/silences").unwrap();
    serde_json::from_str(&answer.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_is_made_once_found_again_and_ended_by_its_key() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let address = alertmanager.address();
    // The first member cannot be reached: silences are the cluster's, so any other will do.
    let bench = bench(&["127.0.0.1:1", address]);
    let matchers = ["alertname=\"Down\"", "instance=~\"db-[0-9]+\"", "team!=\"x \\\"y\\\"\""];
    let first = json(&bench.run(silence("kinds_1.hush", &matchers)).await);
    let again = json(&bench.run(silence("kinds_1.hush", &matchers)).await);
    assert_eq!(first, again, "a second attempt finds the first one's");
    let other = json(&bench.run(silence("kinds_1.hush.item1", &matchers)).await);
    assert_ne!(first, other, "another item has another");

    let all = silences(address);
    assert_eq!(all.len(), 2, "{all:?}");
    let made = all.iter().find(|silence| silence["id"] == first["silenceID"]).unwrap();
    assert_eq!(made["status"]["state"], "active", "{made}");
    assert_eq!(made["createdBy"], "runbookd");
    assert_eq!(made["comment"], "restarting \"db\"\nnow [runbookd kinds_1.hush]");
    let mut as_made: Vec<String> =
        made["matchers"].as_array().unwrap().iter().map(ToString::to_string).collect();
    as_made.sort();
    assert_eq!(
        as_made,
        [
            r#"{"isEqual":false,"isRegex":false,"name":"team","value":"x \"y\""}"#,
            r#"{"isEqual":true,"isRegex":false,"name":"alertname","value":"Down"}"#,
            r#"{"isEqual":true,"isRegex":true,"name":"instance","value":"db-[0-9]+"}"#,
        ]
    );

    // With both members known to answer; one that does not might know more.
    let sure = self::bench(&[address]);
    let ended = json(&sure.run(expire("kinds_1.hush")).await);
    assert_eq!(ended["expired"][0], first["silenceID"]);
    assert_eq!(json(&sure.run(expire("kinds_1.hush")).await)["expired"], Value::from(Vec::<Value>::new()));
    assert_eq!(json(&sure.run(expire("never.made")).await)["expired"], Value::from(Vec::<Value>::new()));
    let state = |id: &Value| {
        let all = silences(address);
        all.iter().find(|silence| silence["id"] == *id).unwrap()["status"]["state"].clone()
    };
    assert_eq!((state(&first["silenceID"]), state(&other["silenceID"])), ("expired".into(), "active".into()));
    let anew = json(&sure.run(silence("kinds_1.hush", &matchers)).await);
    assert_ne!(anew, first, "what was ended is not taken for one that holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alertmanager_refuses_is_passed_on_in_its_words() {
    let alertmanager = Alertmanager::start("127.0.0.1:1", "['...']");
    let bench = bench(&[alertmanager.address()]);
    let all = bench.run(silence("kinds_1.all", &["instance=~\".*\""])).await;
    assert_eq!((all.outcome, all.http_status), (AttemptOutcome::Failed, Some(400)), "{all:?}");
    let error = all.error.unwrap();
    assert!(error.starts_with("Alertmanager answered 400: ") && error.contains("matcher"), "{error}");
    assert_eq!(silences(alertmanager.address()), [] as [Value; 0]);
}
