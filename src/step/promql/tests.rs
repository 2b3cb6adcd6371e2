//! The judging table, and a real query over a socket.

use super::*;
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
