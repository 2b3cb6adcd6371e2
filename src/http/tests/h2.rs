//! HTTP/2 by prior knowledge: the same edge behind it, and the scripts that are run against such servers.

use super::*;
use ::h2::client::SendRequest;
use bytes::Bytes;

async fn connect(live: &Live) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(live.address).await.unwrap();
    let (send, connection) = ::h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn ask_h2(
    send: &SendRequest<Bytes>,
    method: &str,
    path: &str,
    authorization: &str,
    body: &[u8],
) -> Answer {
    let mut request = hyper::Request::builder().method(method).uri(format!("http://test{path}"));
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    let mut send = send.clone().ready().await.unwrap();
    let (answer, mut sending) = send.send_request(request.body(()).unwrap(), body.is_empty()).unwrap();
    if !body.is_empty() {
        // The server may answer before it has read all of it.
        sending.send_data(Bytes::copy_from_slice(body), true).ok();
    }
    let (head, mut stream) = timeout(Duration::from_secs(10), answer).await.unwrap().unwrap().into_parts();
    let mut whole = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.unwrap();
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        whole.extend_from_slice(&chunk);
    }
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    Answer { status: head.status.as_u16(), headers: headers.collect(), body: whole }
}

#[tokio::test]
async fn the_same_edge_answers_over_http2() {
    let live = live().await;
    let send = connect(&live).await;
    let open = ask_h2(&send, "GET", "/open", "", b"").await;
    assert_eq!(open.status, 200);
    assert_eq!(open.header("x-request-id").map(str::len), Some(26));
    assert_eq!(
        open.header("content-security-policy").map(|value| value.starts_with("default-src 'none'")),
        Some(true)
    );
    assert_eq!(ask_h2(&send, "GET", "/needs/audit", "", b"").await.status, 401);
    let viewer = format!("Bearer {}", token("viewer"));
    assert_eq!(ask_h2(&send, "GET", "/needs/audit", &viewer, b"").await.status, 403);
    assert_eq!(ask_h2(&send, "GET", "/nothing", "", b"").await.status, 404);
    let other = ask_h2(&send, "DELETE", HOOK, "", b"").await;
    assert_eq!((other.status, other.header("allow")), (405, Some("POST, PUT")));
    let body = vec![b' '; 200_000];
    let hook = ask_h2(&send, "POST", HOOK, "Bearer hook-token", &body).await;
    assert_eq!((hook.status, hook.json()["bytes"].as_u64()), (200, Some(200_000)));
    let large = ask_h2(&send, "POST", "/open/x", "", &vec![b' '; 65 << 10]).await;
    assert_eq!((large.status, large.header("connection")), (413, None));
    let big = ask_h2(&send, "GET", "/big", "", b"").await;
    assert_eq!((big.status, big.body.len()), (200, BIG));
    assert_eq!(ask_h2(&send, "GET", "/open", "", b"").await.status, 200, "all of it over one connection");
}

/// The status a sender hears that sends its body after it was refused, and whether the server resets its stream
/// within `wait` instead of taking the rest.
async fn refused_early(live: &Live, wait: Duration) -> (u16, bool) {
    let mut send = connect(live).await.ready().await.unwrap();
    let request = hyper::Request::builder().method("POST").uri(format!("http://test{HOOK}"));
    let (answer, mut sending) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let answer = timeout(Duration::from_secs(10), answer).await.unwrap().unwrap();
    let reset = timeout(wait, std::future::poll_fn(|cx| sending.poll_reset(cx))).await;
    if reset.is_err() {
        sending.send_data(Bytes::from_static(b"the rest"), true).unwrap();
    }
    (answer.status().as_u16(), reset.is_ok())
}

#[tokio::test]
async fn a_refusal_over_http2_is_an_answer_and_not_a_reset() {
    assert_eq!(refused_early(&live().await, Duration::from_millis(200)).await, (401, false));
    // But not for ever.
    let limits = Limits { linger: Duration::ZERO, ..Limits::default() };
    assert_eq!(refused_early(&live_with(limits, auth()).await, Duration::from_secs(10)).await, (401, true));
}

#[tokio::test]
async fn t26_large_heads_over_http2_are_refused() {
    let live = live().await;
    let send = connect(&live).await;
    let path = format!("/open?a={}", "x".repeat(8200));
    assert_eq!(ask_h2(&send, "GET", &path, "", b"").await.status, 414);
    assert_eq!(ask_h2(&send, "GET", "/open", &"a".repeat(33 << 10), b"").await.status, 431);
    assert_eq!(ask_h2(&send, "GET", "/open", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_request_over_http2_is_answered_while_the_server_drains() {
    let live = live().await;
    let send = connect(&live).await;
    let asked = tokio::spawn(async move { ask_h2(&send, "POST", "/wait", "", b"{}").await });
    live.gate.entered.notified().await;
    live.shutdown.cancel();
    live.gate.release.notify_one();
    assert_eq!(asked.await.unwrap().text(), "done");
    assert_eq!(timeout(Duration::from_secs(10), live.task).await.unwrap().unwrap(), 0);
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET` or, with 0x83, `POST` of a path, in HPACK without a table.
fn head_block(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x86, 0x01, 1, b't', 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block
}

/// A client that writes frames by hand, with these settings.
async fn raw(live: &Live, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(live.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
    stream
}

/// Everything the server says until it closes; `None` when it does not within 10 s.
async fn to_the_end(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut said = Vec::new();
    // A reset is an end, too.
    timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await.ok()?.ok();
    Some(said)
}

/// The kinds of the frames in what was said.
fn kinds(said: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut rest = said;
    while let [a, b, c, kind, ..] = *rest {
        kinds.push(kind);
        let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        rest = rest.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn t27_streams_that_are_opened_only_to_be_reset_end_the_connection() {
    let live = live().await;
    let mut stream = raw(&live, &[]).await;
    let mut flood = Vec::new();
    for number in 0..5000u32 {
        flood.extend(frame(HEADERS, 0x05, 2 * number + 1, &head_block(0x82, "/open")));
        flood.extend(frame(RST_STREAM, 0, 2 * number + 1, &8u32.to_be_bytes()));
    }
    // The server stops reading half-way.
    stream.write_all(&flood).await.ok();
    let said = to_the_end(&mut stream).await.expect("the connection goes on");
    assert!(kinds(&said).contains(&GOAWAY) || said.is_empty(), "{:?}", kinds(&said));
    let ran = live.gate.ran.load(Ordering::SeqCst);
    assert!(ran < 1000, "{ran} requests that nobody waited for were handled");
    assert_eq!(ask(&live, "GET", "/open", "", "").await.status, 200);
}

#[tokio::test]
async fn t27_requests_given_up_count_until_their_handlers_end() {
    let live = live().await;
    let mut stream = raw(&live, &[]).await;
    // Slowly enough not to look like a flood, each handler goes on when its stream is reset.
    for number in 0..100u32 {
        stream.write_all(&frame(HEADERS, 0x05, 2 * number + 1, &head_block(0x83, "/wait"))).await.unwrap();
        if number < 64 {
            timeout(Duration::from_secs(5), live.gate.entered.notified()).await.expect("not handled");
        }
        stream.write_all(&frame(RST_STREAM, 0, 2 * number + 1, &8u32.to_be_bytes())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(live.edge.handlers.len(), 64);
    for _ in 0..64 {
        live.gate.release.notify_one();
        timeout(Duration::from_secs(5), live.gate.finished.notified()).await.expect("was cancelled");
    }
}

#[tokio::test]
async fn t27_a_head_that_never_ends_ends_the_connection() {
    let live = live().await;
    let mut stream = raw(&live, &[]).await;
    stream.write_all(&frame(HEADERS, 0x01, 1, &head_block(0x82, "/open"))).await.unwrap();
    let field = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let part = frame(CONTINUATION, 0, 1, &field.repeat(100));
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&part).await.is_ok() {
        sent += part.len();
    }
    assert!(sent < 16 << 20, "{sent} bytes of one head were taken");
    assert!(to_the_end(&mut stream).await.is_some());
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t27_who_asks_over_http2_and_takes_nothing_or_never_asks_is_closed() {
    let limits = Limits {
        head: Duration::from_millis(300),
        write_stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let live = live_with(limits, auth()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: no byte of an answer may be sent, while the socket itself moves.
    let mut no_window = raw(&live, &[0, 4, 0, 0, 0, 0]).await;
    no_window.write_all(&frame(HEADERS, 0x05, 1, &head_block(0x82, "/big"))).await.unwrap();
    let said = to_the_end(&mut no_window).await.expect("it waits for a client that takes nothing");
    assert!(kinds(&said).contains(&HEADERS));
    let mut silent = raw(&live, &[]).await;
    assert!(to_the_end(&mut silent).await.is_some(), "it waits for a client that asks nothing");
    let mut half = raw(&live, &[]).await;
    half.write_all(&frame(HEADERS, 0x01, 1, &head_block(0x82, "/open"))).await.unwrap();
    assert!(to_the_end(&mut half).await.is_some(), "it waits for the end of a head");
}
