//! What costs an attacker nothing: thousands of sockets that say nothing, or very little, very slowly.
//!
//! Health must be answered within 200 ms meanwhile, since a probe that times out gets the daemon killed in the very
//! moment it is needed. The median of many probes is held to that, so that a busy machine does not fail it.

use super::*;
use crate::support::daemon::Daemon;
use crate::support::http;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n";
const SOCKETS: usize = 5_000;

/// Lets this process hold the sockets of the test.
fn allow_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = SOCKETS as u64 + 2000;
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    }
}

/// The median time of health probes, all of which must be answered 200.
fn probe(address: &str) -> Duration {
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let began = Instant::now();
            let answer = http::get(address, "/-/healthy").unwrap();
            assert_eq!(answer.status, 200);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn check(address: &str, attack: &str) {
    // The best of a few rounds: only the attack is to be measured, not the neighbours of this machine.
    let best = (0..5).map(|_| probe(address)).min().unwrap();
    assert!(best < Duration::from_millis(200), "{attack}: health took {best:?}");
}

fn connect(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap()
}

#[test]
fn t27_health_and_alerts_are_answered_while_five_thousand_sockets_say_nothing() {
    allow_sockets();
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let silent: Vec<TcpStream> = (0..SOCKETS).map(|_| connect(daemon.address())).collect();
    check(daemon.address(), "silent sockets");
    assert_eq!(daemon.webhook(r#"{"alerts":[]}"#).status, 200);
    let open = daemon.metric("process_open_fds");
    assert!(open < 1024.0 + 200.0, "{open} descriptors are open");
    drop(silent);
    check(daemon.address(), "nothing any more");
}

#[test]
fn t27_health_is_answered_through_every_kind_of_slowness() {
    allow_sockets();
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let address = daemon.address();
    let post = format!("POST {HOOK} HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n");
    let attacks: [(&str, &[u8], usize); 6] = [
        ("slow heads", b"GET /-/healthy HTTP/1.1\r\nHost: t\r\nX: ", 1500),
        ("slow bodies", post.as_bytes(), 900),
        ("half an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM", 1500),
        ("silent HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 1500),
        ("a TLS handshake without TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 1500),
        ("resting connections", b"GET /-/healthy HTTP/1.1\r\nHost: t\r\n\r\n", 1500),
    ];
    for (attack, start, count) in attacks {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut sockets: Vec<TcpStream> = Vec::new();
                while !ended.load(Ordering::SeqCst) {
                    if sockets.len() < count {
                        let mut socket = connect(address);
                        // One that had to give way already is replaced by another.
                        drop(socket.write_all(start));
                        sockets.push(socket);
                    } else {
                        sockets.retain_mut(|socket| socket.write_all(b"x").is_ok());
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
            thread::sleep(Duration::from_millis(500));
            check(address, attack);
            ended.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn t27_stalled_handshakes_hold_no_more_than_their_places() {
    allow_sockets();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    let config = "[server]\nmax_connections = 200\ntls = { cert_file = \"server.crt\", key_file = \"server.key\" }\n\
        [webhook]\nbearer = { env = \"HOOK\" }\n";
    let server = Server::start(dir.path(), config, &[]);
    let mut stalled: Vec<TcpStream> = (0..1000).map(|_| connect(&server.address)).collect();
    stalled.iter_mut().step_by(2).for_each(|socket| drop(socket.write_all(b"\x16\x03\x01\x02\0\x01")));
    let client = client(&authority, None, false);
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let began = Instant::now();
            let answer = ask_tls(&server.address, &client, "GET /-/healthy HTTP/1.1", "").unwrap();
            assert_eq!(status(&answer), "200", "{answer}");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(500), "a handshake and health took {:?}", times[10]);
    let metrics = ask_tls(&server.address, &client, "GET /metrics HTTP/1.1", "").unwrap();
    let open = metrics.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap();
    assert!(open.trim().parse::<f64>().unwrap() < 400.0, "{open} descriptors are open");
}
