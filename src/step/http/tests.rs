//! Requests as bytes on the wire, against servers that misbehave.

use super::super::OutgoingPolicy;
use super::super::lookup::Names;
use super::super::tests::{Bench, bench, bench_with, clock};
use super::super::{Call, kill_pair};
use super::*;
use crate::model::Secret;
use crate::secret::Secrets;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

fn get(url: &str) -> HttpCall {
    HttpCall {
        method: "GET".into(),
        url: url.into(),
        templated_authority: false,
        headers: vec![],
        body: None,
        expect_status: vec![],
        expect_json: None,
        bearer: None,
        follow_redirects: false,
        changing: false,
        max_output: 10_000,
    }
}

/// A bench with this secret, called `token`.
fn bench_of(token: &str) -> Bench {
    let secrets = Secrets::of_config([("token".to_owned(), Secret::new(token))].into(), Vec::new());
    bench_with(Ways { secrets, ..Ways::none(clock()) })
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if count == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}

/// Answers one connection after the other with `answers` and gives what was asked.
async fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            requests.push(read_request(&mut socket).await);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (authority, task)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn run(bench: &Bench, call: HttpCall) -> Finished {
    bench.run(&Call::Http(call)).await
}

#[tokio::test]
async fn t09_the_request_is_exactly_these_bytes() {
    let bench = bench_of("s3cret\n");
    let (authority, served) = server(vec![answer("201 Created", "", "made")]).await;
    let call = HttpCall {
        method: "POST".into(),
        headers: vec![("X-Note".into(), "a \"b\" ü".into()), ("accept".into(), "text/plain".into())],
        body: Some(b"{\"a\":1}".to_vec()),
        bearer: Some("token".into()),
        changing: true,
        ..get(&format!("http://{authority}/a%20b?q=1#part"))
    };
    let finished = run(&bench, call).await;
    assert_eq!(finished.outcome, AttemptOutcome::Succeeded, "{finished:?}");
    assert_eq!((finished.http_status, finished.exit_code), (Some(201), None));
    assert_eq!(finished.stdout.head, b"made");
    let request = served.await.unwrap().remove(0);
    let version = env!("CARGO_PKG_VERSION");
    let mut lines: Vec<&str> = request.split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /a%20b?q=1 HTTP/1.1");
    lines.sort_unstable();
    let mut expected = vec![
        "x-note: a \"b\" ü".to_owned(),
        "accept: text/plain".into(),
        "authorization: Bearer s3cret".into(),
        "idempotency-key: key-1".into(),
        format!("user-agent: runbookd/{version}"),
        format!("host: {authority}"),
        "content-length: 7".into(),
        String::new(),
        "{\"a\":1}".into(),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn t09_what_must_not_be_sent_is_refused_with_a_sentence() {
    let bench = bench();
    let url = "http://127.0.0.1:9/";
    let header =
        |name: &str, value: &str| HttpCall { headers: vec![(name.into(), value.into())], ..get(url) };
    let cases = [
        (header("X-A", "b\r\nX-Evil: 1"), "the value of the header \"X-A\" has a line end"),
        (header("X-A", "b\0"), "the value of the header"),
        (header("X\r\nA", "b"), "\"X\\r\\nA\" is not the name of a header"),
        (header("Content-Length", "3"), "the header \"Content-Length\" is set by runbookd itself"),
        (header("transfer-encoding", "chunked"), "the header \"transfer-encoding\" is set by"),
        (HttpCall { method: "GE T".into(), ..get(url) }, "\"GE T\" is not a method"),
        (HttpCall { method: "CONNECT".into(), ..get(url) }, "\"CONNECT\" is not a method"),
        (get("http://127.0.0.1:9/a b"), "the url has a blank"),
        (get("http://127.0.0.1:9/\r\nX: 1"), "the url has a blank"),
        (get("http://user:pw@127.0.0.1:9/"), "the url has a user or password"),
        (get("http://good.example@127.0.0.1:9/"), "the url has a user or password"),
        (get("file:///etc/passwd"), "the url's scheme is \"file\""),
        (get("/relative"), "the url cannot be read"),
        (get("http://"), "the url cannot be read"),
    ];
    for (call, sentence) in cases {
        let finished = run(&bench, call).await;
        assert_eq!(finished.outcome, AttemptOutcome::Failed);
        let error = finished.error.unwrap();
        assert!(error.starts_with(sentence), "{error}");
    }
}

#[tokio::test]
async fn t10_a_templated_authority_goes_only_where_the_list_allows() {
    let bench = bench();
    let (authority, served) = server(vec![answer("200 OK", "", "")]).await;
    let templated = |url: String| HttpCall { templated_authority: true, ..get(&url) };
    let allowed = run(&bench, templated(format!("http://{authority}/"))).await;
    assert_eq!(allowed.outcome, AttemptOutcome::Succeeded, "{allowed:?}");
    served.await.unwrap();
    for authority in [
        "127.0.0.2:9",
        "[::1]:9",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "0x7f.2",
    ] {
        let refused = run(&bench, templated(format!("http://{authority}/"))).await;
        let error = refused.error.unwrap();
        assert!(error.contains("is not in [outgoing] allow"), "{authority}: {error}");
    }
}

#[tokio::test]
async fn t10_a_templated_name_needs_every_address_of_it_allowed_or_its_name_listed() {
    let (authority, served) = server(vec![answer("200 OK", "", "")]).await;
    let port = authority.rsplit_once(':').unwrap().1;
    let url = format!("http://localhost:{port}/");
    let templated = || HttpCall { templated_authority: true, ..get(&url) };
    let mut bench = bench();
    bench.runner.outgoing = policy(&["10.0.0.0/8"]);
    let refused = run(&bench, templated()).await.error.unwrap();
    assert!(refused.contains("is not in [outgoing] allow"), "{refused}");
    bench.runner.outgoing = policy(&["localhost"]);
    let allowed = run(&bench, templated()).await;
    assert_eq!(allowed.outcome, AttemptOutcome::Succeeded, "{allowed:?}");
    served.await.unwrap();
}

fn policy(entries: &[&str]) -> std::sync::Arc<OutgoingPolicy> {
    let entries = entries.iter().map(|entry| OutgoingPolicy::parse_entry(entry).unwrap()).collect();
    std::sync::Arc::new(OutgoingPolicy::new(entries))
}

#[tokio::test]
async fn t10_a_redirect_is_not_followed_unless_asked_and_then_within_the_authority_only() {
    let bench = bench();
    let redirect = |to: &str| answer("302 Found", &format!("location: {to}\r\n"), "");
    let (authority, served) = server(vec![redirect("/next")]).await;
    let finished = run(&bench, get(&format!("http://{authority}/"))).await;
    assert_eq!((finished.outcome, finished.http_status), (AttemptOutcome::Failed, Some(302)));
    assert_eq!(finished.error.as_deref(), Some("the answer was 302, expected was 2xx"));
    served.await.unwrap();

    let follow = |url: String| HttpCall { follow_redirects: true, ..get(&url) };
    let (authority, served) = server(vec![redirect("/next"), answer("200 OK", "", "there")]).await;
    let call =
        HttpCall { method: "POST".into(), body: Some(b"x".into()), ..follow(format!("http://{authority}/")) };
    let finished = run(&bench, call).await;
    assert_eq!((finished.outcome, &finished.stdout.head[..]), (AttemptOutcome::Succeeded, &b"there"[..]));
    let requests = served.await.unwrap();
    assert!(
        requests[1].starts_with("GET /next HTTP/1.1\r\n") && requests[1].ends_with("\r\n\r\n"),
        "{requests:?}"
    );

    for elsewhere in ["http://127.0.0.1:9/", "http://169.254.169.254/", "https://localhost/", "http://u@h/"] {
        let (authority, served) = server(vec![redirect(elsewhere)]).await;
        let finished = run(&bench, follow(format!("http://{authority}/"))).await;
        assert_eq!(finished.outcome, AttemptOutcome::Failed);
        served.await.unwrap();
    }
    let (authority, served) = server(vec![redirect("/loop"); REDIRECTS_MAX + 1]).await;
    let finished = run(&bench, follow(format!("http://{authority}/"))).await;
    assert_eq!(finished.error.as_deref(), Some("more than 5 redirects"));
    served.await.unwrap();
}

#[tokio::test]
async fn status_and_json_decide() {
    let bench = bench();
    let status = |from, to| vec![StatusRange::new(from, to)];
    let body = r#"{"state":"up","n":2}"#;
    for (line, expect_status, expect_json, error) in [
        ("204 No Content", status(200, 204), None, None),
        ("404 Not Found", status(404, 404), None, None),
        ("404 Not Found", vec![], None, Some("the answer was 404, expected was 2xx")),
        ("200 OK", vec![], Some(json!({"state": "up"})), None),
        ("200 OK", vec![], Some(json!({"n": 3})), Some("/n is 2, expected was 3")),
    ] {
        let body = if line.starts_with("204") { "" } else { body };
        let (authority, served) = server(vec![answer(line, "", body)]).await;
        let call = HttpCall { expect_status, expect_json, ..get(&format!("http://{authority}/")) };
        let finished = run(&bench, call).await;
        assert_eq!(finished.error.as_deref(), error);
        assert_eq!(finished.outcome == AttemptOutcome::Succeeded, error.is_none());
        served.await.unwrap();
    }
}

#[tokio::test]
async fn t11_an_endless_body_is_read_up_to_the_limit() {
    let bench = bench();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut sent = 0;
        while socket.write_all(&[b'x'; 8192]).await.is_ok() {
            sent += 8192;
        }
        sent
    });
    let finished = run(&bench, get(&url)).await;
    assert_eq!(finished.outcome, AttemptOutcome::Succeeded);
    assert!(finished.error.unwrap().starts_with("the body is longer than 10000 bytes"));
    assert_eq!(finished.stdout.total - finished.stdout.truncated, 10_000);
    let kept = std::fs::metadata(bench.dirs.outputs.join(finished.stdout.file.unwrap())).unwrap().len();
    assert!(kept < 10_100, "{kept}");
    assert!(server.await.unwrap() < 32 << 20);
}

#[tokio::test]
async fn t11_a_slow_drip_times_out_and_keeps_what_came_and_a_kill_ends_it() {
    let bench = bench();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
            while socket.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let call = Call::Http(get(&url));
    let start = Instant::now();
    let finished = bench.run_for(&call, Duration::from_millis(300)).await;
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!((finished.outcome, finished.http_status), (AttemptOutcome::TimedOut, Some(200)));
    assert_eq!(finished.error.as_deref(), Some("its timeout of 300ms passed while reading the body"));
    assert!(finished.stdout.total > 0);

    let (killer, signal) = kill_pair();
    killer.kill(Duration::from_secs(9));
    let context = bench.context();
    let finished = bench.runner.run(&context, &call, signal).await;
    assert_eq!(finished.outcome, AttemptOutcome::Stopped);
    server.abort();
}

#[tokio::test]
async fn a_failure_names_its_phase_and_no_secret() {
    let bench = bench_of("s3cret");
    // A port that is never given out to a listener of another test.
    let closed = "127.0.0.1:1";
    let with_secret =
        |url: String| HttpCall { bearer: Some("token".into()), ..get(&format!("{url}?token=s3cret")) };
    let refused = run(&bench, with_secret(format!("http://{closed}/"))).await.error.unwrap();
    assert!(refused.starts_with(&format!("could not connect to {closed}: ")), "{refused}");
    let nowhere = run(&bench, with_secret("http://nowhere.invalid/".into())).await.error.unwrap();
    assert!(nowhere.starts_with("could not connect to nowhere.invalid:80: "), "{nowhere}");
    let (authority, served) = server(vec!["nonsense\r\n\r\n".into()]).await;
    let nonsense = run(&bench, with_secret(format!("http://{authority}/"))).await.error.unwrap();
    assert!(nonsense.starts_with(&format!("no answer from {authority}: ")), "{nonsense}");
    served.await.unwrap();
    let (authority, served) = server(vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".into()]).await;
    let short = run(&bench, with_secret(format!("http://{authority}/"))).await;
    assert_eq!(short.stdout.head, b"abc");
    let broken = short.error.unwrap();
    assert!(broken.starts_with(&format!("the answer broke off from {authority}: ")), "{broken}");
    served.await.unwrap();
    for sentence in [refused, nowhere, nonsense, broken] {
        assert!(!sentence.contains("s3cret"), "{sentence}");
    }
}

#[tokio::test]
async fn what_an_answer_says_of_the_next_try_is_passed_on_unless_it_is_success() {
    let bench = bench();
    let ok = vec![StatusRange::new(200, 599)];
    for (status, header, expect, wait) in [
        ("503 Service Unavailable", "retry-after: 7\r\n", vec![], Some(7)),
        // The bench's clock stands at 2027-01-15T08:00:00Z.
        ("429 Too Many Requests", "retry-after: Fri, 15 Jan 2027 08:02:00 GMT\r\n", vec![], Some(120)),
        ("302 Found", "location: /\r\nretry-after: 999999\r\n", vec![], Some(86_400)),
        ("503 Service Unavailable", "retry-after: soon\r\n", vec![], None),
        ("503 Service Unavailable", "", vec![], None),
        ("503 Service Unavailable", "retry-after: 7\r\n", ok, None),
        ("200 OK", "retry-after: 7\r\n", vec![StatusRange::new(204, 204)], None),
    ] {
        let (authority, served) = server(vec![answer(status, header, "")]).await;
        let call = HttpCall { expect_status: expect, ..get(&format!("http://{authority}/")) };
        let finished = run(&bench, call).await;
        assert_eq!(finished.retry_after, wait.map(Duration::from_secs), "{status} {header}");
        served.await.unwrap();
    }
}

/// Answers differently each time, as whoever owns a name can.
#[derive(Debug)]
struct Turning(Mutex<VecDeque<&'static str>>);

impl Names for Turning {
    fn look_up(&self, _: String, _: u16) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let next =
            self.0.lock().unwrap().pop_front().expect("no more questions are asked than answers there are");
        async move { Ok(next.split(' ').map(|address| address.parse().unwrap()).collect()) }.boxed()
    }
}

#[tokio::test]
async fn t10_a_name_that_turns_after_the_check_leads_nowhere_else() {
    let mut bench = bench();
    let (authority, served) = server(vec![answer("200 OK", "", "the first")]).await;
    let port = authority.rsplit_once(':').unwrap().1.to_owned();
    // Were it asked again for the connection, it would be led to where nobody listens, or run out of answers.
    let answers = ["127.0.0.1", "127.0.0.2", "127.0.0.1 169.254.169.254", "127.0.0.1 ::ffff:10.0.0.1"];
    bench.runner.names = Arc::new(Turning(Mutex::new(answers.into())));
    let call = || HttpCall { templated_authority: true, ..get(&format!("http://rebind.test:{port}/")) };
    let first = run(&bench, call()).await;
    assert_eq!(
        (first.outcome, &first.stdout.head[..]),
        (AttemptOutcome::Succeeded, &b"the first"[..]),
        "{first:?}"
    );
    served.await.unwrap();
    for bad in ["127.0.0.2", "169.254.169.254", "::ffff:10.0.0.1"] {
        let refused = run(&bench, call()).await.error.unwrap();
        assert!(refused.contains(&format!("({bad}) is not in [outgoing] allow")), "{refused}");
    }
}

#[tokio::test]
async fn t11_endless_headers_end_the_attempt_in_bounds() {
    let bench = bench();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        let line = format!("x-more: {}\r\n", "y".repeat(1000));
        let mut sent = 0;
        while socket.write_all(line.as_bytes()).await.is_ok() {
            sent += line.len();
        }
        sent
    });
    let finished = run(&bench, get(&url)).await;
    assert_eq!(finished.outcome, AttemptOutcome::Failed, "{finished:?}");
    assert!(finished.error.unwrap().starts_with("no answer from"));
    assert!(server.await.unwrap() < 32 << 20);
}

#[tokio::test]
async fn t11_a_compressed_bomb_is_kept_as_it_came_and_never_unpacked() {
    let bench = bench();
    // A gigabyte of zeros is a thousand times smaller when packed; what it holds is nothing to this client.
    let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xed; 4000]].concat();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let packed = bomb.clone();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read_request(&mut socket).await;
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&packed).await.unwrap();
        request
    });
    let finished = run(&bench, get(&url)).await;
    assert_eq!((finished.outcome, finished.stdout.total), (AttemptOutcome::Succeeded, bomb.len() as u64));
    let kept = std::fs::read(bench.dirs.outputs.join(finished.stdout.file.unwrap())).unwrap();
    assert!(kept == bomb);
    assert!(!server.await.unwrap().to_ascii_lowercase().contains("accept-encoding"));
}

#[tokio::test]
async fn t29_a_body_that_repeats_the_token_is_kept_without_it() {
    let bench = bench_of("s3cret-token");
    let body = "you sent Bearer s3cret-token, czNjcmV0LXRva2Vu";
    let (authority, served) = server(vec![answer("500 Oops", "", body)]).await;
    let call = HttpCall { bearer: Some("token".into()), ..get(&format!("http://{authority}/")) };
    let finished = run(&bench, call).await;
    let kept = String::from_utf8_lossy(&finished.stdout.head).into_owned();
    assert!(kept.starts_with("you sent Bearer (secret), (secret)") && kept.len() < 50, "{kept}");
    assert!(served.await.unwrap()[0].contains("Bearer s3cret-token"));
    let none = HttpCall { bearer: Some("other".into()), ..get("http://127.0.0.1:1/") };
    let error = run(&bench, none).await.error.unwrap();
    assert!(error.starts_with("there is no secret \"other\""), "{error}");
}
