//! An exporter whose metrics the test sets: what Prometheus sees is what the test wants it to see.
//!
//! May import: the standard library. Must never: forget a value.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt::Write as _, io};

type Samples = Arc<Mutex<BTreeMap<String, f64>>>;

/// Serves `/metrics` until it is dropped.
pub(crate) struct Exporter {
    address: SocketAddr,
    samples: Samples,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts one without samples.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (samples, stop) = (Samples::default(), Arc::new(AtomicBool::new(false)));
        let (seen, stopping) = (Arc::clone(&samples), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                // A scraper that goes away is its own business.
                drop(stream.and_then(|stream| answer(stream, &seen)));
            }
        });
        Self { address, samples, stop, thread: Some(thread) }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets samples, such as `broken{target="a"}`, all seen by the same scrape.
    pub(crate) fn set(&self, samples: &[(&str, f64)]) {
        let mut known = self.samples.lock().unwrap();
        known.extend(samples.iter().map(|(name, value)| (name.to_string(), *value)));
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if it fails, the thread is gone already.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(stream: TcpStream, samples: &Samples) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut body = String::new();
    for (name, value) in &*samples.lock().unwrap() {
        writeln!(body, "{name} {value}").map_err(io::Error::other)?;
    }
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
