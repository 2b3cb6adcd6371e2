//! What is too large, too slow, too many or too ambiguous, and that its sender sees the answer.

use super::*;
use std::io::{Read as _, Write as _};

/// Uploads `size` bytes the simple way: writes all of it, and only then reads. Returns what came back.
async fn upload(address: SocketAddr, head: String, size: usize, chunked: bool) -> std::io::Result<String> {
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(head.as_bytes())?;
        let block = vec![b' '; 64 << 10];
        for _ in 0..size / block.len() {
            if chunked {
                stream.write_all(format!("{:x}\r\n", block.len()).as_bytes())?;
                stream.write_all(&block)?;
                stream.write_all(b"\r\n")?;
            } else {
                stream.write_all(&block)?;
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n")?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
    .await
    .unwrap()
}

fn head(path: &str, authorization: &str, length: Option<usize>) -> String {
    let framing =
        length.map_or("Transfer-Encoding: chunked".to_owned(), |length| format!("Content-Length: {length}"));
    format!("POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n")
}

#[tokio::test]
async fn a_large_upload_with_a_bad_token_is_answered_401_and_its_sender_sees_it() {
    let live = live().await;
    let size = 32 << 20;
    for path in [HOOK, "/needs/execute"] {
        let answer = upload(live.address, head(path, "Bearer wrong", Some(size)), size, false).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
    // Without a byte of the body sent, the answer is there: the credential comes before the body.
    let mut client = Client::new(&live).await;
    client.send(&head(HOOK, "Bearer wrong", Some(size))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t26_a_body_over_its_limit_is_413_announced_or_not_and_its_sender_sees_it() {
    let limits = Limits { max_webhook_body: 1 << 20, ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let size = 24 << 20;
    for length in [Some(size), None] {
        let head = head(HOOK, "Bearer hook-token", length);
        let answer = upload(live.address, head, size, length.is_none()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{length:?}: {answer}");
        assert!(answer.contains(r#""code":"too_large""#), "{answer}");
    }
    let mut client = Client::new(&live).await;
    client.send(&head(HOOK, "Bearer hook-token", Some((1 << 20) + 1))).await;
    assert_eq!(client.answer().await.status, 413, "by its length alone");
    // The limit itself is allowed, announced and chunked.
    for length in [Some(1 << 20), None] {
        let head =
            head(HOOK, "Bearer hook-token", length).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answer = upload(live.address, head, 1 << 20, length.is_none()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("1048576"), "{answer}");
    }
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn t26_bodies_together_are_bounded_and_one_too_many_is_503() {
    let limits = Limits { body_memory: 1 << 20, ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let size = 2 << 20;
    let answer =
        upload(live.address, head(HOOK, "Bearer hook-token", Some(size)), size, false).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    // What was held is given back.
    let mut client = Client::new(&live).await;
    for _ in 0..3 {
        client.send(&request("POST", HOOK, "Bearer hook-token", &" ".repeat(900 << 10))).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn t26_large_heads_and_long_targets_are_refused() {
    let live = live().await;
    let check = async |target: &str, field: usize, fields: usize, expected: u16| {
        let mut client = Client::new(&live).await;
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: t\r\n");
        for number in 0..fields {
            head += &format!("X-{number}: {}\r\n", "a".repeat(field));
        }
        client.send(&format!("{head}\r\n")).await;
        assert_eq!(client.answer().await.status, expected, "{} {field} {fields}", target.len());
    };
    check("/open", 30 << 10, 1, 200).await;
    check("/open", 33 << 10, 1, 431).await;
    check("/open", 1000, 40, 431).await;
    check("/open", 60 << 10, 1, 431).await;
    check("/open", 1, 90, 200).await;
    check("/open", 1, 200, 431).await;
    check("/open", 300 << 10, 1, 431).await;
    check(&format!("/open?a={}", "x".repeat(8000)), 1, 1, 200).await;
    check(&format!("/open?a={}", "x".repeat(8200)), 1, 1, 414).await;
    check(&format!("/{}", "x".repeat(8200)), 1, 1, 414).await;
    check(&format!("/{}", "x".repeat(70 << 10)), 1, 1, 414).await;
}

#[tokio::test]
async fn t26_compressed_and_mistyped_bodies_are_415() {
    let live = live().await;
    for (extra, expected) in [
        ("", 200),
        ("Content-Type: application/json; charset=utf-8\r\n", 200),
        ("Content-Encoding: identity\r\n", 200),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Encoding: gzip\r\n", 415),
        ("Content-Encoding: identity\r\nContent-Encoding: br\r\n", 415),
    ] {
        let mut client = Client::new(&live).await;
        client.send(&format!("POST /json HTTP/1.1\r\nHost: t\r\n{extra}Content-Length: 2\r\n\r\n{{}}")).await;
        assert_eq!(client.answer().await.status, expected, "{extra}");
    }
}

#[tokio::test]
async fn t25_a_request_that_two_readers_would_cut_differently_is_refused_and_the_connection_ends() {
    let live = live().await;
    let smuggled = "GET /open HTTP/1.1\r\nHost: evil\r\n\r\n";
    let chunked = format!("0\r\n\r\n{smuggled}");
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked.len()),
        "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        "Content-Length: 5, 6\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Transfer-Encoding: gzip\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Content-Length : 5\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n Transfer-Encoding: x\r\n".to_owned(),
    ] {
        let mut client = Client::new(&live).await;
        client.send(&format!("POST /open/x HTTP/1.1\r\nHost: t\r\n{framing}\r\n{chunked}")).await;
        assert_eq!(client.answer().await.status, 400, "{framing}");
        let mut rest = std::mem::take(&mut client.buffer);
        timeout(Duration::from_secs(10), client.stream.read_to_end(&mut rest)).await.unwrap().ok();
        assert!(rest.is_empty(), "the smuggled request was answered: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t25_a_request_needs_exactly_one_host() {
    let live = live().await;
    for (head, expected) in [
        ("GET /open HTTP/1.1\r\n\r\n", 400),
        ("GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /open HTTP/1.0\r\n\r\n", 200),
        ("GET http://other/open HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        let mut client = Client::new(&live).await;
        client.send(head).await;
        assert_eq!(client.answer().await.status, expected, "{head:?}");
    }
}

/// What a short limit ends long before on any machine, and a limit of [`NEVER`] does not.
const LONG: Duration = Duration::from_secs(60);
/// A limit that no test reaches.
const NEVER: Duration = Duration::from_secs(600);

/// Sends `start`, then a byte every 50 ms until the server says something or closes; how long it took.
async fn drip(client: &mut Client, start: &str) -> Duration {
    let started = std::time::Instant::now();
    client.send(start).await;
    while started.elapsed() < LONG {
        if timeout(Duration::from_millis(50), client.stream.readable()).await.is_ok() {
            break;
        }
        client.send("x").await;
    }
    started.elapsed()
}

#[tokio::test]
async fn t27_silent_half_sent_and_idle_connections_are_closed_each_in_its_time() {
    let limits = Limits { head: Duration::from_millis(200), idle: NEVER, ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut silent = Client::new(&live).await;
    let mut half = Client::new(&live).await;
    half.send("GET /open HTTP/1.1\r\nHos").await;
    let mut preface = Client::new(&live).await;
    preface.send("PRI * HT").await;
    assert!(silent.closed_within(LONG).await && half.closed_within(LONG).await);
    assert!(preface.closed_within(LONG).await);

    // One byte every 50 ms does not buy more time for the head.
    let mut dripping = Client::new(&live).await;
    let lasted = drip(&mut dripping, "GET /open HTTP/1.1\r\nX: ").await;
    assert!((Duration::from_millis(150)..LONG).contains(&lasted), "{lasted:?}");
    assert!(dripping.closed_within(LONG).await);

    // After an answer the longer limit holds, and a started head falls back to the shorter one.
    let mut idle = Client::new(&live).await;
    idle.send(&request("GET", "/open", "", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(!idle.closed_within(Duration::from_millis(400)).await, "idle longer than a head may take");
    idle.send("GET /op").await;
    let started = std::time::Instant::now();
    assert!(idle.closed_within(LONG).await);
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());

    let limits = Limits { head: NEVER, idle: Duration::from_millis(200), ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut idle = Client::new(&live).await;
    idle.send(&request("GET", "/open", "", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(idle.closed_within(LONG).await);
}

#[tokio::test]
async fn t27_a_stalled_and_a_dripping_body_are_408() {
    let limits = Limits { body_stall: Duration::from_millis(200), body_total: NEVER, ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut stalled = Client::new(&live).await;
    stalled.send("POST /open/x HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc").await;
    let answer = stalled.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));

    let limits = Limits { body_stall: NEVER, body_total: Duration::from_millis(600), ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut dripping = Client::new(&live).await;
    let head = "POST /open/x HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n";
    let lasted = drip(&mut dripping, head).await;
    assert!((Duration::from_millis(500)..LONG).contains(&lasted), "{lasted:?}");
    assert_eq!(dripping.answer().await.status, 408);
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t27_a_client_that_does_not_read_is_closed() {
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut client = Client::new(&live).await;
    // Pipelined questions without ever reading an answer, until nothing moves any more.
    let block = request("GET", "/open", "", "").repeat(200);
    let ended = timeout(Duration::from_secs(20), async {
        while client.stream.write_all(block.as_bytes()).await.is_ok() {}
    });
    assert!(ended.await.is_ok(), "the connection of a client that reads nothing stays open");
}

#[tokio::test]
async fn t27_over_the_cap_the_silent_give_way_and_where_none_is_one_more_is_answered_503() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let (mut one, mut two) = (Client::new(&live).await, Client::new(&live).await);
    one.send("GET /open HTTP/1.1\r\nHos").await;
    let mut three = Client::new(&live).await;
    let told = one.answer().await;
    assert_eq!((told.status, told.json()["code"].as_str()), (503, Some("too_many_connections")));
    assert!(one.closed_within(Duration::from_secs(5)).await);
    for client in [&mut two, &mut three] {
        client.send(&request("POST", "/wait", "", "{}")).await;
        live.gate.entered.notified().await;
    }
    for body in ["", &"x".repeat(100_000)] {
        let answer = ask(&live, "POST", "/open/x", "", body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json()["code"], "too_many_connections");
        assert_eq!(answer.header("x-request-id").map(str::len), Some(26));
    }
    assert_eq!(ask(&live, "GET", "/-/healthy", "", "").await.status, 200, "there is always room for health");
    assert_eq!(live.recorder.refused.load(Ordering::SeqCst), 2);
    for client in [&mut two, &mut three] {
        live.gate.release.notify_one();
        assert_eq!(client.answer().await.status, 200, "those inside are not disturbed");
    }
    assert_eq!(ask(&live, "GET", "/open", "", "").await.status, 200, "who rests gives way, too");
}

#[tokio::test]
async fn t25_a_request_hidden_behind_another_cannot_have_two_lengths_either() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    let hidden = "POST /open/x HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    client
        .send(&format!("{}{hidden}{}", request("POST", "/open/x", "", "{}"), request("GET", "/open", "", "")))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 400);
    let mut rest = std::mem::take(&mut client.buffer);
    timeout(Duration::from_secs(10), client.stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends_or_told_to_go_on() {
    let live = live().await;
    let ask = |authorization: &str| {
        head(HOOK, authorization, Some(4)).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut refused = Client::new(&live).await;
    refused.send(&ask("Bearer wrong")).await;
    assert_eq!(refused.head().await.status, 401, "no 100 before it");
    let mut allowed = Client::new(&live).await;
    allowed.send(&ask("Bearer hook-token")).await;
    assert_eq!(allowed.head().await.status, 100);
    allowed.send("1234").await;
    assert_eq!(allowed.answer().await.json()["bytes"], 4);
}
