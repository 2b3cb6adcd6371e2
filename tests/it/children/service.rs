//! What the service manager is told, by a socket that stands for systemd's.

use super::House;
use crate::support::alerts::{LIMIT, body};
use crate::support::http;
use crate::support::process::{eventually, program};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

/// The next message with this word in it; what comes before is passed over.
fn next(socket: &UnixDatagram, word: &str) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}: {error}"));
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if text.lines().any(|line| line.starts_with(word)) {
            return text;
        }
        assert!(Instant::now() < end, "no {word}");
    }
}

fn bound(socket: UnixDatagram) -> UnixDatagram {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap()
}

fn value<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{name}: {text}"))
}

#[test]
fn u18_it_says_when_it_is_ready_reloads_and_stops() {
    let mut house = House::new("", &[]);
    let path = house.lives.dir().join("notify");
    let socket = bound(UnixDatagram::bind(&path).unwrap());
    house = house.with("NOTIFY_SOCKET", path.to_str().unwrap());
    house.begin();
    let ready = next(&socket, "READY=1");
    assert_eq!(http::get(house.lives.address(), "/-/ready").unwrap().status, 200, "it is served by then");
    let pid = value(&ready, "MAINPID").parse().unwrap();
    assert_eq!((pid, value(&ready, "STATUS")), (house.pid(), "ready"));
    let send = |signal| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();

    let before = monotonic();
    send(Signal::HUP);
    let reloading = next(&socket, "RELOADING=1");
    let at: u64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
    assert!((before..=monotonic()).contains(&at), "{reloading}");
    assert_eq!(value(&next(&socket, "READY=1"), "STATUS"), "ready");

    fs::write(house.lives.dir().join("runbookd.toml"), "[nothing]\n").unwrap();
    send(Signal::HUP);
    next(&socket, "RELOADING=1");
    assert_eq!(value(&next(&socket, "READY=1"), "STATUS"), "ready; the config as it stands is refused");

    send(Signal::TERM);
    assert!(value(&next(&socket, "STOPPING=1"), "STATUS").starts_with("draining"));
}

#[test]
fn u18_the_watchdog_is_fed_over_an_abstract_socket_and_only_while_the_store_answers() {
    let mut house = House::new("", &[]);
    let name = format!("runbookd-test-{}", std::process::id());
    let socket = bound(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap());
    let (library, gate) = (house.lives.dir().join("hang.so"), house.lives.dir().join("hang"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/hang.c");
    let built = Command::new(program("cc", "gcc"))
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    house = house
        .with("NOTIFY_SOCKET", &format!("@{name}"))
        .with("WATCHDOG_USEC", "1000000")
        .with("LD_PRELOAD", library.to_str().unwrap())
        .with("HANG", gate.to_str().unwrap());
    house.begin();
    next(&socket, "READY=1");
    for _ in 0..3 {
        next(&socket, "WATCHDOG=1");
    }

    fs::write(&gate, "").unwrap();
    let address = house.lives.address().to_owned();
    // What has nothing to write does not reach the disk; an alert's decision does.
    let waiting = std::thread::spawn(move || {
        http::post(&address, "/api/sre/alerts/webhook", &body("Nothing", "firing", &["t"])).unwrap().status
    });
    let log = || house.lives.log();
    eventually("it sees that the store stands still", LIMIT, || {
        log().contains("the watchdog is not fed").then_some(())
    });
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while socket.recv(&mut [0; 512]).is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err(), "a store that stands still is not kept alive");

    fs::remove_file(&gate).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    next(&socket, "WATCHDOG=1");
    assert_eq!(waiting.join().unwrap(), 200);
}

#[test]
fn u18_a_watchdog_of_another_process_is_not_fed() {
    let mut house = House::new("", &[]);
    let path = house.lives.dir().join("notify");
    let socket = bound(UnixDatagram::bind(&path).unwrap());
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    for (name, value) in env {
        house = house.with(name, value);
    }
    house.begin();
    next(&socket, "READY=1");
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err());
}
