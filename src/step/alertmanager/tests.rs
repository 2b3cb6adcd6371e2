//! Silences as bytes on the wire, against members that are slow, broken or gone. The real one is met in
//! `tests/it/kinds`.

use super::*;
use crate::model::AttemptOutcome;
use crate::step::tests::{Bench, bench, bench_with, clock};
use crate::step::{Call, ExpireSilenceCall, Finished, SilenceCall, Ways};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A port that is never given out to a listener of another test.
const GONE: &str = "http://127.0.0.1:1";

/// Answers one request after the other with these statuses and bodies, and gives what was asked.
async fn member_that_says(answers: Vec<(&str, String)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers
        .into_iter()
        .map(|(status, body)| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nretry-after: 5\r\n\r\n{body}", body.len())
        })
        .collect();
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut buffer = [0; 4096];
            loop {
                let count = socket.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    break;
                }
            }
            requests.push(request);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (url, server)
}

fn bench_of(urls: &[&str], credential: Option<Credential>, headers: &[(String, String)]) -> Bench {
    let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
    let client =
        AlertmanagerClient::new(HttpClient::build().unwrap(), &urls, credential.as_ref(), headers).unwrap();
    bench_with(Ways { alertmanager: Some(client), ..Ways::none(clock()) })
}

fn silence(matchers: &[&str]) -> Call {
    Call::Silence(SilenceCall {
        matchers: matchers.iter().map(ToString::to_string).collect(),
        duration: Duration::from_secs(3600),
        comment: "restarting".into(),
        key: "web_1.hush".into(),
    })
}

fn expire() -> Call {
    Call::ExpireSilence(ExpireSilenceCall { key: "web_1.hush".into() })
}

fn listed(silences: &[(&str, &str, &str, &str)]) -> (&'static str, String) {
    let all: Vec<Value> = silences
        .iter()
        .map(|(id, by, comment, state)| {
            serde_json::json!({"id": id, "createdBy": by, "comment": comment, "status": {"state": state}, "matchers": []})
        })
        .collect();
    ("200 OK", Value::from(all).to_string())
}

fn made(id: &str) -> (&'static str, String) {
    ("200 OK", format!("{{\"silenceID\":\"{id}\"}}"))
}

fn stdout(finished: &Finished) -> String {
    assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
    String::from_utf8(finished.stdout.head.clone()).unwrap()
}

const OURS: &str = "restarting [runbookd web_1.hush]";

#[tokio::test]
async fn a_silence_is_looked_for_and_then_posted_with_all_that_is_known() {
    let (url, served) = member_that_says(vec![listed(&[]), made("new-1")]).await;
    let headers = [("X-Scope-OrgID".to_owned(), "ops".to_owned())];
    let credential = Credential::Basic { user: "me".into(), password: Secret::new("s3cret") };
    let bench = bench_of(&[&format!("{url}/prefix/")], Some(credential), &headers);
    let finished = bench.run(&silence(&["alertname=\"Down\"", "instance!~\"a|b\""])).await;
    assert_eq!(stdout(&finished), r#"{"silenceID":"new-1"}"#);
    assert_eq!(finished.http_status, Some(200));
    let asked = served.await.unwrap();
    assert!(asked[0].starts_with("GET /prefix/api/v2/silences?expired=false HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("POST /prefix/api/v2/silences HTTP/1.1\r\n"), "{}", asked[1]);
    for request in &asked {
        assert!(request.contains("authorization: Basic bWU6czNjcmV0\r\n"), "{request}");
        assert!(request.contains("x-scope-orgid: ops\r\n"), "{request}");
    }
    let body: Value = serde_json::from_str(asked[1].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "matchers": [
                {"name": "alertname", "value": "Down", "isRegex": false, "isEqual": true},
                {"name": "instance", "value": "a|b", "isRegex": true, "isEqual": false},
            ],
            "startsAt": "2027-01-15T07:59:00Z",
            "endsAt": "2027-01-15T09:00:00Z",
            "createdBy": "runbookd",
            "comment": OURS,
        })
    );
    assert!(!format!("{:?}", bench.runner).contains("s3cret"));
}

#[tokio::test]
async fn one_that_any_member_knows_is_used_again_and_others_are_not_taken_for_it() {
    let others = [
        ("1", "runbookd", OURS, "expired"),
        ("2", "someone", OURS, "active"),
        ("3", "runbookd", "restarting [runbookd web_1.hush] ", "active"),
        ("4", "runbookd", "restarting [runbookd web_11.hush]", "active"),
        ("../x", "runbookd", OURS, "active"),
    ];
    let (first, one) = member_that_says(vec![listed(&others)]).await;
    let (second, two) = member_that_says(vec![listed(&[("it", "runbookd", OURS, "pending")])]).await;
    let bench = bench_of(&[&first, GONE, &second], None, &[]);
    assert_eq!(stdout(&bench.run(&silence(&["a=\"b\""])).await), r#"{"silenceID":"it"}"#);
    one.await.unwrap();
    two.await.unwrap();
    let (first, one) = member_that_says(vec![listed(&others), made("new")]).await;
    let bench = bench_of(&[GONE, &first], None, &[]);
    assert_eq!(stdout(&bench.run(&silence(&["a=\"b\""])).await), r#"{"silenceID":"new"}"#);
    one.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_may_have_been_a_yes_is_not_asked_for_elsewhere() {
    let (first, one) = member_that_says(vec![listed(&[]), ("502 Bad Gateway", "no".into())]).await;
    let (second, two) = member_that_says(vec![listed(&[])]).await;
    let bench = bench_of(&[&first, &second], None, &[]);
    let finished = bench.run(&silence(&["a=\"b\""])).await;
    assert_eq!((finished.outcome, finished.http_status), (AttemptOutcome::Failed, Some(502)));
    assert_eq!(finished.retry_after, Some(Duration::from_secs(5)));
    assert_eq!(finished.error.as_deref(), Some("Alertmanager answered 502: no"));
    one.await.unwrap();
    two.await.unwrap();
}

#[tokio::test]
async fn every_silence_of_the_key_is_ended_at_a_member_that_knows_it() {
    let ours = |id: &'static str| (id, "runbookd", OURS, "active");
    let (first, one) = member_that_says(vec![listed(&[ours("a")]), ("200 OK", String::new())]).await;
    let (second, two) =
        member_that_says(vec![listed(&[ours("a"), ours("b")]), ("404 Not Found", String::new())]).await;
    let bench = bench_of(&[&first, &second], None, &[]);
    assert_eq!(stdout(&bench.run(&expire()).await), r#"{"expired":["a","b"]}"#);
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert!(one[1].starts_with("DELETE /api/v2/silence/a HTTP"), "{}", one[1]);
    assert!(two[1].starts_with("DELETE /api/v2/silence/b HTTP"), "{}", two[1]);

    let (url, served) = member_that_says(vec![listed(&[("a", "runbookd", OURS, "expired")])]).await;
    assert_eq!(stdout(&bench_of(&[&url], None, &[]).run(&expire()).await), r#"{"expired":[]}"#);
    served.await.unwrap();
    let (url, served) = member_that_says(vec![listed(&[])]).await;
    let unsure = bench_of(&[&url, GONE], None, &[]).run(&expire()).await;
    assert_eq!(unsure.outcome, AttemptOutcome::Failed, "who did not say may know it: {unsure:?}");
    served.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_and_no_answer_has_no_status() {
    let nobody = "there is no [alertmanager] urls in the config to ask";
    assert_eq!(bench().run(&silence(&["a=\"b\""])).await.error.as_deref(), Some(nobody));
    assert_eq!(bench().run(&expire()).await.error.as_deref(), Some(nobody));
    let bench = bench_of(&[GONE], None, &[]);
    for call in [silence(&["a=\"b\""]), expire()] {
        let finished = bench.run(&call).await;
        assert_eq!((finished.outcome, finished.http_status), (AttemptOutcome::Failed, None));
        let error = finished.error.unwrap();
        assert!(
            error.starts_with("Alertmanager could not be reached: could not connect to 127.0.0.1:1"),
            "{error}"
        );
    }
    for (matchers, part) in
        [(&[][..], "no matcher"), (&["a"][..], "is not a matcher"), (&["a=~\"(\""], "cannot be used")]
    {
        let error = bench.run(&silence(matchers)).await.error.unwrap();
        assert!(error.contains(part), "{error}");
    }
    let odd = Call::ExpireSilence(ExpireSilenceCall { key: "a] b".into() });
    assert!(bench.run(&odd).await.error.unwrap().contains("cannot be the key"));
    let client = |url: &str| AlertmanagerClient::new(HttpClient::build().unwrap(), &[url.into()], None, &[]);
    for bad in ["", "am:9093", "ftp://am", "http://u:p@am", "http://am/?x", "http://am/#x"] {
        assert!(client(bad).is_err(), "{bad}");
    }
}
