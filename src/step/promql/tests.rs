//! The judging table, and a real query over a socket.

use super::judge::{judge_range, to_json};
use super::*;
use crate::model::{AttemptOutcome, Expect};
use crate::step::tests::{bench, bench_with, clock};
use crate::step::{Call, Finished, PromqlCall, Ways, kill_pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn samples(values: &[f64]) -> Vec<Sample> {
    let labels = [("__name__", "up"), ("instance", "a")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    values.iter().map(|value| Sample { labels: labels.clone().into(), at: 1000.5, value: *value }).collect()
}

fn check(expect: &str, values: &[f64], reason: &str) {
    let observation = judge(Expect::parse(expect).unwrap(), &samples(values), at(1001));
    assert_eq!(observation.reason, reason, "{expect} {values:?}");
    assert_eq!(observation.holds, reason == "holds", "{expect} {values:?}");
}

#[test]
fn every_sample_must_satisfy_the_expectation_and_nan_and_no_data_satisfy_none() {
    const NAN: f64 = f64::NAN;
    for (expect, values, reason) in [
        ("> 0", &[1.0][..], "holds"),
        ("> 0", &[0.0], "violated"),
        ("> 0", &[1.0, 0.0], "violated"),
        ("> 0", &[], "no_data"),
        ("> 0", &[NAN], "violated"),
        ("> 0", &[f64::INFINITY], "holds"),
        (">= 1", &[1.0], "holds"),
        (">= 1", &[0.999], "violated"),
        ("== 1", &[1.0, 1.0], "holds"),
        ("== 1", &[1.0, NAN], "violated"),
        ("!= 3", &[2.0], "holds"),
        ("!= 3", &[3.0], "violated"),
        ("!= 3", &[NAN], "violated"),
        ("!= 3", &[], "no_data"),
        ("< 2", &[1.0], "holds"),
        ("< 2", &[2.0], "violated"),
        ("<= 2", &[2.0], "holds"),
        ("<= -1e3", &[-1000.0], "holds"),
        ("absent", &[], "holds"),
        ("absent", &[0.0], "present"),
        ("absent", &[NAN], "present"),
    ] {
        check(expect, values, reason);
    }
}

#[test]
fn a_sample_older_than_five_minutes_is_stale_whatever_it_says() {
    let expect = Expect::parse("> 0").unwrap();
    assert_eq!(judge(expect, &samples(&[1.0]), at(1300)).reason, "holds");
    assert_eq!(judge(expect, &samples(&[1.0]), at(1301)).reason, "stale");
    assert_eq!(judge(expect, &samples(&[0.0]), at(1301)).reason, "stale");
    let timeless = Sample { at: f64::NAN, ..samples(&[1.0]).remove(0) };
    assert_eq!(judge(expect, &[timeless], at(1000)).reason, "stale");
}

#[test]
fn the_summary_names_the_first_few_and_counts_the_rest() {
    let expect = Expect::parse("> 0").unwrap();
    assert_eq!(judge(expect, &samples(&[1.0]), at(1001)).value, "up{instance=\"a\"} 1");
    assert_eq!(judge(expect, &[], at(1001)).value, "no data");
    assert!(judge(expect, &samples(&[0.0; 9]), at(1001)).value.ends_with(", and 6 more"));
}

#[test]
fn expectations_are_read_and_printed_and_others_refused() {
    for text in ["> 0", ">= 1", "== 1", "!= 3", "< 2", "<= -2.5", "absent"] {
        assert_eq!(Expect::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Expect::parse(" >=1e3 ").unwrap().to_string(), ">= 1000");
    for bad in ["", "1", "=1", "= 1", ">", "> x", "> 0 1", "=> 1", "== NaN", "Absent", "> 0 and 1"] {
        assert!(Expect::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn answers_of_other_kinds_and_broken_ones_are_errors() {
    let vector = br#"{"status":"success","warnings":["partial"],"data":{"resultType":"vector","result":[
        {"metric":{"a":"b"},"value":[1.5,"+Inf"]},{"metric":{},"value":[2,"NaN"]}]}}"#;
    let answer = parse(vector, 200).unwrap();
    assert_eq!(answer.warnings, ["partial"]);
    assert_eq!((answer.samples[0].at, answer.samples[0].value), (1.5, f64::INFINITY));
    assert!(answer.samples[1].value.is_nan());
    let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"7"]}}"#;
    assert_eq!(parse(scalar, 200).unwrap().samples[0].value, 7.0);
    for (body, part) in [
        (&br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#[..], "bad_data: parse error"),
        (br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, "is a matrix"),
        (br#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#, "is a string"),
        (br#"{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}"#, "is not a value"),
        (br#"{"status":"success"}"#, "no data"),
        (b"<html>", "status 502"),
    ] {
        let error = parse(body, 502).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn only_a_plain_address_is_taken_and_a_path_prefix_is_kept() {
    let client = HttpClient::build().unwrap();
    let with_prefix = PromClient::new(client.clone(), "http://prom:9090/prefix/").unwrap();
    assert_eq!(with_prefix.query.as_str(), "http://prom:9090/prefix/api/v1/query");
    for bad in ["prom:9090", "ftp://prom", "http://u:p@prom", "http://prom/?x", "http://prom/#x", ""] {
        assert!(PromClient::new(client.clone(), bad).is_err(), "{bad}");
    }
}

/// Answers one request with `answer` and gives what was asked.
async fn ask(answer: Vec<u8>, timeout: Duration) -> (Result<QueryAnswer, QueryError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 8192];
        let count = socket.read(&mut request).await.unwrap();
        // The client may hang up when it has had enough.
        socket.write_all(&answer).await.unwrap_or_default();
        if answer.is_empty() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        String::from_utf8(request[..count].to_vec()).unwrap()
    });
    let client = PromClient::new(HttpClient::build().unwrap(), &url).unwrap();
    let result = client.query("up{a=\"b c\"} + 1 & x", timeout).await;
    if result == Err(QueryError::TimedOut(timeout)) {
        return (result, String::new());
    }
    (result, server.await.unwrap())
}

#[tokio::test]
async fn the_query_is_posted_as_a_form_and_its_answer_read() {
    let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (result, request) = ask(answer.into(), Duration::from_secs(5)).await;
    assert_eq!(result, Ok(QueryAnswer::default()));
    assert!(request.starts_with("POST /api/v1/query HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    let form = "query=up%7Ba%3D%22b+c%22%7D+%2B+1+%26+x&timeout=5000ms";
    assert!(request.ends_with(&format!("\r\n\r\n{form}")), "{request}");
}

#[tokio::test]
async fn an_answer_that_never_comes_or_never_ends_is_an_error() {
    let (result, _) = ask(Vec::new(), Duration::from_millis(200)).await;
    assert_eq!(result, Err(QueryError::TimedOut(Duration::from_millis(200))));
    let mut flood = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    flood.resize(8 * 1024 * 1024, b'x');
    let (result, _) = ask(flood, Duration::from_secs(5)).await;
    assert_eq!(result, Err(QueryError::Unusable("it is longer than 4194304 bytes".into())));
}

fn series(points: &[&[(f64, f64)]]) -> Vec<Series> {
    let named = |(at, points): (usize, &&[(f64, f64)])| {
        let labels = [("i".to_owned(), at.to_string())].into();
        Series { labels, points: points.to_vec() }
    };
    points.iter().enumerate().map(named).collect()
}

#[test]
fn of_a_range_every_point_counts_and_every_series_must_reach_to_now() {
    let now = at(1000);
    for (expect, points, reason) in [
        ("> 0", &[&[(900.0, 1.0), (1000.0, 2.0)][..], &[(1000.0, 1.0)]][..], "holds"),
        ("> 0", &[&[(900.0, 0.0), (1000.0, 2.0)]], "violated"),
        ("> 0", &[&[(900.0, 1.0)], &[(900.0, f64::NAN), (1000.0, 1.0)]], "violated"),
        ("> 0", &[&[(900.0, 1.0)], &[(600.0, 1.0), (699.0, 1.0)]], "stale"),
        ("> 0", &[&[(700.0, 1.0)]], "holds"),
        ("> 0", &[&[(f64::NAN, 1.0)]], "stale"),
        ("> 0", &[], "no_data"),
        ("> 0", &[&[]], "no_data"),
        ("absent", &[], "holds"),
        ("absent", &[&[(100.0, 1.0)]], "present"),
    ] {
        let (seen, _) = judge_range(Expect::parse(expect).unwrap(), &series(points), now);
        assert_eq!((seen.reason, seen.holds), (reason, reason == "holds"), "{expect} {points:?}");
    }
    let told = series(&[&[(900.0, 0.0), (1000.0, 2.0)], &[(900.0, 3.0), (1000.0, 4.0)]]);
    let (seen, samples) = judge_range(Expect::parse("> 0").unwrap(), &told, now);
    assert_eq!(seen.value, "{i=\"0\"} 0, {i=\"1\"} 4", "the point that violates, else the last");
    assert_eq!((samples[0].at, samples[1].at), (900.0, 1000.0));
}

#[test]
fn samples_are_told_as_json_as_far_as_there_is_room() {
    let all = samples(&[1.5, f64::NAN, f64::NEG_INFINITY]);
    let text = to_json(&all, 2048);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["samples"][0]["value"], 1.5);
    assert_eq!(json["samples"][0]["labels"]["instance"], "a");
    assert_eq!((&json["samples"][1]["value"], &json["samples"][2]["value"]), (&"NaN".into(), &"-inf".into()));
    assert_eq!(json["more"], 0);
    for room in [0, 60, 150, 400, 2048] {
        let text = to_json(&samples(&[1.0; 100]), room);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let told = json["samples"].as_array().unwrap().len() as u64;
        assert!(text.len() <= room.max(45), "{room}: {}", text.len());
        assert_eq!(json["more"].as_u64().unwrap() + told, 100);
    }
}

/// Runs a `promql` attempt against a server that gives `answer`; also what was asked.
async fn attempt(answer: String, expect: &str, range: Option<Duration>) -> (Finished, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 8192];
        let count = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request[..count].to_vec()).unwrap()
    });
    let prometheus = PromClient::new(HttpClient::build().unwrap(), &url).unwrap();
    let bench = bench_with(Ways { prometheus: Some(prometheus), ..Ways::none(clock()) });
    let call = PromqlCall { query: "up".into(), expect: Expect::parse(expect).unwrap(), range };
    let finished = bench.run(&Call::Promql(call)).await;
    (finished, server.await.unwrap())
}

fn answered(status: &str, head: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_attempt_succeeds_with_its_samples_and_fails_by_name() {
    let data = |kind: &str, result: &str| {
        let body = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#);
        answered("200 OK", "", &body)
    };
    let now = 1_800_000_000;
    let one = |at: i64| data("vector", &format!(r#"[{{"metric":{{"i":"a"}},"value":[{at},"1"]}}]"#));
    let (good, asked) = attempt(one(now), "== 1", None).await;
    assert_eq!((good.outcome, good.http_status, good.error), (AttemptOutcome::Succeeded, Some(200), None));
    let told = format!(r#"{{"samples":[{{"at":{now}.0,"labels":{{"i":"a"}},"value":1.0}}],"more":0}}"#);
    assert_eq!(String::from_utf8(good.stdout.head).unwrap(), told);
    assert!(asked.ends_with("\r\n\r\nquery=up&timeout=20000ms"), "{asked}");

    let hour = Some(Duration::from_secs(3600));
    let points = format!(r#"[{{"metric":{{}},"values":[[{},"1"],[{now},"0"]]}}]"#, now - 36);
    let (ranged, asked) = attempt(data("matrix", &points), "== 1", hour).await;
    assert_eq!(ranged.error.as_deref(), Some("violated: 0 (wanted == 1)"));
    assert!(asked.starts_with("POST /api/v1/query_range HTTP"), "{asked}");
    let form = "query=up&start=1799996400.000&end=1800000000.000&step=36.000&timeout=20000ms";
    assert!(asked.ends_with(form), "{asked}");
    let (_, asked) = attempt(data("matrix", "[]"), "absent", Some(Duration::from_millis(30_500))).await;
    assert!(asked.contains("start=1799999970.000&end=1800000000.000&step=1.000&"), "{asked}");

    let refused = answered(
        "503 Service Unavailable",
        "retry-after: 9\r\n",
        r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#,
    );
    for (answer, expect, status, sentence) in [
        (one(now), "> 1", Some(200), "violated: {i=\"a\"} 1 (wanted > 1)"),
        (one(now - 301), "> 0", Some(200), "stale: {i=\"a\"} 1 (wanted > 0)"),
        (data("vector", "[]"), "> 0", Some(200), "no_data: no data (wanted > 0)"),
        (one(now), "absent", Some(200), "present: {i=\"a\"} 1 (wanted absent)"),
        (refused, "> 0", Some(503), "error: Prometheus refused the query: timeout: query timed out"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into(),
            "> 0",
            None,
            "error: Prometheus could not be asked: ",
        ),
    ] {
        let (finished, _) = attempt(answer, expect, None).await;
        assert_eq!((finished.outcome, finished.http_status), (AttemptOutcome::Failed, status), "{sentence}");
        assert_eq!(finished.retry_after, status.filter(|it| *it == 503).map(|_| Duration::from_secs(9)));
        assert!(finished.error.as_ref().unwrap().starts_with(sentence), "{finished:?}");
    }
}

#[tokio::test]
async fn without_a_prometheus_it_is_an_error_and_a_silent_one_is_ended_by_timeout_and_kill() {
    let call = PromqlCall { query: "up".into(), expect: Expect::parse("> 0").unwrap(), range: None };
    let call = Call::Promql(call);
    let nobody = bench().run(&call).await;
    assert_eq!(nobody.error.as_deref(), Some("error: there is no [prometheus] url in the config to ask"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let prometheus = PromClient::new(HttpClient::build().unwrap(), &url).unwrap();
    let bench = bench_with(Ways { prometheus: Some(prometheus), ..Ways::none(clock()) });
    let late = bench.run_for(&call, Duration::from_millis(100)).await;
    assert_eq!(late.outcome, AttemptOutcome::TimedOut);
    let (killer, signal) = kill_pair();
    killer.kill(Duration::from_secs(9));
    assert_eq!(bench.runner.run(&bench.context(), &call, signal).await.outcome, AttemptOutcome::Stopped);
}
