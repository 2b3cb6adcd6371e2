//! Connections over their life: kept alive, hung up on, panicked in, streamed over, shut down.

use super::*;

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    for round in 0..5 {
        client.send(&request("POST", "/open/x", "", &"y".repeat(round + 1))).await;
        assert_eq!(client.answer().await.json()["bytes"], round + 1);
    }
    let pipeline: String =
        (0..20).map(|number| request("POST", &format!("/open/{number}"), "", "{}")).collect();
    client.send(&pipeline).await;
    for number in 0..20 {
        assert_eq!(client.answer().await.json()["id"], number.to_string());
    }
    client.send("GET /open HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.closed_within(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_client_that_closes_only_its_sending_side_gets_its_answer() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    client.send(&request("POST", "/wait", "", "{}")).await;
    client.stream.shutdown().await.unwrap();
    live.gate.entered.notified().await;
    live.gate.release.notify_one();
    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_handler() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    client.send(&request("POST", "/wait", "", "{}")).await;
    live.gate.entered.notified().await;
    // A reset, not a polite close.
    client.stream.set_zero_linger().unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    live.gate.release.notify_one();
    timeout(Duration::from_secs(5), live.gate.finished.notified()).await.expect("the handler was cancelled");
}

#[tokio::test]
async fn a_panic_is_a_500_without_its_text_and_the_server_lives_on() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    client.send(&request("POST", "/panic", "", "{}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("internal")));
    assert!(!answer.text().contains("on purpose"));
    client.send(&request("GET", "/open", "", "")).await;
    assert_eq!(client.answer().await.status, 200, "on the same connection");
    assert_eq!(live.recorder.panics.load(Ordering::SeqCst), 1);
    let seen = live.recorder.requests.lock().unwrap().clone();
    assert_eq!(seen, [("/panic", "POST", 500), ("/open", "GET", 200)]);
}

#[tokio::test]
async fn labels_given_to_the_observer_come_from_a_bounded_set() {
    let live = live().await;
    for (method, path) in [("GET", "/whatever/a-stranger/likes"), ("BREW", "/open"), ("POST", "/open/7")] {
        ask(&live, method, path, "", "").await;
    }
    let mut broken = Client::new(&live).await;
    broken.send("\u{1}\u{2}\u{3} / HTTP/1.1\r\n\r\n").await;
    assert_eq!(broken.answer().await.status, 400);
    assert!(broken.closed_within(Duration::from_secs(5)).await);
    let seen = live.recorder.requests.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            (UNMATCHED, "GET", 404),
            (UNMATCHED, "other", 405),
            ("/open/{id}", "POST", 200),
            (UNMATCHED, "other", 400)
        ]
    );
}

#[tokio::test]
async fn an_event_stream_says_that_it_lives_and_ends_with_the_server() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    client.send(&request("GET", "/stream", "", "")).await;
    let head = client.head().await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let alive = |buffer: &[u8]| {
        let text = String::from_utf8_lossy(buffer);
        (text.contains("id: 1\nevent: created\ndata: {}\n\n") && text.matches(": alive\n\n").count() >= 2)
            .then_some(buffer.len())
    };
    client.until(alive).await;
    live.shutdown.cancel();
    // The last chunk: the body ended as it should, it was not torn off.
    client.until(|buffer| buffer.ends_with(b"0\r\n\r\n").then_some(buffer.len())).await;
    assert_eq!(timeout(Duration::from_secs(5), live.task).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn shutdown_refuses_new_connections_ends_idle_ones_and_finishes_requests_in_progress() {
    let live = live().await;
    let mut fresh = Client::new(&live).await;
    let mut idle = Client::new(&live).await;
    idle.send(&request("GET", "/open", "", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut busy = Client::new(&live).await;
    busy.send(&request("POST", "/wait", "", "{}")).await;
    live.gate.entered.notified().await;

    live.shutdown.cancel();
    let soon = Duration::from_secs(2);
    assert!(idle.closed_within(soon).await && fresh.closed_within(soon).await);
    assert!(TcpStream::connect(live.address).await.is_err(), "it still listens");
    assert!(!live.task.is_finished());
    live.gate.release.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    assert_eq!(timeout(Duration::from_secs(5), live.task).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_bound() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let live = live_with(limits, auth()).await;
    let mut busy = Client::new(&live).await;
    busy.send(&request("POST", "/wait", "", "{}")).await;
    live.gate.entered.notified().await;
    live.shutdown.cancel();
    let cut = timeout(Duration::from_secs(5), live.task).await.unwrap().unwrap();
    assert_eq!(cut, 1);
    assert!(busy.closed_within(Duration::from_secs(2)).await);
    // The connection is gone; what the handler began, it ends.
    live.gate.release.notify_one();
    timeout(Duration::from_secs(5), live.gate.finished.notified()).await.expect("the handler was cancelled");
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_answer_also_when_the_connection_or_the_server_ends_behind_it() {
    let unread = "close\r\nContent-Length: 1000000";
    for (connection, drain) in [
        ("keep-alive", false),
        ("close", false),
        ("keep-alive", true),
        ("close", true),
        (unread, false),
        (unread, true),
    ] {
        let live = live().await;
        let mut client = Client::new(&live).await;
        client.send(&format!("GET /big HTTP/1.1\r\nHost: t\r\nConnection: {connection}\r\n\r\n")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if drain {
            live.shutdown.cancel();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, BIG), "{connection} {drain}");
        drop(client);
        if drain {
            assert_eq!(timeout(Duration::from_secs(5), live.task).await.unwrap().unwrap(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_senders_at_once_are_all_answered() {
    let live = live().await;
    let address = live.address;
    let senders: Vec<_> = (0..400)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let mut client = Client { stream, buffer: Vec::new() };
                client.send(&request("POST", HOOK, "Bearer hook-token", &" ".repeat(20_000))).await;
                client.answer().await.status
            })
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.await.unwrap(), 200);
    }
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 400);
}
